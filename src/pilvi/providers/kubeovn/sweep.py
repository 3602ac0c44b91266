"""Removes cluster-scoped objects whose namespaced owner is gone.

Kubernetes' garbage collector cannot do it: an owner reference may not point from a cluster-scoped object into a namespace. So whoever
makes a Vpc or a Subnet for an object labels it with that object's kind, namespace, name and UID, and removes it with a finalizer. The
sweep is for what a lost finalizer leaves: each labelled object is looked at once after the engine's start.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.capk import KubevirtCluster
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.providers.kubeovn.names import LABEL_OWNER_KIND, LABEL_OWNER_NAME, LABEL_OWNER_NAMESPACE, LABEL_OWNER_UID

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["OwnerSweep"]

log = logging.getLogger(__name__)

OWNERS = {kind.RESOURCE.kind: kind.RESOURCE for kind in (KubevirtCluster, TenantControlPlane, VirtualMachine, VirtualMachineInstance)}


class OwnerSweep:
    """Remembers which objects have been looked at; one for each engine."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: set[str] = set()

    async def delete_orphan(self, resource: Resource, obj: JsonObject) -> bool:
        """Ask for the deletion of `obj` if its labelled owner is gone. Returns whether it did. Asks the API server once per object."""
        metadata = obj["metadata"]
        labels = metadata.get("labels") or {}
        owner = OWNERS.get(labels.get(LABEL_OWNER_KIND) or "")
        if owner is None or metadata["uid"] in self._seen:
            return False
        key = Key(labels.get(LABEL_OWNER_NAMESPACE) or "", labels.get(LABEL_OWNER_NAME) or "")
        found = await self._client.find(owner, key)
        if found is not None and found["metadata"]["uid"] == labels.get(LABEL_OWNER_UID):
            self._seen.add(metadata["uid"])
            return False
        log.info("%s %s is deleted: its owner %s %s is gone", resource.kind, metadata["name"], owner.kind, key)
        await self._client.ensure_absent(resource, Key.of(obj), uid=metadata["uid"])
        return True
