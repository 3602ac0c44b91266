"""Gives each KubevirtCluster its network, and says when its infrastructure is complete."""

from __future__ import annotations

from ipaddress import IPv4Network

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS
from pilvi.lib.clock import utc_now
from pilvi.providers.capk.cluster.network import (
    Attachment,
    Refusal,
    named_subnets,
    new_subnet,
    new_vpc,
    own_name,
    place_cluster,
)
from pilvi.providers.capk.cluster.status import Network, paused_status, plan_status
from pilvi.providers.capk.contract import cluster_key, is_paused
from pilvi.providers.capk.names import (
    CLUSTER_FINALIZER,
    KUBEVIRT_CLUSTERS,
    KUBEVIRT_MACHINES,
    MACHINE_TEMPLATES,
    SUBNET,
    SUBNETS,
    VPC,
    VPCS,
)
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Done, Failed, Result, Waiting, ensure_finalizer, has_finalizer, is_deleting, is_true, remove_finalizer

__all__ = ["KubevirtClusters"]

MANAGER = "pilvi-kubevirtcluster"


class KubevirtClusters:
    """The reconciler of KubevirtCluster."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        informers = platform.informers
        self._kubevirt_clusters = informers.get(KUBEVIRT_CLUSTERS)
        self._clusters = informers.get(CLUSTERS)
        self._machines = informers.get(KUBEVIRT_MACHINES)
        self._templates = informers.get(MACHINE_TEMPLATES)
        self._vpcs = informers.get(VPCS)
        self._subnets = informers.get(SUBNETS)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the KubevirtCluster `key`."""
        cluster = self._kubevirt_clusters.get(key)
        if cluster is None:
            return Done()
        owner = cluster_key(cluster)
        capi_cluster = self._clusters.get(owner) if owner is not None else None
        # Cluster API's contract: pause stops everything, deletion too. Of a Cluster that is gone nothing is paused any more.
        if is_paused(cluster, capi_cluster):
            await write_status(self._client, KUBEVIRT_CLUSTERS, cluster, paused_status(cluster, utc_now()))
            return Done()
        if is_deleting(cluster):
            return await self._delete(cluster)
        if capi_cluster is None:
            await self._report(
                cluster, Network("WaitingForCluster", "no Cluster refers to this object yet; set its spec.infrastructureRef")
            )
            return Done()
        cluster = await ensure_finalizer(self._client, KUBEVIRT_CLUSTERS, cluster, CLUSTER_FINALIZER)
        return await self._keep(cluster, capi_cluster)

    async def _keep(self, cluster: JsonObject, capi_cluster: JsonObject) -> Result:
        owner = Key.of(capi_cluster)
        placement = place_cluster(
            cluster,
            capi_cluster,
            named_subnets(owner, self._templates.list(owner.namespace), self._machines.list(owner.namespace)),
            {subnet["metadata"]["name"]: subnet for subnet in self._subnets.list()},
            self._cloud.networks,
        )
        if isinstance(placement, Refusal):
            return await self._refuse(cluster, placement.reason, placement.message)
        attachment = placement.attachment
        # Before anything is made: the control plane's provider starts as soon as it reads where the cluster lives.
        cluster = await self._annotate(cluster, attachment)
        if attachment.own:
            await self._make_network(cluster, placement.cidr)
        else:
            await self._remove_own_network(cluster)
        await self._report(cluster, self._network(attachment))
        return Done()

    def _network(self, attachment: Attachment) -> Network:
        for resource, informer, name in ((VPCS, self._vpcs, attachment.vpc), (SUBNETS, self._subnets, attachment.subnet)):
            obj = informer.get(Key("", name))
            if obj is None:
                return Network("WaitingForNetwork", f"{resource.kind} {name} does not exist yet")
            if is_deleting(obj):
                return Network("WaitingForNetwork", f"{resource.kind} {name} is being deleted")
        if not is_true(self._subnets.get(Key("", attachment.subnet)) or {}, "Ready"):
            return Network("WaitingForNetwork", f"Subnet {attachment.subnet} is not ready yet; see its conditions")
        return Network("Attached")

    async def _annotate(self, cluster: JsonObject, attachment: Attachment) -> JsonObject:
        wanted = {VPC: attachment.vpc, SUBNET: attachment.subnet}
        annotations = cluster["metadata"].get("annotations") or {}
        if all(annotations.get(name) == value for name, value in wanted.items()):
            return cluster
        body = {"metadata": {"resourceVersion": cluster["metadata"]["resourceVersion"], "annotations": wanted}}
        return await self._client.patch(KUBEVIRT_CLUSTERS, Key.of(cluster), body)

    async def _make_network(self, cluster: JsonObject, cidr: IPv4Network) -> None:
        key = Key("", own_name(cluster))
        if self._vpcs.get(key) is None:
            await self._client.apply(VPCS, new_vpc(cluster), manager=MANAGER)
        if self._subnets.get(key) is None:
            await self._client.apply(SUBNETS, new_subnet(cluster, cidr), manager=MANAGER)
            self._events.record(cluster, "Normal", "NetworkCreated", f"Created Vpc and Subnet {key.name} with {cidr}")

    async def _remove_own_network(self, cluster: JsonObject) -> bool:
        """Ask for the deletion of what was made for the cluster, the Subnet first; returns whether anything of it is left."""
        key = Key("", own_name(cluster))
        for resource, informer in ((SUBNETS, self._subnets), (VPCS, self._vpcs)):
            obj = informer.get(key)
            if obj is not None:
                if not is_deleting(obj):
                    await self._client.ensure_absent(resource, key, uid=obj["metadata"]["uid"])
                return True
        return False

    async def _delete(self, cluster: JsonObject) -> Result:
        if not has_finalizer(cluster, CLUSTER_FINALIZER):
            return Done()
        if await self._remove_own_network(cluster):
            message = f"Vpc and Subnet {own_name(cluster)} are being removed; they wait for the machines in them"
            await self._report(cluster, Network("Deleting", message), deleting=True)
            return Waiting("Deleting", message)
        await remove_finalizer(self._client, KUBEVIRT_CLUSTERS, cluster, CLUSTER_FINALIZER)
        return Done()

    async def _refuse(self, cluster: JsonObject, reason: str, message: str) -> Result:
        if await self._report(cluster, Network(reason, message)):
            self._events.record(cluster, "Warning", reason, message)
        return Failed(message, permanent=True)

    async def _report(self, cluster: JsonObject, network: Network, *, deleting: bool = False) -> bool:
        status = plan_status(cluster, network, utc_now(), deleting=deleting)
        return await write_status(self._client, KUBEVIRT_CLUSTERS, cluster, status) is not cluster
