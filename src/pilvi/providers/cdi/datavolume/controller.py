"""Makes the claim of each DataVolume, once, and reports. Filling it is the business of `population/`, making its volume of `storage/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.cdi import DataVolume, DataVolumeSpec
from pilvi.api.object import decode
from pilvi.errors import AlreadyExists, Forbidden, Invalid, UserError, format_chain
from pilvi.providers.cdi.config import Configuration
from pilvi.providers.cdi.datavolume.claim import ClassFacts, claim_of, find_class
from pilvi.providers.cdi.datavolume.status import WAYS, phase_of, plan_status, way_of
from pilvi.providers.cdi.kinds import CLAIMS, CLASSES, DATA_VOLUMES, PROFILES
from pilvi.providers.cdi.sources import Missing, Sources, find_disk_reference
from pilvi.providers.cdi.storageprofile import properties_of
from pilvi.providers.claims import BIND_AT_ONCE, annotations_of
from pilvi.providers.status import write_status
from pilvi.runtime import Done, Result, Waiting, is_controlled_by, is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["DataVolumes"]

SELECTED_NODE = "volume.kubernetes.io/selected-node"
PREPOPULATED = "cdi.kubevirt.io/storage.prePopulated"
"""On a DataVolume: somebody else makes its claim (a restore that puts another one in its place)."""
PROBLEM_S = 5.0


class DataVolumes:
    """The reconciler of DataVolume."""

    def __init__(self, platform: Platform, sources: Sources, configuration: Configuration) -> None:
        self._client = platform.client
        self._events = platform.events
        self._data_volumes = platform.informers.get(DATA_VOLUMES)
        self._claims = platform.informers.get(CLAIMS)
        self._classes = platform.informers.get(CLASSES)
        self._profiles = platform.informers.get(PROFILES)
        self._sources = sources
        self._configuration = configuration

    async def reconcile(self, key: Key) -> Result:
        """One pass for the DataVolume `key`."""
        data_volume = self._data_volumes.get(key)
        if data_volume is None or is_deleting(data_volume):
            return Done()  # the garbage collector takes the claim
        spec = decode(DataVolume, data_volume).spec
        claim = self._claims.get(key)
        problem: Missing | None = None
        if claim is None and PREPOPULATED in annotations_of(data_volume):
            problem = Missing("ClaimAwaited", f"the claim is made by somebody else, as annotation {PREPOPULATED} says")
        elif claim is None:
            made = await self._make(data_volume, spec)
            claim, problem = (None, made) if isinstance(made, Missing) else (made, None)
        elif not is_controlled_by(claim, data_volume):
            claim, problem = None, _taken(key)
        await self._report(data_volume, spec, claim, problem)
        return Waiting(problem.reason, problem.message, PROBLEM_S) if problem is not None else Done()

    async def _make(self, data_volume: JsonObject, spec: DataVolumeSpec) -> JsonObject | Missing:
        """The claim as stored, or why there is none yet."""
        name = find_class(spec, self._classes.list())
        if name is None:
            return Missing("ErrClaimNotValid", "there is no default storage class; name one in storageClassName")
        storage_class = self._classes.get(Key("", name))
        if storage_class is None:
            return Missing("StorageClassNotFound", f"there is no storage class {name}; create it, or name another in storageClassName")
        facts = ClassFacts(name, properties_of(storage_class, self._profiles.get(Key("", name))), self._configuration.overhead(name))
        reference = find_disk_reference(spec, data_volume["metadata"]["namespace"])
        try:
            copied = self._sources.find_disk(reference) if reference is not None else None
        except UserError as e:
            return Missing("CloneValidationFailed", format_chain(e))
        if isinstance(copied, Missing):
            return copied
        claim = claim_of(data_volume, spec, facts, copied)
        if isinstance(claim, Missing):
            return claim
        try:
            return await self._client.create(CLAIMS, claim)
        except AlreadyExists:
            return _taken(Key.of(data_volume))
        except Forbidden as e:
            return Missing("ErrExceededQuota" if "exceeded quota" in str(e) else "ErrClaimNotValid", format_chain(e))
        except Invalid as e:
            return Missing("ErrClaimNotValid", format_chain(e))

    async def _report(self, data_volume: JsonObject, spec: DataVolumeSpec, claim: JsonObject | None, problem: Missing | None) -> None:
        way = way_of(spec)
        phase = phase_of(claim, way=way, first_consumer=claim is not None and self._waits(claim))
        status = plan_status(data_volume, claim, phase, problem)
        before = data_volume.get("status") or {}
        stored = await write_status(self._client, DATA_VOLUMES, data_volume, status)
        if problem is not None and stored is not data_volume:
            self._events.record(data_volume, "Warning", problem.reason, problem.message)
        if before.get("phase") != phase:
            self._tell(data_volume, phase, way, status)

    def _tell(self, data_volume: JsonObject, phase: str, way: str, status: JsonObject) -> None:
        """An Event for each phase that a person waits for."""
        _, _, whole, failed = WAYS[way]
        ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
        if phase == "Succeeded":
            self._events.record(data_volume, "Normal", whole, "the data are whole")
        elif phase == "Failed":
            self._events.record(data_volume, "Warning", failed, ready["message"])
        elif phase in WAYS[way] or phase == "WaitForFirstConsumer":
            self._events.record(data_volume, "Normal", phase, ready["message"] or phase)

    def _waits(self, claim: JsonObject) -> bool:
        """Whether the claim's volume is made for its first consumer only, and there is none."""
        held = annotations_of(claim)
        storage_class = self._classes.get(Key("", claim["spec"].get("storageClassName") or ""))
        late = storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        return late and SELECTED_NODE not in held and BIND_AT_ONCE not in held


def _taken(key: Key) -> Missing:
    return Missing(
        "ErrResourceExists", f'PVC "{key.name}" already exists and is not managed by DataVolume; delete it, or choose another name'
    )
