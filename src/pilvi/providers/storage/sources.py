"""What a claim's volume begins as a copy of: the volume of another claim, or a snapshot. Reads caches only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.lib.quantity import format_bytes, quantity_bytes
from pilvi.providers.claims import find_volume, is_populated, volume_file
from pilvi.providers.storage.claim.plan import Plan
from pilvi.providers.storage.kinds import CLAIMS, CONTENTS, SNAPSHOTS, VOLUMES

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Awaited", "Disk", "Sources", "names_source"]


@dataclass(frozen=True)
class Disk:
    """A disk that can be copied; `name` says which, for messages."""

    file: Path
    size_bytes: int
    mode: str
    name: str


@dataclass(frozen=True)
class Awaited:
    """Why there is no disk to copy yet."""

    reason: str
    message: str


class Sources:
    """Finds the disks that claims name."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        informers = platform.informers
        self._claims = informers.get(CLAIMS)
        self._volumes = informers.get(VOLUMES)
        self._snapshots = informers.get(SNAPSHOTS)
        self._contents = informers.get(CONTENTS)

    def find(self, claim: JsonObject, plan: Plan) -> Disk | Awaited | None:
        """The disk that the claim shall begin as; None when it names none. Raises UserError for one that it cannot begin as."""
        named = names_source(claim)
        if named is None:
            return None
        group, kind, name = named
        key = Key(claim["metadata"]["namespace"], name)
        if (group, kind) == ("", CLAIMS.kind):
            found = self.of_claim(key)
        elif (group, kind) == (SNAPSHOTS.group, SNAPSHOTS.kind):
            found = self._of_snapshot(key)
        else:
            return Awaited("NoPopulator", f"nobody here fills a claim from a {kind} of {group}; name a claim or a VolumeSnapshot")
        if isinstance(found, Disk):
            if found.mode != plan.mode:
                raise UserError(
                    f"{found.name} is of mode {found.mode}, the claim of mode {plan.mode}", hint=f"write volumeMode: {found.mode}"
                )
            if found.size_bytes > plan.size_bytes:
                raise UserError(
                    f"{found.name} has {format_bytes(found.size_bytes)}, the claim only {format_bytes(plan.size_bytes)}",
                    hint=f"ask for at least {format_bytes(found.size_bytes)} in a new claim",
                )
        return found

    def of_claim(self, key: Key) -> Disk | Awaited:
        """The disk of a claim that is bound and whole. Raises UserError when its volume is not one of ours."""
        claim = self._claims.get(key)
        if claim is None:
            return Awaited("SourceNotFound", f"there is no claim {key} to copy; create it, or name another")
        volume = self._volumes.get(Key("", claim["spec"].get("volumeName") or ""))
        if (claim.get("status") or {}).get("phase") != "Bound" or volume is None or not is_populated(claim):
            return Awaited("SourceNotReady", f"claim {key} is not bound yet; it is copied when it is")
        folder = find_volume(volume)
        if folder is None or (volume["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
            raise UserError(f"claim {key} is on a volume that pilvi has not made", hint="name a claim of one of pilvi's storage classes")
        size = quantity_bytes(volume["spec"]["capacity"]["storage"])
        return Disk(volume_file(self._cloud, folder), size, volume["spec"].get("volumeMode") or "Filesystem", f"claim {key}")

    def _of_snapshot(self, key: Key) -> Disk | Awaited:
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            return Awaited("SourceNotFound", f"there is no VolumeSnapshot {key}; create it, or name another")
        status = snapshot.get("status") or {}
        content = self._contents.get(Key("", status.get("boundVolumeSnapshotContentName") or ""))
        if not status.get("readyToUse") or content is None:
            return Awaited("SourceNotReady", f"VolumeSnapshot {key} is not ready to use yet; it is copied when it is")
        folder = find_volume(content)
        if folder is None or (content["spec"].get("volumeSnapshotRef") or {}).get("uid") != snapshot["metadata"]["uid"]:
            raise UserError(f"VolumeSnapshot {key} was not made by pilvi", hint="name a snapshot of one of pilvi's classes")
        size = int((content.get("status") or {}).get("restoreSize") or 0)
        return Disk(
            volume_file(self._cloud, folder), size, content["spec"].get("sourceVolumeMode") or "Filesystem", f"VolumeSnapshot {key}"
        )


def names_source(claim: JsonObject) -> tuple[str, str, str] | None:
    """Group, kind and name of what the claim's dataSource names; None when it names nothing. Raises UserError for another namespace's."""
    reference = claim["spec"].get("dataSourceRef") or claim["spec"].get("dataSource")
    if not reference:
        return None
    if reference.get("namespace") not in (None, "", claim["metadata"]["namespace"]):
        raise UserError(
            f"the claim names a source in namespace {reference['namespace']}, and only its own is looked at",
            hint="copy across namespaces with a DataVolume",
        )
    return reference.get("apiGroup") or "", reference["kind"], reference["name"]
