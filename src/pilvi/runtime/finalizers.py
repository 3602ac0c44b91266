"""Adds and removes finalizers.

By JSON merge patch with the resource version that was read, so that a finalizer which somebody else added in between is never
lost: the server answers Conflict, and the reconcile runs again on the newer object. Server-side apply is not used here, because
it would create an object that was deleted meanwhile, and it drops what the same manager owns elsewhere on the object.
"""

from __future__ import annotations

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import NotFound
from pilvi.kube import Client

__all__ = ["ensure_finalizer", "has_finalizer", "is_deleting", "remove_finalizer"]


def is_deleting(obj: JsonObject) -> bool:
    """Whether somebody has asked for the deletion of the object."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def has_finalizer(obj: JsonObject, finalizer: str) -> bool:
    """Whether the object carries the finalizer."""
    return finalizer in (obj["metadata"].get("finalizers") or ())


async def ensure_finalizer(client: Client, resource: Resource, obj: JsonObject, finalizer: str) -> JsonObject:
    """The object with the finalizer on it: `obj` itself when it has it already, else as stored after one write.

    Call it before anything is made for the object, never while it is being deleted (the API refuses that with Invalid).
    Raises Conflict when the object changed since it was read, and what every request may raise.
    """
    if has_finalizer(obj, finalizer):
        return obj
    return await _write(client, resource, obj, [*(obj["metadata"].get("finalizers") or ()), finalizer])


async def remove_finalizer(client: Client, resource: Resource, obj: JsonObject, finalizer: str) -> None:
    """Take the finalizer off, so that the deletion can end. An object that is gone, or never had it, is fine.

    Raises Conflict when the object changed since it was read.
    """
    if not has_finalizer(obj, finalizer):
        return
    try:
        await _write(client, resource, obj, [entry for entry in obj["metadata"]["finalizers"] if entry != finalizer])
    except NotFound:
        return


async def _write(client: Client, resource: Resource, obj: JsonObject, finalizers: list[str]) -> JsonObject:
    # The UID guards against a new object of the same name, the version against everything else.
    guard = {"uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
    return await client.patch(resource, Key.of(obj), {"metadata": {**guard, "finalizers": finalizers}})
