"""Takes the mark of an eviction back, so that a machine stays on its host. A migration under way goes on (virtctl migrate-cancel)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.errors import Conflict
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.subresources.objects import Objects, key_of, refuse_instance
from pilvi.providers.kubevirt.subresources.options import EvacuateCancelOptions, read_options

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["EvacuationHandlers"]


class EvacuationHandlers:
    """The handlers, of a machine and of an instance."""

    def __init__(self, client: Client, objects: Objects) -> None:
        self._client = client
        self._objects = objects

    async def cancel_of_machine(self, request: web.Request) -> web.Response:
        """PUT evacuate/cancel of a VirtualMachine, EvacuateCancelOptions."""
        return await self._cancel(request, self._objects.get_instance_of)

    async def cancel_of_instance(self, request: web.Request) -> web.Response:
        """PUT evacuate/cancel of a VirtualMachineInstance, EvacuateCancelOptions."""
        return await self._cancel(request, self._objects.get_instance)

    async def _cancel(self, request: web.Request, get: Callable[[Key], Awaitable[JsonObject]]) -> web.Response:
        options = await read_options(request, EvacuateCancelOptions)
        vmi = await get(key_of(request))
        leaves = (vmi.get("status") or {}).get("evacuationNodeName")
        if not leaves:
            return web.Response()
        if options.evacuation_node_name not in (None, leaves):
            raise refuse_instance(Conflict, vmi, f"it leaves the host {leaves}, not {options.evacuation_node_name}")
        version = {"resourceVersion": vmi["metadata"]["resourceVersion"]}
        body = {"metadata": version, "status": {"evacuationNodeName": None}}
        await self._client.patch(INSTANCES, Key.of(vmi), body, dry_run=options.is_dry)
        return web.Response()
