"""The volume `memoryDump` of an instance: the machine's memory is written to its claim once, while the machine runs.

How far that is stands in `status.volumeStatus`, in KubeVirt's words (pkg/virt-handler). The disk is emptied before
`MemoryDumpInProgress` is written, so what lies on it afterwards is of this dump, whichever engine looks.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilvi.api.builtin import PODS
from pilvi.api.resource import JsonObject, Key
from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut, UserError, format_chain
from pilvi.host.disks import empty_disk
from pilvi.lib.clock import format_time, utc_now
from pilvi.lib.disk import finish_on_disk
from pilvi.lib.quantity import format_bytes, quantity_bytes
from pilvi.providers.kubevirt.instance.attachment import volume_of
from pilvi.providers.kubevirt.instance.attachments import Attached
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.instance.volumes.claims import ClaimDisks
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineState
from pilvi.providers.kubevirt.machines.dumps import MachineDumps
from pilvi.providers.kubevirt.machines.volumes import VolumeDisk
from pilvi.providers.kubevirt.migration.state import is_under_way
from pilvi.providers.sizing import get_size

if TYPE_CHECKING:
    from pilvi.runtime import Informers

__all__ = ["COMPLETED", "FAILED", "IN_PROGRESS", "Dumped", "MemoryDumps", "check_claim", "is_ended"]

log = logging.getLogger(__name__)

IN_PROGRESS, COMPLETED, FAILED = "MemoryDumpInProgress", "MemoryDumpCompleted", "MemoryDumpFailed"
OVERHEAD_BYTES = 100 << 20
"""What a dump may be larger than the memory: the screen's memory, firmware, registers. KubeVirt's."""
_LOOK_S = 0.5
_OF_POD = "hotplugVolume"


@dataclass(frozen=True)
class Dumped:
    """What is to be said of each such volume, those to which is being written, and when to look again; None for not by itself."""

    entries: dict[str, JsonObject] = field(default_factory=dict)
    written: frozenset[str] = frozenset()
    look_again_s: float | None = None


def is_ended(entry: JsonObject) -> bool:
    """Whether an entry of `volumeStatus` is of a dump that has ended, well or not."""
    return entry.get("phase") in (COMPLETED, FAILED)


def check_claim(claim: JsonObject, memory_bytes: int) -> None:
    """Raises UserError for a claim that a dump of so much memory does not fit into."""
    spec = claim.get("spec") or {}
    if spec.get("volumeMode") == "Block":
        raise UserError("pvc should be filesystem pvc", hint="make a claim with volumeMode: Filesystem")
    if spec.get("accessModes") == ["ReadOnlyMany"]:
        raise UserError("pvc access mode can't be read only", hint="make a claim with access mode ReadWriteOnce")
    _check_size(quantity_bytes(((spec.get("resources") or {}).get("requests") or {}).get("storage") or 0), memory_bytes)


class MemoryDumps:
    """Has backends write the memory of machines to claims."""

    def __init__(self, informers: Informers, caches: Caches, disks: ClaimDisks) -> None:
        self._pods = informers.get(PODS)
        self._claims = caches.claims
        self._disks = disks

    async def look(self, scope: Scope, backend: MachineBackend, machine: MachineState, attached: Attached) -> Dumped:
        """One step for each such volume of the instance. What the machine does not answer is asked again."""
        before = {entry["name"]: entry for entry in (scope.vmi.get("status") or {}).get("volumeStatus") or []}
        named = ((volume["name"], find_claim(volume)) for volume in scope.vmi["spec"].get("volumes") or [])
        wanted = {name: claim.name for name, claim in named if claim is not None and claim.dump}
        going = [name for name, entry in before.items() if entry.get("memoryDumpVolume") and name not in wanted and name in attached.pods]
        if not wanted and not going:
            return Dumped()
        entries = {}
        for name, claim in wanted.items():
            entry = await self._step(scope, backend, machine, attached, name, before.get(name) or {})
            about = {"claimName": claim, **(entry.get("memoryDumpVolume") or {})}
            pod = (attached.pods.get(name) or {}).get("metadata") or {}
            found = {"attachPodName": pod.get("name"), "attachPodUID": pod.get("uid")}
            entries[name] = {**entry, "memoryDumpVolume": about, _OF_POD: {key: value for key, value in found.items() if value}}
        busy = bool(going) and backend.dumps is not None and await _is_busy(backend.dumps, scope.uid)
        for name in going:
            words = "QEMU cannot be asked to stop writing the memory; the claim is let go when it has" if busy else "its Pod is removed"
            entries[name] = {"phase": "Detaching", "reason": "MemoryDumpEnds", "message": words}
        again = busy or any(entry["phase"] == IN_PROGRESS for entry in entries.values())
        return Dumped(entries, frozenset(going) if busy else frozenset(), _LOOK_S if again else None)

    async def discard(self, scope: Scope) -> None:
        """The machine has ended: what it has written of its memory is no dump, and goes while its claim is held. Raises OSError."""
        held = {volume_of(pod) for pod in self._pods.by_index("attachments", scope.uid)}
        begun = {entry["name"] for entry in (scope.vmi.get("status") or {}).get("volumeStatus") or [] if entry.get("phase") == IN_PROGRESS}
        for volume in scope.vmi["spec"].get("volumes") or []:
            claim = find_claim(volume)
            if claim is not None and claim.dump and volume["name"] in held & begun:
                with contextlib.suppress(VolumeNotReady, UserError):  # the claim is gone, and the disk with it
                    await finish_on_disk(empty_disk, self._disks.resolve(scope, volume["name"], claim).path)

    async def _step(
        self, scope: Scope, backend: MachineBackend, machine: MachineState, attached: Attached, name: str, before: JsonObject
    ) -> JsonObject:
        told: JsonObject = {part: before[part] for part in ("phase", "reason", "message", "memoryDumpVolume") if part in before}
        if is_ended(before):
            return told
        begun, disk = before.get("phase") == IN_PROGRESS, attached.dumps.get(name)
        if disk is None and begun:
            return told  # its Pod was deleted, and is made again
        if name in attached.waiting:
            reason, message = attached.waiting[name]
            return {"phase": "Pending", "reason": reason, "message": message}
        awaited = "its Pod is being scheduled" if disk is None else _find_hindrance(scope, machine)
        if disk is None or (awaited and not begun):
            return {"phase": "AttachedToNode", "reason": "AttachedToNode", "message": awaited}
        try:
            if backend.dumps is None:
                raise UserError("the machine is a sandbox, which has no memory of its own", hint="only machines under QEMU have")
            if not begun:
                return await self._begin(scope, backend.dumps, machine, name, disk)
            dump = await backend.dumps.advance(scope.uid, disk.path)
        except (UserError, MachineRefused, OSError) as e:
            return _ended(name, before, FAILED, format_chain(e))
        except (MachineUnreachable, TimedOut) as e:
            log.debug("machine=%s %s", scope.uid, format_chain(e))
            return told
        if dump.phase == "running":
            return told
        return _ended(name, before, COMPLETED if dump.phase == "completed" else FAILED, dump.message)

    async def _begin(self, scope: Scope, dumps: MachineDumps, machine: MachineState, name: str, disk: VolumeDisk) -> JsonObject:
        """Empty the disk; what is returned, once it is stored, begins the dump."""
        if await dumps.is_busy(scope.uid):
            return {"phase": "AttachedToNode", "reason": "AttachedToNode", "message": "the last dump is being written still"}
        claim = next(named.name for volume in scope.vmi["spec"]["volumes"] if volume["name"] == name and (named := find_claim(volume)))
        memory_bytes = max(get_size(scope.vmi["spec"]).memory_bytes, machine.memory_bytes or 0)
        check_claim(self._claims.get(Key(scope.key.namespace, claim)) or {}, memory_bytes)
        _check_size(disk.size_bytes, memory_bytes)
        if user := self._find_user(scope, claim):
            raise UserError(f"the claim is in use by Pod {user}", hint="stop its machine, or name another claim")
        await dumps.prepare(scope.uid, disk.path, memory_bytes + OVERHEAD_BYTES)
        now = utc_now()
        target = f"{scope.key.name}-{name}-{now:%Y%m%d-%H%M%S}.memory.dump"
        return {
            "phase": IN_PROGRESS,
            "reason": "VolumeMountedToPod",
            "message": f"Memory dump Volume {name} is attached, getting memory dump",
            "memoryDumpVolume": {"claimName": claim, "startTimestamp": format_time(now), "targetFileName": target},
        }

    def _find_user(self, scope: Scope, claim: str) -> str | None:
        """A Pod, not the one that stands for the dump, that holds the claim."""
        for pod in self._pods.list(scope.key.namespace):
            held = {(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in pod["spec"].get("volumes") or []}
            over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
            if claim in held and not over and pod["metadata"]["uid"] not in self._of_dumps(scope):
                return str(pod["metadata"]["name"])
        return None

    def _of_dumps(self, scope: Scope) -> set[str]:
        names = {volume["name"] for volume in scope.vmi["spec"]["volumes"] if volume.get("memoryDump")}
        return {pod["metadata"]["uid"] for pod in self._pods.by_index("attachments", scope.uid) if volume_of(pod) in names}


async def _is_busy(dumps: MachineDumps, uid: str) -> bool:
    """One that does not answer may be at work still."""
    try:
        return await dumps.is_busy(uid)
    except (MachineRefused, TimedOut):
        return True


def _find_hindrance(scope: Scope, machine: MachineState) -> str:
    if machine.phase not in ("running", "paused"):
        return "the machine does not run yet"
    return "the machine is being moved" if is_under_way(scope.vmi) else ""


def _ended(name: str, before: JsonObject, phase: str, message: str) -> JsonObject:
    about = {**(before.get("memoryDumpVolume") or {}), "endTimestamp": format_time()}
    if phase == COMPLETED:
        message = f"Memory dump to Volume {name} has completed successfully"
        return {"phase": phase, "reason": "VolumeReady", "message": message, "memoryDumpVolume": about}
    return {"phase": phase, "reason": phase, "message": f"Memory dump to pvc {name} failed: {message}", "memoryDumpVolume": about}


def _check_size(size_bytes: int, memory_bytes: int) -> None:
    needed_bytes = memory_bytes + OVERHEAD_BYTES
    if size_bytes < needed_bytes:
        raise UserError(
            f"pvc size [{format_bytes(size_bytes)}] should be bigger then [{format_bytes(needed_bytes)}]",
            hint="the memory and 100Mi have to fit into it; make a larger claim",
        )
