"""Who may send what into the network namespace of a control plane: its API server's port is for everybody, the rest is its own.

Components that have nothing to hide from others listen on all addresses (webhooks of Cluster API, for example), so the namespace
decides, not each of them.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address

from pilvi.api import JsonObject
from pilvi.controlplane.spec import ControlPlane
from pilvi.host import nft

__all__ = ["control_plane_filter", "public_rules"]


def control_plane_filter(plane: ControlPlane, table: str, trusted: IPv4Address | None = None, ports: Iterable[int] = ()) -> JsonObject:
    """The nft table of that name for the namespace of `plane`. Pure.

    What the API server calls itself (kubelets, pods, webhooks) answers, so it needs no rule. `trusted` may send anything,
    everybody to `ports`, which the engine serves there.
    """
    own = [[nft.match("iifname", "lo"), nft.ACCEPT]]
    if trusted is not None:
        own.append([nft.match("ip saddr", str(trusted)), nft.ACCEPT])
    return nft.table(
        table,
        [
            nft.chain("input", hook="input", policy="drop"),
            *(nft.rule("input", *statements) for statements in (*own, *public_rules(plane, ports))),
        ],
    )


def public_rules(plane: ControlPlane, ports: Iterable[int] = ()) -> list[list[JsonObject]]:
    """The rules that let in what everybody may send to `plane`: answers, ICMP, calls of its API and of `ports`."""
    return [[nft.KNOWN, nft.ACCEPT], [nft.ICMP, nft.ACCEPT], *([nft.match("tcp dport", port), nft.ACCEPT] for port in (plane.port, *ports))]
