"""The checks of a provider over caches that hold given objects: what its webhook tests stand on."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, SERVICES
from pilvi.api.crds import KINDS
from pilvi.host.cloud import Cloud
from pilvi.providers.admission import Objection
from pilvi.runtime import Informers

RESOURCES = {resource.kind: resource for resource in (CLUSTERS, SERVICES, *(kind.RESOURCE for kind in KINDS))}


class Versions:
    def built_versions(self) -> list[str]:
        return ["v1.36.3", "v1.37.2", "v1.38.0"]


def objections(provider: ModuleType, cloud: Cloud, obj: JsonObject, *others: JsonObject) -> list[Objection]:
    """What `provider` has against `obj` when the API holds `others`."""
    client: Any = SimpleNamespace(on_write=None)
    informers = Informers(client)
    found = provider.checks(SimpleNamespace(cloud=cloud, informers=informers, kit=Versions()))
    for other in others:
        informers.get(RESOURCES[other["kind"]])._store(Key.of(other), other)
    return [objection for check in found if check.resource == RESOURCES[obj["kind"]] for objection in check.objections(obj)]


def refusals(provider: ModuleType, cloud: Cloud, obj: JsonObject, *others: JsonObject) -> list[str]:
    return [objection.message for objection in objections(provider, cloud, obj, *others) if objection.refuses]


def warnings(provider: ModuleType, cloud: Cloud, obj: JsonObject, *others: JsonObject) -> list[str]:
    return [objection.message for objection in objections(provider, cloud, obj, *others) if not objection.refuses]


def leaving(obj: JsonObject) -> JsonObject:
    """The object while it is being deleted."""
    return {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-01-02T00:00:00Z"}}
