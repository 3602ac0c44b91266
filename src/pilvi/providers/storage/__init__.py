"""Storage of one machine: classes, volumes and snapshots as files below `<home>/volumes`.

claim/        makes the volume of a claim, as a copy of another disk or empty, and grows it
snapshot/     VolumeSnapshots and their contents
volume.py     PersistentVolumes: what becomes of their data
sources.py    finds what a claim or a snapshot is a copy of
copies.py     copies that are under way
files.py      the files
sweep.py      removes what nothing stands for any more
storageclass.py   says on each class what it can do

`providers/claims.py` says how this package, `cdi/` and `kubevirt/` meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.providers.admission import Check
from pilvi.providers.storage.claim.controller import Claims
from pilvi.providers.storage.copies import Copies
from pilvi.providers.storage.kinds import CLAIMS, CLASSES, CONTENTS, SNAPSHOT_CLASSES, SNAPSHOTS, VOLUMES
from pilvi.providers.storage.snapshot.content import Contents
from pilvi.providers.storage.snapshot.controller import Snapshots
from pilvi.providers.storage.sources import Sources
from pilvi.providers.storage.storageclass import class_controller
from pilvi.providers.storage.sweep import Sweep
from pilvi.providers.storage.volume import Volumes
from pilvi.runtime import Controller, Watch, any_change, no_keys

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks", "controllers"]


def controllers(platform: Platform) -> list[Controller]:
    """The controllers of this group."""
    copies, sources = Copies(), Sources(platform)
    claims, contents = Claims(platform, sources, copies), Contents(platform, copies)
    all_claims, all_snapshots = platform.informers.get(CLAIMS), platform.informers.get(SNAPSHOTS)

    def naming(obj: JsonObject) -> list[Key]:
        """Claims that name this claim or VolumeSnapshot as their source."""
        namespace, named = obj["metadata"]["namespace"], (obj["kind"], obj["metadata"]["name"])
        return [Key.of(claim) for claim in all_claims.list(namespace) if _source(claim) == named]

    def bound_to(volume: JsonObject) -> list[Key]:
        reference = (volume.get("spec") or {}).get("claimRef")
        return [Key(reference["namespace"], reference["name"])] if reference else []

    def snapshot_of(content: JsonObject) -> list[Key]:
        reference = (content.get("spec") or {}).get("volumeSnapshotRef") or {}
        return [Key(reference.get("namespace") or "", reference.get("name") or "")]

    def contents_of(snapshot: JsonObject) -> list[Key]:
        name = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName")
        return [Key("", name or f"snapcontent-{snapshot['metadata']['uid']}")]

    def snapshots_of(claim: JsonObject) -> list[Key]:
        name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
        return [
            Key.of(snapshot)
            for snapshot in all_snapshots.list(namespace)
            if ((snapshot.get("spec") or {}).get("source") or {}).get("persistentVolumeClaimName") == name
        ]

    claim = Controller(
        "claim",
        CLAIMS,
        claims.reconcile,
        watches=[
            Watch(CLASSES, no_keys),
            Watch(VOLUMES, bound_to),
            Watch(CLAIMS, naming),
            Watch(SNAPSHOTS, naming),
            Watch(CONTENTS, no_keys),
        ],
        concurrency=8,
        predicate=any_change,
        beside=[copies.run, Sweep(platform, copies).run],
    )
    content = Controller(
        "volumesnapshotcontent", CONTENTS, contents.reconcile, watches=[Watch(SNAPSHOTS, contents_of)], predicate=any_change
    )
    claims.wake, contents.wake = claim.enqueue, content.enqueue
    return [
        claim,
        Controller("volume", VOLUMES, Volumes(platform).reconcile, predicate=any_change),
        Controller(
            "volumesnapshot",
            SNAPSHOTS,
            Snapshots(platform, sources).reconcile,
            watches=[
                Watch(CONTENTS, snapshot_of),
                Watch(CLAIMS, snapshots_of),
                Watch(VOLUMES, no_keys),
                Watch(SNAPSHOT_CLASSES, no_keys),
            ],
        ),
        content,
        class_controller(platform),
    ]


def checks(_platform: Platform) -> list[Check]:
    """None: claims are Kubernetes' own, and what a VolumeSnapshot names may come later."""
    return []


def _source(claim: JsonObject) -> tuple[str, str]:
    spec = claim.get("spec") or {}
    reference = spec.get("dataSourceRef") or spec.get("dataSource") or {}
    return reference.get("kind", ""), reference.get("name", "")
