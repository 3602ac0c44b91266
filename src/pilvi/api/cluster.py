"""What pilvi refuses of a Cluster, beside what Cluster API itself refuses. Pure.

A Cluster is the one object that most users write. What can be seen to be wrong there is refused there, before anything is made of it;
the controllers behind it would find out only when half of the cluster exists.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from pilvi.api.builtin import CLUSTERS
from pilvi.api.networks import is_network
from pilvi.api.object import Rule
from pilvi.api.policies import refusals_of, version_rules, version_variables
from pilvi.api.resource import JsonObject

__all__ = ["DEFAULT_PODS", "DEFAULT_SERVICES", "cluster_policies"]

# What Cluster API's control plane providers take when a Cluster does not say.
DEFAULT_PODS = IPv4Network("10.244.0.0/16")
DEFAULT_SERVICES = IPv4Network("10.96.0.0/16")

_VERSION = "spec.topology.version"
_RANGES = "variables.pods + variables.services"
_ARE_RANGES = f"variables.ranges.all(range, {is_network('range')})"


def cluster_policies(kubernetes_versions: Sequence[str], cloud: Mapping[str, IPv4Network]) -> list[JsonObject]:
    """The policy on Clusters and its binding. `cloud` are the cloud's own ranges, by what people call them."""
    return refusals_of(
        CLUSTERS,
        [*version_rules(_VERSION, kubernetes_versions), *_shape_rules(), *_range_rules(cloud)],
        {
            **version_variables(_VERSION),
            "pods": _blocks("pods", DEFAULT_PODS),
            "services": _blocks("services", DEFAULT_SERVICES),
            "ranges": _RANGES,
            "knownRanges": "oldObject != null && oldObject.?spec.?clusterNetwork == object.?spec.?clusterNetwork",
            "pools": "object.?spec.?topology.?workers.?machineDeployments.orValue([])",
        },
    )


def _shape_rules() -> list[Rule]:
    return [
        Rule(
            "oldObject != null || !object.?spec.?topology.hasValue() || object.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
            "'metadata.name of a Cluster becomes the name of a Service: at most 63 characters, a letter first, no dots;'"
            " + ' choose another name than ' + object.metadata.name",
        ),
        Rule(
            "variables.pools.all(pool, pool.?replicas.orValue(0) >= 0)",
            "'spec.topology.workers.machineDeployments: replicas must be 0 or more in '"
            " + variables.pools.filter(pool, pool.?replicas.orValue(0) < 0).map(pool, pool.name).join(', ')",
        ),
    ]


def _range_rules(cloud: Mapping[str, IPv4Network]) -> list[Rule]:
    instead = "; choose ranges that have no address in common"
    rules = [
        Rule(
            f"variables.knownRanges || {_ARE_RANGES}",
            "'spec.clusterNetwork: pods and services must be IPv4 networks such as 10.244.0.0/16, not ' + variables.ranges.join(', ')",
        ),
        Rule(
            f"variables.knownRanges || !{_ARE_RANGES} || variables.pods.all(pod, variables.services.all(service, !({_overlap()})))",
            "'spec.clusterNetwork: pods ' + variables.pods.join(', ') + ' and services ' + variables.services.join(', ')"
            f" + ' overlap{instead}'",
        ),
    ]
    for name, network in cloud.items():
        free = f"!(cidr(range).containsCIDR('{network}') || cidr('{network}').containsCIDR(cidr(range).masked()))"
        rules.append(
            Rule(
                f"variables.knownRanges || !{_ARE_RANGES} || variables.ranges.all(range, {free})",
                f"'spec.clusterNetwork: ' + variables.ranges.filter(range, !({free})).join(', ')"
                f' + " and {name} {network} overlap{instead}"',
            )
        )
    return rules


def _overlap() -> str:
    return "cidr(pod).containsCIDR(cidr(service).masked()) || cidr(service).containsCIDR(cidr(pod).masked())"


def _blocks(field: str, default: IPv4Network) -> str:
    written = f"object.?spec.?clusterNetwork.?{field}.?cidrBlocks.orValue([])"
    return f"size({written}) > 0 ? {written} : ['{default}']"
