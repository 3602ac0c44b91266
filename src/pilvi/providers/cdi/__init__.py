"""CDI's kinds: disks and what shall be on them.

datavolume/       makes the claim of a DataVolume, and reports
dataimportcron/   imports what is new in a registry, at given times
population/       fills claims: downloads, copies, uploads, empty disks
upload/           tokens for uploads, and what takes them
sources.py        finds what a claim shall hold
storageprofile.py, config.py, datasource.py   defaults, settings, names for disks

`providers/claims.py` says how `storage/` and this package meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key, Resource
from pilvi.providers.admission import Check
from pilvi.providers.cdi.config import Configuration, config_controller
from pilvi.providers.cdi.dataimportcron.controller import cron_controller
from pilvi.providers.cdi.datasource import data_source_controller
from pilvi.providers.cdi.datavolume.controller import DataVolumes
from pilvi.providers.cdi.kinds import (
    CLAIMS,
    CLASSES,
    CLONE_SOURCES,
    DATA_VOLUMES,
    IMPORT_SOURCES,
    PODS,
    PROFILES,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
    UPLOAD_SOURCES,
    VOLUMES,
)
from pilvi.providers.cdi.population.controller import Populations
from pilvi.providers.cdi.population.fills import Fills
from pilvi.providers.cdi.sources import Sources, reference_of
from pilvi.providers.cdi.storageprofile import profile_controller
from pilvi.providers.cdi.upload import uploads
from pilvi.providers.claims import claims_of_pod
from pilvi.runtime import Controller, Watch, any_change, no_keys

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks", "controllers", "uploads"]


def controllers(platform: Platform) -> list[Controller]:
    """The controllers of this group."""
    configuration = Configuration(platform)
    sources = Sources(platform, configuration)
    fills = Fills()
    populations = Populations(platform, sources, configuration, fills)
    claims = platform.informers.get(CLAIMS)

    def naming(kind: str, obj: JsonObject) -> list[Key]:
        """Claims whose dataSourceRef names this object."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        named = (kind, name)
        return [Key.of(claim) for claim in claims.list(namespace) if reference_of(claim) == named]

    def copies_of(resource: Resource) -> Callable[[JsonObject], list[Key]]:
        return lambda obj: sources.waiting_for(resource, Key.of(obj))

    def copies_of_content(content: JsonObject) -> list[Key]:
        reference = (content.get("spec") or {}).get("volumeSnapshotRef") or {}
        return sources.waiting_for(SNAPSHOTS, Key(reference.get("namespace") or "", reference.get("name") or ""))

    def copies_of_disks(pod: JsonObject) -> list[Key]:
        """What waits for a disk until no Pod uses it."""
        return [key for name in claims_of_pod(pod) for key in sources.waiting_for(CLAIMS, Key(pod["metadata"]["namespace"], name))]

    population = Controller(
        "population",
        CLAIMS,
        populations.reconcile,
        watches=[
            Watch(IMPORT_SOURCES, lambda obj: naming(IMPORT_SOURCES.kind, obj)),
            Watch(CLONE_SOURCES, lambda obj: naming(CLONE_SOURCES.kind, obj)),
            Watch(UPLOAD_SOURCES, lambda obj: naming(UPLOAD_SOURCES.kind, obj)),
            Watch(DATA_VOLUMES, no_keys),
            Watch(VOLUMES, no_keys),
            Watch(CLAIMS, copies_of(CLAIMS)),
            Watch(SNAPSHOTS, copies_of(SNAPSHOTS)),
            Watch(SNAPSHOT_CONTENTS, copies_of_content),
            Watch(PODS, copies_of_disks),
        ],
        concurrency=8,
        predicate=any_change,
        beside=[populations.run],
    )
    fills.changed = population.enqueue
    return [
        Controller(
            "datavolume",
            DATA_VOLUMES,
            DataVolumes(platform, sources, configuration).reconcile,
            owns=[CLAIMS],
            watches=[
                Watch(CLASSES, no_keys),
                Watch(PROFILES, no_keys),
                Watch(CLAIMS, copies_of(CLAIMS)),
                Watch(SNAPSHOTS, copies_of(SNAPSHOTS)),
                Watch(SNAPSHOT_CONTENTS, copies_of_content),
            ],
            concurrency=8,
        ),
        population,
        data_source_controller(platform, sources),
        cron_controller(platform, sources),
        profile_controller(platform),
        config_controller(platform),
    ]


def checks(_platform: Platform) -> list[Check]:
    """None: what a DataVolume may be is decided by policies, and what it refers to may come later."""
    return []
