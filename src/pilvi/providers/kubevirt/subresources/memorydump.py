"""`virtctl memory-dump get` and `remove`: a request in the status of a VirtualMachine. Upstream: pkg/virt-api/rest/memorydump.go."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, NoReturn

from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.api.kubevirt.disks import VOLUME_NAME
from pilvi.errors import BadRequest, Conflict, NotFound, UserError, format_chain
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.aggregation import refusal
from pilvi.providers.kubevirt.instance.memorydump import check_claim
from pilvi.providers.kubevirt.instance.status import FIDELITY
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.kinds import CLAIMS, MACHINES
from pilvi.providers.kubevirt.subresources.attempts import write_planned
from pilvi.providers.kubevirt.subresources.objects import Objects, key_of, phase_of, refuse_instance
from pilvi.providers.kubevirt.subresources.options import Body, read_options
from pilvi.providers.kubevirt.virtualmachine.memorydump import find_request
from pilvi.providers.sizing import get_size
from pilvi.runtime import find_condition

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["MemoryDumpHandlers", "MemoryDumpOptions"]

_FIELD = "memoryDumpRequest"


class MemoryDumpOptions(Body, frozen=True, kw_only=True):
    """`claim_name` may be left out when the machine has had a dump. virtctl sends an empty phase along."""

    claim_name: str = ""
    phase: Literal[""] = ""


class MemoryDumpHandlers:
    """The handlers, by the names of the subresources."""

    def __init__(self, client: Client, objects: Objects) -> None:
        self._client = client
        self._objects = objects

    async def get(self, request: web.Request) -> web.Response:
        """PUT memorydump: the memory of the machine, which has to run, is written to a claim."""
        options = await read_options(request, MemoryDumpOptions)
        key = key_of(request)

        async def plan() -> tuple[JsonObject, JsonObject]:
            vm = await self._objects.get_machine(key)
            name = _choose_claim(vm, options.claim_name)
            await self._check(key, name)
            return vm, {"claimName": name, "phase": "Associating"}

        await write_planned(plan, self._ask)
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def remove(self, request: web.Request) -> web.Response:
        """PUT removememorydump: the machine has no more to do with the claim, which keeps the dump."""
        key = key_of(request)

        async def plan() -> tuple[JsonObject, JsonObject]:
            vm = await self._objects.get_machine(key)
            before = find_request(vm)
            if before is None:
                _refuse(vm, f"can't remove memory dump association for vm {key.name}, no association found")
            if before.get("remove"):
                _refuse(vm, f"memory dump remove request for pvc [{before['claimName']}] already exists")
            return vm, {"claimName": before["claimName"], "phase": "Dissociating", "remove": True}

        await write_planned(plan, self._ask)
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def _ask(self, planned: tuple[JsonObject, JsonObject]) -> None:
        """Write the request. Raises Conflict when somebody else has written meanwhile."""
        vm, wanted = planned
        forgotten = dict.fromkeys(find_request(vm) or {})
        guard = {"resourceVersion": vm["metadata"]["resourceVersion"]}
        body = {"metadata": guard, "status": {_FIELD: {**forgotten, **wanted}}}
        await self._client.patch(MACHINES, Key.of(vm), body, subresource="status")

    async def _check(self, key: Key, name: str) -> None:
        """Raises NotFound without instance or claim, Conflict when the machine cannot write its memory there."""
        vmi = await self._objects.get_instance(key)
        if phase_of(vmi) != "Running":
            raise refuse_instance(Conflict, vmi, "VMI is not running")
        if (find_condition(vmi, FIDELITY) or {}).get("reason") == "Sandbox":
            raise refuse_instance(Conflict, vmi, "the machine is a sandbox, which has no memory of its own; only machines under QEMU have")
        for volume in vmi["spec"].get("volumes") or []:
            used = find_claim(volume)
            if volume["name"] == name and not volume.get("memoryDump"):
                raise refuse_instance(
                    Conflict, vmi, f"it has a volume {name}, and the dump's is called as its claim; make one of another name"
                )
            if used is not None and not used.dump and used.name == name:
                raise refuse_instance(Conflict, vmi, f"claim {name} is a disk of the machine; make one for the dump")
        claim = await self._client.find(CLAIMS, Key(key.namespace, name))
        if claim is None:
            raise refusal(NotFound, f'persistentvolumeclaim.kubevirt.io "{name}" not found', resource="persistentvolumeclaim", name=name)
        told = ((vmi.get("status") or {}).get("memory") or {}).get("guestCurrent") or 0
        try:
            check_claim(claim, max(get_size(vmi["spec"]).memory_bytes, quantity_bytes(told)))
        except UserError as e:
            message = f'Operation cannot be fulfilled on persistentvolumeclaim.kubevirt.io "{name}": {format_chain(e)}'
            raise refusal(Conflict, message, resource="persistentvolumeclaim", name=name) from e


def _choose_claim(vm: JsonObject, asked: str) -> str:
    """The claim to write to. Raises BadRequest when none is named, Conflict when the last request stands in the way."""
    before = find_request(vm)
    if before is None:
        if not asked:
            raise refusal(BadRequest, "Memory dump requires claim name to be set")
        if not re.fullmatch(VOLUME_NAME, asked):
            raise refusal(
                BadRequest, f"claimName {asked!r} is no name of a volume, as it has to be: small letters, digits and - between them"
            )
        return asked
    has = str(before["claimName"])
    name = asked or has
    if name != has:
        _refuse(
            vm,
            f"can't request memory dump for pvc [{name}] while pvc [{has}] is still associated as the memory dump pvc; virtctl memory-dump"
            " remove ends that",
        )
    if before["phase"] == "Dissociating":
        _refuse(vm, f"can't dump memory for pvc [{name}] a remove memory dump request is in progress")
    if before["phase"] not in ("Completed", "Failed"):
        _refuse(vm, f"memory dump request for pvc [{name}] already in progress")
    return name


def _refuse(vm: JsonObject, why: str) -> NoReturn:
    name = vm["metadata"]["name"]
    message = f'Operation cannot be fulfilled on virtualmachine.kubevirt.io "{name}": {why}'
    raise refusal(Conflict, message, resource="virtualmachine", name=name)
