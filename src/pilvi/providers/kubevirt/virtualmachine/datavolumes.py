"""The DataVolumes that a VirtualMachine has made for itself (`spec.dataVolumeTemplates`), and what it says of its disks.

They are made as soon as the machine is there, also when it does not run, and are its own: the garbage collector takes them with it. An
instance is started when all are whole, or wait for it as their first consumer. Behaviour is KubeVirt's (pkg/virt-controller/watch/vm).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.resource import JsonObject, Key
from pilvi.errors import AlreadyExists, Forbidden, Invalid, format_chain
from pilvi.providers.kubevirt.instance.pod import CREATED_BY
from pilvi.providers.kubevirt.kinds import DATA_VOLUMES, MACHINES
from pilvi.providers.kubevirt.virtualmachine.status import Failure
from pilvi.runtime import find_condition, is_controlled_by, owner_reference

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform
    from pilvi.runtime import Informers

__all__ = ["DataVolumes", "Disks", "machines_of_data_volume", "new_data_volume", "phase_changed", "word_of"]

WAITS_FOR_MACHINE = ("WaitForFirstConsumer", "PendingPopulation")
READY = ("Succeeded", *WAITS_FOR_MACHINE)
# Reasons of a DataVolume's condition Ready that are no step of its way.
TROUBLES = (
    "CloneSourceNotFound",
    "CloneValidationFailed",
    "ConfigMapNotFound",
    "ErrClaimNotValid",
    "ErrExceededQuota",
    "ErrResourceExists",
    "NoSpace",
    "SecretNotFound",
    "SourceInvalid",
    "StorageClassNotFound",
    "TransferFailed",
    "TransferRefused",
)


@dataclass(frozen=True)
class Disks:
    """How it stands with the disks of a machine: whether its instance may start, why one cannot be made, and KubeVirt's word for it."""

    ready: bool = True
    failure: Failure | None = None
    word: str = ""


class DataVolumes:
    """Makes them and looks at them."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events
        self._data_volumes = platform.informers.get(DATA_VOLUMES)
        self._claims = platform.informers.get(CLAIMS)

    async def ensure(self, vm: JsonObject) -> Disks:
        """Make what is missing for `vm`, and say how it stands."""
        ready, failures = True, []
        for template in vm["spec"].get("dataVolumeTemplates") or []:
            outcome = await self._ensure_one(vm, template)
            if isinstance(outcome, Failure):
                failures.append(outcome)
            ready = ready and outcome is True
        return Disks(ready, failures[0] if failures else None, word_of(self._named_by(vm)))

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

    def _named_by(self, vm: JsonObject) -> Iterator[JsonObject]:
        for name in _names(vm):
            found = self._data_volumes.get(Key(vm["metadata"]["namespace"], name))
            if found is not None:
                yield found


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


def word_of(data_volumes: Iterable[JsonObject]) -> str:
    """DataVolumeError, Provisioning, WaitingForVolumeBinding, or nothing when all are whole. Pure."""
    words = {_word(found) for found in data_volumes}
    return next((word for word in ("DataVolumeError", "Provisioning", "WaitingForVolumeBinding") if word in words), "")


def machines_of_data_volume(informers: Informers, data_volume: JsonObject) -> list[Key]:
    """The machines whose disks are on it."""
    namespace, name = data_volume["metadata"]["namespace"], data_volume["metadata"]["name"]
    return [Key.of(vm) for vm in informers.get(MACHINES).list(namespace) if name in _names(vm)]


def phase_changed(old: JsonObject, new: JsonObject) -> bool:
    """Whether a DataVolume's word can be another; its progress changes all the time. Pure."""
    return (_word(old), (old.get("status") or {}).get("phase")) != (_word(new), (new.get("status") or {}).get("phase"))


def _word(data_volume: JsonObject) -> str:
    phase = (data_volume.get("status") or {}).get("phase")
    if phase == "Failed" or (find_condition(data_volume, "Ready") or {}).get("reason") in TROUBLES:
        return "DataVolumeError"
    if phase in WAITS_FOR_MACHINE:
        return "WaitingForVolumeBinding"
    return "" if phase == "Succeeded" else "Provisioning"


def _names(vm: JsonObject) -> list[str]:
    """The DataVolumes that a machine names, in its templates and in its volumes."""
    spec = vm.get("spec") or {}
    made = [(template.get("metadata") or {}).get("name") for template in spec.get("dataVolumeTemplates") or []]
    volumes = ((spec.get("template") or {}).get("spec") or {}).get("volumes") or []
    used = [volume["dataVolume"]["name"] for volume in volumes if volume.get("dataVolume")]
    return [*dict.fromkeys(name for name in (*made, *used) if name)]
