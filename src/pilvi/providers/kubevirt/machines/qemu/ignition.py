"""Hands a guest its Ignition configuration: a file that it finds through QEMU's firmware configuration, as under KubeVirt.

It is made at the first start of an instance and stays, so that a guest that moves or is started again finds the same one, whatever has
become of the annotation. It may hold secrets: nobody but root and the machine's own user reads it.
"""

from __future__ import annotations

import os

import msgspec

from pilvi.host.qemu.spec import QemuSpec
from pilvi.lib.files import write_atomic
from pilvi.providers.kubevirt.machines.backend import MachineSpec
from pilvi.providers.kubevirt.machines.ignition import check_ignition
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles

__all__ = ["NAME", "with_ignition"]

NAME = "opt/com.coreos/config"
"""Where Ignition looks under QEMU."""


def with_ignition(machine: QemuSpec, spec: MachineSpec, files: MachineFiles) -> QemuSpec:
    """The machine with the configuration that it was made with, if any. Blocking; use `lib.disk`.

    A guest that comes from another process has begun without what was not there. Raises UserError, naming the annotation, OSError.
    """
    owner = (machine.user, machine.user)
    if files.ignition.exists():
        os.chown(files.ignition, *owner)  # the user may be another than the last time
    elif spec.ignition and not machine.incoming:
        check_ignition(spec.ignition)
        files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(files.ignition, spec.ignition, mode=0o400, owner=owner)
    else:
        return machine
    return msgspec.structs.replace(machine, firmware_config={NAME: files.ignition})
