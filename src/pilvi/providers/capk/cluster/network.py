"""The network of a cluster: which Vpc and Subnet it uses, and the ones that are made for it when it names none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from pilvi.api import JsonObject, Key
from pilvi.api.cluster import DEFAULT_PODS, DEFAULT_SERVICES
from pilvi.errors import UserError, format_chain
from pilvi.lib.hashing import short_hash
from pilvi.providers.capk.contract import cluster_key
from pilvi.providers.capk.names import CLUSTER_NAME, LOGICAL_SWITCH, OWNER_KIND, OWNER_NAME, OWNER_NAMESPACE, OWNER_UID, SUBNET, VPC

__all__ = [
    "Attachment",
    "Placement",
    "Ranges",
    "Refusal",
    "choose_attachment",
    "choose_cidr",
    "cluster_ranges",
    "find_overlap",
    "named_subnets",
    "new_subnet",
    "new_vpc",
    "own_name",
    "place_cluster",
    "place_ranges",
    "template_subnet",
]

# Equal in all clusters unless one of their own ranges is in the way: two VPCs never meet.
_CANDIDATES = tuple(IPv4Network((f"10.{second}.0.0", 16)) for second in (*range(9, 256), *range(0, 9)))


@dataclass(frozen=True)
class Ranges:
    """Named address ranges of one cluster, as people know them."""

    pods: tuple[IPv4Network, ...]
    services: tuple[IPv4Network, ...]

    def named(self) -> list[tuple[str, IPv4Network]]:
        """Each range with the field that it comes from."""
        return [
            *(("spec.clusterNetwork.pods", network) for network in self.pods),
            *(("spec.clusterNetwork.services", network) for network in self.services),
        ]


@dataclass(frozen=True)
class Attachment:
    """Where a cluster lives. `own` means that both are made for it and go with it."""

    vpc: str
    subnet: str
    own: bool


@dataclass(frozen=True)
class Placement:
    """Where a cluster lives, and the range of its machines."""

    attachment: Attachment
    cidr: IPv4Network


@dataclass(frozen=True)
class Refusal:
    """Why a cluster can have no network: `reason` for the condition, `message` with the next step."""

    reason: str
    message: str


def own_name(cluster: JsonObject) -> str:
    """Name of the Vpc and of the Subnet that belong to this KubevirtCluster: a hash of its UID, so two clusters never share one."""
    return f"kubevirtcluster-{short_hash(cluster['metadata']['uid'])}"


def cluster_ranges(capi_cluster: JsonObject) -> Ranges:
    """The pod and service ranges of a Cluster. Raises UserError naming the field for text that is no IPv4 network."""
    network = (capi_cluster.get("spec") or {}).get("clusterNetwork") or {}
    return Ranges(_networks(network, "pods", DEFAULT_PODS), _networks(network, "services", DEFAULT_SERVICES))


def find_overlap(ranges: Ranges, others: Mapping[str, IPv4Network]) -> str | None:
    """A sentence naming two ranges that overlap, or None. `others` are the cloud's and the subnet's, by name."""
    named = [*ranges.named(), *others.items()]
    for index, (name, network) in enumerate(named):
        for other_name, other in named[index + 1 :]:
            if network.overlaps(other):
                return f"{name} {network} and {other_name} {other} overlap; choose ranges that have no address in common"
    return None


def choose_cidr(ranges: Ranges, others: Iterable[IPv4Network]) -> IPv4Network:
    """The range of a cluster's own Subnet: the first /16 of 10.0.0.0/8 from 10.9.0.0 on that meets none of the cluster's or the cloud's."""
    taken = [*(network for _, network in ranges.named()), *others]
    for candidate in _CANDIDATES:
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise UserError(
        "no /16 of 10.0.0.0/8 is left for the machines", hint=f"make a Subnet and name it with annotation {LOGICAL_SWITCH} on the machines"
    )


def place_cluster(
    cluster: JsonObject,
    capi_cluster: JsonObject,
    machine_subnets: Iterable[str],
    subnets: Mapping[str, JsonObject],
    cloud: Mapping[str, IPv4Network],
) -> Placement | Refusal:
    """Where the KubevirtCluster of a Cluster lives, when none of its ranges overlap.

    `machine_subnets` are the names in the templates and machines of the cluster, `subnets` all Subnets by name, `cloud` the cloud's
    own networks by name.
    """
    attachment = choose_attachment(cluster, machine_subnets, subnets)
    if isinstance(attachment, str):
        return Refusal("InvalidNetwork", attachment)
    cidr = place_ranges(capi_cluster, attachment.subnet, subnets.get(attachment.subnet), cloud)
    return cidr if isinstance(cidr, Refusal) else Placement(attachment, cidr)


def place_ranges(capi_cluster: JsonObject, name: str, subnet: JsonObject | None, cloud: Mapping[str, IPv4Network]) -> IPv4Network | Refusal:
    """The range of the machines of a Cluster: that of the Subnet `name`, when that exists, else one that fits."""
    try:
        ranges = cluster_ranges(capi_cluster)
        cidr = choose_cidr(ranges, cloud.values()) if subnet is None else IPv4Network((subnet.get("spec") or {}).get("cidrBlock") or "")
    except UserError as e:
        return Refusal("InvalidNetwork", format_chain(e))
    except ValueError:
        return Refusal("InvalidNetwork", f"spec.cidrBlock of Subnet {name} is no IPv4 network; see the Subnet's conditions")
    problem = find_overlap(ranges, {f"Subnet {name}": cidr, **cloud})
    return cidr if problem is None else Refusal("OverlappingRanges", problem)


def named_subnets(cluster: Key, templates: Iterable[JsonObject], machines: Iterable[JsonObject]) -> list[str]:
    """The Subnets that KubevirtMachineTemplates and KubevirtMachines of the Cluster name; those of other clusters are left out."""
    specs = [
        *((obj, ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}) for obj in templates),
        *((obj, obj.get("spec") or {}) for obj in machines),
    ]
    found = (
        template_subnet(spec)
        for obj, spec in specs
        if cluster_key(obj) == cluster or (obj["metadata"].get("labels") or {}).get(CLUSTER_NAME) == cluster.name
    )
    return [name for name in found if name is not None]


def choose_attachment(cluster: JsonObject, machine_subnets: Iterable[str], subnets: Mapping[str, JsonObject]) -> Attachment | str:
    """Where the KubevirtCluster lives, or a sentence saying what is wrong.

    In this order: the Vpc that its annotation `pilvi.dev/vpc` names, unless that is its own; the Vpc of the Subnets that its machines
    name; its own. So a choice, once written down, stays.
    `machine_subnets` are the names in the templates and machines of the cluster, `subnets` all Subnets by name.
    """
    own = own_name(cluster)
    annotations = cluster["metadata"].get("annotations") or {}
    named = sorted(set(machine_subnets))
    missing = [name for name in named if name not in subnets]
    if missing:
        return f"Subnet {missing[0]}, which the cluster's machines name with annotation {LOGICAL_SWITCH}, does not exist; create it"
    vpcs = sorted({_vpc_of(subnets[name]) for name in named})
    written = annotations.get(VPC)
    if written and written != own:
        return _in_written_vpc(written, annotations, named, vpcs, subnets)
    if len(vpcs) > 1:
        return f"the cluster's machines name Subnets of {len(vpcs)} Vpcs ({', '.join(vpcs)}), but its control plane is in one; use one Vpc"
    if vpcs:
        return Attachment(vpcs[0], named[0], own=False)
    return Attachment(own, own, own=True)


def template_subnet(machine_spec: JsonObject) -> str | None:
    """The Subnet that a KubevirtMachineSpec names, on the machine or on its instances; None when it names none."""
    template = machine_spec.get("virtualMachineTemplate") or {}
    inner = (template.get("spec") or {}).get("template") or {}
    for metadata in (inner.get("metadata") or {}, template.get("metadata") or {}):
        name = (metadata.get("annotations") or {}).get(LOGICAL_SWITCH)
        if name:
            return str(name)
    return None


def new_vpc(cluster: JsonObject) -> JsonObject:
    """The cluster's own Vpc; only its namespace may use it."""
    return {
        "metadata": {"name": own_name(cluster), "labels": _owner_labels(cluster)},
        "spec": {"namespaces": [cluster["metadata"]["namespace"]]},
    }


def new_subnet(cluster: JsonObject, cidr: IPv4Network) -> JsonObject:
    """The cluster's own Subnet. It names no namespaces, or other machines of the namespace would take it for theirs."""
    return {
        "metadata": {"name": own_name(cluster), "labels": _owner_labels(cluster)},
        "spec": {"vpc": own_name(cluster), "cidrBlock": str(cidr), "protocol": "IPv4"},
    }


def _in_written_vpc(
    written: str, annotations: Mapping[str, str], named: list[str], vpcs: list[str], subnets: Mapping[str, JsonObject]
) -> Attachment | str:
    if vpcs and vpcs != [written]:
        return f"annotation {VPC} is {written}, but the cluster's machines name Subnets of {', '.join(vpcs)}; make them agree"
    inside = sorted(name for name, subnet in subnets.items() if _vpc_of(subnet) == written)
    chosen = named[0] if named else annotations.get(SUBNET) or (inside[0] if inside else None)
    if chosen is None or chosen not in inside:
        which = f" {chosen}" if chosen else ""
        return f"Vpc {written}, named by annotation {VPC}, has no Subnet{which}; create one, or name it with annotation {SUBNET}"
    return Attachment(written, chosen, own=False)


def _vpc_of(subnet: JsonObject) -> str:
    return (subnet.get("spec") or {}).get("vpc") or "ovn-cluster"


def _owner_labels(cluster: JsonObject) -> dict[str, str]:
    metadata = cluster["metadata"]
    return {
        OWNER_KIND: "KubevirtCluster",
        OWNER_NAMESPACE: metadata["namespace"],
        OWNER_NAME: metadata["name"],
        OWNER_UID: metadata["uid"],
    }


def _networks(network: JsonObject, name: str, default: IPv4Network) -> tuple[IPv4Network, ...]:
    blocks = (network.get(name) or {}).get("cidrBlocks") or [str(default)]
    found = []
    for block in blocks:
        try:
            found.append(IPv4Network(block))
        except ValueError as e:
            raise UserError(
                f"spec.clusterNetwork.{name}.cidrBlocks: {block!r} is no IPv4 network", hint="write for example 10.244.0.0/16"
            ) from e
    return tuple(found)
