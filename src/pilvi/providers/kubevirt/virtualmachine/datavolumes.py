"""The DataVolumes that a VirtualMachine has made for itself (`spec.dataVolumeTemplates`).

They are made as soon as the machine is there, also when it does not run, and are its own: the garbage collector takes them with it. An
instance is started when all are whole, or wait for it as their first consumer. Behaviour is KubeVirt's (pkg/virt-controller/watch/vm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.resource import JsonObject, Key
from pilvi.errors import AlreadyExists, Forbidden, Invalid, format_chain
from pilvi.providers.kubevirt.instance.pod import CREATED_BY
from pilvi.providers.kubevirt.kinds import DATA_VOLUMES, MACHINES
from pilvi.providers.kubevirt.virtualmachine.status import Failure
from pilvi.runtime import is_controlled_by, owner_reference

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["DataVolumes", "Made", "new_data_volume"]

READY = ("Succeeded", "WaitForFirstConsumer", "PendingPopulation")


@dataclass(frozen=True)
class Made:
    """Whether the instance may start as far as its own DataVolumes are concerned, and why one cannot be made."""

    ready: bool = True
    failure: Failure | None = None


class DataVolumes:
    """Makes them and looks at them."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events
        self._data_volumes = platform.informers.get(DATA_VOLUMES)
        self._claims = platform.informers.get(CLAIMS)

    async def ensure(self, vm: JsonObject) -> Made:
        """Make what is missing for `vm`, and say how it stands."""
        ready, failures = True, []
        for template in vm["spec"].get("dataVolumeTemplates") or []:
            outcome = await self._ensure_one(vm, template)
            if isinstance(outcome, Failure):
                failures.append(outcome)
            ready = ready and outcome is True
        return Made(ready, failures[0] if failures else None)

    async def _ensure_one(self, vm: JsonObject, template: JsonObject) -> bool | Failure:
        key = Key(vm["metadata"]["namespace"], template["metadata"]["name"])
        found = self._data_volumes.get(key)
        if found is None and self._claims.get(key) is not None:
            return True  # what is left of a DataVolume that went by itself, or came out of a snapshot
        if found is None:
            try:
                await self._client.create(DATA_VOLUMES, new_data_volume(vm, template))
            except AlreadyExists:
                return False  # the cache is behind; the next pass sees whose it is
            except (Forbidden, Invalid) as e:
                message = f"DataVolume {key.name} cannot be made: {format_chain(e)}"
                self._events.record(vm, "Warning", "FailedDataVolumeCreate", message)
                return Failure("FailedCreate", message)
            self._events.record(vm, "Normal", "SuccessfulDataVolumeCreate", f"Created DataVolume {key.name}")
            return False
        if not is_controlled_by(found, vm):
            return Failure(
                "FailedCreate", f"a DataVolume {key.name} that is not this machine's is in the way; delete it or rename the template"
            )
        return (found.get("status") or {}).get("phase") in READY


def new_data_volume(vm: JsonObject, template: JsonObject) -> JsonObject:
    """The DataVolume of a template. Pure."""
    given, metadata = template.get("metadata") or {}, vm["metadata"]
    return DATA_VOLUMES.new(
        Key(metadata["namespace"], given["name"]),
        metadata={
            "labels": {**(given.get("labels") or {}), CREATED_BY: metadata["uid"]},
            "annotations": dict(given.get("annotations") or {}),
            "ownerReferences": [owner_reference({"apiVersion": MACHINES.api_version, "kind": MACHINES.kind, **vm})],
        },
        spec=template["spec"],
    )
