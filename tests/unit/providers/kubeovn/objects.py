"""Short ways to write the objects that these tests are about."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import ENDPOINT_SLICES, SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.host.cloud import Cloud
from pilvi.providers.kubeovn.subnet.plan import SubnetPlan, plan_subnet

CLOUD = Cloud(
    id="t1234",
    home=Path("/nowhere"),
    run=Path("/nowhere/run"),
    range=IPv4Network("10.250.0.0/24"),
    transit=IPv4Network("100.64.0.0/24"),
    uid_base=1_170_000_000,
    uid_count=100,
)


def make_vpc(name: str = "one", *, created: str = "2026-01-01T00:00:00Z", transit: str | None = None, **spec: Any) -> JsonObject:
    annotations = {"pilvi.dev/transit": transit} if transit else {}
    metadata = {"uid": f"uid-{name}", "creationTimestamp": created, "annotations": annotations, "generation": 1}
    return Vpc.RESOURCE.new(Key("", name), metadata=metadata, spec=spec)


def make_subnet(
    name: str = "a", cidr: str | None = "10.0.1.0/24", *, vpc: str | None = "one", created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> JsonObject:
    metadata = {"uid": f"uid-{name}", "creationTimestamp": created, "generation": 1}
    return Subnet.RESOURCE.new(Key("", name), metadata=metadata, spec={"cidrBlock": cidr, "vpc": vpc, **spec})


def make_plan(name: str = "a", cidr: str = "10.0.1.0/24", **spec: Any) -> SubnetPlan:
    plan = plan_subnet(make_subnet(name, cidr, **spec))
    assert isinstance(plan, SubnetPlan), plan
    return plan


def make_ip(
    name: str, address: str, subnet: str = "a", *, namespace: str = "team", pods: str | None = None, created: str = "2026-01-01T00:00:00Z"
) -> JsonObject:
    annotations = {"pilvi.dev/pod-cidrs": pods} if pods else {}
    metadata = {"uid": f"uid-{name}", "creationTimestamp": created, "annotations": annotations}
    spec = {
        "podName": name,
        "namespace": namespace,
        "subnet": subnet,
        "v4IpAddress": address,
        "macAddress": f"02:00:00:00:00:{len(name):02x}",
    }
    return IP.RESOURCE.new(Key("", f"{name}.{namespace}"), metadata=metadata, spec=spec)


def make_control_plane(name: str = "cluster", *, namespace: str = "team", vpc: str | None = "one") -> JsonObject:
    annotations = {"pilvi.dev/vpc": vpc} if vpc else {}
    return TenantControlPlane.RESOURCE.new(Key(namespace, name), metadata={"uid": f"uid-{name}", "annotations": annotations}, spec={})


def make_service(
    name: str = "web",
    address: str | None = "10.250.0.9",
    *,
    namespace: str = "team",
    ports: tuple[tuple[str, int, str], ...] = (("http", 80, "TCP"),),
    created: str = "2026-01-01T00:00:00Z",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> JsonObject:
    metadata = {
        "uid": f"uid-{namespace}-{name}",
        "creationTimestamp": created,
        "labels": labels or {},
        "annotations": annotations or {},
        "resourceVersion": "1",
    }
    status = {"loadBalancer": {"ingress": [{"ip": address}]}} if address else {"loadBalancer": {}}
    service_ports = [{"name": port_name, "port": port, "protocol": protocol} for port_name, port, protocol in ports]
    return SERVICES.new(
        Key(namespace, name), metadata=metadata, spec={"type": "LoadBalancer", "ports": service_ports, **spec}, status=status
    )


def make_slice(
    *endpoints: tuple[str, bool | None, str],
    service: str = "web",
    namespace: str = "team",
    ports: tuple[tuple[str, int], ...] = (("http", 8080),),
) -> JsonObject:
    """Endpoints as (address, ready, Pod's name)."""
    return ENDPOINT_SLICES.new(
        Key(namespace, f"{service}-x"),
        metadata={"labels": {"kubernetes.io/service-name": service}},
        addressType="IPv4",
        ports=[{"name": name, "port": port, "protocol": "TCP"} for name, port in ports],
        endpoints=[
            {"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}}
            for address, ready, pod in endpoints
        ],
    )
