"""What a machine boots with, and what its firmware and its TPM remember from one start to the next.

Both memories are single files that QEMU and swtpm are handed as descriptors. They lie in the machine's folder, and go with it, or where
the domain asks for `persistent` in the folder of the VirtualMachine (`machines.folder`), and go with that. Images are linked to, not used
where they lie: the store sees by that what is in use, and a machine that is started again after a power cut finds what it was made with,
whatever its image's name stands for by then.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api.resource import JsonObject
from pilvi.errors import TimedOut, UnitFailed, UserError
from pilvi.host.disks import clone_file
from pilvi.host.qemu.spec import QemuSpec, Uefi
from pilvi.host.qemu.tpm import tpm_unit, tpm_unit_name
from pilvi.lib.disk import on_disk
from pilvi.lib.run import SAFE_PATH
from pilvi.providers.kubevirt.machines.backend import MachineSpec
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.qemu.offer import HostOffer

if TYPE_CHECKING:
    from pilvi.host.units import Units

__all__ = ["Tpms", "has_tpm", "link_shared", "prepare_state"]

_TPM_START_S = 10.0


def has_tpm(domain: JsonObject) -> bool:
    """Whether the domain asks for a TPM. Pure."""
    tpm = (domain.get("devices") or {}).get("tpm")
    return tpm is not None and tpm.get("enabled") is not False


async def prepare_state(machine: QemuSpec, spec: MachineSpec, files: MachineFiles, offer: HostOffer) -> None:
    """Make what is missing of kernel, initrd and the UEFI variables. Raises OSError."""
    for source, target in _boot_files(spec, files):
        await link_shared(source, target)
    if isinstance(machine.firmware, Uefi):
        found = offer.find_uefi(secure_boot=machine.firmware.secure_boot)
        if found is not None and not machine.firmware.variables.exists():
            await on_disk(_copy_variables, found.variables, machine.firmware.variables)


async def link_shared(source: Path, target: Path) -> None:
    """Make `target` the file `source` of the store, unless it is there; a copy where the store is on another file system."""
    if not await on_disk(_link, source, target):
        copied = target.with_name(f"{target.name}.copied")
        await clone_file(source, copied)
        copied.chmod(0o444)
        copied.replace(target)


class Tpms:
    """The TPMs of machines, each a unit beside that of its machine."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def start(self, machine: QemuSpec, files: MachineFiles, instance: JsonObject) -> None:
        """Have a TPM wait for the machine that is about to start, if it has one. It ends with the machine.

        Raises UserError without swtpm, UnitFailed, OSError.
        """
        if machine.tpm is None:
            return
        if shutil.which("swtpm", path=SAFE_PATH) is None:
            raise UserError("this host has no TPM for machines: swtpm is missing", hint="install the Debian package swtpm")
        asked = instance["domain"]["devices"]["tpm"]
        state = files.tpm(persistent=bool(asked.get("persistent")))
        await on_disk(_make_secret_file, state, machine.user)
        unit = tpm_unit(machine, state)
        await self._units.stop(unit.name)  # one that waits for a machine that never came
        await self._units.ensure(unit)
        try:
            await self._units.wait_ready(unit.name, _TPM_START_S)
        except TimedOut as e:
            raise UnitFailed(unit.name, f"does not answer: {e}") from e

    async def stop(self, machine_unit: str) -> None:
        """End the TPM of that machine, which has ended, if it has one."""
        await self._units.stop(tpm_unit_name(machine_unit))


def _boot_files(spec: MachineSpec, files: MachineFiles) -> list[tuple[Path, Path]]:
    if spec.kernel is None:
        return []
    found = [(spec.kernel.kernel, files.kernel)]
    return found if spec.kernel.initrd is None else [*found, (spec.kernel.initrd, files.initrd)]


def _link(source: Path, target: Path) -> bool:
    """False where files cannot be linked to."""
    try:
        os.link(source, target)
    except FileExistsError:
        return True
    except OSError as e:
        if e.errno == errno.EXDEV:
            return False
        raise
    return True


def _copy_variables(template: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = target.with_suffix(".new")
    shutil.copyfile(template, unfinished)
    unfinished.chmod(0o600)
    os.replace(unfinished, target)


def _make_secret_file(path: Path, user: int) -> None:
    """A file that is there stays; it is opened for that user, who may be another than the last time."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(descriptor, user, user)
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
