"""Names of things on the host that two providers have to agree on without asking each other.

All are pure functions of object UIDs (docs/design/0001): who reads the object knows the name. Link names here live inside network
namespaces of ours, so they need no cloud id; they are at most 15 characters.

- `kubeovn/` makes the namespace of a Vpc and in it one bridge for each Subnet.
- `kubevirt/` makes the namespace of a machine and puts the outer end of its leg into that bridge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.lib.hashing import short_hash
from pilvi.providers.attachments import POD_NETWORK

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["SLOTS", "machine_netns", "machine_port", "machine_unit", "port_in_slot", "subnet_bridge", "vpc_netns", "vpc_netns_prefix"]

SLOTS = ("", "b")
"""A machine that moves to another virtual host has two processes for a while, one in each slot (docs/design/0005)."""

_SHORTER = 5  # of a hash, so that a port fits into the 15 characters of a link


def vpc_netns(cloud: Cloud, vpc_uid: str) -> str:
    """Network namespace of a Vpc: its router, with a bridge for each Subnet."""
    return vpc_netns_prefix(cloud) + short_hash(vpc_uid)


def vpc_netns_prefix(cloud: Cloud) -> str:
    """The namespace of every Vpc begins so."""
    return cloud.netns("vpc-")


def subnet_bridge(subnet_uid: str) -> str:
    """The bridge of a Subnet, inside the namespace of its Vpc."""
    return f"sn{short_hash(subnet_uid)}"


def machine_netns(cloud: Cloud, vmi_uid: str) -> str:
    """Network namespace of a machine; its leg is called `eth0` in there."""
    return cloud.netns(machine_unit(vmi_uid))


def machine_port(vmi_uid: str, provider: str = POD_NETWORK) -> str:
    """The outer end of a machine's leg in the network of that provider: a port of the Subnet's bridge, inside the namespace of the Vpc.

    The name in the pod network is what all others of the machine begin with.
    """
    port = f"m{short_hash(vmi_uid)}"
    return port if provider == POD_NETWORK else f"{port}-{short_hash(provider)[:_SHORTER]}"


def port_in_slot(port: str, slot: str) -> str:
    """The port that the process in `slot` has in the place of `port`. It begins with another letter: names of links are full already."""
    return f"n{port[1:]}" if slot else port


def machine_unit(vmi_uid: str, slot: str = "") -> str:
    """The unit that runs a machine in that slot; that of the first is also the suffix of the machine's namespace."""
    return f"m-{short_hash(vmi_uid)}{slot}"
