"""One client for each tenant cluster, shared by all who act in it.

A tenant's API server is reached at its cloud address, with the credentials that lie beside its units. They are files, so a
renewed certificate is read again when the old one is refused.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import Transient
from pilvi.kube import Client
from pilvi.lib.hashing import short_hash

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.runtime import Informer, Informers

__all__ = [
    "TENANT_CONTROL_PLANES",
    "TenantClients",
    "TenantUnreachable",
    "control_plane_dir",
    "control_planes_dir",
    "engine_kubeconfig",
    "is_ready",
]

TENANT_CONTROL_PLANES = Resource("kamaji.clastix.io", "v1alpha1", "tenantcontrolplanes", "TenantControlPlane")

# A tenant that hangs must not hold up a controller that serves others.
REQUEST_TIMEOUT_S = 10.0


class TenantUnreachable(Transient):
    """The tenant cluster has no control plane that answers, yet or any more."""


def control_planes_dir(cloud: Cloud) -> Path:
    """Where the folders of all control planes are."""
    return cloud.home / "control-planes"


def control_plane_dir(cloud: Cloud, uid: str) -> Path:
    """Where data and credentials of the control plane of the TenantControlPlane with this UID are (0750, root's, its user's group)."""
    return control_planes_dir(cloud) / f"cp-{short_hash(uid)}"


def engine_kubeconfig(cloud: Cloud, uid: str) -> Path:
    """The kubeconfig by which the engine is administrator of that tenant cluster."""
    return control_plane_dir(cloud, uid) / "super-admin.conf"


def is_ready(tenant_control_plane: JsonObject) -> bool:
    """Whether the API server of this TenantControlPlane is known to answer."""
    status = tenant_control_plane.get("status") or {}
    deployment = (status.get("kubernetesResources") or {}).get("deployment") or {}
    return bool(deployment.get("readyReplicas")) and not tenant_control_plane["metadata"].get("deletionTimestamp")


class TenantClients:
    """The clients by the key of the TenantControlPlane. They are opened on first use; `run` closes those whose tenant is gone."""

    def __init__(self, cloud: Cloud, informers: Informers) -> None:
        self._cloud = cloud
        self._tenants: Informer = informers.get(TENANT_CONTROL_PLANES)
        self._clients: dict[str, Client] = {}  # by UID: a new cluster of the same name is another one

    def get(self, key: Key) -> Client:
        """The client of that tenant cluster; its requests have a deadline of 10 s. Do not close it.

        Raises TenantUnreachable when there is no such cluster or its API server does not answer, with what to wait for.
        """
        tenant = self._tenants.get(key)
        if tenant is None:
            raise TenantUnreachable(f"there is no TenantControlPlane {key}", retry_after_s=5.0)
        if not is_ready(tenant):
            raise TenantUnreachable(f"the API server of TenantControlPlane {key} does not answer", retry_after_s=2.0)
        return self.open(tenant)

    def open(self, tenant: JsonObject) -> Client:
        """The client of this TenantControlPlane, whether it is ready or not. Raises TenantUnreachable when it has no credentials yet."""
        uid = tenant["metadata"]["uid"]
        client = self._clients.get(uid)
        if client is None:
            path = engine_kubeconfig(self._cloud, uid)
            if not path.is_file():
                raise TenantUnreachable(f"TenantControlPlane {Key.of(tenant)} has no credentials yet", retry_after_s=1.0)
            client = self._clients[uid] = Client.open(path, timeout_s=REQUEST_TIMEOUT_S)
        return client

    async def run(self) -> None:
        """Close the clients of tenants that are gone, until cancelled; then close all."""
        gone: asyncio.Queue[str] = asyncio.Queue()
        stop = self._tenants.subscribe(lambda old, new: gone.put_nowait(old["metadata"]["uid"]) if old and new is None else None)
        try:
            while True:
                await self._close(await gone.get())
        finally:
            stop()
            for uid in [*self._clients]:
                await self._close(uid)

    async def _close(self, uid: str) -> None:
        client = self._clients.pop(uid, None)
        if client is not None:
            await client.aclose()
