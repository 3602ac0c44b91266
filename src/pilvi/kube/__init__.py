"""The Kubernetes API client: requests, watch streams, discovery, manifest sets.

Importing this costs 0.4 s (aiohttp), so the command line imports it inside the commands that need it.
"""

from pilvi.kube.apply import apply_all, flatten
from pilvi.kube.client import Client, ObjectList
from pilvi.kube.discovery import Discovery
from pilvi.kube.kubeconfig import Kubeconfig, load_kubeconfig, parse_kubeconfig
from pilvi.kube.selectors import Selector
from pilvi.kube.watch import WatchEvent

__all__ = [
    "Client",
    "Discovery",
    "Kubeconfig",
    "ObjectList",
    "Selector",
    "WatchEvent",
    "apply_all",
    "flatten",
    "load_kubeconfig",
    "parse_kubeconfig",
]
