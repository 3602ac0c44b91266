"""The objects that clusters and machines consist of, read once, and how they hang together.

`why` and `status` both look at this, so that they never tell different stories.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import (
    CLUSTER_CLASSES,
    CLUSTER_RESOURCE_SETS,
    CLUSTERS,
    CONFIG_MAPS,
    EVENTS,
    KUBEADM_CONFIG_TEMPLATES,
    KUBEADM_CONFIGS,
    LEASES,
    MACHINE_DEPLOYMENTS,
    MACHINE_HEALTH_CHECKS,
    MACHINE_SETS,
    MACHINES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from pilvi.api.capk import KubevirtCluster, KubevirtClusterTemplate, KubevirtMachine, KubevirtMachineTemplate
from pilvi.api.controlplane import KamajiControlPlane, KamajiControlPlaneTemplate
from pilvi.api.kamaji import DataStore, TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.errors import Forbidden, NotFound, WrongUse
from pilvi.kube import Client
from pilvi.lib.similar import find_similar
from pilvi.plane.heartbeat import find_silence

__all__ = ["KINDS", "LONE_KINDS", "World", "find_kind", "rank_of", "read_world"]

# In the order in which a cluster comes to be: what stands first has to work before what stands later can.
KINDS: tuple[Resource, ...] = (
    NODES,
    DataStore.RESOURCE,
    Vpc.RESOURCE,
    Subnet.RESOURCE,
    IP.RESOURCE,
    KubevirtCluster.RESOURCE,
    KamajiControlPlane.RESOURCE,
    SERVICES,
    TenantControlPlane.RESOURCE,
    CLUSTERS,
    MACHINE_DEPLOYMENTS,
    MACHINE_SETS,
    MACHINES,
    KUBEADM_CONFIGS,
    KubevirtMachine.RESOURCE,
    VirtualMachine.RESOURCE,
    VirtualMachineInstance.RESOURCE,
    PODS,
    MACHINE_HEALTH_CHECKS,
)
# What a person may ask about as well, one object at a time: nothing that is read belongs to them.
LONE_KINDS: tuple[Resource, ...] = (
    NAMESPACES,
    SECRETS,
    CONFIG_MAPS,
    SERVICE_ACCOUNTS,
    PERSISTENT_VOLUME_CLAIMS,
    CLUSTER_CLASSES,
    CLUSTER_RESOURCE_SETS,
    KUBEADM_CONFIG_TEMPLATES,
    KamajiControlPlaneTemplate.RESOURCE,
    KubevirtClusterTemplate.RESOURCE,
    KubevirtMachineTemplate.RESOURCE,
)
_SHORT_NAMES = {
    "cc": "ClusterClass",
    "cm": "ConfigMap",
    "crs": "ClusterResourceSet",
    "ds": "DataStore",
    "kcp": "KamajiControlPlane",
    "md": "MachineDeployment",
    "mhc": "MachineHealthCheck",
    "ms": "MachineSet",
    "ns": "Namespace",
    "no": "Node",
    "po": "Pod",
    "pvc": "PersistentVolumeClaim",
    "sa": "ServiceAccount",
    "svc": "Service",
    "tcp": "TenantControlPlane",
    "vm": "VirtualMachine",
    "vmi": "VirtualMachineInstance",
}
_RANKS = {resource.kind: number for number, resource in enumerate(KINDS)}
_OWNER_UID = "pilvi.dev/owner-uid"  # on cluster-scoped objects, which cannot have a namespaced owner


def find_kind(text: str) -> Resource:
    """The kind that a person means by `cluster`, `clusters`, `Cluster` or `vmi`. Raises WrongUse with those that are known."""
    wanted = _SHORT_NAMES.get(text.lower(), text).lower()
    for resource in (*KINDS, *LONE_KINDS):
        if wanted in {resource.kind.lower(), resource.plural, str(resource)}:
            return resource
    known = sorted(resource.kind.lower() for resource in (*KINDS, *LONE_KINDS))
    meant = find_similar(text.lower(), [*_SHORT_NAMES, *known])
    raise WrongUse(
        f"{text!r} is no kind that can be explained", hint=f"{f'did you mean {meant}? ' if meant else ''}one of: {', '.join(known)}"
    )


def rank_of(obj: JsonObject) -> int:
    """The place of the object's kind in the order of events."""
    return _RANKS.get(obj["kind"], len(_RANKS))


class World(msgspec.Struct, dict=True):
    """Objects of `KINDS` and the Events about them. `engine` says what is wrong with the engine; empty when nothing is known to be."""

    objects: list[JsonObject]
    events: list[JsonObject] = []
    engine: str = ""

    def of_kind(self, resource: Resource) -> list[JsonObject]:
        """All objects of a kind, by namespace and name."""
        return sorted((obj for obj in self.objects if obj["kind"] == resource.kind), key=Key.of)

    def find(self, resource: Resource, key: Key) -> JsonObject | None:
        """One object, or None."""
        wanted = key if resource.namespaced else Key("", key.name)
        return next((obj for obj in self.objects if obj["kind"] == resource.kind and Key.of(obj) == wanted), None)

    def children(self, obj: JsonObject) -> list[JsonObject]:
        """What belongs to the object, in the order of events; to a Namespace all in it that belongs to nothing else."""
        found = self._children.get(obj["metadata"].get("uid", ""), [])
        if obj["kind"] == NAMESPACES.kind:
            found = [child for child in self.objects if Key.of(child).namespace == obj["metadata"]["name"] and self.owner(child) is None]
        return sorted(found, key=lambda child: (rank_of(child), Key.of(child)))

    def descendants(self, obj: JsonObject) -> list[JsonObject]:
        """The object and all below it, depth first."""
        return [obj, *(below for child in self.children(obj) for below in self.descendants(child))]

    def owner(self, obj: JsonObject) -> JsonObject | None:
        """What the object belongs to: its controller, else its first owner that was read."""
        return next((self._by_uid[uid] for uid in _owners(obj) if uid in self._by_uid), None)

    def events_of(self, obj: JsonObject) -> list[JsonObject]:
        """Events about the object, oldest first."""
        uid = obj["metadata"].get("uid")
        return sorted((event for event in self.events if (event.get("involvedObject") or {}).get("uid") == uid), key=_moment)

    @cached_property
    def _by_uid(self) -> dict[str, JsonObject]:
        return {obj["metadata"]["uid"]: obj for obj in self.objects if obj["metadata"].get("uid")}

    @cached_property
    def _children(self) -> dict[str, list[JsonObject]]:
        children: dict[str, list[JsonObject]] = defaultdict(list)
        for obj in self.objects:
            owner = self.owner(obj)
            if owner is not None and owner is not obj:
                children[owner["metadata"]["uid"]].append(obj)
        return children


async def read_world(client: Client, namespace: str | None = None, *, timeout_s: float | None = None) -> World:
    """Read all kinds side by side, of one namespace and what is cluster-scoped, or of all. Raises ApiError, ApiUnreachable.

    A kind that is not served yet, while a platform starts, has no objects. Who may not read Leases does not learn how the engine is.
    """

    async def read(resource: Resource) -> list[JsonObject]:
        place = namespace if resource.namespaced else None
        try:
            return await client.list(resource, namespace=place, timeout_s=timeout_s)
        except NotFound:
            return []

    async def read_leases() -> list[JsonObject]:
        try:
            return await client.list(LEASES, timeout_s=timeout_s)
        except (Forbidden, NotFound):
            return []

    lists: Sequence[list[JsonObject]] = await asyncio.gather(*(read(resource) for resource in (*KINDS, EVENTS)), read_leases())
    *kinds, events, leases = lists
    objects = [obj for found in kinds for obj in found]
    return World(objects, events, find_silence([obj for obj in objects if obj["kind"] == NODES.kind], leases))


def _owners(obj: JsonObject) -> Iterable[str]:
    references = obj["metadata"].get("ownerReferences") or []
    yield from (reference["uid"] for reference in sorted(references, key=lambda reference: not reference.get("controller")))
    label = (obj["metadata"].get("labels") or {}).get(_OWNER_UID)
    if label:
        yield label


def _moment(event: JsonObject) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
