"""Checks of clusters before they are stored: ranges that overlap the Subnet of the machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS
from pilvi.providers.admission import Check, Objection
from pilvi.providers.capk.cluster.network import Refusal, named_subnets, place_cluster, place_ranges
from pilvi.providers.capk.contract import cluster_key
from pilvi.providers.capk.names import KUBEVIRT_CLUSTERS, KUBEVIRT_MACHINES, MACHINE_TEMPLATES, SUBNETS
from pilvi.runtime import is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks"]

# The variable of the ClusterClass `pilvi` that names the Subnet of the machines.
_SUBNET_VARIABLE = "subnet"


def checks(platform: Platform) -> list[Check]:
    """The checks of this group."""
    found = _Checks(platform)
    return [Check(CLUSTERS, found.of_cluster), Check(KUBEVIRT_CLUSTERS, found.of_kubevirt_cluster)]


class _Checks:
    """What is being deleted is in nobody's way."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud.networks
        informers = platform.informers
        self._clusters = informers.get(CLUSTERS)
        self._kubevirt_clusters = informers.get(KUBEVIRT_CLUSTERS)
        self._machines = informers.get(KUBEVIRT_MACHINES)
        self._templates = informers.get(MACHINE_TEMPLATES)
        self._subnets = informers.get(SUBNETS)

    def of_cluster(self, cluster: JsonObject) -> Iterator[Objection]:
        """Its ranges against each other, the cloud's, and the Subnet in which it lives, or will live by what its topology says."""
        key = Key.of(cluster)
        owned = [obj for obj in self._kubevirt_clusters.list(key.namespace) if cluster_key(obj) == key and not is_deleting(obj)]
        if owned:
            for kubevirt_cluster in owned:
                yield from self._place(kubevirt_cluster, cluster)
            return
        subnets, name = self._staying_subnets(), _topology_subnet(cluster)
        refusal = place_ranges(cluster, name or "of the machines", subnets.get(name or ""), self._cloud)
        if isinstance(refusal, Refusal):
            yield _told(refusal)
        elif name and name not in subnets:
            yield Objection(f"spec.topology.variables: there is no Subnet {name}; create it, or name another", refuses=False)

    def of_kubevirt_cluster(self, kubevirt_cluster: JsonObject) -> Iterator[Objection]:
        """The ranges of its Cluster against the Subnet that its annotations lead to."""
        key = cluster_key(kubevirt_cluster)
        cluster = self._clusters.get(key) if key is not None else None
        if cluster is not None:
            yield from self._place(kubevirt_cluster, cluster)

    def _place(self, kubevirt_cluster: JsonObject, cluster: JsonObject) -> Iterator[Objection]:
        key = Key.of(cluster)
        named = named_subnets(key, self._templates.list(key.namespace), self._machines.list(key.namespace))
        placement = place_cluster(kubevirt_cluster, cluster, named, self._staying_subnets(), self._cloud)
        if isinstance(placement, Refusal):
            yield _told(placement)

    def _staying_subnets(self) -> dict[str, JsonObject]:
        return {subnet["metadata"]["name"]: subnet for subnet in self._subnets.list() if not is_deleting(subnet)}


def _told(refusal: Refusal) -> Objection:
    """Which Subnets and Vpcs are named where may still be mended by other objects; ranges that overlap may not."""
    return Objection(refusal.message, refuses=refusal.reason == "OverlappingRanges")


def _topology_subnet(cluster: JsonObject) -> str | None:
    variables = ((cluster.get("spec") or {}).get("topology") or {}).get("variables") or ()
    value = next((variable.get("value") for variable in variables if variable.get("name") == _SUBNET_VARIABLE), None)
    return value if isinstance(value, str) and value else None
