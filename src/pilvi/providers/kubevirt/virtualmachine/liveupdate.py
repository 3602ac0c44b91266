"""What a change of a template means for the instance that runs: what is passed on to it, and what waits for a restart. Pure.

As KubeVirt with the rollout strategy LiveUpdate (pkg/virt-controller/watch/vm): passed on are disks and network cards that come and go,
sockets of processors, memory, and where the machine may be placed. All else needs a restart; which fields these are is told, and no longer
when they are as before.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError, format_chain
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.kubevirt.instance.status import FIDELITY
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.machines.qemu.pluggable import check_pluggable
from pilvi.providers.kubevirt.virtualmachine.headroom import MEMORY_BLOCK
from pilvi.providers.kubevirt.virtualmachine.instance import GENERATION, TEMPLATE_HASH, template_hash
from pilvi.providers.kubevirt.virtualmachine.interfaces import changed_interfaces, only_interfaces, plan_live_interfaces
from pilvi.providers.kubevirt.virtualmachine.memorydump import find_request
from pilvi.providers.sizing import find_size
from pilvi.runtime import find_condition

__all__ = ["ADDED_VOLUMES", "LiveUpdate", "added_volumes", "is_hotpluggable", "plan_live_update"]

ADDED_VOLUMES = "pilvi.dev/added-volumes"
"""Annotation on an instance: the volumes that were added to it alone, as a list in JSON. They go with it."""

_PATH = "spec.template.spec"
_PLACEMENT = ("nodeSelector", "affinity", "tolerations")
# What is said of one run only.
_NOT_COMPARED = ("startStrategy",)


@dataclass(frozen=True)
class LiveUpdate:
    """`spec` is what the instance's specification has to become, `annotations` what of its annotations has to; None for no change.

    `restart` are sentences: what has to wait for a restart, and why.
    """

    spec: JsonObject | None = None
    annotations: JsonObject | None = None
    restart: tuple[str, ...] = ()


def plan_live_update(vm: JsonObject, vmi: JsonObject, wanted: JsonObject) -> LiveUpdate:
    """What is to be done with `vmi`, which runs; `wanted` is the specification of the instance that `vm` would be started with now."""
    update = _Update(vm, vmi, copy.deepcopy(wanted))
    if (find_condition(vmi, FIDELITY) or {}).get("reason") != "Sandbox":
        update.pass_on()
    changed = (vmi["metadata"].get("annotations") or {}).get(TEMPLATE_HASH) != template_hash(vm)
    # A template that is the same has no other fields, also when another version of pilvi would give it other defaults.
    restart = (*update.notes, *(update.find_rest() if changed else ()))
    annotations = update.annotations()
    if not restart and changed:
        annotations |= {TEMPLATE_HASH: template_hash(vm), GENERATION: str(vm["metadata"].get("generation") or 1)}
    return LiveUpdate(update.spec if update.spec != vmi["spec"] else None, annotations or None, restart)


def added_volumes(vmi: JsonObject) -> list[str]:
    """Names of the volumes that were added to this instance alone."""
    try:
        names = json.loads((vmi["metadata"].get("annotations") or {}).get(ADDED_VOLUMES) or "[]")
    except ValueError:
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def is_hotpluggable(volume: JsonObject) -> bool:
    """Whether a volume of the specification can come and go while the machine runs."""
    claim = find_claim(volume)
    return claim is not None and claim.hotpluggable


class _Update:
    """The specification on its way from what the instance has to what is wanted."""

    def __init__(self, vm: JsonObject, vmi: JsonObject, wanted: JsonObject) -> None:
        self.vm, self.vmi, self.wanted = vm, vmi, wanted
        self.spec: JsonObject = copy.deepcopy(vmi["spec"])
        self.added = added_volumes(vmi)
        self.notes: list[str] = []
        # Volumes of which nothing more is to be said: they are on their way, or none of the template's business.
        self.settled: set[str] = set()
        self._forget_defaults()

    def pass_on(self) -> None:
        """Change what can change while the machine runs."""
        self._volumes()
        self._interfaces()
        self._sockets()
        self._memory()
        for name in _PLACEMENT:
            if self.wanted.get(name):
                self.spec[name] = self.wanted[name]
            else:
                self.spec.pop(name, None)

    def annotations(self) -> JsonObject:
        """Which volumes are still the instance's alone, if that has changed."""
        before = added_volumes(self.vmi)
        if self.added == before:
            return {}
        return {ADDED_VOLUMES: json.dumps(self.added) if self.added else None}

    def find_rest(self) -> Iterator[str]:
        """What is different still."""
        interfaces = changed_interfaces(self.wanted, self.spec)
        has, wanted = (only_interfaces(_comparable(spec, self.settled), interfaces) for spec in (self.spec, self.wanted))
        fields = sorted(set(_differences(has, wanted, _PATH)))
        if fields:
            yield f"{', '.join(fields)} changed since the machine was started"

    def _forget_defaults(self) -> None:
        """How far it may grow was reckoned from its size at its start, where the template does not say."""
        template = ((self.vm["spec"].get("template") or {}).get("spec") or {}).get("domain") or {}
        for part, field in (("cpu", "maxSockets"), ("memory", "maxGuest")):
            if (template.get(part) or {}).get(field):
                continue
            has = (self.spec["domain"].get(part) or {}).get(field)
            wanted = self.wanted["domain"].get(part)
            if wanted is not None:
                wanted.pop(field, None)
                if has is not None:
                    wanted[field] = has

    def _volumes(self) -> None:
        wanted, disks = _named(self.wanted.get("volumes")), _named(_disks(self.wanted))
        has, has_disks = _named(self.spec.get("volumes")), _named(_disks(self.spec))
        self.added = [name for name in self.added if name in has and name not in wanted]
        self.settled |= set(self.added)
        # The memory dump that is asked for comes and goes by itself.
        dumps = {name for name, volume in has.items() if volume.get("memoryDump")} if find_request(self.vm) is not None else set()
        self.settled |= dumps
        still_there = {entry["name"] for entry in (self.vmi.get("status") or {}).get("volumeStatus") or []}
        kept = {
            name: volume
            for name, volume in has.items()
            if name in dumps or self._stays(volume, wanted.get(name), has_disks.get(name), disks.get(name))
        }
        for name, volume in wanted.items():
            if not is_hotpluggable(volume) or name in kept:
                continue
            # One of that name that goes has to be gone before the next one comes.
            if name in has or name in still_there:
                self.settled.add(name)
                continue
            if volume.get("memoryDump"):
                kept[name] = volume
                continue
            disk = disks.get(name) or {"name": name}
            try:
                check_pluggable(disk)
            except UserError as e:
                self.settled.add(name)
                self.notes.append(format_chain(e))
                continue
            kept[name], has_disks[name] = volume, disk
        if kept != has:
            self.spec["volumes"] = list(kept.values())
            shown = [disk for name, disk in has_disks.items() if name in kept or name not in has]
            self.spec["domain"].setdefault("devices", {})["disks"] = shown

    def _stays(self, volume: JsonObject, wanted: JsonObject | None, disk: JsonObject | None, wanted_disk: JsonObject | None) -> bool:
        if not is_hotpluggable(volume) or volume["name"] in self.added:
            return True
        if wanted is None:
            return False
        return not is_hotpluggable(wanted) or (wanted == volume and wanted_disk == disk)

    def _interfaces(self) -> None:
        template = (self.vm["spec"].get("template") or {}).get("spec") or {}
        live = plan_live_interfaces(self.wanted, template, self.vmi)
        if live is not None:
            self.spec["networks"] = live["networks"]
            self.spec["domain"].setdefault("devices", {})["interfaces"] = live["domain"]["devices"]["interfaces"]

    def _sockets(self) -> None:
        cpu, wanted = self.spec["domain"].get("cpu") or {}, self.wanted["domain"].get("cpu") or {}
        has, asked = int(cpu.get("sockets") or 1), int(wanted.get("sockets") or 1)
        if has == asked:
            return
        field = f"{_PATH}.domain.cpu.sockets"
        most = int(cpu.get("maxSockets") or has)
        # What it was asked to have and the host has no room for can be taken back.
        least = int(((self.vmi.get("status") or {}).get("currentCPUTopology") or {}).get("sockets") or has)
        if asked < least:
            self.notes.append(f"{field} is less than the {least} that the guest has: processors do not go while it runs")
        elif asked > most:
            self.notes.append(f"{field} is more than the {most} that the machine was made for (maxSockets)")
        elif self.wanted["domain"].get("devices", {}).get("networkInterfaceMultiqueue"):
            self.notes.append(f"{field}: with networkInterfaceMultiqueue the cards would need more queues")
        else:
            self.spec["domain"]["cpu"] = {**cpu, "sockets": asked}
            return
        wanted["sockets"] = cpu.get("sockets")

    def _memory(self) -> None:
        memory, wanted = self.spec["domain"].get("memory") or {}, self.wanted["domain"].get("memory") or {}
        has, asked = memory.get("guest"), wanted.get("guest")
        if not has or not asked or has == asked:
            return
        status = (self.vmi.get("status") or {}).get("memory") or {}
        least, most = quantity_bytes(status.get("guestAtBoot") or has), quantity_bytes(memory.get("maxGuest") or 0)
        size, field = quantity_bytes(asked), f"{_PATH}.domain.memory.guest"
        if size == quantity_bytes(has):
            pass
        elif not most:
            self.notes.append(f"{field}: the machine was made without room for more memory; give it maxGuest, or 1Gi to begin with")
        elif size > most:
            self.notes.append(f"{field} is more than the {memory['maxGuest']} that the machine was made for (maxGuest)")
        elif size < least:
            self.notes.append(f"{field} is less than the {status.get('guestAtBoot') or has} that the guest was started with")
        elif (size - least) % MEMORY_BLOCK:
            self.notes.append(f"{field}: memory comes in blocks of 2Mi while the machine runs")
        elif find_size(self.wanted) is None:
            self.notes.append(f"{field} is more than {_PATH}.domain.resources.limits.memory")
        else:
            self.spec["domain"]["memory"] = {**memory, "guest": asked}
            return
        wanted["guest"] = has


def _comparable(spec: JsonObject, settled: set[str]) -> JsonObject:
    """`spec` with lists of named things by their names, without what is not compared."""
    compared = {name: value for name, value in spec.items() if name not in _NOT_COMPARED}
    compared["volumes"] = [volume for volume in spec.get("volumes") or [] if volume["name"] not in settled]
    devices = (spec.get("domain") or {}).get("devices") or {}
    disks = [disk for disk in devices.get("disks") or [] if disk["name"] not in settled]
    compared["domain"] = {**(spec.get("domain") or {}), "devices": {**devices, "disks": disks}}
    return compared


def _differences(has: Any, wanted: Any, path: str) -> Iterator[str]:
    if has == wanted or (not has and not wanted and (has is None or wanted is None)):
        return
    if isinstance(has, dict) and isinstance(wanted, dict):
        for name in has.keys() | wanted.keys():
            yield from _differences(has.get(name), wanted.get(name), f"{path}.{name}")
    elif _is_named(has) and _is_named(wanted) and (has or wanted):
        before, after = _named(has), _named(wanted)
        for name in before.keys() | after.keys():
            yield from _differences(before.get(name), after.get(name), f"{path}[{name}]")
    else:
        yield path


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) and "name" in entry for entry in value)


def _named(entries: list[JsonObject] | None) -> dict[str, JsonObject]:
    return {entry["name"]: entry for entry in entries or []}


def _disks(spec: JsonObject) -> list[JsonObject]:
    return ((spec.get("domain") or {}).get("devices") or {}).get("disks") or []
