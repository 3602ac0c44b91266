"""The ControllerRevision that a machine keeps of its instancetype or preference. Pure.

Name, labels and data are those of KubeVirt (pkg/instancetype/revision), so that snapshots and other clusters read them. The machine
owns it: it goes when the machine goes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilvi.api import JsonObject
from pilvi.api.builtin import CONTROLLER_REVISIONS
from pilvi.errors import UserError
from pilvi.providers.kubevirt.instancetype.matcher import Noun
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.runtime import owner_reference

__all__ = ["get_spec", "new_revision"]

_LABEL = "instancetype.kubevirt.io/object"


def new_revision(vm: JsonObject, obj: JsonObject) -> JsonObject:
    """The copy of `obj`, an instancetype or a preference of any scope as the API server gave it, for `vm`."""
    metadata = obj["metadata"]
    generation = metadata.get("generation") or 1
    version = obj["apiVersion"].rpartition("/")[2]
    kept = {name: metadata[name] for name in ("name", "namespace", "uid", "generation", "creationTimestamp") if metadata.get(name)}
    return {
        "apiVersion": CONTROLLER_REVISIONS.api_version,
        "kind": CONTROLLER_REVISIONS.kind,
        "metadata": {
            "name": f"{vm['metadata']['name']}-{metadata['name']}-{version}-{metadata['uid']}-{generation}",
            "namespace": vm["metadata"]["namespace"],
            "labels": {
                f"{_LABEL}-generation": str(generation),
                f"{_LABEL}-kind": obj["kind"],
                f"{_LABEL}-name": metadata["name"],
                f"{_LABEL}-uid": metadata["uid"],
                f"{_LABEL}-version": version,
            },
            "ownerReferences": [owner_reference({"apiVersion": MACHINES.api_version, "kind": MACHINES.kind, **vm})],
        },
        "revision": 0,
        "data": {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept, "spec": obj["spec"]},
    }


def get_spec(revision: JsonObject, noun: Noun) -> JsonObject:
    """The specification inside. Raises UserError when the revision holds something else."""
    data = revision.get("data") or {}
    name, kinds = revision["metadata"]["name"], (noun.namespaced.kind, noun.cluster.kind)
    hint = f"name one that holds a {kinds[0]} in spec.{noun.word}.revisionName, or leave it out"
    if data.get("kind") not in kinds:
        raise UserError(f"the ControllerRevision {name} holds no {noun.word}", hint=hint)
    spec: Any = data.get("spec")
    try:
        msgspec.convert(spec, noun.spec)  # nobody checks what is in a ControllerRevision
    except msgspec.ValidationError as e:
        raise UserError(f"the ControllerRevision {name} holds no valid {noun.word}: {e}", hint=hint) from None
    checked: JsonObject = spec
    return checked
