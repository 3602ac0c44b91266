"""What units are doing now, from their records, /proc and the control groups: works without an engine."""

from __future__ import annotations

from pilvi.errors import UserError
from pilvi.host.cgroups import Cgroups, find_cgroups
from pilvi.host.cloud import Cloud
from pilvi.host.units import logs
from pilvi.host.units.record import Record, list_records
from pilvi.host.units.spec import UnitState

__all__ = ["read_state", "read_units"]


def read_units(cloud: Cloud) -> list[UnitState]:
    """All units of the cloud, by name. `waiting` means that the process is dead; files do not tell whether an engine will restart it.

    Raises UserError when not run as root.
    """
    try:
        records = list_records(cloud.units_dir)
    except PermissionError as e:
        raise UserError(f"the records of units in {cloud.units_dir} are readable by root only", hint="run it with sudo") from e
    cgroups = find_cgroups()
    return [read_state(cloud, record, cgroups) for record in records]


def read_state(cloud: Cloud, record: Record, cgroups: Cgroups | None, *, exit: str | None = None) -> UnitState:
    """The state of one unit; `exit` is how its process ended when the caller saw it."""
    spec = record.spec
    is_alive = record.process.is_alive
    return UnitState(
        name=spec.name,
        state="running" if is_alive else "exited" if spec.restart == "never" else "waiting",
        pid=record.process.pid if is_alive else None,
        memory_bytes=cgroups.memory_bytes(cloud.cgroup(spec.name)) if is_alive and cgroups is not None else None,
        started_at=record.started_at,
        exit=exit or record.exit or (None if is_alive else "unknown"),
        restarts=record.restarts,
        log_tail=logs.tail(spec.log_path),
    )
