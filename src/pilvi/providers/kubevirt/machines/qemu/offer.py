"""What this host gives its machines, found out when the first one is started."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pilvi import kit
from pilvi.errors import UserError
from pilvi.host.qemu.accelerator import KVM_ANSWER, find_kernel, kvm_group, probe_kvm
from pilvi.host.qemu.installed import UefiFiles, find_qemu, find_uefi
from pilvi.lib.disk import on_disk
from pilvi.providers.uids import machine_uids

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["HostOffer", "Offers"]


@dataclass(frozen=True)
class HostOffer:
    """Accelerator and why it is that one, the newest machine type of this QEMU, the group that opens /dev/kvm, and firmware, if any."""

    accelerator: Literal["kvm", "tcg"]
    reason: str
    machine: str
    kvm_group: int | None = None
    uefi: UefiFiles | None = None
    uefi_secure: UefiFiles | None = None

    def find_uefi(self, *, secure_boot: bool) -> UefiFiles | None:
        """The firmware with or without secure boot."""
        return self.uefi_secure if secure_boot else self.uefi


class Offers:
    """Finds the offer of this host once."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lock = asyncio.Lock()
        self.found: HostOffer | None = None

    async def get(self) -> HostOffer:
        """May boot a kernel on trial, once for each boot of the host. Raises UserError without QEMU, DriverError, OSError."""
        async with self._lock:
            if self.found is None:
                self.found = await self._find()
            return self.found

    async def _find(self) -> HostOffer:
        qemu = await find_qemu()
        if qemu is None:
            raise UserError("QEMU is not on this host", hint="install the Debian package qemu-system-x86")
        kept = kit.get_folder() / KVM_ANSWER
        trial = await probe_kvm(qemu, find_kernel(), kept, user=machine_uids(self._cloud)[0])
        return HostOffer(
            accelerator="kvm" if trial.works else "tcg",
            reason=trial.reason,
            machine=qemu.machine,
            kvm_group=kvm_group() if trial.works else None,
            uefi=await on_disk(find_uefi, secure_boot=False),
            uefi_secure=await on_disk(find_uefi, secure_boot=True),
        )
