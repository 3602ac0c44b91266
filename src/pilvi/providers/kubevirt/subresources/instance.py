"""What is done to a VirtualMachineInstance that runs: pause, reset, freeze, and the questions to its guest's agent.

Which state each needs, and what it answers otherwise, is KubeVirt's (pkg/virt-api/rest).
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from pilvi.api import JsonObject
from pilvi.errors import Conflict, Forbidden
from pilvi.providers.aggregation import refusal
from pilvi.providers.kubevirt.machines.control import MachineControl
from pilvi.providers.kubevirt.migration.state import is_under_way, stands_still
from pilvi.providers.kubevirt.subresources import guest
from pilvi.providers.kubevirt.subresources.objects import Objects, key_of, phase_of, refuse_instance
from pilvi.providers.kubevirt.subresources.options import FreezeOptions, PauseOptions, read_options
from pilvi.runtime import is_true

__all__ = ["InstanceHandlers"]

# Upstream's: a guest that nobody thaws would stand still for ever.
THAW_AFTER_S = 300.0


class InstanceHandlers:
    """The handlers, by the names of the subresources."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def pause(self, request: web.Request) -> web.Response:
        """PUT pause, PauseOptions."""
        options = await read_options(request, PauseOptions)
        vmi = await self._get_running(request)
        if (vmi["spec"].get("livenessProbe") or {"guestAgentPing": {}}).get("guestAgentPing") is None:
            message = "a machine with a liveness probe cannot be paused, as the probe would fail; only guestAgentPing knows of pauses"
            raise refusal(Forbidden, message, resource="virtualmachineinstance", name=vmi["metadata"]["name"])
        if is_true(vmi, "Paused"):
            raise refuse_instance(Conflict, vmi, "it is paused already")
        control = self._objects.control_of(vmi)
        if not options.is_dry:
            await control.pause(_uid(vmi))
        return web.Response()

    async def unpause(self, request: web.Request) -> web.Response:
        """PUT unpause, PauseOptions."""
        options = await read_options(request, PauseOptions)
        vm = await self._objects.find_machine(key_of(request))
        vmi = await self._get_running(request)
        if vm is not None and (vm.get("status") or {}).get("snapshotInProgress"):
            raise refuse_instance(Conflict, vmi, "a snapshot of the machine is being made")
        if not is_true(vmi, "Paused"):
            raise refuse_instance(Conflict, vmi, "it is not paused")
        if is_under_way(vmi) and stands_still(vmi):
            raise refuse_instance(Conflict, vmi, "it stands still until it has arrived on the other host, and then goes on by itself")
        control = self._objects.control_of(vmi)
        if not options.is_dry:
            await control.resume(_uid(vmi))
        return web.Response()

    async def reset(self, request: web.Request) -> web.Response:
        """PUT reset."""
        vmi = await self._get_running(request)
        await self._objects.control_of(vmi).reset(_uid(vmi))
        return web.Response()

    async def soft_reboot(self, request: web.Request) -> web.Response:
        """PUT softreboot."""
        vmi = await self._get_running(request)
        if is_true(vmi, "Paused"):
            raise refuse_instance(Conflict, vmi, "it is paused")
        acpi = ((vmi["spec"].get("domain") or {}).get("features") or {}).get("acpi") or {}
        if acpi.get("enabled") is False and not is_true(vmi, "AgentConnected"):
            raise refuse_instance(Conflict, vmi, "it has neither a guest agent that is connected nor ACPI, so its guest cannot be asked")
        await self._objects.control_of(vmi).soft_reboot(_uid(vmi))
        return web.Response()

    async def freeze(self, request: web.Request) -> web.Response:
        """PUT freeze, FreezeOptions."""
        thaw_after_s = (await read_options(request, FreezeOptions)).thaw_after_s
        vmi = await self._get_running(request)
        await self._objects.control_of(vmi).freeze(_uid(vmi), thaw_after_s or THAW_AFTER_S)
        return web.Response()

    async def unfreeze(self, request: web.Request) -> web.Response:
        """PUT unfreeze."""
        vmi = await self._get_running(request)
        await self._objects.control_of(vmi).thaw(_uid(vmi))
        return web.Response()

    async def guest_os_info(self, request: web.Request) -> web.Response:
        """GET guestosinfo. What the agent does not know, or is forbidden to tell, is left out."""
        control, uid = await self._get_agent(request)
        info: JsonObject = await control.agent(uid, guest.INFO)
        known = {each["name"] for each in info.get("supported_commands") or [] if each.get("enabled")}
        answers = {command: await control.agent(uid, command) for command in guest.COMMANDS if command in known}
        return _json(guest.agent_info(info, answers))

    async def user_list(self, request: web.Request) -> web.Response:
        """GET userlist."""
        control, uid = await self._get_agent(request)
        return _json(guest.user_list(await control.agent(uid, guest.USERS)))

    async def filesystem_list(self, request: web.Request) -> web.Response:
        """GET filesystemlist."""
        control, uid = await self._get_agent(request)
        return _json(guest.filesystem_list(await control.agent(uid, guest.FILE_SYSTEMS)))

    async def _get_running(self, request: web.Request) -> JsonObject:
        vmi = await self._objects.get_instance(key_of(request))
        if phase_of(vmi) != "Running":
            raise refuse_instance(Conflict, vmi, "it is not running")
        return vmi

    async def _get_agent(self, request: web.Request) -> tuple[MachineControl, str]:
        vmi = await self._get_running(request)
        return self._objects.control_of(vmi), _uid(vmi)


def _uid(vmi: JsonObject) -> str:
    return str(vmi["metadata"]["uid"])


def _json(document: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")
