"""Keeps each VirtualMachineInstanceReplicaSet at its number of instances.

A pass claims instances, makes or deletes what the plan says, and reports; what it wrote is in the caches before the next one. Deleting a
set is the garbage collector's business: its instances have the set as their owner, and `--cascade=orphan` takes that away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import AlreadyExists, ApiError, Forbidden, Invalid, NotFound, format_chain
from pilvi.lib.clock import utc_now
from pilvi.lib.together import together
from pilvi.providers.kubevirt.kinds import INSTANCES, REPLICA_SETS
from pilvi.providers.kubevirt.replicaset.plan import Claims, Scaling, is_active, new_replica, owner_of, plan_claims, plan_scaling
from pilvi.providers.kubevirt.replicaset.selector import render
from pilvi.providers.status import write_status
from pilvi.runtime import Done, Failed, Result, condition, conditions_of, find_condition, is_deleting, is_true, merge_conditions

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["ReplicaSets"]


class ReplicaSets:
    """The reconciler of VirtualMachineInstanceReplicaSet."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events
        self._sets = platform.informers.get(REPLICA_SETS)
        self._instances = platform.informers.get(INSTANCES)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the set `key`."""
        replica_set = self._sets.get(key)
        if replica_set is None:
            return Done()
        owned = await self._claim(replica_set)
        failure = await self._scale(replica_set, plan_scaling(replica_set, owned))
        # What the pass has made and deleted comes back as changes of instances, which the next pass counts.
        await self._report(replica_set, [instance for instance in owned if is_active(instance)], failure)
        return Done() if failure is None else Failed(failure["message"])

    async def _claim(self, replica_set: JsonObject) -> list[JsonObject]:
        """Adopt and release instances; returns the set's own."""
        claims: Claims = plan_claims(replica_set, self._instances.list(replica_set["metadata"]["namespace"]))
        if claims.adopted and not await self._still_there(replica_set):
            return claims.owned
        adopted = await together(*(self._adopt(replica_set, instance) for instance in claims.adopted))
        await together(*(self._release(replica_set, instance) for instance in claims.released))
        return [*claims.owned, *(instance for instance in adopted if instance is not None)]

    async def _still_there(self, replica_set: JsonObject) -> bool:
        """Whether the set itself, read from the API, still is and stays: one that goes must not take others' instances along."""
        found = await self._client.find(REPLICA_SETS, Key.of(replica_set))
        return found is not None and found["metadata"]["uid"] == replica_set["metadata"]["uid"] and not is_deleting(found)

    async def _adopt(self, replica_set: JsonObject, instance: JsonObject) -> JsonObject | None:
        return await self._write_owners(instance, [*_owners(instance), owner_of(replica_set)])

    async def _release(self, replica_set: JsonObject, instance: JsonObject) -> JsonObject | None:
        uid = replica_set["metadata"]["uid"]
        return await self._write_owners(instance, [owner for owner in _owners(instance) if owner["uid"] != uid])

    async def _write_owners(self, instance: JsonObject, owners: list[JsonObject]) -> JsonObject | None:
        guard = {name: instance["metadata"][name] for name in ("uid", "resourceVersion")}
        try:
            return await self._client.patch(INSTANCES, Key.of(instance), {"metadata": {**guard, "ownerReferences": owners}})
        except NotFound:
            return None

    async def _scale(self, replica_set: JsonObject, scaling: Scaling) -> JsonObject | None:
        """Make and delete; returns the condition that says what could not be done."""
        try:
            await together(*(self._make(replica_set) for _ in range(scaling.missing)))
        except (Forbidden, Invalid, AlreadyExists) as e:
            return self._failed(replica_set, "FailedCreate", "Error creating virtual machine instance", e)
        try:
            await together(
                *(self._remove(replica_set, each, "Stopped the virtual machine by deleting the") for each in scaling.surplus),
                *(self._remove(replica_set, each, "Deleted finished") for each in scaling.ended),
            )
        except Forbidden as e:
            return self._failed(replica_set, "FailedDelete", "Error deleting virtual machine instance", e)
        return None

    async def _make(self, replica_set: JsonObject) -> None:
        instance = await self._client.create(INSTANCES, new_replica(replica_set))
        name = instance["metadata"]["name"]
        message = f"Started the virtual machine by creating the new virtual machine instance {name}"
        self._events.record(replica_set, "Normal", "SuccessfulCreate", message)

    async def _remove(self, replica_set: JsonObject, instance: JsonObject, what: str) -> None:
        await self._client.ensure_absent(INSTANCES, Key.of(instance), uid=instance["metadata"]["uid"])
        message = f"{what} virtual machine instance {instance['metadata']['name']}"
        self._events.record(replica_set, "Normal", "SuccessfulDelete", message)

    def _failed(self, replica_set: JsonObject, reason: str, what: str, error: ApiError) -> JsonObject:
        message = f"{what}: {format_chain(error)}"
        self._events.record(replica_set, "Warning", reason, message)
        return condition("ReplicaFailure", True, reason, message)

    async def _report(self, replica_set: JsonObject, active: list[JsonObject], failure: JsonObject | None) -> None:
        paused = bool(replica_set["spec"].get("paused"))
        was_paused = find_condition(replica_set, "ReplicaPaused") is not None
        wanted = [condition("ReplicaPaused", True, "Paused", "Controller got paused")] if paused else []
        if failure is not None:
            wanted.append(failure)
        types = {entry["type"] for entry in wanted}
        kept = [entry for entry in conditions_of(replica_set) if entry["type"] in types]
        status = {
            "labelSelector": render(replica_set["spec"]["selector"]),
            "replicas": len(active),
            "readyReplicas": sum(is_true(instance, "Ready") for instance in active),
            "conditions": merge_conditions(kept, wanted, now=utc_now()),
        }
        await write_status(self._client, REPLICA_SETS, replica_set, status)
        if paused != was_paused:
            self._events.record(
                replica_set,
                "Normal",
                "SuccessfulPaused" if paused else "SuccessfulResumed",
                "Paused" if paused else "Resumed",
            )


def _owners(instance: JsonObject) -> list[JsonObject]:
    return [*(instance["metadata"].get("ownerReferences") or [])]
