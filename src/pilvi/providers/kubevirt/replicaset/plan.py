"""Which instances belong to a replica set, and what is to be done about their number. Pure.

Behaviour is KubeVirt's (pkg/virt-controller/watch/replicaset), but for the order in which a set shrinks, which KubeVirt leaves to chance.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.kinds import INSTANCES, REPLICA_SETS
from pilvi.providers.kubevirt.replicaset.selector import matches
from pilvi.providers.kubevirt.virtualmachine.instance import INSTANCE_FINALIZER, with_defaults
from pilvi.providers.kubevirt.virtualmachine.strategy import FINAL_PHASES
from pilvi.runtime import controller_of, find_condition, is_controlled_by, is_deleting, is_true, owner_reference

__all__ = ["BURST", "Claims", "Scaling", "is_active", "new_replica", "plan_claims", "plan_scaling", "wanted_replicas"]

BURST = 250
"""Instances made or deleted in one pass, as in KubeVirt."""

_NAME_LENGTH = 58
_SUFFIX_LENGTH = 5
# As Kubernetes' own: no vowels, so that no words come about.
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True)
class Claims:
    """Instances by what they are to the set: its own, those to adopt since nobody controls them, those that match no more."""

    owned: list[JsonObject] = field(default_factory=list)
    adopted: list[JsonObject] = field(default_factory=list)
    released: list[JsonObject] = field(default_factory=list)


@dataclass(frozen=True)
class Scaling:
    """How many instances are to be made, and which are to go: `surplus` of those that run, `ended` ones in any case."""

    missing: int = 0
    surplus: list[JsonObject] = field(default_factory=list)
    ended: list[JsonObject] = field(default_factory=list)


def wanted_replicas(replica_set: JsonObject) -> int:
    """Instances that the set is to have."""
    replicas = replica_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def plan_claims(replica_set: JsonObject, instances: Iterable[JsonObject]) -> Claims:
    """What the instances of the set's namespace are to it. A set that is being deleted adopts and releases none."""
    claims = Claims()
    going = is_deleting(replica_set)
    for instance in instances:
        fits = matches(replica_set["spec"]["selector"], instance["metadata"].get("labels") or {})
        if is_controlled_by(instance, replica_set):
            (claims.owned if fits or going else claims.released).append(instance)
        elif fits and not going and controller_of(instance) is None and not is_deleting(instance):
            claims.adopted.append(instance)
    return claims


def is_active(instance: JsonObject) -> bool:
    """Whether it counts: neither ended, nor being deleted, nor being evicted."""
    return not is_deleting(instance) and not _is_final(instance) and not _is_terminating(instance)


def plan_scaling(replica_set: JsonObject, owned: Iterable[JsonObject]) -> Scaling:
    """What brings the set to its number, `BURST` at a time; nothing while it is paused or being deleted.

    Those go first that run not yet, then those that are not ready, then the youngest.
    """
    if replica_set["spec"].get("paused") or is_deleting(replica_set):
        return Scaling()
    here = [instance for instance in owned if not is_deleting(instance)]
    active = [instance for instance in here if is_active(instance)]
    surplus = max(0, len(active) - wanted_replicas(replica_set))
    return Scaling(
        missing=min(BURST, max(0, wanted_replicas(replica_set) - len(active))),
        surplus=sorted(sorted(active, key=_created, reverse=True), key=_rank)[: min(BURST, surplus)],
        ended=[instance for instance in here if not is_active(instance)][:BURST],
    )


def new_replica(replica_set: JsonObject) -> JsonObject:
    """Another instance of the set, with a name of its own; the defaults that depend on a name are filled in, as for a machine."""
    template = replica_set["spec"]["template"]
    described = template.get("metadata") or {}
    base = described.get("name") or described.get("generateName") or replica_set["metadata"]["name"]
    suffix = "".join(random.choices(_SUFFIX_LETTERS, k=_SUFFIX_LENGTH))  # noqa: S311 (a name, no secret)
    name = f"{base[:_NAME_LENGTH]}{suffix}"
    return {
        "apiVersion": INSTANCES.api_version,
        "kind": INSTANCES.kind,
        "metadata": {
            "name": name,
            "namespace": replica_set["metadata"]["namespace"],
            "labels": dict(described.get("labels") or {}),
            "annotations": dict(described.get("annotations") or {}),
            "finalizers": [INSTANCE_FINALIZER],
            "ownerReferences": [owner_of(replica_set)],
        },
        "spec": with_defaults(template.get("spec") or {}, name),
    }


def owner_of(replica_set: JsonObject) -> JsonObject:
    """The owner reference of the set's instances."""
    return owner_reference({"apiVersion": REPLICA_SETS.api_version, "kind": REPLICA_SETS.kind, **replica_set})


def _is_final(instance: JsonObject) -> bool:
    return (instance.get("status") or {}).get("phase") in FINAL_PHASES


def _is_terminating(instance: JsonObject) -> bool:
    ready = find_condition(instance, "Ready")
    return ready is not None and ready.get("status") == "False" and ready.get("reason") == "PodTerminating"


def _rank(instance: JsonObject) -> int:
    if (instance.get("status") or {}).get("phase") != "Running":
        return 0
    return 2 if is_true(instance, "Ready") else 1


def _created(instance: JsonObject) -> str:
    return str(instance["metadata"].get("creationTimestamp") or "")
