"""Keeps each DataImportCron: asks its registry when it is due, imports what is new, points the DataSource at what is whole.

All that is known stands in the object: when to ask next and which digest is wanted in its annotations, what was imported in its status.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.cdi import DataImportCron
from pilvi.api.object import decode
from pilvi.errors import AlreadyExists, Forbidden, Invalid, Transient, UserError, format_chain
from pilvi.lib.clock import format_time, parse_time, utc_now
from pilvi.lib.schedule import Schedule, parse_schedule
from pilvi.providers.cdi.conditions import with_conditions
from pilvi.providers.cdi.dataimportcron.plan import (
    CRON,
    DESIRED,
    LAST_POLL,
    NEXT_POLL,
    check_managed,
    data_source_of,
    import_name,
    import_of,
    is_due,
    plan_conditions,
    surplus,
)
from pilvi.providers.cdi.kinds import DATA_IMPORT_CRONS, DATA_SOURCES, DATA_VOLUMES
from pilvi.providers.cdi.sources import Missing, Sources
from pilvi.providers.claims import annotations_of
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Controller, Done, RequeueAfter, Result, Waiting, Watch, any_change, is_deleting

if TYPE_CHECKING:
    from pilvi.api.resource import Resource

__all__ = ["cron_controller"]

AGAIN_S = 60.0
LONGEST_WAIT_S = 3600.0
ASK_S = 90.0


def cron_controller(platform: Platform, sources: Sources) -> Controller:
    """The controller of DataImportCron."""
    crons = platform.informers.get(DATA_IMPORT_CRONS)

    def labelled(obj: JsonObject) -> list[Key]:
        name = (obj["metadata"].get("labels") or {}).get(CRON)
        return [Key(obj["metadata"]["namespace"], name)] if name else []

    def managing(data_source: JsonObject) -> list[Key]:
        namespace, name = data_source["metadata"]["namespace"], data_source["metadata"]["name"]
        return [Key.of(cron) for cron in crons.list(namespace) if (cron.get("spec") or {}).get("managedDataSource") == name]

    return Controller(
        "dataimportcron",
        DATA_IMPORT_CRONS,
        Crons(platform, sources).reconcile,
        watches=[Watch(DATA_VOLUMES, labelled, any_change), Watch(DATA_SOURCES, managing, any_change)],
        concurrency=4,
    )


class Crons:
    """The reconciler."""

    def __init__(self, platform: Platform, sources: Sources) -> None:
        self._client = platform.client
        self._events = platform.events
        self._images = platform.images
        self._find = sources.find_image
        informers = platform.informers
        self._crons = informers.get(DATA_IMPORT_CRONS)
        self._data_volumes = informers.get(DATA_VOLUMES)
        self._data_sources = informers.get(DATA_SOURCES)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the DataImportCron `key`."""
        cron = self._crons.get(key)
        if cron is None or is_deleting(cron) or not cron.get("spec"):
            return Done()  # what is its own is taken by the garbage collector
        schedule, trouble = None, ""
        try:
            check_managed(
                cron, self._data_sources.get(Key(key.namespace, cron["spec"]["managedDataSource"])), self._crons.list(key.namespace)
            )
            schedule = parse_schedule(cron["spec"]["schedule"]) if cron["spec"]["schedule"] else None
            if schedule is not None and is_due(cron, utc_now()):
                cron = await self._poll(cron, schedule)
            status = await self._step(cron)
        except (UserError, Transient, Forbidden, Invalid) as e:
            trouble, status = format_chain(e), dict(cron.get("status") or {})
        await self._report(cron, status, trouble)
        if trouble:
            return Waiting("NoDigest", trouble, AGAIN_S)
        if schedule is None:
            return Done()
        due = parse_time(annotations_of(cron)[NEXT_POLL])
        return RequeueAfter(min(max((due - utc_now()).total_seconds(), 1.0), LONGEST_WAIT_S))

    async def _poll(self, cron: JsonObject, schedule: Schedule) -> JsonObject:
        """Ask the registry for its digest, and note it; the object as stored."""
        source = decode(DataImportCron, cron).spec.template.spec.source
        if source is None or source.registry is None:
            raise UserError("the source is no registry", hint="write spec.template.spec.source.registry")
        found = await self._find(source.registry, cron["metadata"]["namespace"])
        if isinstance(found, Missing):
            raise UserError(found.message, hint="spec.template.spec.source.registry names it")
        try:
            async with (
                asyncio.timeout(ASK_S),
                self._images.registry(found.reference, found.credentials) as registry,
            ):
                digest, _ = await registry.manifest()
        except TimeoutError as e:
            raise Transient(f"registry {found.reference.host} has not answered within {ASK_S:g} s") from e
        now = utc_now()
        told = {DESIRED: digest, LAST_POLL: format_time(now), NEXT_POLL: format_time(schedule.next(now))}
        return await self._annotate(DATA_IMPORT_CRONS, cron, told)

    async def _step(self, cron: JsonObject) -> JsonObject:
        """Bring the imports to what is wanted; the status without its conditions."""
        namespace, old = cron["metadata"]["namespace"], cron.get("status") or {}
        desired = annotations_of(cron).get(DESIRED, "")
        current = next(iter(old.get("currentImports") or []), None)
        made = self._data_volumes.get(Key(namespace, current["DataVolumeName"])) if current else None
        phase = _phase(made)
        if desired and (made is None or (current and current["Digest"] != desired and phase in ("Succeeded", "Failed"))):
            if made is not None and phase == "Failed":
                await self._client.ensure_absent(DATA_VOLUMES, Key.of(made), uid=made["metadata"]["uid"])
            made = await self._import(cron, desired)
            current, phase = {"DataVolumeName": import_name(cron, desired), "Digest": desired}, _phase(made)
        status: JsonObject = {**old, "sourceFormat": "pvc", "currentImports": [current] if current else []}
        if polled := annotations_of(cron).get(LAST_POLL):
            status["lastExecutionTimestamp"] = polled
        if current and phase == "Succeeded":
            imported = {"namespace": namespace, "name": current["DataVolumeName"]}
            if old.get("lastImportedPVC") != imported:
                status |= {"lastImportedPVC": imported, "lastImportTimestamp": format_time()}
            for obj in surplus(cron, self._data_volumes.list(namespace), current["DataVolumeName"]):
                await self._client.ensure_absent(DATA_VOLUMES, Key.of(obj), uid=obj["metadata"]["uid"])
        await self._point(cron, status.get("lastImportedPVC"))
        return status

    async def _import(self, cron: JsonObject, digest: str) -> JsonObject:
        """The DataVolume of that image, made when it is not there. Raises UserError when its name is taken."""
        wanted = import_of(cron, digest)
        try:
            made = await self._client.create(DATA_VOLUMES, wanted)
        except AlreadyExists:
            made = await self._client.get(DATA_VOLUMES, Key.of(wanted))
            if (made["metadata"].get("labels") or {}).get(CRON) != cron["metadata"]["name"]:
                raise UserError(
                    f"DataVolume {made['metadata']['name']} is not an import of this DataImportCron", hint="delete it, or label it"
                ) from None
        else:
            self._events.record(cron, "Normal", "ImportScheduled", f"importing {digest} as DataVolume {made['metadata']['name']}")
        return made

    async def _point(self, cron: JsonObject, imported: JsonObject | None) -> None:
        """Let the DataSource name the newest whole import."""
        wanted = data_source_of(cron, imported)
        found = self._data_sources.get(Key.of(wanted))
        if found is None:
            try:
                await self._client.create(DATA_SOURCES, wanted)
            except AlreadyExists:
                return  # the cache is behind; its event wakes
            return
        label = (found["metadata"].get("labels") or {}).get(CRON)
        source = (found.get("spec") or {}).get("source") or {}
        if label != cron["metadata"]["name"] or (imported and source != wanted["spec"]["source"]):
            guard = {"uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"]}
            change: JsonObject = {"metadata": {**guard, "labels": {CRON: cron["metadata"]["name"]}}}
            if imported:
                change["spec"] = {"source": {"snapshot": None, "dataSource": None, **wanted["spec"]["source"]}}
            await self._client.patch(DATA_SOURCES, Key.of(wanted), change)

    async def _report(self, cron: JsonObject, status: JsonObject, trouble: str) -> None:
        current = next(iter(status.get("currentImports") or []), None)
        made = self._data_volumes.get(Key(cron["metadata"]["namespace"], current["DataVolumeName"])) if current else None
        told = plan_conditions(current, _phase(made), annotations_of(cron).get(DESIRED, ""), trouble)
        stored = await write_status(
            self._client, DATA_IMPORT_CRONS, cron, {**status, "conditions": with_conditions(cron, told)}, subresource=False
        )
        if trouble and stored is not cron:
            self._events.record(cron, "Warning", "NoDigest", trouble)

    async def _annotate(self, resource: Resource, obj: JsonObject, told: dict[str, str]) -> JsonObject:
        guard = {"uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
        return await self._client.patch(resource, Key.of(obj), {"metadata": {**guard, "annotations": told}})


def _phase(data_volume: JsonObject | None) -> str:
    return str(((data_volume or {}).get("status") or {}).get("phase") or "")
