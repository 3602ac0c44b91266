"""Everything that one VPC's router is made from, as one value, computed purely from objects.

`build_router` reads the objects; `network.py`, `rules.py`, `ports.py`, `host_filter.py`, `resolver.py` and `dhcp.py` turn the
value into links, routes, rules, names and leases. What a person wrote and the router cannot do becomes a `Problem`, which ends in a
condition of the Vpc; the rest of the router is made.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.providers.attachments import POD_NETWORK, Attachment, find_attachments, split_ip_name
from pilvi.providers.kubeovn.ip.choice import parse_mac
from pilvi.providers.kubeovn.names import DEFAULT_VPC, FIDELITY, HOST_PORTS, POD_CIDRS, VPC, default_route
from pilvi.providers.kubeovn.subnet.plan import SubnetPlan
from pilvi.providers.kubeovn.vpc.host_ports import HostPort, parse_host_ports
from pilvi.providers.kubeovn.vpc.inbound import EVERYTHING, Openings, read_openings
from pilvi.providers.kubeovn.vpc.told import NOTHING_TOLD, Told, read_told
from pilvi.providers.legs import LEGS, control_plane_leg
from pilvi.providers.names import machine_port
from pilvi.providers.published import Published, find_cloud_address
from pilvi.runtime import conditions_of

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["UPLINK", "Leg", "Machine", "Problem", "Route", "Router", "build_router", "find_trespass", "vpc_of_control_plane"]

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

UPLINK = "uplink"
"""The router's link to the cloud bridge."""


@dataclass(frozen=True, order=True)
class Problem:
    """Something a person wrote that the router leaves out: `reason` for the condition, `message` with the next step."""

    reason: str
    message: str


@dataclass(frozen=True, order=True)
class Leg:
    """A control plane that works in this VPC: its cloud address, the router's end of the link to it, and the address of the other end."""

    link: str
    address: IPv4Address
    via: IPv4Address


@dataclass(frozen=True, order=True)
class Machine:
    """A machine in this VPC by one of its interfaces, with its name in DNS, and what it calls itself.

    The name is `<machine>.<namespace>`, that of another network than the pod's `<machine>.<namespace>.<provider>`. `mac` is None when its
    IP object has none, or one that an older machine has. `port` is its port of `bridge` while it is to run, and `virtual` says that this is
    the tap of a virtual machine, which asks for its address by DHCP. `is_way_out` says that it is to learn gateway and resolver here, and
    `told` what else its interface asks DHCP to say. `openings` are the ports that it lets in.
    """

    name: str
    address: IPv4Address
    mac: str | None
    bridge: str
    hostname: str
    namespace: str
    port: str | None
    virtual: bool
    is_way_out: bool = True
    told: Told = NOTHING_TOLD
    openings: Openings = EVERYTHING


@dataclass(frozen=True, order=True)
class Route:
    """A network behind a machine: of pods, or by a person's static route."""

    destination: IPv4Network
    via: IPv4Address


@dataclass(frozen=True)
class Router:
    """One VPC's router. All tuples are ordered, so that equal inputs give equal values."""

    name: str
    uid: str
    transit: IPv4Interface
    subnets: tuple[SubnetPlan, ...]
    legs: tuple[Leg, ...]
    machines: tuple[Machine, ...]
    pod_routes: tuple[Route, ...]
    static_routes: tuple[Route, ...]
    published: tuple[Published, ...]
    host_ports: tuple[HostPort, ...]
    problems: tuple[Problem, ...]

    @property
    def inside(self) -> tuple[IPv4Network, ...]:
        """Networks behind this router: its subnets and the pods of its machines."""
        return (*(subnet.cidr for subnet in self.subnets), *(route.destination for route in self.pod_routes))


def build_router(
    vpc: JsonObject,
    *,
    cloud: Cloud,
    transit: IPv4Address,
    subnets: Iterable[SubnetPlan],
    ips: Iterable[JsonObject],
    instances: Mapping[Key, JsonObject],
    control_planes: Iterable[JsonObject],
    services: Mapping[Key, JsonObject],
    published: Iterable[Published],
) -> Router:
    """The router of `vpc`. All arguments may hold what belongs to other VPCs; it is left out.

    `instances` are the VirtualMachineInstances behind the IP objects. `services` is where the cloud addresses of control planes are found:
    a Service with the name of each TenantControlPlane.
    """
    name = vpc["metadata"]["name"]
    own = tuple(sorted((plan for plan in subnets if plan.vpc == name), key=lambda plan: plan.name))
    plans = {plan.name: plan for plan in own}
    own_ips = _sort_by_age(ip for ip in ips if _is_in(ip, plans))
    problems: list[Problem] = []
    reserved = {
        **cloud.networks,
        "the link-local network": LEGS,
        **{f"Subnet {plan.name}": plan.cidr for plan in own},
    }
    pod_routes = _pod_routes(own_ips, reserved, problems)
    legs = _legs(vpc, control_planes, services, cloud, problems)
    host_ports = _host_ports(vpc, problems)
    return Router(
        name=name,
        uid=vpc["metadata"]["uid"],
        transit=IPv4Interface((transit, cloud.transit.prefixlen)),
        subnets=own,
        legs=legs,
        machines=tuple(sorted(_machines(own_ips, plans, instances), key=lambda machine: machine.name)),
        pod_routes=pod_routes,
        static_routes=_static_routes(vpc, own, [*reserved.values(), *(route.destination for route in pod_routes)], problems),
        # Only what our allocator gives: any other address in a status would be somebody else's.
        published=tuple(
            sorted((item for item in published if item.vpc == name and item.address in cloud.range), key=lambda item: item.key)
        ),
        host_ports=host_ports,
        problems=tuple(sorted(problems)),
    )


def vpc_of_control_plane(control_plane: JsonObject) -> str:
    """The Vpc that a TenantControlPlane has its second leg in."""
    return (control_plane["metadata"].get("annotations") or {}).get(VPC) or DEFAULT_VPC


def find_trespass(vpc: JsonObject, control_plane: JsonObject) -> Problem | None:
    """What is wrong when the control plane wants into a Vpc that is for other namespaces than its own."""
    key, name = Key.of(control_plane), vpc["metadata"]["name"]
    users = (vpc.get("spec") or {}).get("namespaces") or ()
    if not users or key.namespace in users:
        return None
    return Problem(
        "NamespaceNotAllowed",
        f"TenantControlPlane {key} wants into Vpc {name}, which is for other namespaces; add {key.namespace} to its spec.namespaces",
    )


def _legs(
    vpc: JsonObject, control_planes: Iterable[JsonObject], services: Mapping[Key, JsonObject], cloud: Cloud, problems: list[Problem]
) -> tuple[Leg, ...]:
    legs = []
    for control_plane in control_planes:
        if vpc_of_control_plane(control_plane) != vpc["metadata"]["name"]:
            continue
        trespass = find_trespass(vpc, control_plane)
        if trespass is not None:
            problems.append(trespass)
            continue
        service = services.get(Key.of(control_plane))
        address = find_cloud_address(service) if service is not None else None
        # An address from elsewhere cannot be ours: our allocator gives only what is in the range.
        if address is None or address not in cloud.range:
            continue
        ends = control_plane_leg(cloud, address)
        legs.append(Leg(ends.outer_link, address, ends.inner))
    return tuple(sorted(legs))


def _host_ports(vpc: JsonObject, problems: list[Problem]) -> tuple[HostPort, ...]:
    try:
        return parse_host_ports((vpc["metadata"].get("annotations") or {}).get(HOST_PORTS) or "")
    except ValueError as e:
        message = f"annotation {HOST_PORTS}: {e}, so no port of the host is open; write for example 5000, 123/udp"
        problems.append(Problem("InvalidHostPorts", message))
        return ()


def _machines(ips: Iterable[JsonObject], plans: Mapping[str, SubnetPlan], instances: Mapping[Key, JsonObject]) -> Iterable[Machine]:
    """The machines of these IP objects, oldest first: of two that claim one address or MAC only the older gets it by DHCP."""
    addresses: set[IPv4Address] = set()
    macs: set[str] = set()
    for ip in ips:
        # The API server has checked this name, and not what anybody may write into the spec.
        name = ip["metadata"]["name"]
        key, provider = split_ip_name(name)
        instance = instances.get(key)
        attachment = _find_attachment(instance, key.namespace, provider)
        address = IPv4Address(ip["spec"]["v4IpAddress"])
        mac = parse_mac(ip["spec"].get("macAddress") or "")
        if address in addresses or mac in macs:
            mac = None
        yield Machine(
            name=name,
            address=address,
            mac=mac,
            bridge=plans[ip["spec"]["subnet"]].bridge,
            hostname=_hostname(key.name, instance),
            namespace=key.namespace,
            port=machine_port(instance["metadata"]["uid"], provider) if instance is not None else None,
            virtual=instance is not None and _is_virtual(instance),
            is_way_out=_is_way_out(instance, attachment, provider),
            told=read_told(attachment.interface) if attachment is not None else NOTHING_TOLD,
            openings=read_openings(attachment.interface) if attachment is not None else EVERYTHING,
        )
        addresses.add(address)
        macs |= {mac} if mac else set()


def _find_attachment(instance: JsonObject | None, namespace: str, provider: str) -> Attachment | None:
    attachments = find_attachments(instance.get("spec") or {}, namespace) if instance is not None else ()
    return next((attachment for attachment in attachments if attachment.provider == provider), None)


def _is_way_out(instance: JsonObject | None, attachment: Attachment | None, provider: str) -> bool:
    """As in Kube-OVN: the first network, unless an annotation says otherwise."""
    wish = ((instance or {}).get("metadata", {}).get("annotations") or {}).get(default_route(provider))
    if wish in ("true", "false"):
        return bool(wish == "true")
    return attachment.is_default if attachment is not None else provider == POD_NETWORK


def _is_virtual(instance: JsonObject) -> bool:
    """Who is a sandbox is known as soon as the backend is chosen."""
    found = next((entry for entry in conditions_of(instance) if entry["type"] == FIDELITY), {})
    return found.get("reason") not in (None, "Sandbox")


def _hostname(machine: str, instance: JsonObject | None) -> str:
    """As in KubeVirt: what the instance says, else its name up to the first dot, as far as a label of DNS goes."""
    wanted = ((instance or {}).get("spec") or {}).get("hostname") or ""
    return wanted if _LABEL.fullmatch(wanted) else machine.partition(".")[0][:63].rstrip("-")


def _pod_routes(ips: Iterable[JsonObject], reserved: Mapping[str, IPv4Network], problems: list[Problem]) -> tuple[Route, ...]:
    """Routes to pods, the oldest machine first: of two that claim one network the younger is left out."""
    routes: list[Route] = []
    taken = dict(reserved)
    for ip in ips:
        name = ip["metadata"]["name"]
        for text in ((ip["metadata"].get("annotations") or {}).get(POD_CIDRS) or "").split(","):
            if not text.strip():
                continue
            try:
                destination = IPv4Network(text.strip())
            except ValueError:
                # Dual-stack nodes have an IPv6 network too; machines have only IPv4, so there is nothing to route.
                if ":" not in text:
                    problems.append(Problem("InvalidPodCIDR", f"IP {name}: {POD_CIDRS} has {text.strip()!r}, which is not a network"))
                continue
            label = f"the pod network of machine {name}"
            if overlap := next((other for other, network in taken.items() if network.overlaps(destination)), None):
                problems.append(
                    Problem(
                        "PodCIDRConflict",
                        f"pod network {destination} of machine {name} overlaps {overlap} in this Vpc; "
                        "give the cluster another pod network or a Vpc of its own",
                    )
                )
                continue
            taken[f"{label} ({destination})"] = destination
            routes.append(Route(destination, IPv4Address(ip["spec"]["v4IpAddress"])))
    return tuple(sorted(routes))


def _static_routes(
    vpc: JsonObject, subnets: Iterable[SubnetPlan], taken: Collection[IPv4Network], problems: list[Problem]
) -> tuple[Route, ...]:
    routes: dict[IPv4Network, Route] = {}
    plans = tuple(subnets)
    for index, item in enumerate((vpc.get("spec") or {}).get("staticRoutes") or ()):
        field = f"spec.staticRoutes[{index}]"
        if (item.get("policy") or "policyDst") != "policyDst":
            problems.append(Problem("StaticRouteNotSupported", f"{field}: policy {item['policy']} is not served; use policyDst"))
            continue
        try:
            destination = IPv4Network(item.get("cidr") or "")
            via = IPv4Address(item.get("nextHopIP") or "")
        except ValueError as e:
            problems.append(Problem("InvalidStaticRoute", f"{field}: {e}; write cidr as 10.1.0.0/16 and nextHopIP as 10.0.1.5"))
            continue
        if not any(via in plan.cidr and via != plan.gateway for plan in plans):
            problems.append(
                Problem(
                    "InvalidStaticRoute", f"{field}: nextHopIP {via} is no address of a machine in a Subnet of this Vpc; name one that is"
                )
            )
        elif destination in routes or any(destination.subnet_of(network) for network in taken):
            problems.append(Problem("InvalidStaticRoute", f"{field}: the router has its own way to {destination}; remove this route"))
        else:
            routes[destination] = Route(destination, via)
    return tuple(sorted(routes.values()))


def _is_in(ip: JsonObject, plans: Mapping[str, SubnetPlan]) -> bool:
    """Whether the IP object holds an address of one of these Subnets; it may not when a Subnet was made anew with another range."""
    spec = ip.get("spec") or {}
    plan = plans.get(spec.get("subnet") or "")
    try:
        return plan is not None and IPv4Address(spec.get("v4IpAddress") or "") in plan.cidr
    except ValueError:
        return False


def _sort_by_age(objects: Iterable[JsonObject]) -> list[JsonObject]:
    return sorted(objects, key=lambda obj: (obj["metadata"].get("creationTimestamp") or "", obj["metadata"]["name"]))
