"""What makes a clone another machine than its source, and the objects that make it. Pure. Names are KubeVirt's (pkg/virt-controller)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.providers.kubevirt.restore.plan import LAST_RESTORE
from pilvi.providers.kubevirt.snapshot.kinds import CLONES, RESTORES, SNAPSHOTS
from pilvi.runtime import owner_reference

__all__ = ["kept_keys", "plan_patches", "restore_key", "restore_of", "snapshot_key", "snapshot_of", "source_key", "target_key"]


_IDENTITY = ("ovn.kubernetes.io/ip_address", "ovn.kubernetes.io/mac_address")
"""Annotations of a template by which it asks for the address of one machine."""


def source_key(clone: JsonObject) -> Key:
    """The machine, or the snapshot, that is cloned; wake-ups meet objects without a specification too."""
    return Key(clone["metadata"]["namespace"], _named(clone, "source").get("name") or "")


def target_key(clone: JsonObject) -> Key:
    """The clone's machine; a name that nobody chose follows from the clone's UID, so every pass finds the same."""
    name = _named(clone, "target").get("name")
    generated = f"clone-{source_key(clone).name[:51].replace('.', '-')}-{short_hash(clone['metadata']['uid'])[:5]}"
    return Key(clone["metadata"]["namespace"], name or generated)


def snapshot_key(clone: JsonObject) -> Key:
    """The snapshot that the clone is made from: the source, or one that is made for it."""
    if _named(clone, "source").get("kind") == SNAPSHOTS.kind:
        return source_key(clone)
    return Key(clone["metadata"]["namespace"], f"tmp-snapshot-{clone['metadata']['uid']}")


def _named(clone: JsonObject, field: str) -> JsonObject:
    reference: JsonObject = (clone.get("spec") or {}).get(field) or {}
    return reference


def restore_key(clone: JsonObject) -> Key:
    """The restore that makes the clone."""
    return Key(clone["metadata"]["namespace"], f"tmp-restore-{clone['metadata']['uid']}")


def snapshot_of(clone: JsonObject) -> JsonObject:
    """The snapshot of the machine that is cloned."""
    source = {"apiGroup": MACHINES.group, "kind": MACHINES.kind, "name": source_key(clone).name}
    return SNAPSHOTS.new(snapshot_key(clone), metadata={"ownerReferences": [_owner(clone)]}, spec={"source": source})


def restore_of(clone: JsonObject, vm: JsonObject) -> JsonObject:
    """The restore; `vm` is the machine in the snapshot's content. Raises UserError for a filter that is no regular expression."""
    spec: JsonObject = {
        "target": {"apiGroup": MACHINES.group, "kind": MACHINES.kind, "name": target_key(clone).name},
        "virtualMachineSnapshotName": snapshot_key(clone).name,
        "patches": [*(msgspec.json.encode(patch).decode() for patch in plan_patches(clone, vm)), *(clone["spec"].get("patches") or ())],
    }
    if policy := clone["spec"].get("volumeNamePolicy"):
        spec["volumeRestorePolicy"] = policy
    return RESTORES.new(restore_key(clone), metadata={"ownerReferences": [_owner(clone)]}, spec=spec)


def _owner(clone: JsonObject) -> JsonObject:
    return owner_reference({"apiVersion": CLONES.api_version, "kind": CLONES.kind, **clone})


def plan_patches(clone: JsonObject, vm: JsonObject) -> list[JsonObject]:
    """The operations of a JSON patch that turn the source into the clone.

    What tells machines apart goes unless it is given: addresses, which the Subnet then gives, the firmware's UUID, which then follows
    from the name, and its serial number. Raises UserError.
    """
    spec, template = clone["spec"], vm["spec"]["template"]
    domain = (template.get("spec") or {}).get("domain") or {}
    described, filters = template.get("metadata") or {}, spec.get("template") or {}
    return [
        *_macs((domain.get("devices") or {}).get("interfaces") or (), spec.get("newMacAddresses") or {}),
        *_firmware(domain.get("firmware"), spec.get("newSMBiosSerial")),
        *_filtered("/metadata/labels", vm["metadata"].get("labels"), spec.get("labelFilters")),
        *_filtered("/metadata/annotations", vm["metadata"].get("annotations"), spec.get("annotationFilters")),
        *_filtered("/spec/template/metadata/labels", described.get("labels"), filters.get("labelFilters")),
        *_filtered(
            "/spec/template/metadata/annotations", described.get("annotations"), filters.get("annotationFilters"), without=_IDENTITY
        ),
    ]


def _macs(interfaces: Iterable[JsonObject], chosen: Mapping[str, str]) -> Iterator[JsonObject]:
    names = []
    for index, interface in enumerate(interfaces):
        path = f"/spec/template/spec/domain/devices/interfaces/{index}/macAddress"
        names.append(interface["name"])
        if address := chosen.get(interface["name"]):
            yield {"op": "add", "path": path, "value": address}
        elif "macAddress" in interface:
            yield {"op": "remove", "path": path}
    if unknown := sorted(set(chosen) - set(names)):
        raise UserError(
            f"spec.newMacAddresses names interfaces that the machine does not have: {', '.join(unknown)}",
            hint=f"its interfaces are: {', '.join(names) or 'none'}",
        )


def _firmware(firmware: JsonObject | None, serial: str | None) -> Iterator[JsonObject]:
    path = "/spec/template/spec/domain/firmware"
    if firmware is None:
        if serial:
            yield {"op": "add", "path": path, "value": {"serial": serial}}
        return
    if "uuid" in firmware:
        yield {"op": "remove", "path": f"{path}/uuid"}
    if serial:
        yield {"op": "add", "path": f"{path}/serial", "value": serial}
    elif "serial" in firmware:
        yield {"op": "remove", "path": f"{path}/serial"}


def _filtered(
    path: str, found: Mapping[str, str] | None, filters: list[str] | None, *, without: Collection[str] = ()
) -> Iterator[JsonObject]:
    kept = kept_keys(found or {}, filters).difference(without)
    for key in found or {}:
        if key not in kept and key != LAST_RESTORE:
            yield {"op": "remove", "path": f"{path}/{key.replace('~', '~0').replace('/', '~1')}"}


def kept_keys(found: Iterable[str], filters: list[str] | None) -> set[str]:
    """Those of the keys that the clone keeps: all without filters, else those that a filter matches and no `!` filter does.

    Raises UserError for what is no regular expression.
    """
    if not filters:
        return set(found)
    wanted = [_pattern(each) for each in filters if not each.startswith("!")]
    unwanted = [_pattern(each[1:]) for each in filters if each.startswith("!")]
    return {key for key in found if any(p.search(key) for p in wanted) and not any(p.search(key) for p in unwanted)}


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(".*" if text == "*" else text)
    except re.error as e:
        raise UserError(f"the filter {text!r} is no regular expression: {e}", hint="write one such as ^app, or !^secret") from e
