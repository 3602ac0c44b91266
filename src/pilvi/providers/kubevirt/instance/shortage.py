"""Why no host can ever take a machine: it needs more than any of them has. The scheduler only says that there is not enough. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pilvi.api.resource import JsonObject
from pilvi.lib.quantity import quantity_bytes

__all__ = ["describe_shortage"]

_MIB = 1 << 20


def describe_shortage(pod: JsonObject, nodes: Iterable[JsonObject]) -> str:
    """A sentence with the next step when the memory of the machine's Pod fits on no virtual host, empty otherwise."""
    needed = sum(_requested(container) for container in pod["spec"].get("containers") or [])
    offered = [_offered(node) for node in nodes if (node["metadata"].get("labels") or {}).get("kubevirt.io/schedulable") == "true"]
    if not offered or needed <= max(offered):
        return ""
    return (
        f"the machine needs {needed // _MIB} MiB of memory with what runs it, and no host gives its machines more than"
        f" {max(offered) // _MIB} MiB; give it less memory"
    )


def _requested(container: JsonObject) -> int:
    wanted = ((container.get("resources") or {}).get("requests") or {}).get("memory")
    return quantity_bytes(wanted) if wanted else 0


def _offered(node: JsonObject) -> int:
    memory = ((node.get("status") or {}).get("allocatable") or {}).get("memory")
    return quantity_bytes(memory) if memory else 0
