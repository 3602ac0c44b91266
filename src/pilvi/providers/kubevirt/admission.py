"""Checks of virtual machines before they are stored. Their addresses are checked by `kubeovn/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.lib.clock import utc_now
from pilvi.providers.admission import Check, Objection
from pilvi.providers.kubevirt.instancetype.checks import find_objections
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.virtualmachine.instance import find_name_taken
from pilvi.providers.kubevirt.virtualmachine.strategy import Start, plan_step
from pilvi.runtime import is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks"]


def checks(platform: Platform) -> list[Check]:
    """The checks of this group."""
    instances = platform.informers.get(INSTANCES)

    def of_machine(machine: JsonObject) -> Iterator[Objection]:
        instance = instances.get(Key.of(machine))
        if instance is None or is_deleting(instance) or not isinstance(plan_step(machine, None, utc_now()), Start):
            return
        message = find_name_taken(instance, machine)
        if message is not None:
            yield Objection(message)

    def of_instancetype(machine: JsonObject) -> Iterator[Objection]:
        return find_objections(machine, lambda resource, key: platform.informers.get(resource).get(key))

    return [Check(MACHINES, of_machine), Check(MACHINES, of_instancetype)]
