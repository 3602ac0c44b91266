"""Which sets a change of an instance concerns that none of them controls: it may be one to adopt."""

from __future__ import annotations

from pilvi.api import JsonObject, Key
from pilvi.providers.kubevirt.kinds import REPLICA_SETS
from pilvi.providers.kubevirt.replicaset.selector import matches
from pilvi.runtime import Informers, controller_of

__all__ = ["replica_sets_of_orphan"]


def replica_sets_of_orphan(informers: Informers, instance: JsonObject) -> list[Key]:
    """The sets of its namespace whose selector it matches; none for an instance that has a controller."""
    if controller_of(instance) is not None:
        return []
    sets = informers.get(REPLICA_SETS).list(instance["metadata"]["namespace"])
    labels = instance["metadata"].get("labels") or {}
    return [Key.of(each) for each in sets if (selector := (each.get("spec") or {}).get("selector")) and matches(selector, labels)]
