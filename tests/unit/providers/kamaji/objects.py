"""Objects as the API server stores them, and a cloud, for the tests of these controllers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from pilvi.api import JsonObject
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.object import decode
from pilvi.controlplane import ControlPlane
from pilvi.host.cloud import Cloud
from pilvi.providers.kamaji.tenantcontrolplane.plane import control_plane

ADDRESS = IPv4Address("10.250.3.7")


def cloud(home: Path = Path("/nonexistent/pilvi")) -> Cloud:
    return Cloud(
        id="aaaaa",
        home=home,
        run=home / "run",
        range=IPv4Network("10.250.3.0/24"),
        transit=IPv4Network("10.249.3.0/24"),
        uid_base=700000,
        uid_count=100,
    )


def tenant(name: str = "first", **changes: Any) -> JsonObject:
    """A TenantControlPlane; `changes` replace parts of the spec."""
    spec = {
        "kubernetes": {"version": "v1.37.2", "kubelet": {"preferredAddressTypes": ["InternalIP"]}, "admissionControllers": ["LimitRanger"]},
        "controlPlane": {"service": {"serviceType": "LoadBalancer"}},
        "networkProfile": {"port": 6443},
        "addons": {"coreDNS": {}, "kubeProxy": {}},
        **changes,
    }
    return {
        "apiVersion": "kamaji.clastix.io/v1alpha1",
        "kind": "TenantControlPlane",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1},
        "spec": spec,
    }


def plane(obj: JsonObject | None = None, *, version: str = "v1.37.2") -> ControlPlane:
    """The control plane that the object asks for."""
    return control_plane(decode(TenantControlPlane, obj or tenant()), cloud(), address=ADDRESS, uid=700001, version=version)
