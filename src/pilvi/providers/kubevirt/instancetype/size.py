"""Puts an instancetype into a machine's specification, and says what stands in its way. Pure.

An instancetype is the size, whole: where the machine says something of it too, neither wins and the machine is refused, as in KubeVirt
(pkg/instancetype/apply).
"""

from __future__ import annotations

from pilvi.api import JsonObject
from pilvi.lib.quantity import format_bytes, quantity_bytes
from pilvi.providers.kubevirt.instancetype.paths import get_path, put_path
from pilvi.providers.kubevirt.instancetype.topology import plan_topology

__all__ = ["apply_instancetype", "find_conflicts"]

_TEMPLATE = "spec.template.spec"
# Given by the instancetype -> fields of the machine that must be empty then.
_ALWAYS = (
    "domain.resources.requests.cpu",
    "domain.resources.limits.cpu",
    "domain.cpu.sockets",
    "domain.cpu.cores",
    "domain.cpu.threads",
    "domain.memory.guest",
    "domain.resources.requests.memory",
    "domain.resources.limits.memory",
)
_SAME = {
    "nodeSelector": "nodeSelector",
    "schedulerName": "schedulerName",
    "cpu.model": "domain.cpu.model",
    "cpu.dedicatedCPUPlacement": "domain.cpu.dedicatedCpuPlacement",
    "cpu.isolateEmulatorThread": "domain.cpu.isolateEmulatorThread",
    "cpu.maxSockets": "domain.cpu.maxSockets",
    "cpu.numa": "domain.cpu.numa",
    "cpu.realtime": "domain.cpu.realtime",
    "memory.hugepages": "domain.memory.hugepages",
    "memory.maxGuest": "domain.memory.maxGuest",
    "ioThreads": "domain.ioThreads",
    "ioThreadsPolicy": "domain.ioThreadsPolicy",
    "launchSecurity": "domain.launchSecurity",
    "gpus": "domain.devices.gpus",
    "hostDevices": "domain.devices.hostDevices",
}
# What an instancetype gives without asking: the machine's own value has no meaning beside it.
_OVERRIDES = {"cpu.maxSockets"}


def find_conflicts(instancetype: JsonObject, spec: JsonObject, annotations: JsonObject) -> list[str]:
    """Paths in the VirtualMachine of fields that the instancetype gives too; `spec` and `annotations` are those of its template."""
    given = [path for path in _ALWAYS if get_path(spec, path)]
    given += [
        target
        for source, target in _SAME.items()
        if source not in _OVERRIDES
        and get_path(instancetype, source) is not None
        and get_path(spec, target) not in (None, "", False, {}, [])
    ]
    others = {key: value for key, value in (instancetype.get("annotations") or {}).items() if annotations.get(key, value) != value}
    return [*(f"{_TEMPLATE}.{path}" for path in given), *(f"spec.template.metadata.annotations.{key}" for key in others)]


def apply_instancetype(instancetype: JsonObject, preference: JsonObject | None, spec: JsonObject, annotations: JsonObject) -> None:
    """Change `spec` and `annotations` to what the instancetype says; there must be no conflicts."""
    for source, target in _SAME.items():
        value = get_path(instancetype, source)
        if value is not None:
            put_path(spec, target, value)
    for name, number in plan_topology(int(instancetype["cpu"]["guest"]), preference).items():
        put_path(spec, f"domain.cpu.{name}", number)
    memory = instancetype["memory"]
    put_path(spec, "domain.memory.guest", memory["guest"])
    if overcommit := memory.get("overcommitPercent"):
        reserved = quantity_bytes(memory["guest"]) * (100 - int(overcommit)) // 100
        put_path(spec, "domain.resources.requests.memory", format_bytes(reserved))
    for key, value in (instancetype.get("annotations") or {}).items():
        annotations.setdefault(key, value)
