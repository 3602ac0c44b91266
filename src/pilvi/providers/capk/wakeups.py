"""Which KubevirtClusters and KubevirtMachines a change of something else concerns."""

from __future__ import annotations

from pilvi.api import JsonObject, Key
from pilvi.providers.capk.cluster.network import template_subnet
from pilvi.providers.capk.contract import cluster_key
from pilvi.providers.capk.names import KUBEVIRT_CLUSTERS, KUBEVIRT_MACHINES, MACHINE_TEMPLATES, OWNER_KIND, OWNER_NAME, OWNER_NAMESPACE, VPC
from pilvi.runtime import Informers

__all__ = ["Wakeups"]


class Wakeups:
    """The mappings, over indices of the caches."""

    def __init__(self, informers: Informers) -> None:
        self._clusters = informers.get(KUBEVIRT_CLUSTERS)
        self._machines = informers.get(KUBEVIRT_MACHINES)
        self._clusters.add_index("cluster", lambda obj: [cluster_key(obj)])
        self._machines.add_index("cluster", lambda obj: [cluster_key(obj)])
        self._templates = informers.get(MACHINE_TEMPLATES)
        self._machines.add_index("subnet", lambda obj: [template_subnet(obj.get("spec") or {})])
        self._templates.add_index(
            "subnet", lambda obj: [template_subnet(((obj.get("spec") or {}).get("template") or {}).get("spec") or {})]
        )
        self._clusters.add_index("vpc", lambda obj: [(obj["metadata"].get("annotations") or {}).get(VPC)])

    def clusters_of_cluster(self, cluster: JsonObject) -> list[Key]:
        """The KubevirtCluster that a Cluster refers to, also before Cluster API has made itself its owner."""
        return [Key.of(obj) for obj in self._clusters.by_index("cluster", Key.of(cluster))]

    def machines_of_cluster(self, cluster: JsonObject) -> list[Key]:
        """All machines of a Cluster."""
        return [Key.of(obj) for obj in self._machines.by_index("cluster", Key.of(cluster))]

    def machines_of_kubevirt_cluster(self, kubevirt_cluster: JsonObject) -> list[Key]:
        """All machines of the Cluster that a KubevirtCluster belongs to."""
        key = cluster_key(kubevirt_cluster)
        return [Key.of(obj) for obj in self._machines.by_index("cluster", key)] if key is not None else []

    def clusters_of_member(self, obj: JsonObject) -> list[Key]:
        """The KubevirtCluster of a machine or template: its Subnet may decide where the cluster lives."""
        key = cluster_key(obj)
        return [Key.of(found) for found in self._clusters.by_index("cluster", key)] if key is not None else []

    def clusters_of_network(self, network: JsonObject) -> list[Key]:
        """The KubevirtClusters that own, or live in, a Vpc or the Vpc of a Subnet, or whose machines wait for a Subnet of that name."""
        metadata = network["metadata"]
        labels = metadata.get("labels") or {}
        keys = [Key.of(found) for found in self._clusters.by_index("vpc", (network.get("spec") or {}).get("vpc") or metadata["name"])]
        for members in (self._machines, self._templates):
            for member in members.by_index("subnet", metadata["name"]):
                keys += self.clusters_of_member(member)
        if labels.get(OWNER_KIND) == "KubevirtCluster":
            keys.append(Key(labels.get(OWNER_NAMESPACE) or "", labels.get(OWNER_NAME) or ""))
        return keys

    def machine_of_machine(self, machine: JsonObject) -> list[Key]:
        """The KubevirtMachine that a Cluster API Machine refers to."""
        reference = (machine.get("spec") or {}).get("infrastructureRef") or {}
        if reference.get("kind") != KUBEVIRT_MACHINES.kind or not reference.get("name"):
            return []
        return [Key(machine["metadata"]["namespace"], reference["name"])]

    def machines_of_secret(self, secret: JsonObject) -> list[Key]:
        """The machine whose bootstrap data this is: Cluster API names both alike."""
        return [Key.of(secret)] if self._machines.get(Key.of(secret)) is not None else []
