"""What acts for one tenant cluster with two clients: the platform's and the tenant's own.

`engine/` makes one `TenantClients` and one `Tenants` and runs the latter as an essential task; providers get the clients. Cloud
controller, volume controller and autoscaler of a cluster belong here too.
"""

from pilvi.tenant.clients import (
    TENANT_CONTROL_PLANES,
    TenantClients,
    TenantUnreachable,
    control_plane_dir,
    control_planes_dir,
    engine_kubeconfig,
    is_ready,
)
from pilvi.tenant.nodes import NODE_ANNOTATION, POD_CIDRS_ANNOTATION
from pilvi.tenant.tenants import VPC_ANNOTATION, Tenants

__all__ = [
    "NODE_ANNOTATION",
    "POD_CIDRS_ANNOTATION",
    "TENANT_CONTROL_PLANES",
    "VPC_ANNOTATION",
    "TenantClients",
    "TenantUnreachable",
    "Tenants",
    "control_plane_dir",
    "control_planes_dir",
    "engine_kubeconfig",
    "is_ready",
]
