"""The leg of a control plane: the link from its network namespace into the router of its VPC.

`kamaji/` makes it, `kubeovn/` routes the control plane's cloud address over it. Both find the same prefix and the same link
names by these pure functions, so nothing is allocated and nothing is asked (docs/design/0001).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from pilvi.errors import UserError
from pilvi.lib.hashing import short_hash

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["Leg", "control_plane_leg", "control_plane_netns", "control_plane_unit"]

# Link-local addresses: they mean something on this one link only.
LEGS = IPv4Network("169.254.0.0/16")
LARGEST_RANGE = 18


@dataclass(frozen=True)
class Leg:
    """Both ends of a leg: `inner` (link `vpc`) in the control plane's namespace, `outer` in the namespace of the VPC."""

    inner: IPv4Address
    outer: IPv4Address
    inner_link: str
    outer_link: str

    prefix_length = 31


def control_plane_leg(cloud: Cloud, address: IPv4Address) -> Leg:
    """The leg of the control plane whose cloud address this is.

    Raises UserError when the cloud's range is larger than a /18 or does not hold the address.
    """
    if address not in cloud.range:
        raise UserError(f"address {address} is not in the cloud's range {cloud.range}", hint="choose an address of the cloud's range")
    if cloud.range.prefixlen < LARGEST_RANGE:
        raise UserError(
            f"the cloud's range {cloud.range} is too large: legs of control planes fit a /{LARGEST_RANGE} or smaller",
            hint=f"start the cloud with --range and a prefix of /{LARGEST_RANGE} or longer",
        )
    offset = int(address) - int(cloud.range.network_address)
    outer = LEGS[2 * offset]
    return Leg(inner=outer + 1, outer=outer, inner_link="vpc", outer_link=f"cp{short_hash(str(address))}")


def control_plane_unit(tenant_control_plane_uid: str) -> str:
    """What the units of a control plane begin with, and the suffix of its namespace."""
    return f"cp-{short_hash(tenant_control_plane_uid)}"


def control_plane_netns(cloud: Cloud, tenant_control_plane_uid: str) -> str:
    """Network namespace of a control plane; `eth0` in there has its cloud address."""
    return f"pv-{cloud.id}-{control_plane_unit(tenant_control_plane_uid)}"
