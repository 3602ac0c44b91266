"""How many vCPUs and how much memory a guest gets, by KubeVirt's rules (kubevirt, pkg/defaults and the VMI admitter). Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.lib.quantity import parse_quantity, quantity_bytes, quantity_milli, whole_mebibytes

__all__ = ["Size", "find_cpu_limit", "find_hugepage_bytes", "find_size", "get_size"]

_MIB = 1024 * 1024
_HUGE_PAGES = (2 * _MIB, 1024 * _MIB)
_MAX_VCPUS = 512
_LEAST_CPU_MILLI = 10  # of Linux, for a group of processes


@dataclass(frozen=True)
class Size:
    """vCPUs as sockets x cores x threads, and memory of the guest."""

    sockets: int
    cores: int
    threads: int
    memory_bytes: int

    @property
    def vcpus(self) -> int:
        """All hardware threads that the guest sees."""
        return self.sockets * self.cores * self.threads


def get_size(vmi_spec: JsonObject) -> Size:
    """The size that a VirtualMachineInstanceSpec asks for.

    Without a topology the number of sockets is limits.cpu, else requests.cpu, rounded up; without both it is one. Memory is
    memory.guest, else requests.memory, else limits.memory, else the size of one huge page; rounded up to whole MiB. Raises UserError
    when there is none of these, when a number is not positive, or when a guest has more memory than its limit.
    """
    domain = _part(vmi_spec, "domain")
    resources = _part(domain, "resources")
    requests, limits = _part(resources, "requests"), _part(resources, "limits")
    sockets, cores, threads = _topology(_part(domain, "cpu"), requests, limits)
    return Size(sockets, cores, threads, _memory(_part(domain, "memory"), requests, limits))


def find_cpu_limit(vmi_spec: JsonObject) -> int | None:
    """Processor time that the guest may take at most, in thousandths of a processor; None when only its vCPUs limit it.

    Raises UserError for a limit that is not positive.
    """
    limit = _part(_part(_part(vmi_spec, "domain"), "resources"), "limits").get("cpu")
    if limit is None:
        return None
    cpu_milli = quantity_milli(limit)
    if cpu_milli < _LEAST_CPU_MILLI:
        raise UserError(f"spec.domain.resources.limits.cpu is {limit}", hint="write at least 10m, for example 500m, or leave it out")
    return cpu_milli


def find_hugepage_bytes(vmi_spec: JsonObject) -> int | None:
    """The size of the pages that the guest's memory is made of; None when it is ordinary memory.

    Raises UserError for a size that no x86 processor has, and when the memory is not a whole number of pages.
    """
    asked = _part(_part(_part(vmi_spec, "domain"), "memory"), "hugepages").get("pageSize")
    if asked is None:
        return None
    page_bytes, path = quantity_bytes(asked), "spec.domain.memory.hugepages.pageSize"
    if page_bytes not in _HUGE_PAGES:
        raise UserError(f"{path} is {asked}", hint="write 2Mi or 1Gi")
    if get_size(vmi_spec).memory_bytes % page_bytes:
        raise UserError(f"the machine's memory is not a multiple of {path} {asked}", hint="make it one, for example 2Gi")
    return page_bytes


def find_size(vmi_spec: JsonObject) -> Size | None:
    """`get_size`, but None when the specification does not say (for templates that are completed later)."""
    try:
        return get_size(vmi_spec)
    except UserError:
        return None


def _topology(cpu: JsonObject, requests: JsonObject, limits: JsonObject) -> tuple[int, int, int]:
    given = {name: cpu.get(name) for name in ("sockets", "cores", "threads")}
    for name, value in given.items():
        if value is not None and value < 0:
            raise UserError(f"spec.domain.cpu.{name} is {value}", hint="write a number above zero, or leave it out")
    if any(given.values()):
        sockets, cores, threads = (int(value or 1) for value in given.values())
    else:
        asked = limits.get("cpu") or requests.get("cpu")
        number = parse_quantity(asked) if asked else 1
        if number < 0:
            raise UserError(f"spec.domain.resources: cpu is {asked}", hint="write a number above zero")
        sockets, cores, threads = max(1, math.ceil(number)), 1, 1
    if sockets * cores * threads > _MAX_VCPUS:
        raise UserError(f"spec.domain.cpu asks for {sockets * cores * threads} vCPUs", hint=f"a machine has at most {_MAX_VCPUS}")
    return sockets, cores, threads


def _memory(memory: JsonObject, requests: JsonObject, limits: JsonObject) -> int:
    asked = (
        ("spec.domain.memory.guest", memory.get("guest")),
        ("spec.domain.resources.requests.memory", requests.get("memory")),
        ("spec.domain.resources.limits.memory", limits.get("memory")),
        ("spec.domain.memory.hugepages.pageSize", _part(memory, "hugepages").get("pageSize")),
    )
    for path, value in asked:
        if value is None:
            continue
        size = quantity_bytes(value)
        if size < _MIB:
            raise UserError(f"{path} is {value}", hint="write at least 1Mi, for example 1536Mi")
        limit = limits.get("memory")
        if path == "spec.domain.memory.guest" and limit is not None and size > quantity_bytes(limit):
            raise UserError(
                f"{path} {value} is more than spec.domain.resources.limits.memory {limit}", hint="raise the limit or leave it out"
            )
        return whole_mebibytes(size)
    raise UserError(
        "the machine's memory is not given",
        hint="set spec.domain.memory.guest or spec.domain.resources.requests.memory, for example 1536Mi",
    )


def _part(parent: JsonObject, name: str) -> dict[str, Any]:
    # Written manifests hold `domain:` with nothing below, which is null.
    return parent.get(name) or {}
