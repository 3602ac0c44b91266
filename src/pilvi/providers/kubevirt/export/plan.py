"""What belongs to an export: its source, its end, its token, its links, the claims made for it. Pure. Names are KubeVirt's."""

from __future__ import annotations

import base64
import binascii
import copy
import secrets
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from pilvi.api import JsonObject, Key
from pilvi.api.export import EXPORT_PORT
from pilvi.lib.clock import parse_duration, parse_time
from pilvi.lib.hashing import short_hash
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.claims import BIND_AT_ONCE
from pilvi.providers.kubevirt.export.kinds import CLAIMS, EXPORTS, SECRETS, VOLUME_SNAPSHOTS
from pilvi.runtime import owner_reference

__all__ = ["end_of", "find_token", "restored_claim", "restored_name", "secret_name", "source_of", "token_secret", "url_of"]

LIFE_S, LONGEST_LIFE_S = 2 * 3600.0, 2.0**63 / 1e9  # the latter is Go's longest duration, 292 years
LONGEST_LABEL, LONGEST_NAME = 63, 253
TOKEN = "token"  # noqa: S105 (the name of the key)


def source_of(export: JsonObject) -> tuple[str, Key]:
    """Kind and key of what is exported; wake-ups meet objects without a specification too."""
    source = (export.get("spec") or {}).get("source") or {}
    return source.get("kind") or "", Key(export["metadata"]["namespace"], source.get("name") or "")


def end_of(export: JsonObject) -> datetime:
    """When it is deleted."""
    text = export["spec"].get("ttlDuration")
    life_s = LIFE_S if text is None else parse_duration(text)
    return parse_time(export["metadata"]["creationTimestamp"]) + timedelta(seconds=min(life_s, LONGEST_LIFE_S))


def secret_name(export: JsonObject) -> str:
    """The Secret with its token: the one that it names, or the one that is made for it."""
    return str(export["spec"].get("tokenSecretRef") or _short(f"export-token-{export['metadata']['name']}", LONGEST_LABEL))


def token_secret(export: JsonObject) -> JsonObject:
    """The Secret that is made for it, with a new token; it goes with the export."""
    token = base64.b64encode(secrets.token_urlsafe(24).encode()).decode()
    key = Key(export["metadata"]["namespace"], secret_name(export))
    return SECRETS.new(key, metadata={"ownerReferences": [_owner(export)]}, type="Opaque", data={TOKEN: token})


def find_token(secret: JsonObject | None) -> bytes | None:
    """The token in a Secret; None when there is none. An empty one is none: everybody would know it."""
    try:
        return base64.b64decode(((secret or {}).get("data") or {}).get(TOKEN) or "") or None
    except binascii.Error:
        return None


def url_of(export: JsonObject, address: IPv4Address) -> str:
    """Where the export proxy, at that address of the platform, has all of this export."""
    namespace, name = export["metadata"]["namespace"], export["metadata"]["name"]
    return f"https://{address}:{EXPORT_PORT}/api/{EXPORTS.api_version}/namespaces/{namespace}/{EXPORTS.plural}/{name}"


def restored_name(export: JsonObject, claim: str) -> str:
    """The claim that is made for the export in the place of one that a snapshot holds."""
    return _short(f"{export['metadata']['name']}-{claim}", LONGEST_NAME)


def restored_claim(export: JsonObject, backup: JsonObject, copied: JsonObject) -> JsonObject:
    """The claim with the data of one volume of a snapshot; `copied` is the VolumeSnapshot. It goes with the export."""
    kept = backup["persistentVolumeClaim"]
    spec = {name: copy.deepcopy(kept["spec"][name]) for name in ("accessModes", "storageClassName", "volumeMode") if name in kept["spec"]}
    asked = ((kept["spec"].get("resources") or {}).get("requests") or {}).get("storage") or 0
    sizes = (asked, (copied.get("status") or {}).get("restoreSize") or 0)
    named = {"apiGroup": VOLUME_SNAPSHOTS.group, "kind": VOLUME_SNAPSHOTS.kind, "name": copied["metadata"]["name"]}
    return CLAIMS.new(
        Key(export["metadata"]["namespace"], restored_name(export, kept["metadata"]["name"])),
        # No machine will use it: its class must not wait for one.
        metadata={"ownerReferences": [_owner(export)], "annotations": {BIND_AT_ONCE: "true"}},
        spec={
            **spec,
            "resources": {"requests": {"storage": max(sizes, key=quantity_bytes)}},
            "dataSource": named,
            "dataSourceRef": named,
        },
    )


def _owner(export: JsonObject) -> JsonObject:
    return owner_reference({"apiVersion": EXPORTS.api_version, "kind": EXPORTS.kind, **export})


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 9].rstrip('-.')}-{short_hash(name)}"
