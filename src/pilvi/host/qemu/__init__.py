"""Virtual machines under QEMU: what they are, how QEMU is told, and how it is talked to while it runs. Knows nothing of Kubernetes.

spec.py         a machine as data
argv.py         QEMU's command line for it, from drives, cards, firmware, processor, gear, at the addresses of ports
unit.py         the process, its user and its limits; tpm.py its TPM, another process
monitor.py      the running QEMU; status.py what it says of its guest; present.py what it has; hotplug.py what comes and goes
agent.py        the agent in the guest; guestinfo.py what that tells
installed.py    this host's QEMU and firmware
accelerator.py  whether KVM works, by booting the guest of probe.py
"""

from pilvi.host.qemu.agent import Agent, ExecResult
from pilvi.host.qemu.argv import Command, argv
from pilvi.host.qemu.installed import Qemu, UefiFiles, find_qemu, find_uefi
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.spec import QemuSpec
from pilvi.host.qemu.status import CONNECTED, DISCONNECTED, Event, GuestStatus
from pilvi.host.qemu.tpm import tpm_unit
from pilvi.host.qemu.unit import overhead_bytes, qemu_unit

__all__ = [
    "CONNECTED",
    "DISCONNECTED",
    "Agent",
    "Command",
    "Event",
    "ExecResult",
    "GuestStatus",
    "Monitor",
    "Qemu",
    "QemuSpec",
    "UefiFiles",
    "argv",
    "find_qemu",
    "find_uefi",
    "overhead_bytes",
    "qemu_unit",
    "tpm_unit",
]
