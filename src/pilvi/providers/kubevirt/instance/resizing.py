"""A machine that grows or shrinks while it runs, against what its host has: the virt-launcher Pod is resized first. Planning is pure.

The scheduler counts what the Pods of a host request, so a machine may have more only when its Pod has: `pods/resize`, which a kubelet
admits or refuses. The engine is the kubelet here, and admits what the host has room for. A machine that shrinks gives its Pod's share
back when the guest has given the memory back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PODS
from pilvi.errors import Forbidden, Invalid, format_chain
from pilvi.lib.quantity import format_bytes, format_milli, quantity_bytes, quantity_milli
from pilvi.providers.kubevirt.instance.pod import plan_requests
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import FINAL_PHASES, phase_of
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineState
from pilvi.providers.sizing import Size, get_size
from pilvi.runtime import is_deleting
from pilvi.runtime.conditions import condition

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Granted", "Resizing", "find_shortage", "size_conditions"]


@dataclass(frozen=True)
class Granted:
    """The size that the machine may have now; `refusal` says why that is not the one that is asked for."""

    size: Size
    refusal: str = ""


class Resizing:
    """Decides what a machine that runs may have."""

    def __init__(self, platform: Platform, caches: Caches) -> None:
        self._client = platform.client
        self._caches = caches
        self._pods = platform.informers.get(PODS)
        self._pods.add_index("host", lambda pod: [(pod.get("spec") or {}).get("nodeName") or ""])

    async def grant(self, scope: Scope, pod: JsonObject, backend: MachineBackend) -> Granted:
        """The size for this pass, with the Pod resized for it. Raises UserError for a size that is none, Conflict."""
        asked = get_size(scope.vmi["spec"])
        has = find_granted(scope.vmi, asked)
        if phase_of(scope.vmi) != "Running" or asked == has:
            return Granted(asked)
        wanted, requests = self._requests(scope, backend, asked), _requests_of(pod)
        # What becomes less is given back when the guest has let go of it.
        most = {name: max((wanted[name], requests[name]), key=_READ[name]) for name in wanted}
        if most == requests:
            return Granted(asked)
        host = pod["spec"]["nodeName"]
        shortage = find_shortage(self._caches.nodes.get(Key("", host)), self._pods.by_index("host", host), pod, most)
        if shortage is None:
            shortage = await self._resize(pod, most)
        return Granted(asked) if shortage is None else Granted(has, shortage)

    async def give_back(self, scope: Scope, pod: JsonObject, backend: MachineBackend, granted: Granted, machine: MachineState) -> None:
        """Have the Pod request no more than the machine needs, once that is true. What cannot be written is tried at the next pass."""
        if machine.memory_bytes is None or machine.memory_bytes > granted.size.memory_bytes:
            return
        wanted, requests = self._requests(scope, backend, granted.size), _requests_of(pod)
        if any(_READ[name](wanted[name]) < _READ[name](requests[name]) for name in wanted):
            await self._resize(pod, wanted)

    def _requests(self, scope: Scope, backend: MachineBackend, size: Size) -> dict[str, str]:
        return plan_requests(scope.vmi["spec"], size, backend.overhead_bytes(size))

    async def _resize(self, pod: JsonObject, requests: dict[str, str]) -> str | None:
        """Why the API does not have it; None when it has."""
        (container,) = pod["spec"]["containers"]
        resized = {**container, "resources": {**container["resources"], "requests": requests}}
        body = {"metadata": {"resourceVersion": pod["metadata"]["resourceVersion"]}, "spec": {"containers": [resized]}}
        if requests == _requests_of(pod):
            return None
        try:
            await self._client.patch(PODS, Key.of(pod), body, subresource="resize")
        except (Forbidden, Invalid) as e:
            return f"the virt-launcher Pod cannot be resized: {format_chain(e)}"
        return None


def find_granted(vmi: JsonObject, asked: Size) -> Size:
    """The size that the machine was given last: what its status says."""
    status = vmi.get("status") or {}
    topology, memory = status.get("currentCPUTopology") or {}, status.get("memory") or {}
    return dataclasses.replace(
        asked,
        sockets=int(topology.get("sockets") or asked.sockets),
        memory_bytes=quantity_bytes(memory["guestRequested"]) if memory.get("guestRequested") else asked.memory_bytes,
    )


def find_shortage(node: JsonObject | None, pods: Iterable[JsonObject], pod: JsonObject, requests: dict[str, str]) -> str | None:
    """What the host lacks for `pod` to request that much, beside all others of its `pods`; None when there is room."""
    if node is None:
        return "the virtual host is not known yet"
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    others = [
        _requests_of(other)
        for other in pods
        if other["metadata"]["uid"] != pod["metadata"]["uid"]
        and not is_deleting(other)
        and (other.get("status") or {}).get("phase") not in FINAL_PHASES
    ]
    for name, read in _READ.items():
        if read(requests[name]) <= read(_requests_of(pod).get(name, "0")):
            continue
        left = read(allocatable.get(name, "0")) - sum(read(other.get(name, "0")) for other in others)
        if read(requests[name]) > left:
            show = format_milli if name == "cpu" else format_bytes
            room = show(max(0, left))
            return f"the virtual host has {room} of {name} for this machine, which would request {requests[name]}; stop another machine"
    return None


def size_conditions(asked: Size, granted: Granted, machine: MachineState) -> list[JsonObject]:
    """KubeVirt's conditions of a change that is under way (True) or cannot be (False); none when all is as asked."""
    found = []
    if machine.sockets is not None and asked.sockets > machine.sockets:
        failure = granted.refusal if granted.size.sockets != asked.sockets else machine.unchanged.get("processors", "")
        found.append(
            _change("HotVCPUChange", failure, f"the guest shall see {asked.sockets} sockets of processors, and sees {machine.sockets}")
        )
    has = machine.memory_bytes
    if has is not None and machine.memory_at_start_bytes is not None and abs(asked.memory_bytes - has) >= _BLOCK:
        failure = granted.refusal if granted.size.memory_bytes != asked.memory_bytes else machine.unchanged.get("memory", "")
        message = f"the guest shall have {format_bytes(asked.memory_bytes)}, and has {format_bytes(has)}: it needs the driver virtio_mem"
        found.append(_change("HotMemoryChange", failure, message))
    return found


def _change(kind: str, failure: str, message: str) -> JsonObject:
    return condition(kind, False, "HotplugFailed", failure) if failure else condition(kind, True, "InProgress", message)


# Memory that is no multiple of it QEMU rounds at the start.
_BLOCK = 2 << 20
_READ = {"cpu": quantity_milli, "memory": quantity_bytes}


def _requests_of(pod: JsonObject) -> dict[str, str]:
    """What all containers of a Pod request, as the scheduler counts it."""
    found = [(container.get("resources") or {}).get("requests") or {} for container in pod["spec"].get("containers") or []]
    if len(found) == 1:
        return {name: found[0].get(name, "0") for name in _READ}
    return {
        "cpu": format_milli(sum(quantity_milli(requests.get("cpu", "0")) for requests in found)),
        "memory": format_bytes(sum(quantity_bytes(requests.get("memory", "0")) for requests in found)),
    }
