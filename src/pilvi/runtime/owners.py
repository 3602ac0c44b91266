"""Owner references: who made an object, and who is woken when it changes.

Only between objects of one namespace, or from a cluster-scoped owner: the garbage collector deletes children whose owner it
cannot find in their own namespace.
"""

from __future__ import annotations

from pilvi.api import JsonObject, Key, Resource

__all__ = ["controller_key", "controller_of", "is_controlled_by", "owner_reference"]


def owner_reference(owner: JsonObject, *, controller: bool = True, block_deletion: bool = True) -> JsonObject:
    """A reference to `owner` (which has been stored: it needs a UID). At most one of an object's references is its controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": controller,
        "blockOwnerDeletion": block_deletion,
    }


def controller_of(obj: JsonObject) -> JsonObject | None:
    """The owner reference of the controller, or None."""
    return next((entry for entry in obj["metadata"].get("ownerReferences") or () if entry.get("controller")), None)


def is_controlled_by(obj: JsonObject, owner: JsonObject) -> bool:
    """Whether exactly this owner (by UID, not by name) controls the object."""
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def controller_key(obj: JsonObject, resource: Resource) -> Key | None:
    """The key of the controlling owner when that is of kind `resource` in any version, else None."""
    reference = controller_of(obj)
    if reference is None or reference["kind"] != resource.kind:
        return None
    if reference["apiVersion"].rpartition("/")[0] != resource.group:
        return None
    return Key((obj["metadata"].get("namespace") or "") if resource.namespaced else "", reference["name"])
