"""What a claim says to the providers that share it: `storage/` makes its volume, `cdi/` fills it, `kubevirt/` attaches it.

A claim that something fills is bound only when its data are whole:

1. The claim has `pilvi.dev/populated: "false"`, or a dataSourceRef to a kind of CDI.
2. `storage/` makes the volume's file, empty and of its full size, as soon as the class and its binding mode allow, and says so by
   `pilvi.dev/volume` on the claim. No PersistentVolume yet.
3. `cdi/` fills the file and writes `pilvi.dev/populated: "true"`.
4. `storage/` makes the PersistentVolume, and Kubernetes binds it.

Whoever may write a claim may write its annotations, so the volume of a claim follows from its UID and is never read from it. A
PersistentVolume, or the content of a snapshot, is written by administrators only: there the annotation names the volume.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api import JsonObject

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = [
    "BIND_AT_ONCE",
    "POPULATED",
    "PROVISIONER",
    "VOLUME",
    "annotations_of",
    "claim_volume",
    "claims_of_pod",
    "find_volume",
    "is_populated",
    "needs_population",
    "uses_claim",
    "volume_file",
]

PROVISIONER = "local.pilvi.dev"
"""Provisioner of pilvi's storage classes."""

POPULATED = "pilvi.dev/populated"
VOLUME = "pilvi.dev/volume"
BIND_AT_ONCE = "cdi.kubevirt.io/storage.bind.immediate.requested"
"""On a claim: its volume is made without waiting for a first consumer, whatever the class says."""

_POPULATORS = "cdi.kubevirt.io"
_ENDED = ("Succeeded", "Failed")


def annotations_of(obj: JsonObject) -> dict[str, str]:
    """The annotations of an object; empty when there are none."""
    return obj["metadata"].get("annotations") or {}


def needs_population(claim: JsonObject) -> bool:
    """Whether CDI fills the claim, or has filled it."""
    reference = (claim.get("spec") or {}).get("dataSourceRef") or {}
    return POPULATED in annotations_of(claim) or reference.get("apiGroup") == _POPULATORS


def is_populated(claim: JsonObject) -> bool:
    """Whether the claim's data are whole; a claim that nothing fills is from the start."""
    return not needs_population(claim) or annotations_of(claim).get(POPULATED) == "true"


def claim_volume(claim: JsonObject) -> str:
    """Folder, below `<home>/volumes`, of the volume that is made for this claim."""
    return f"pvc-{claim['metadata']['uid']}"


def claims_of_pod(pod: JsonObject) -> set[str]:
    """Names of the claims that a Pod uses."""
    volumes = (pod.get("spec") or {}).get("volumes") or []
    return {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}


def uses_claim(pod: JsonObject, name: str) -> bool:
    """Whether the Pod, of the claim's namespace, has not ended and may write to the claim."""
    return (pod.get("status") or {}).get("phase") not in _ENDED and name in claims_of_pod(pod)


def find_volume(volume: JsonObject) -> str | None:
    """The folder that a PersistentVolume or VolumeSnapshotContent names; None when it is not one of ours."""
    folder = annotations_of(volume).get(VOLUME, "")
    return folder if folder and "/" not in folder and not folder.startswith(".") else None


def volume_file(cloud: Cloud, folder: str) -> Path:
    """The disk of a volume: one raw, sparse file of exactly the volume's size."""
    return cloud.home / "volumes" / folder / "disk.img"
