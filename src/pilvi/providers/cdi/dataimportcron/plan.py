"""What a DataImportCron makes, keeps and says. Pure. Names, labels, reasons are CDI's (pkg/controller/dataimportcron-controller.go)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.images import parse_reference
from pilvi.lib.clock import parse_time
from pilvi.providers.cdi.kinds import DATA_IMPORT_CRONS, DATA_SOURCES, DATA_VOLUMES
from pilvi.providers.claims import BIND_AT_ONCE, annotations_of
from pilvi.runtime import condition, owner_reference

__all__ = [
    "CRON",
    "DESIRED",
    "LAST_POLL",
    "NEXT_POLL",
    "check_managed",
    "data_source_of",
    "import_name",
    "import_of",
    "is_due",
    "plan_conditions",
    "surplus",
]

CRON = "cdi.kubevirt.io/dataImportCron"
"""Label of imports and of the DataSource: the name of their DataImportCron."""
DESIRED = "cdi.kubevirt.io/storage.import.sourceDesiredDigest"
LAST_POLL = "cdi.kubevirt.io/storage.import.lastCronTime"
NEXT_POLL = "cdi.kubevirt.io/storage.import.nextCronTime"

KEPT = 3
_DIGITS = 12


def is_due(cron: JsonObject, now: datetime) -> bool:
    """Whether the registry is to be asked now: at first, and then as its schedule has it."""
    due = annotations_of(cron).get(NEXT_POLL)
    try:
        return due is None or parse_time(due) <= now
    except ValueError:
        return True


def import_name(cron: JsonObject, digest: str) -> str:
    """The DataVolume of the image with that digest."""
    return f"{cron['spec']['managedDataSource']}-{digest.removeprefix('sha256:')[:_DIGITS]}"


def import_of(cron: JsonObject, digest: str) -> JsonObject:
    """The DataVolume that imports exactly the image with that digest. Raises UserError when the source names no image."""
    template = cron["spec"]["template"]
    given, spec = template.get("metadata") or {}, copy.deepcopy(template["spec"])
    source = spec["source"]["registry"]
    reference = parse_reference(source["url"])
    source["url"] = f"docker://{reference.host}/{reference.path}@{digest}"
    key = Key(cron["metadata"]["namespace"], import_name(cron, digest))
    return DATA_VOLUMES.new(
        key,
        metadata={
            "labels": {**(given.get("labels") or {}), CRON: cron["metadata"]["name"]},
            "annotations": {**(given.get("annotations") or {}), BIND_AT_ONCE: "true"},
            **_owned(cron),
        },
        spec=spec,
    )


def data_source_of(cron: JsonObject, imported: JsonObject | None) -> JsonObject:
    """The DataSource; `imported` is the namespace and name of the newest whole import, None before there is one."""
    key = Key(cron["metadata"]["namespace"], cron["spec"]["managedDataSource"])
    source = {"pvc": {"namespace": imported["namespace"], "name": imported["name"]}} if imported else {}
    return DATA_SOURCES.new(key, metadata={"labels": {CRON: cron["metadata"]["name"]}, **_owned(cron)}, spec={"source": source})


def surplus(cron: JsonObject, data_volumes: Iterable[JsonObject], current: str) -> list[JsonObject]:
    """The imports of `cron` that are not kept: all but the current one and the newest others."""
    spec = cron["spec"]
    if spec.get("garbageCollect") == "Never":
        return []
    kept = spec.get("importsToKeep")
    others = [obj for obj in data_volumes if _label(obj) == cron["metadata"]["name"] and obj["metadata"]["name"] != current]
    others.sort(key=lambda obj: (obj["metadata"].get("creationTimestamp") or "", obj["metadata"]["name"]), reverse=True)
    return others[max(0, (KEPT if kept is None else kept) - 1) :]


def plan_conditions(current: JsonObject | None, phase: str, desired: str, trouble: str) -> list[JsonObject]:
    """Progressing and UpToDate. `phase` is that of the current import, `trouble` why the registry could not be asked."""
    if current is None or phase == "Succeeded":
        progressing = condition("Progressing", False, "NoImport", "No current import")
    elif phase == "ImportInProgress":
        progressing = condition("Progressing", True, "ImportProgressing", "Import is progressing")
    else:
        progressing = condition("Progressing", False, "ImportScheduled", f"the import {current['DataVolumeName']} is {phase or 'new'}")
    if trouble:
        known = condition("UpToDate", False, "NoDigest", trouble)
    elif current is None:
        known = condition("UpToDate", False, "NoDigest", "the registry has not been asked yet")
    elif current["Digest"] != desired:
        known = condition("UpToDate", False, "Outdated", "Source digest updated since last import")
    elif phase != "Succeeded":
        known = condition("UpToDate", False, "ImportProgressing", f"the import {current['DataVolumeName']} is {phase or 'new'}")
    else:
        known = condition("UpToDate", True, "UpToDate", "Latest import is up to date")
    return [progressing, known]


def check_managed(cron: JsonObject, data_source: JsonObject | None, others: Iterable[JsonObject]) -> None:
    """Raises UserError when another DataImportCron keeps the DataSource."""
    label = _label(data_source) if data_source is not None else ""
    name = cron["metadata"]["name"]
    if label in ("", name):
        return
    managed = cron["spec"]["managedDataSource"]
    if any(obj["metadata"]["name"] == label and (obj.get("spec") or {}).get("managedDataSource") == managed for obj in others):
        raise UserError(
            f"DataSource {managed} is already managed by DataImportCron {label}", hint="name another managedDataSource, or delete that one"
        )


def _label(obj: JsonObject) -> str:
    return str((obj["metadata"].get("labels") or {}).get(CRON) or "")


def _owned(cron: JsonObject) -> JsonObject:
    """What goes with the DataImportCron is its own; what stays has no owner."""
    if cron["spec"].get("retentionPolicy") != "None":
        return {}
    typed = {"apiVersion": DATA_IMPORT_CRONS.api_version, "kind": DATA_IMPORT_CRONS.kind, **cron}
    return {"ownerReferences": [owner_reference(typed, controller=False, block_deletion=False)]}
