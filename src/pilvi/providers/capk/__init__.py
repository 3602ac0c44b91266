"""Cluster API's infrastructure provider for KubeVirt: clusters get a network, machines become virtual machines.

    cluster/    KubevirtCluster: Vpc, Subnet, endpoint
    machine/    KubevirtMachine: its VirtualMachine, addresses, provider id
    template    KubevirtMachineTemplate: the capacity that the autoscaler reads

KubevirtClusterTemplate needs no controller: it is only copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, MACHINES, SECRETS
from pilvi.providers.capk.admission import checks
from pilvi.providers.capk.cluster.controller import KubevirtClusters
from pilvi.providers.capk.machine.controller import KubevirtMachines
from pilvi.providers.capk.names import (
    INSTANCES,
    KUBEVIRT_CLUSTERS,
    KUBEVIRT_MACHINES,
    MACHINE_TEMPLATES,
    SUBNETS,
    VIRTUAL_MACHINES,
    VPCS,
)
from pilvi.providers.capk.template import MachineTemplates
from pilvi.providers.capk.wakeups import Wakeups
from pilvi.runtime import Controller, Watch, conditions_changed, desire_changed

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks", "controllers"]


def controllers(platform: Platform) -> list[Controller]:
    """The controllers of this group."""
    wakeups = Wakeups(platform.informers)
    return [
        Controller(
            "kubevirtcluster",
            KUBEVIRT_CLUSTERS,
            KubevirtClusters(platform).reconcile,
            watches=[
                Watch(CLUSTERS, wakeups.clusters_of_cluster, desire_changed),
                Watch(VPCS, wakeups.clusters_of_network, conditions_changed),
                Watch(SUBNETS, wakeups.clusters_of_network, conditions_changed),
                Watch(MACHINE_TEMPLATES, wakeups.clusters_of_member, desire_changed),
                Watch(KUBEVIRT_MACHINES, wakeups.clusters_of_member, desire_changed),
            ],
        ),
        Controller(
            "kubevirtmachine",
            KUBEVIRT_MACHINES,
            KubevirtMachines(platform).reconcile,
            owns=[VIRTUAL_MACHINES],
            watches=[
                Watch(MACHINES, wakeups.machine_of_machine, _machine_changed),
                Watch(CLUSTERS, wakeups.machines_of_cluster, _cluster_changed),
                Watch(KUBEVIRT_CLUSTERS, wakeups.machines_of_kubevirt_cluster, conditions_changed),
                Watch(INSTANCES, lambda vmi: [Key.of(vmi)]),
                Watch(SECRETS, wakeups.machines_of_secret, desire_changed),
            ],
            concurrency=16,
        ),
        Controller("kubevirtmachinetemplate", MACHINE_TEMPLATES, MachineTemplates(platform).reconcile, concurrency=1),
    ]


def _cluster_changed(old: JsonObject, new: JsonObject) -> bool:
    """Cluster API writes a Cluster's status often; machines wait for these two facts only."""
    return desire_changed(old, new) or _status(old, "initialization") != _status(new, "initialization")


def _machine_changed(old: JsonObject, new: JsonObject) -> bool:
    return desire_changed(old, new) or _status(old, "nodeRef") != _status(new, "nodeRef")


def _status(obj: JsonObject, name: str) -> JsonObject | None:
    found: JsonObject | None = (obj.get("status") or {}).get(name)
    return found
