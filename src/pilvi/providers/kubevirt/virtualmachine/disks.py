"""What the disks of a machine that are made by others wait for: its claims and DataVolumes. Pure.

The answers are those behind the words of `printableStatus` (kubevirt, pkg/storage/types). In this cloud a claim is bound when its data
are whole, so that a disk is being provisioned is told by its DataVolume's phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pilvi.api.resource import JsonObject, Key
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.runtime.conditions import find_condition

__all__ = ["NO_DISKS", "Disks", "data_volume_changed", "disk_names", "look_at_disks"]

Find: TypeAlias = Callable[[Key], JsonObject | None]

_AT_REST = ("", "Pending", "PendingPopulation", "WaitForFirstConsumer", "Succeeded", "Failed", "Unknown")
_WAITS_FOR_MACHINE = ("WaitForFirstConsumer", "PendingPopulation")
# CDI's reasons of a try that has failed and is made again, and pilvi's: none is a step of a DataVolume's way.
_TROUBLES = (
    "CloneSourceNotFound",
    "CloneValidationFailed",
    "ConfigMapNotFound",
    "ErrClaimNotValid",
    "ErrExceededQuota",
    "ErrResourceExists",
    "Error",
    "ImagePullFailed",
    "NoSpace",
    "SecretNotFound",
    "SourceInvalid",
    "StorageClassNotFound",
    "TransferFailed",
    "TransferRefused",
)


@dataclass(frozen=True)
class Disks:
    """Whether filling a disk has failed (also if it is tried again), whether one is being filled, whether a claim is not bound."""

    failed: bool = False
    provisioning: bool = False
    unbound: bool = False


NO_DISKS = Disks()


def look_at_disks(vm: JsonObject, claim: Find, data_volume: Find) -> Disks:
    """How it stands with the disks that the template of `vm` names; what does not exist is said by others."""
    namespace = vm["metadata"]["namespace"]
    names = disk_names(vm)
    made = [found for name in names if (found := data_volume(Key(namespace, name))) is not None]
    claims = [found for name in names if (found := claim(Key(namespace, name))) is not None]
    return Disks(
        failed=any(_has_failed(each) for each in made),
        provisioning=any(_phase(each) not in _AT_REST for each in made),
        unbound=any(_phase(each) != "Bound" for each in claims) or any(_phase(each) in _WAITS_FOR_MACHINE for each in made),
    )


def disk_names(vm: JsonObject) -> list[str]:
    """The claims that `vm` names in its volumes, and the DataVolumes of its templates: a claim has its DataVolume's name."""
    spec = vm.get("spec") or {}
    made = [(template.get("metadata") or {}).get("name") for template in spec.get("dataVolumeTemplates") or []]
    volumes = ((spec.get("template") or {}).get("spec") or {}).get("volumes") or []
    used = [named.name for volume in volumes if (named := find_claim(volume)) is not None]
    return [*dict.fromkeys(name for name in (*made, *used) if name)]


def data_volume_changed(old: JsonObject, new: JsonObject) -> bool:
    """Whether what a DataVolume says of a disk can be another; its progress changes all the time."""
    return (_phase(old), *_reasons(old)) != (_phase(new), *_reasons(new))


def _has_failed(data_volume: JsonObject) -> bool:
    return _phase(data_volume) == "Failed" or any(reason in _TROUBLES for reason in _reasons(data_volume))


def _reasons(data_volume: JsonObject) -> list[str]:
    """Why it is not ready, or not at work."""
    found = [find_condition(data_volume, kind) or {} for kind in ("Ready", "Running")]
    return [str(each.get("reason")) for each in found if each.get("status") != "True"]


def _phase(obj: JsonObject) -> str:
    return str((obj.get("status") or {}).get("phase") or "")
