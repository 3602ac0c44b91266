"""Checks of control planes before they are stored: versions, ranges, names, data stores."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, SERVICES
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import DEFAULT_VPC, Subnet
from pilvi.api.object import decode
from pilvi.errors import UserError, format_chain
from pilvi.providers.admission import Check, Objection
from pilvi.providers.kamaji.datastore import find_store_problem
from pilvi.providers.kamaji.kamajicontrolplane.tenant import find_tenant_taken
from pilvi.providers.kamaji.names import CLUSTER_NAME_LABEL
from pilvi.providers.kamaji.tenantcontrolplane.network import find_subnets, vpc_name
from pilvi.providers.kamaji.tenantcontrolplane.plane import check_networks, spec_of
from pilvi.providers.kamaji.tenantcontrolplane.service import find_service_taken
from pilvi.providers.kamaji.tenantcontrolplane.status import installed_version
from pilvi.providers.kamaji.versions import find_version_problem
from pilvi.providers.platform import Platform
from pilvi.runtime import is_deleting

__all__ = ["checks"]


def checks(platform: Platform) -> list[Check]:
    """The checks of this group."""
    found = _Checks(platform)
    return [
        Check(TenantControlPlane.RESOURCE, found.of_tenant),
        Check(KamajiControlPlane.RESOURCE, found.of_control_plane),
        Check(CLUSTERS, found.of_cluster),
        Check(Subnet.RESOURCE, found.of_subnet),
    ]


class _Checks:
    """What is being deleted is in nobody's way."""

    def __init__(self, platform: Platform) -> None:
        self._networks = platform.cloud.networks
        self._kit = platform.kit
        self._tenants = platform.informers.get(TenantControlPlane.RESOURCE)
        self._services = platform.informers.get(SERVICES)
        self._subnets = platform.informers.get(Subnet.RESOURCE)

    def of_tenant(self, tenant: JsonObject) -> Iterator[Objection]:
        """Against its own past, the networks of its Vpc and the cloud, and the Service of its name."""
        spec, key = spec_of(decode(TenantControlPlane, tenant)), Key.of(tenant)
        yield from self._of_version(spec.kubernetes.version, self._tenants.get(key))
        yield from _told(find_store_problem(spec.data_store, "spec.dataStore"))
        yield from _told(find_service_taken(_staying(self._services.get(key)), key))
        subnets = find_subnets((subnet for subnet in self._subnets.list() if not is_deleting(subnet)), vpc_name(tenant))
        check_networks(spec, {**self._networks, **subnets})

    def of_control_plane(self, control_plane: JsonObject) -> Iterator[Objection]:
        """Against the TenantControlPlane of its name, which is its own or somebody else's. Its networks are its Cluster's matter."""
        spec, key = control_plane.get("spec") or {}, Key.of(control_plane)
        taken = find_tenant_taken(_staying(self._tenants.get(key)), control_plane)
        yield from _told(taken)
        yield from self._of_version(spec.get("version") or "", None if taken else self._tenants.get(key))
        yield from _told(find_store_problem(spec.get("dataStoreName"), "spec.dataStoreName"))

    def of_cluster(self, cluster: JsonObject) -> Iterator[Objection]:
        """Against the version that its control plane runs, and what has the name that its control plane will have."""
        topology, key = (cluster.get("spec") or {}).get("topology"), Key.of(cluster)
        if not topology:
            return
        own = [
            tenant
            for tenant in self._tenants.list(key.namespace)
            if (tenant["metadata"].get("labels") or {}).get(CLUSTER_NAME_LABEL) == key.name
        ]
        yield from self._of_version(topology.get("version") or "", own[0] if own else None)
        if not own:
            # Only warnings: a class of the user's may call its control planes otherwise.
            tenant = _staying(self._tenants.get(key))
            yield from _told(find_tenant_taken(tenant, cluster), refuses=False)
            if tenant is None:
                yield from _told(find_service_taken(_staying(self._services.get(key)), key), refuses=False)

    def of_subnet(self, subnet: JsonObject) -> Iterator[Objection]:
        """Against the pods and Services of the control planes of its Vpc."""
        vpc = (subnet.get("spec") or {}).get("vpc") or DEFAULT_VPC
        network = find_subnets([subnet], vpc)
        for tenant in self._tenants.list():
            if vpc_name(tenant) == vpc and not is_deleting(tenant):
                yield from _told(_find_overlap(tenant, network))

    def _of_version(self, wanted: str, running: JsonObject | None) -> Iterator[Objection]:
        installed = installed_version(running) if running is not None else None
        problem = find_version_problem(wanted, installed, self._kit.built_versions())
        if problem is not None:
            yield Objection(problem.message)


def _staying(obj: JsonObject | None) -> JsonObject | None:
    return obj if obj is not None and not is_deleting(obj) else None


def _told(message: str | None, *, refuses: bool = True) -> Iterator[Objection]:
    if message is not None:
        yield Objection(message, refuses)


def _find_overlap(tenant: JsonObject, subnet: dict[str, IPv4Network]) -> str | None:
    """What overlaps the Subnet; None also when the control plane's networks are wrong without it."""
    spec = spec_of(decode(TenantControlPlane, tenant))
    try:
        check_networks(spec, {})
    except UserError:
        return None
    try:
        check_networks(spec, subnet)
    except UserError as e:
        return f"TenantControlPlane {Key.of(tenant)}: {format_chain(e)}"
    return None
