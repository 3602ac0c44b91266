"""Which migrations may go on now: one for each machine, and few at once, as in KubeVirt. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pilvi.api.resource import JsonObject, Key
from pilvi.providers.kubevirt.migration.policy import MOST_AT_ONCE, MOST_OUT_OF_A_HOST
from pilvi.runtime.finalizers import is_deleting

__all__ = ["FINAL_PHASES", "WAITING_PHASES", "find_hindrance", "find_unfinished", "is_of_instance", "machine_of", "phase_of_migration"]

FINAL_PHASES = ("Succeeded", "Failed")
WAITING_PHASES = ("", "Pending")


def phase_of_migration(migration: JsonObject) -> str:
    """The stored phase; empty for a new one."""
    return (migration.get("status") or {}).get("phase") or ""


def machine_of(migration: JsonObject) -> Key:
    """The key of the VirtualMachineInstance that it moves."""
    return Key(migration["metadata"].get("namespace") or "", (migration.get("spec") or {}).get("vmiName") or "")


def is_of_instance(migration: JsonObject, vmi: JsonObject) -> bool:
    """Whether the migration means this instance: one that waits means whichever has the name, later ones the one that they began with."""
    state = (migration.get("status") or {}).get("migrationState") or {}
    uid = (state.get("sourceState") or {}).get("virtualMachineInstanceUID")
    return machine_of(migration) == Key.of(vmi) and uid in (None, vmi["metadata"]["uid"])


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
        and (phase_of_migration(one) not in WAITING_PHASES or _age(one) < _age(migration))
    ]
    if any(is_of_instance(one, vmi) for one in first):
        return "another migration of the machine is under way"
    if len(first) >= MOST_AT_ONCE:
        return f"{MOST_AT_ONCE} migrations are under way in the cloud"
    source = (vmi.get("status") or {}).get("nodeName")
    machines = [find(machine_of(one)) for one in first]
    if sum(((machine or {}).get("status") or {}).get("nodeName") == source for machine in machines) >= MOST_OUT_OF_A_HOST:
        return f"{MOST_OUT_OF_A_HOST} machines are leaving virtual host {source}"
    return ""


def _age(migration: JsonObject) -> tuple[str, str]:
    return str(migration["metadata"].get("creationTimestamp") or ""), str(migration["metadata"]["uid"])
