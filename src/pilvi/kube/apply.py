"""Applies a set of manifests in an order that works, however they were written down.

Used for what the plane installs (CRDs, policies, ClusterClass) and for the files that a user gives to `pilvi up -f`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from pilvi.api import JsonObject, Resource
from pilvi.errors import UserError
from pilvi.kube.client import Client
from pilvi.kube.discovery import Discovery
from pilvi.lib.deadline import wait_for
from pilvi.lib.together import together

__all__ = ["apply_all", "flatten"]

# What others refer to comes first; webhooks last, so that none stands in the way of the set that installs it.
_RANKS = {
    "Namespace": 0,
    "CustomResourceDefinition": 0,
    "PriorityClass": 1,
    "ServiceAccount": 1,
    "ClusterRole": 1,
    "Role": 1,
    "ClusterRoleBinding": 2,
    "RoleBinding": 2,
    "ConfigMap": 2,
    "Secret": 2,
    "Service": 2,
    "APIService": 4,
    "ValidatingAdmissionPolicy": 4,
    "ValidatingAdmissionPolicyBinding": 5,
    "ValidatingWebhookConfiguration": 5,
    "MutatingWebhookConfiguration": 5,
}
_OTHERS = 3
_CONCURRENCY = 8


async def apply_all(
    client: Client,
    objects: Iterable[JsonObject],
    *,
    manager: str,
    namespace: str = "default",
    force: bool = True,
    dry_run: bool = False,
    timeout_s: float = 60.0,
    discovery: Discovery | None = None,
) -> list[JsonObject]:
    """Server-side apply of `objects` (Lists are taken apart), CRDs first and waited for; returns them as stored, in the given order.

    `namespace` is for namespaced objects that name none. `timeout_s` bounds the wait until new CRDs are served; each request has
    the client's deadline. The same set may be applied again. Objects of one rank are applied side by side; the first error of
    the API ends the set, what was applied before stays. Raises UserError for an unknown kind, ApiError, ApiUnreachable, TimedOut.
    """
    pending = list(enumerate(flatten(objects)))
    kinds = discovery or Discovery(client)
    stored: dict[int, JsonObject] = {}
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def apply_one(index: int, obj: JsonObject) -> None:
        async with limit:
            resource = await kinds.get(obj)
            placed = _place(resource, obj, namespace)
            stored[index] = await client.apply(resource, placed, manager=manager, force=force, dry_run=dry_run)

    for rank in sorted({_rank(obj) for _, obj in pending}):
        batch = [(index, obj) for index, obj in pending if _rank(obj) == rank]
        await together(*(apply_one(index, obj) for index, obj in batch))
        crds = [obj for _, obj in batch if obj["kind"] == "CustomResourceDefinition"]
        if crds and not dry_run:
            await _wait_served(kinds, crds, timeout_s)
    return [stored[index] for index, _ in pending]


def flatten(objects: Iterable[JsonObject]) -> list[JsonObject]:
    """The objects with every `List` replaced by its items. Raises UserError for what is no object at all."""
    flat: list[JsonObject] = []
    for obj in objects:
        if not isinstance(obj, dict) or not isinstance(obj.get("kind"), str):
            raise UserError("a manifest is not a Kubernetes object", hint="each document needs apiVersion, kind and metadata.name")
        if obj["kind"] == "List":
            flat += flatten(obj.get("items") or [])
        elif not (obj.get("metadata") or {}).get("name"):
            raise UserError(f"a {obj['kind']} has no metadata.name", hint="server-side apply needs a fixed name, not generateName")
        else:
            flat.append(obj)
    return flat


def _rank(obj: JsonObject) -> int:
    return _RANKS.get(obj["kind"], _OTHERS)


def _place(resource: Resource, obj: JsonObject, namespace: str) -> JsonObject:
    if not resource.namespaced or obj["metadata"].get("namespace"):
        return obj
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


async def _wait_served(kinds: Discovery, crds: Sequence[JsonObject], timeout_s: float) -> None:
    """Wait until discovery lists each new kind: that is what Established means, and it costs no reading of large schemas back."""
    wanted = {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
        for crd in crds
        for version in crd["spec"]["versions"]
        if version.get("served")
    }

    async def all_served() -> bool:
        for api_version, kind in sorted(wanted):  # a copy: served ones are dropped on the way
            if await kinds.find(api_version, kind) is None:
                kinds.forget(api_version)
                return False
            wanted.discard((api_version, kind))
        return True

    def what() -> str:
        return "the API server to serve " + ", ".join(f"{kind} of {api_version}" for api_version, kind in sorted(wanted))

    await wait_for(all_served, timeout_s, what)
