"""Which migrations may go on now: one for each machine, and few at once, as in KubeVirt. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pilvi.api.resource import JsonObject, Key
from pilvi.lib.clock import parse_time
from pilvi.providers.kubevirt.migration.policy import MOST_AT_ONCE, MOST_OUT_OF_A_HOST
from pilvi.runtime.finalizers import is_deleting

__all__ = ["FINAL_PHASES", "find_hindrance", "find_unfinished", "is_of_instance", "phase_of_migration"]

FINAL_PHASES = ("Succeeded", "Failed")
_WAITING = ("", "Pending")


def phase_of_migration(migration: JsonObject) -> str:
    """The stored phase; empty for a new one."""
    return (migration.get("status") or {}).get("phase") or ""


def is_of_instance(migration: JsonObject, vmi: JsonObject) -> bool:
    """Whether the migration means this instance, not an earlier one of the same name."""
    asked, made = migration["metadata"].get("creationTimestamp"), vmi["metadata"].get("creationTimestamp")
    same = (
        migration["metadata"]["namespace"] == vmi["metadata"]["namespace"] and migration["spec"].get("vmiName") == vmi["metadata"]["name"]
    )
    return same and (not asked or not made or parse_time(asked) >= parse_time(made))


def find_unfinished(vmi: JsonObject, migrations: Iterable[JsonObject]) -> Sequence[JsonObject]:
    """The migrations of the instance that have not ended, the oldest first."""
    return sorted(
        (one for one in migrations if is_of_instance(one, vmi) and phase_of_migration(one) not in FINAL_PHASES and not is_deleting(one)),
        key=_age,
    )


def find_hindrance(
    migration: JsonObject, vmi: JsonObject, migrations: Iterable[JsonObject], find: Callable[[Key], JsonObject | None]
) -> str:
    """What a migration that is Pending has to wait for; empty when nothing. `find` gives a VirtualMachineInstance.

    Older ones that wait count too, so that the oldest goes first.
    """
    first = [
        one
        for one in migrations
        if one["metadata"]["uid"] != migration["metadata"]["uid"]
        and phase_of_migration(one) not in FINAL_PHASES
        and (phase_of_migration(one) not in _WAITING or _age(one) < _age(migration))
    ]
    if any(is_of_instance(one, vmi) for one in first):
        return "another migration of the machine is under way"
    if len(first) >= MOST_AT_ONCE:
        return f"{MOST_AT_ONCE} migrations are under way in the cloud"
    source = (vmi.get("status") or {}).get("nodeName")
    machines = [find(Key(one["metadata"]["namespace"], one["spec"].get("vmiName") or "")) for one in first]
    if sum(((machine or {}).get("status") or {}).get("nodeName") == source for machine in machines) >= MOST_OUT_OF_A_HOST:
        return f"{MOST_OUT_OF_A_HOST} machines are leaving virtual host {source}"
    return ""


def _age(migration: JsonObject) -> tuple[str, str]:
    return str(migration["metadata"].get("creationTimestamp") or ""), str(migration["metadata"]["uid"])
