"""CDI's kinds: disks and what shall be on them.

datavolume/       makes the claim of a DataVolume, and reports
population/       fills claims: downloads, copies, uploads, empty disks
upload/           tokens for uploads, and what takes them
sources.py        finds what a claim shall hold
storageprofile.py, config.py, datasource.py   defaults, settings, names for disks

`providers/claims.py` says how `storage/` and this package meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.providers.admission import Check
from pilvi.providers.cdi.config import Configuration, config_controller
from pilvi.providers.cdi.datasource import data_source_controller
from pilvi.providers.cdi.datavolume.controller import DataVolumes
from pilvi.providers.cdi.kinds import CLAIMS, CLASSES, CLONE_SOURCES, DATA_VOLUMES, IMPORT_SOURCES, PODS, PROFILES, UPLOAD_SOURCES, VOLUMES
from pilvi.providers.cdi.population.controller import Populations
from pilvi.providers.cdi.population.fills import Fills
from pilvi.providers.cdi.sources import Sources
from pilvi.providers.cdi.storageprofile import profile_controller
from pilvi.providers.cdi.upload import uploads
from pilvi.runtime import Controller, Watch, any_change

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
        return [Key.of(claim) for claim in claims.list(namespace) if _named_by(claim) == named]

    population = Controller(
        "population",
        CLAIMS,
        populations.reconcile,
        watches=[
            Watch(IMPORT_SOURCES, lambda obj: naming(IMPORT_SOURCES.kind, obj)),
            Watch(CLONE_SOURCES, lambda obj: naming(CLONE_SOURCES.kind, obj)),
            Watch(UPLOAD_SOURCES, lambda obj: naming(UPLOAD_SOURCES.kind, obj)),
            Watch(DATA_VOLUMES, _no_keys),
            Watch(VOLUMES, _no_keys),
            Watch(PODS, _no_keys),
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
            watches=[Watch(CLASSES, _no_keys), Watch(PROFILES, _no_keys)],
            concurrency=8,
        ),
        population,
        data_source_controller(platform, sources),
        profile_controller(platform),
        config_controller(platform),
    ]


def checks(_platform: Platform) -> list[Check]:
    """None: what a DataVolume may be is decided by policies, and what it refers to may come later."""
    return []


def _named_by(claim: JsonObject) -> tuple[str | None, str | None]:
    reference = (claim.get("spec") or {}).get("dataSourceRef") or {}
    return reference.get("kind"), reference.get("name")


def _no_keys(_obj: JsonObject) -> Iterable[Key]:
    """Watched for its cache only."""
    return ()
