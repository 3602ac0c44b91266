"""Why a machine cannot move to another virtual host. Pure.

Conditions and reasons are KubeVirt's (pkg/virt-handler/vm.go). What differs: a layer over a container disk, an empty disk and a seed are
files of the one machine that all hosts are, so they need not be copied; and every interface keeps its address on its bridge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pilvi.api.resource import JsonObject, Key
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim

__all__ = ["Obstacle", "find_obstacle"]

_OF_THE_HOST = ("hostDevices", "gpus")


class Obstacle(NamedTuple):
    """Reason and message of `LiveMigratable: False`."""

    reason: str
    message: str


def find_obstacle(vmi: JsonObject, find: Callable[[Key], JsonObject | None], hosts: int, *, sandbox: bool) -> Obstacle | None:
    """What stands in the way; None when nothing does. `find` gives a PersistentVolumeClaim, `hosts` is how many the cloud has."""
    if hosts < 2:
        return Obstacle("OneHost", "the cloud has one host; `pilvi up --hosts 2` makes two of it")
    if sandbox:
        return Obstacle("Sandbox", "a sandbox has no memory that could be copied; a machine under QEMU has")
    devices = (vmi["spec"].get("domain") or {}).get("devices") or {}
    if any(devices.get(name) for name in _OF_THE_HOST):
        return Obstacle("HostDeviceNotLiveMigratable", "the machine has a device of its host")
    if devices.get("tpm") is not None:
        return Obstacle("TPMNotLiveMigratable", "the state of a TPM is not copied; a machine without one can move")
    if devices.get("filesystems"):
        return Obstacle("DisksNotLiveMigratable", "the machine shares a file system with its host; use a disk")
    for volume in vmi["spec"].get("volumes") or []:
        named = find_claim(volume)
        if named is None or named.ephemeral:
            continue
        claim = find(Key(vmi["metadata"]["namespace"], named.name))
        modes = ((claim or {}).get("spec") or {}).get("accessModes") or []
        if "ReadWriteMany" not in modes:
            return Obstacle(
                "DisksNotLiveMigratable",
                f"cannot migrate VMI: PVC {named.name} is not shared, live migration requires that all PVCs must be shared (using"
                " ReadWriteMany access mode)",
            )
    return None
