"""Names that users, Cluster API and the other providers write and read: annotations, labels, finalizers, kinds."""

from __future__ import annotations

from pilvi.api.capk import KubevirtCluster, KubevirtMachine, KubevirtMachineTemplate
from pilvi.api.kubeovn import Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance

__all__ = [
    "CLUSTER_FINALIZER",
    "CLUSTER_NAME",
    "CONTROL_PLANE",
    "INSTANCES",
    "KUBEVIRT_CLUSTERS",
    "KUBEVIRT_MACHINES",
    "LOGICAL_SWITCH",
    "MACHINE_FINALIZER",
    "MACHINE_NAME",
    "MACHINE_NAMESPACE",
    "MACHINE_TEMPLATES",
    "MANAGED_BY",
    "OWNER_KIND",
    "OWNER_NAME",
    "OWNER_NAMESPACE",
    "OWNER_UID",
    "PAUSED",
    "ROLE",
    "SUBNET",
    "SUBNETS",
    "TERMINAL",
    "VIRTUAL_MACHINES",
    "VPC",
    "VPCS",
]

KUBEVIRT_CLUSTERS = KubevirtCluster.RESOURCE
KUBEVIRT_MACHINES = KubevirtMachine.RESOURCE
MACHINE_TEMPLATES = KubevirtMachineTemplate.RESOURCE
VIRTUAL_MACHINES = VirtualMachine.RESOURCE
INSTANCES = VirtualMachineInstance.RESOURCE
VPCS = Vpc.RESOURCE
SUBNETS = Subnet.RESOURCE

CLUSTER_FINALIZER = "kubevirtcluster.infrastructure.cluster.x-k8s.io"
MACHINE_FINALIZER = "kubevirtmachine.infrastructure.cluster.x-k8s.io"

# Cluster API's
CLUSTER_NAME = "cluster.x-k8s.io/cluster-name"
CONTROL_PLANE = "cluster.x-k8s.io/control-plane"
MANAGED_BY = "cluster.x-k8s.io/managed-by"
PAUSED = "cluster.x-k8s.io/paused"
ROLE = "cluster.x-k8s.io/role"

# CAPK's
MACHINE_NAME = "capk.cluster.x-k8s.io/kubevirt-machine-name"
MACHINE_NAMESPACE = "capk.cluster.x-k8s.io/kubevirt-machine-namespace"
TERMINAL = "capk.cluster.x-k8s.io/vm-terminal"

# Kube-OVN's
LOGICAL_SWITCH = "ovn.kubernetes.io/logical_switch"

# Ours, on KubevirtCluster: the Vpc in which the cluster lives, and the Subnet of its machines that name none
VPC = "pilvi.dev/vpc"
SUBNET = "pilvi.dev/subnet"

# Ours, on cluster-scoped objects: the namespaced owner, which an owner reference cannot name
OWNER_KIND = "pilvi.dev/owner-kind"
OWNER_NAMESPACE = "pilvi.dev/owner-namespace"
OWNER_NAME = "pilvi.dev/owner-name"
OWNER_UID = "pilvi.dev/owner-uid"
