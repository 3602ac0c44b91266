"""What a VirtualMachine's `status.memoryDumpRequest` asks for: the memory of its instance in a claim. Phases are KubeVirt's.

| phase | what is done | the next one when |
|---|---|---|
| Associating | the volume is added to instance and template, once a last dump is let go of | both have it |
| InProgress | nothing: the instance's controller writes | it has ended (Unmounting), failed, or the instance is gone (Failed) |
| Unmounting | claim annotated, volume taken from the instance | the instance's status has it no more (Completed) |
| Completed, Failed | as Unmounting; in the template the volume stays | there is a new request; the template has it no more (none) |
| Dissociating | the volume is taken from both | neither has it (none) |

`plan_dump` is pure, and gives the same for what it has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import Forbidden, Invalid, NotFound, format_chain
from pilvi.lib.clock import format_time
from pilvi.providers.claims import annotations_of
from pilvi.providers.kubevirt.instance.memorydump import COMPLETED, is_ended
from pilvi.providers.kubevirt.kinds import CLAIMS, INSTANCES, MACHINES
from pilvi.providers.status import write_status
from pilvi.runtime.finalizers import is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["ANNOTATION", "DumpStep", "MemoryDumpRequests", "find_request", "plan_dump", "without_dump"]

ANNOTATION = "kubevirt.io/memory-dump"
"""On a claim: the name of the dump that it holds, or that it failed."""
_LOST = "the machine ended before its memory was written; start it, and ask again"


@dataclass(frozen=True)
class DumpStep:
    """What follows from a request: the request from now on, the volumes of template and instance, and the claim's annotation.

    None for the volumes or the annotation means that they are as they should be.
    """

    request: JsonObject | None = None
    template: list[JsonObject] | None = None
    instance: list[JsonObject] | None = None
    annotation: str | None = None


class MemoryDumpRequests:
    """Carries out the steps."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events
        self._claims = platform.informers.get(CLAIMS)

    async def advance(self, vm: JsonObject, vmi: JsonObject | None) -> tuple[JsonObject, JsonObject | None]:
        """Do what can be done now; returns both objects as stored. A request whose volume is refused goes, and an Event says why.

        Raises Conflict, and as every request.
        """
        request, step = find_request(vm), plan_dump(vm, vmi)
        if request is None:
            return vm, vmi
        try:
            return await self._carry_out(vm, vmi, request, step)
        except (Forbidden, Invalid) as e:
            if request["phase"] != "Associating" or request.get("remove"):
                raise
            self._events.record(vm, "Warning", "MemoryDumpError", f"claim {request['claimName']} cannot be attached: {format_chain(e)}")
            left = {name: value for name, value in vm["status"].items() if name != "memoryDumpRequest"}
            return await write_status(self._client, MACHINES, vm, left), vmi

    async def _carry_out(
        self, vm: JsonObject, vmi: JsonObject | None, request: JsonObject, step: DumpStep
    ) -> tuple[JsonObject, JsonObject | None]:
        if step.annotation is not None:
            await self._annotate(Key(vm["metadata"]["namespace"], request["claimName"]), step.annotation)
        if vmi is not None and step.instance is not None:
            metadata = {"uid": vmi["metadata"]["uid"], "resourceVersion": vmi["metadata"]["resourceVersion"]}
            vmi = await self._client.patch(INSTANCES, Key.of(vmi), {"metadata": metadata, "spec": {"volumes": step.instance}})
        if step.template is not None:
            metadata = {"uid": vm["metadata"]["uid"], "resourceVersion": vm["metadata"]["resourceVersion"]}
            spec = {"template": {"spec": {"volumes": step.template}}}
            vm = await self._client.patch(MACHINES, Key.of(vm), {"metadata": metadata, "spec": spec})
        return vm, vmi

    def status(self, vm: JsonObject, vmi: JsonObject | None) -> JsonObject:
        """What of the machine's status is said of its request, with an Event when it has ended."""
        before, request = find_request(vm), plan_dump(vm, vmi).request
        if request is None:
            return {}
        if before is not None and request["phase"] != before["phase"]:
            if request["phase"] == "Failed":
                self._events.record(vm, "Warning", "MemoryDumpError", request.get("message") or "")
            elif request["phase"] == "Completed":
                self._events.record(vm, "Normal", "MemoryDumpCompleted", f"The memory was written to claim {request['claimName']}")
        return {"memoryDumpRequest": request}

    async def _annotate(self, key: Key, text: str) -> None:
        claim = self._claims.get(key)
        if claim is None or annotations_of(claim).get(ANNOTATION) == text:
            return
        change: JsonObject = {"metadata": {"uid": claim["metadata"]["uid"], "annotations": {ANNOTATION: text}}}
        try:
            await self._client.patch(CLAIMS, key, change)
        except NotFound:
            return


def find_request(vm: JsonObject) -> JsonObject | None:
    """The request that a machine has, if any."""
    request: JsonObject | None = (vm.get("status") or {}).get("memoryDumpRequest")
    return request


def without_dump(vm: JsonObject, spec: JsonObject) -> JsonObject:
    """The specification of an instance without the volume of the machine's request: a machine that starts is not asked again by it."""
    request = find_request(vm)
    volumes = spec.get("volumes") or []
    if request is None or not _has(volumes, request["claimName"]):
        return spec
    return {**spec, "volumes": _without(volumes, request["claimName"])}


def plan_dump(vm: JsonObject, vmi: JsonObject | None) -> DumpStep:
    """What follows from the request of `vm` for it and its instance."""
    request = find_request(vm)
    if request is None:
        return DumpStep()
    if vmi is not None and is_deleting(vmi):
        vmi = None
    phase = "Dissociating" if request.get("remove") else request["phase"]
    return _PHASES[phase](_Scene(vm, vmi, {**request, "phase": phase}))


class _Scene:
    """What a phase looks at."""

    def __init__(self, vm: JsonObject, vmi: JsonObject | None, request: JsonObject) -> None:
        self.vmi, self.request = vmi, request
        self.name: str = request["claimName"]
        self.template: list[JsonObject] = ((vm["spec"].get("template") or {}).get("spec") or {}).get("volumes") or []
        self.instance: list[JsonObject] = ((vmi or {}).get("spec") or {}).get("volumes") or []
        status: JsonObject = (vmi or {}).get("status") or {}
        self.runs = status.get("phase") == "Running"
        # One that the instance itself is rid of is still in its status until its claim is let go.
        self.entry: JsonObject | None = next((each for each in status.get("volumeStatus") or [] if each["name"] == self.name), None)

    def step(self, request: JsonObject | None, *, template: bool | None, instance: bool | None, annotation: str | None = None) -> DumpStep:
        """The step after which template and instance have the volume, or not; None leaves them."""
        return DumpStep(request, self._changed(self.template, template), self._changed(self.instance, instance), annotation)

    def _changed(self, volumes: list[JsonObject], wanted: bool | None) -> list[JsonObject] | None:
        if wanted is None or _has(volumes, self.name) == wanted:
            return None
        return [*volumes, _volume(self.name)] if wanted else _without(volumes, self.name)


def _associating(scene: _Scene) -> DumpStep:
    if not scene.runs:
        return DumpStep(scene.request)
    is_there = _has(scene.instance, scene.name)
    if scene.entry is not None and (is_ended(scene.entry) or not is_there):
        return scene.step(scene.request, template=None, instance=False)  # the last one is let go of first
    if is_there and _has(scene.template, scene.name):
        return _in_progress(scene)
    return scene.step(scene.request, template=True, instance=True)


def _in_progress(scene: _Scene) -> DumpStep:
    request = {**scene.request, "phase": "InProgress"}
    if not scene.runs or not _has(scene.instance, scene.name):
        return DumpStep({**request, "phase": "Failed", "message": _LOST, "endTimestamp": format_time()})
    entry = scene.entry or {}
    about = entry.get("memoryDumpVolume") or {}
    request |= {field: about[field] for field in ("startTimestamp", "endTimestamp") if field in about}
    if not is_ended(entry):
        return DumpStep(request)
    if entry["phase"] == COMPLETED:
        return DumpStep({**request, "phase": "Unmounting", "fileName": about.get("targetFileName")})
    return DumpStep({**request, "phase": "Failed", "message": entry.get("message")})


def _unmounting(scene: _Scene) -> DumpStep:
    is_left = scene.entry is not None or _has(scene.instance, scene.name)
    return _over(scene, {**scene.request, "phase": "Unmounting" if is_left else "Completed"})  # the instance may be gone


def _ended(scene: _Scene) -> DumpStep:
    return _over(scene, scene.request if _has(scene.template, scene.name) else None)


def _over(scene: _Scene, request: JsonObject | None) -> DumpStep:
    text = None if request is None else "Memory dump failed" if request["phase"] == "Failed" else request.get("fileName")
    return scene.step(request, template=None, instance=False, annotation=text)


def _dissociating(scene: _Scene) -> DumpStep:
    is_left = scene.entry is not None or _has(scene.instance, scene.name) or _has(scene.template, scene.name)
    return scene.step(scene.request if is_left else None, template=False, instance=False)


_PHASES: dict[str, Callable[[_Scene], DumpStep]] = {
    "Associating": _associating,
    "InProgress": _in_progress,
    "Unmounting": _unmounting,
    "Completed": _ended,
    "Failed": _ended,
    "Dissociating": _dissociating,
}


def _volume(name: str) -> JsonObject:
    source: dict[str, Any] = {"claimName": name, "hotpluggable": True}
    return {"name": name, "memoryDump": source}


def _has(volumes: list[JsonObject], name: str) -> bool:
    return any(volume["name"] == name and volume.get("memoryDump") for volume in volumes)


def _without(volumes: list[JsonObject], name: str) -> list[JsonObject]:
    return [volume for volume in volumes if volume["name"] != name or not volume.get("memoryDump")]
