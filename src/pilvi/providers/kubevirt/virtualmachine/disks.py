"""What the disks of a machine that are made by others wait for: its claims and DataVolumes. Pure.

The answers are those behind the words of `printableStatus` (kubevirt, pkg/storage/types). In this cloud a claim is bound when its data
are whole, so that a disk is being provisioned is told by its DataVolume's phase.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from pilvi.api.resource import JsonObject, Key
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.runtime.conditions import find_condition

__all__ = ["NO_DISKS", "Disks", "claim_names", "data_volume_names", "look_at_disks"]

Find: TypeAlias = Callable[[Key], JsonObject | None]

_AT_REST = ("", "Pending", "PendingPopulation", "WaitForFirstConsumer", "Succeeded", "Failed", "Unknown")
# CDI's reasons of a try that has failed and is made again, and pilvi's.
_TROUBLES = ("Error", "ImagePullFailed", "TransferFailed", "NoSpace")


@dataclass(frozen=True)
class Disks:
    """Whether filling a disk has failed (also if it is tried again), whether one is being filled, whether a claim is not bound."""

    failed: bool = False
    provisioning: bool = False
    unbound: bool = False


NO_DISKS = Disks()


def look_at_disks(vm: JsonObject, claim: Find, data_volume: Find) -> Disks:
    """How it stands with the disks that the template of `vm` names; what does not exist is said by others."""
    namespace, volumes = vm["metadata"]["namespace"], _volumes(vm)
    made = [found for name in data_volume_names(volumes) if (found := data_volume(Key(namespace, name))) is not None]
    claims = [found for name in claim_names(volumes) if (found := claim(Key(namespace, name))) is not None]
    return Disks(
        failed=any(_has_failed(each) for each in made),
        provisioning=any(_phase(each) not in _AT_REST for each in made),
        unbound=any(_phase(each) != "Bound" for each in claims),
    )


def claim_names(volumes: Iterable[JsonObject]) -> list[str]:
    """The claims behind these volumes."""
    return [named.name for volume in volumes if (named := find_claim(volume)) is not None]


def data_volume_names(volumes: Iterable[JsonObject]) -> list[str]:
    """The DataVolumes that these volumes name."""
    return [str(volume["dataVolume"]["name"]) for volume in volumes if volume.get("dataVolume")]


def _volumes(vm: JsonObject) -> list[JsonObject]:
    return ((vm["spec"].get("template") or {}).get("spec") or {}).get("volumes") or []


def _has_failed(data_volume: JsonObject) -> bool:
    running = find_condition(data_volume, "Running") or {}
    return _phase(data_volume) == "Failed" or (running.get("status") == "False" and running.get("reason") in _TROUBLES)


def _phase(obj: JsonObject) -> str:
    return str((obj.get("status") or {}).get("phase") or "")
