"""The virt-launcher Pod that a machine moves to: as the first one, but elsewhere. Pure."""

from __future__ import annotations

import copy

from pilvi.api.resource import JsonObject
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubevirt.instance.pod import CREATED_BY, new_launcher

__all__ = ["MIGRATION_JOB", "MIGRATION_NAME", "new_target", "target_name"]

MIGRATION_JOB = "kubevirt.io/migrationJobUID"
MIGRATION_NAME = "kubevirt.io/migrationJobName"
_HOSTNAME = "kubernetes.io/hostname"


def target_name(vmi: JsonObject, migration: JsonObject) -> str:
    """Named by the migration, so that making it twice makes one."""
    return f"virt-launcher-{vmi['metadata']['name']}-{short_hash(migration['metadata']['uid'])[:5]}"


def new_target(vmi: JsonObject, migration: JsonObject, image: str, overhead_bytes: int) -> JsonObject:
    """The Pod: never on the host of another Pod of the same machine, and where the migration's `addedNodeSelector` allows."""
    pod = copy.deepcopy(new_launcher(vmi, image, overhead_bytes))
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["name"] = target_name(vmi, migration)
    metadata["labels"][MIGRATION_JOB] = migration["metadata"]["uid"]
    metadata["annotations"][MIGRATION_NAME] = migration["metadata"]["name"]
    affinity = spec.setdefault("affinity", {}).setdefault("podAntiAffinity", {})
    terms = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", [])
    terms.append({"labelSelector": {"matchLabels": {CREATED_BY: vmi["metadata"]["uid"]}}, "topologyKey": _HOSTNAME})
    spec["nodeSelector"] = {**spec["nodeSelector"], **(migration["spec"].get("addedNodeSelector") or {})}
    return pod
