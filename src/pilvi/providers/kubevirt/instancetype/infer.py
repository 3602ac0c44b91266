"""Finds the name of an instancetype or preference in the labels of what a volume is made from.

The way is KubeVirt's (pkg/instancetype/infer): the claim, or the DataVolume, and then what it is a copy of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.cdi import DataSource, DataVolume
from pilvi.api.volumesnapshot import VolumeSnapshot
from pilvi.errors import UserError
from pilvi.providers.kubevirt.instancetype.matcher import Noun

__all__ = ["SOURCES", "Find", "NotInferred", "infer"]

Find: TypeAlias = Callable[[Resource, Key], Awaitable[JsonObject | None]]
"""Gives an object, None when it is not there."""

DATA_VOLUMES, DATA_SOURCES, SNAPSHOTS = DataVolume.RESOURCE, DataSource.RESOURCE, VolumeSnapshot.RESOURCE
SOURCES = (CLAIMS, DATA_VOLUMES, DATA_SOURCES, SNAPSHOTS)
"""The kinds whose labels are looked at."""


class NotInferred(UserError):  # noqa: N818 (named as the errors of the tree)
    """Nothing on the way says a name. `may_be_ignored`: what there is says nothing, while the other failures are things that miss."""

    def __init__(self, message: str, *, hint: str, may_be_ignored: bool) -> None:
        super().__init__(message, hint=hint)
        self.may_be_ignored = may_be_ignored


async def infer(vm: JsonObject, noun: Noun, volume: str, find: Find) -> tuple[str, str]:
    """Name and kind (may be empty) that the labels say for `volume` of `vm`. Raises NotInferred, and what `find` raises."""
    return await _Search(vm, noun, find).of_volume(volume)


class _Search:
    def __init__(self, vm: JsonObject, noun: Noun, find: Find) -> None:
        self._vm = vm
        self._noun = noun
        self._find = find
        self._namespace: str = vm["metadata"]["namespace"]

    async def of_volume(self, name: str) -> tuple[str, str]:
        volumes = ((self._vm["spec"].get("template") or {}).get("spec") or {}).get("volumes") or []
        volume = next((each for each in volumes if each.get("name") == name), None)
        if volume is None:
            raise self._fault(f"the template has no volume {name}", "name one of spec.template.spec.volumes")
        if claim := volume.get("persistentVolumeClaim"):
            return await self._of_object(CLAIMS, Key(self._namespace, claim["claimName"]))
        if data_volume := volume.get("dataVolume"):
            return await self._of_data_volume(data_volume["name"])
        raise self._nothing(f"volume {name} is neither a persistentVolumeClaim nor a dataVolume")

    async def _of_data_volume(self, name: str) -> tuple[str, str]:
        templates = self._vm["spec"].get("dataVolumeTemplates") or []
        template = next((each for each in templates if (each.get("metadata") or {}).get("name") == name), None)
        if template is not None:
            return self._labels_of(template) or await self._of_sources(template.get("spec") or {})
        key = Key(self._namespace, name)
        data_volume = await self._find(DATA_VOLUMES, key)
        if data_volume is None:  # it may have been collected once its claim was there
            return await self._of_object(CLAIMS, key)
        return self._labels_of(data_volume) or await self._of_sources(data_volume.get("spec") or {})

    async def _of_sources(self, spec: JsonObject) -> tuple[str, str]:
        source = spec.get("source") or {}
        if found := await self._of_source(source):
            return found
        reference = spec.get("sourceRef") or {}
        if reference.get("kind") == "DataSource":
            return await self._of_data_source(Key(reference.get("namespace") or self._namespace, reference["name"]))
        raise self._nothing("the DataVolume is no copy of a claim, a snapshot or a DataSource, and has no label itself")

    async def _of_data_source(self, key: Key) -> tuple[str, str]:
        data_source = await self._get(DATA_SOURCES, key)
        if found := self._labels_of(data_source) or await self._of_source((data_source.get("spec") or {}).get("source") or {}):
            return found
        raise self._nothing(f"DataSource {key} stands for neither a claim nor a snapshot, and has no label itself")

    async def _of_source(self, source: JsonObject) -> tuple[str, str] | None:
        for field, resource in (("pvc", CLAIMS), ("snapshot", SNAPSHOTS)):
            if given := source.get(field):
                return await self._of_object(resource, Key(given.get("namespace") or self._namespace, given["name"]))
        return None

    async def _of_object(self, resource: Resource, key: Key) -> tuple[str, str]:
        found = self._labels_of(await self._get(resource, key))
        if found is None:
            raise self._nothing(f"{resource.kind} {key} has no label {self._noun.label}")
        return found

    async def _get(self, resource: Resource, key: Key) -> JsonObject:
        obj = await self._find(resource, key)
        if obj is None:
            raise self._fault(f"{resource.kind} {key} is not there", f"make it, or name the {self._noun.word}")
        return obj

    def _labels_of(self, obj: JsonObject) -> tuple[str, str] | None:
        labels = (obj.get("metadata") or {}).get("labels") or {}
        name = labels.get(self._noun.label)
        return (name, labels.get(f"{self._noun.label}-kind") or "") if name else None

    def _nothing(self, message: str) -> NotInferred:
        word = self._noun.word
        hint = f"label it {self._noun.label}, name spec.{word}.name, or set inferFromVolumeFailurePolicy: Ignore"
        return NotInferred(f"spec.{word}.inferFromVolume: {message}", hint=hint, may_be_ignored=True)

    def _fault(self, message: str, hint: str) -> NotInferred:
        return NotInferred(f"spec.{self._noun.word}.inferFromVolume: {message}", hint=hint, may_be_ignored=False)
