"""Writes a status: one merge patch of exactly what changed, refused when somebody wrote in between.

Server-side apply would leave entries behind that another writer put into a status (a stop request that virtctl added), and a
whole replace would undo what was added meanwhile. Used by the providers whose statuses have more than one writer, and for kinds
without a status subresource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilvi.api import JsonObject, Key, Resource

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["merge_patch", "write_status"]


def merge_patch(old: JsonObject, new: JsonObject) -> JsonObject:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; empty when they are equal. Lists are replaced whole."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := merge_patch(before, value):
                patch[name] = inner
        elif name not in old or before != value:
            patch[name] = value
    return patch


async def write_status(client: Client, resource: Resource, obj: JsonObject, status: JsonObject, *, subresource: bool = True) -> JsonObject:
    """Make `status` the status of `obj`, which was read before; returns the object as stored, `obj` itself when nothing changed.

    Raises Conflict when the object changed since it was read, NotFound when it is gone, and what every request may raise.
    """
    patch = merge_patch(obj.get("status") or {}, status)
    if not patch:
        return obj
    guard = {"uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
    body = {"metadata": guard, "status": patch}
    return await client.patch(resource, Key.of(obj), body, subresource="status" if subresource else None)
