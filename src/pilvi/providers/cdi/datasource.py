"""Says of each DataSource whether the disk that it stands for is there."""

from __future__ import annotations

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import UserError, format_chain
from pilvi.providers.cdi.conditions import with_conditions
from pilvi.providers.cdi.kinds import CLAIMS, DATA_SOURCES, SNAPSHOTS
from pilvi.providers.cdi.sources import Missing, Sources
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Controller, Done, Result, Watch, condition, is_deleting

__all__ = ["data_source_controller"]

_FIELDS = {CLAIMS: "pvc", SNAPSHOTS: "snapshot", DATA_SOURCES: "dataSource"}


def data_source_controller(platform: Platform, sources: Sources) -> Controller:
    """The controller of DataSource."""
    client, data_sources = platform.client, platform.informers.get(DATA_SOURCES)

    async def reconcile(key: Key) -> Result:
        data_source = data_sources.get(key)
        if data_source is None or is_deleting(data_source):
            return Done()
        try:
            found = sources.find_disk((DATA_SOURCES, key))
        except UserError as e:
            found = Missing("NoSource", format_chain(e))
        if isinstance(found, Missing):
            told = condition("Ready", False, found.reason, found.message)
        else:
            told = condition("Ready", True, "Ready", "DataSource is ready to be consumed")
        status: JsonObject = {"conditions": with_conditions(data_source, [told])}
        last = sources.last((DATA_SOURCES, key))
        if last[0] != DATA_SOURCES:
            status["source"] = {_FIELDS[last[0]]: {"namespace": last[1].namespace, "name": last[1].name}}
        await write_status(client, DATA_SOURCES, data_source, status, subresource=False)
        return Done()

    def naming(resource: Resource, obj: JsonObject) -> list[Key]:
        """DataSources that stand for this object, also through others."""
        return [Key.of(entry) for entry in data_sources.list() if sources.last((DATA_SOURCES, Key.of(entry))) == (resource, Key.of(obj))]

    return Controller(
        "datasource",
        DATA_SOURCES,
        reconcile,
        watches=[
            Watch(CLAIMS, lambda claim: naming(CLAIMS, claim)),
            Watch(SNAPSHOTS, lambda snapshot: naming(SNAPSHOTS, snapshot)),
            Watch(DATA_SOURCES, lambda source: [Key.of(entry) for entry in data_sources.list() if Key.of(entry) != Key.of(source)]),
        ],
        concurrency=1,
    )
