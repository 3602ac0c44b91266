"""The backends of a cloud: made once, for the controllers that run machines and for the subresources that act on them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pilvi.host.qemu.installed import has_qemu
from pilvi.providers.kubevirt.machines.backend import MachineBackend
from pilvi.providers.kubevirt.machines.qemu.backend import QemuBackend
from pilvi.providers.kubevirt.machines.sandbox.backend import SandboxBackend

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["machine_backends"]

# QEMU answers one client at a time, so there can be only one of that backend.
_made: WeakKeyDictionary[Platform, dict[str, MachineBackend]] = WeakKeyDictionary()


def machine_backends(platform: Platform) -> dict[str, MachineBackend]:
    """All backends that this host can have, by name; the same ones for the same platform."""
    found = _made.get(platform)
    if found is None:
        found = {"sandbox": SandboxBackend.for_platform(platform)}
        if has_qemu():
            found["qemu"] = QemuBackend.for_platform(platform)
        _made[platform] = found
    return found
