"""Checks of virtual machines before they are stored. Their addresses are checked by `kubeovn/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.lib.clock import utc_now
from pilvi.providers.admission import Check, Objection
from pilvi.providers.kubevirt.instance.status import FINAL_PHASES, phase_of
from pilvi.providers.kubevirt.instancetype.checks import find_objections
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES, MIGRATIONS
from pilvi.providers.kubevirt.migration.queue import find_unfinished, machine_of
from pilvi.providers.kubevirt.virtualmachine.instance import find_name_taken
from pilvi.providers.kubevirt.virtualmachine.strategy import Start, plan_step
from pilvi.runtime import is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks"]


def checks(platform: Platform) -> list[Check]:
    """The checks of this group."""
    instances = platform.informers.get(INSTANCES)
    migrations = platform.informers.get(MIGRATIONS)

    def of_machine(machine: JsonObject) -> Iterator[Objection]:
        instance = instances.get(Key.of(machine))
        if instance is None or is_deleting(instance) or not isinstance(plan_step(machine, None, utc_now()), Start):
            return
        message = find_name_taken(instance, machine)
        if message is not None:
            yield Objection(message)

    def of_instancetype(machine: JsonObject) -> Iterator[Objection]:
        return find_objections(machine, lambda resource, key: platform.informers.get(resource).get(key))

    def of_migration(migration: JsonObject) -> Iterator[Objection]:
        key = machine_of(migration)
        vmi = instances.get(key)
        if vmi is None:
            yield Objection(f"there is no VirtualMachineInstance {key} yet; the migration waits until it runs", refuses=False)
        elif phase_of(vmi) in FINAL_PHASES:
            yield Objection(f"VirtualMachineInstance {key} has ended, so it cannot move; start it first")
        elif any(one["metadata"]["uid"] != migration["metadata"]["uid"] for one in find_unfinished(vmi, migrations.list(key.namespace))):
            yield Objection(f"in-flight migration detected: VirtualMachineInstance {key} moves already; wait for its end, or delete it")

    return [Check(MACHINES, of_machine), Check(MACHINES, of_instancetype), Check(MIGRATIONS, of_migration)]
