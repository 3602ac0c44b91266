"""The ControllerRevisions that a machine's instance type and preference are kept in: they stay as long as anybody names them.

A machine owns its revisions, and they would go with it. So a content that names them, and a machine that is made from it, own them too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key, Resource
from pilvi.runtime import owner_reference

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["share_revisions"]

_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")


async def share_revisions(client: Client, spec: JsonObject, kind: Resource, owner: JsonObject) -> None:
    """Make `owner`, an object of `kind`, one of the owners of the revisions that a machine's `spec` names. Missing ones are passed over."""
    for field in ("instancetype", "preference"):
        name = (spec.get(field) or {}).get("revisionName") or ""
        # Users write it, and a name that no object can have must not lead the request elsewhere.
        if not _NAME.fullmatch(name):
            continue
        key = Key(owner["metadata"]["namespace"], name)
        revision = await client.find(_REVISIONS, key)
        owners = ((revision or {}).get("metadata") or {}).get("ownerReferences") or []
        if revision is None or any(entry["uid"] == owner["metadata"]["uid"] for entry in owners):
            continue
        typed = {"apiVersion": kind.api_version, "kind": kind.kind, **owner}
        added = owner_reference(typed, controller=False, block_deletion=False)
        guard = {"uid": revision["metadata"]["uid"], "resourceVersion": revision["metadata"]["resourceVersion"]}
        await client.patch(_REVISIONS, key, {"metadata": {**guard, "ownerReferences": [*owners, added]}})
