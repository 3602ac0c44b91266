"""Finds what a request is about, and says why it cannot be done in the words of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import ApiError, Conflict, NotFound
from pilvi.providers.aggregation import refusal
from pilvi.providers.kubevirt.instance.status import FIDELITY
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.control import MachineControl
from pilvi.runtime import find_condition, is_controlled_by

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["Objects", "key_of", "phase_of", "refuse_instance"]

Refusal = TypeVar("Refusal", bound=ApiError)


class Objects:
    """Reads machines and instances from the API itself: who asks has often written a moment ago, which caches may not know yet."""

    def __init__(self, client: Client, controls: Mapping[str, MachineControl]) -> None:
        self._client = client
        self._controls = controls

    async def get_machine(self, key: Key) -> JsonObject:
        """The VirtualMachine. Raises NotFound, and what every request may raise."""
        return await self._get(MACHINES, key)

    async def get_instance(self, key: Key) -> JsonObject:
        """The VirtualMachineInstance. Raises as `get_machine`."""
        return await self._get(INSTANCES, key)

    async def find_machine(self, key: Key) -> JsonObject | None:
        """The VirtualMachine, None when there is none."""
        return await self._client.find(MACHINES, key)

    async def find_instance(self, key: Key) -> JsonObject | None:
        """The VirtualMachineInstance, None when there is none."""
        return await self._client.find(INSTANCES, key)

    async def get_instance_of(self, key: Key) -> JsonObject:
        """The instance of a VirtualMachine. Raises NotFound without a machine, Conflict when it has none, or not one of its own."""
        vm = await self.get_machine(key)
        vmi = await self.find_instance(key)
        if vmi is None or not is_controlled_by(vmi, vm):
            raise refusal(
                Conflict,
                f'Operation cannot be fulfilled on virtualmachine.kubevirt.io "{key.name}": the machine is not started',
                resource="virtualmachine",
                name=key.name,
            )
        return vmi

    def control_of(self, vmi: JsonObject) -> MachineControl:
        """What acts on the machine of `vmi`. Raises Conflict while nothing runs it."""
        fidelity = find_condition(vmi, FIDELITY)
        if fidelity is not None:
            backend = "sandbox" if fidelity.get("reason") == "Sandbox" else "qemu"
            if backend in self._controls:
                return self._controls[backend]
        raise refuse_instance(Conflict, vmi, "no machine runs for it yet")

    async def _get(self, resource: Resource, key: Key) -> JsonObject:
        found = await self._client.find(resource, key)
        if found is None:
            kind = resource.kind.lower()
            raise refusal(NotFound, f'{kind}.kubevirt.io "{key.name}" not found', resource=kind, name=key.name)
        return found


def key_of(request: web.Request) -> Key:
    """The object that the path names."""
    return Key(request.match_info["namespace"], request.match_info["name"])


def phase_of(vmi: JsonObject) -> str:
    """The instance's phase; empty for a new one."""
    return (vmi.get("status") or {}).get("phase") or ""


def refuse_instance(kind: type[Refusal], vmi: JsonObject, why: str) -> Refusal:
    """An error to raise: the operation cannot be done on this instance."""
    name = vmi["metadata"]["name"]
    message = f'Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io "{name}": {why}'
    return refusal(kind, message, resource="virtualmachineinstance", name=name)
