"""The controllers of migrations and evacuations, and what wakes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NAMESPACES, PODS
from pilvi.providers.kubevirt.kinds import INSTANCES, MIGRATIONS, POLICIES
from pilvi.providers.kubevirt.migration.controller import Migrations
from pilvi.providers.kubevirt.migration.evacuation import Evacuations
from pilvi.providers.kubevirt.migration.queue import machine_of
from pilvi.providers.kubevirt.migration.target import MIGRATION_NAME
from pilvi.runtime import Controller, Watch, any_change

if TYPE_CHECKING:
    from pilvi.providers.kubevirt.instance.controller import Instances
    from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
    from pilvi.providers.platform import Platform
    from pilvi.runtime import Informers

__all__ = ["migration_controllers"]

# More migrations wait than are under way, and waiting takes no time.
_AT_ONCE = 8


def migration_controllers(platform: Platform, hosts: Hosts, instances: Instances) -> list[Controller]:
    """Both, for the machines of `instances`."""
    return [
        Controller(
            "virtualmachineinstancemigration",
            MIGRATIONS,
            Migrations(platform, hosts, instances).reconcile,
            watches=[
                Watch(PODS, _migration_of),
                Watch(INSTANCES, lambda vmi: _migrations_of(platform.informers, vmi), _phase_changed),
                Watch(POLICIES, _nothing),
                Watch(NAMESPACES, _nothing),
            ],
            concurrency=_AT_ONCE,
            predicate=any_change,
        ),
        Controller(
            "evacuation",
            INSTANCES,
            Evacuations(platform).reconcile,
            watches=[Watch(MIGRATIONS, lambda one: [machine_of(one)])],
            concurrency=1,
            predicate=_leaving_changed,
        ),
    ]


def _migration_of(pod: JsonObject) -> Iterable[Key]:
    name = (pod["metadata"].get("annotations") or {}).get(MIGRATION_NAME)
    return [Key(pod["metadata"]["namespace"], name)] if name else []


def _migrations_of(informers: Informers, vmi: JsonObject) -> Iterable[Key]:
    return [Key.of(one) for one in informers.get(MIGRATIONS).list(vmi["metadata"].get("namespace")) if machine_of(one) == Key.of(vmi)]


def _phase_changed(old: JsonObject, new: JsonObject) -> bool:
    return _of_status(old, "phase") != _of_status(new, "phase") or bool(new["metadata"].get("deletionTimestamp"))


def _leaving_changed(old: JsonObject, new: JsonObject) -> bool:
    return any(_of_status(old, name) != _of_status(new, name) for name in ("evacuationNodeName", "nodeName"))


def _of_status(vmi: JsonObject, name: str) -> object:
    return (vmi.get("status") or {}).get(name)


def _nothing(_obj: JsonObject) -> Iterable[Key]:
    """Watched for its cache only."""
    return ()
