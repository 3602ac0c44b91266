"""Links, addresses, routes and settings of network namespaces: desired values, a pure plan, an idempotent apply.

Importing this costs half a second only when something is first applied: pyroute2 is loaded then.
"""

from pilvi.host.netns import ensure_netns, in_netns, list_netns, netns_path
from pilvi.host.network.apply import delete_link, delete_netns, ensure_network, ensure_veth, list_links
from pilvi.host.network.model import Address, Bridge, NamespaceNetwork, Observed, ObservedAddress, ObservedLink, Route, Tap, Veth, VethEnd
from pilvi.host.network.observe import observe
from pilvi.host.network.plan import Action, plan
from pilvi.host.network.tap import ensure_tap, open_tap

__all__ = [
    "Action",
    "Address",
    "Bridge",
    "NamespaceNetwork",
    "Observed",
    "ObservedAddress",
    "ObservedLink",
    "Route",
    "Tap",
    "Veth",
    "VethEnd",
    "delete_link",
    "delete_netns",
    "ensure_netns",
    "ensure_network",
    "ensure_tap",
    "ensure_veth",
    "in_netns",
    "list_links",
    "list_netns",
    "netns_path",
    "observe",
    "open_tap",
    "plan",
]
