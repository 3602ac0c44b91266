"""Which machines a change of an instancetype, a preference or a volume concerns: only those that are not settled yet."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pilvi.api import JsonObject, Key, Resource
from pilvi.providers.kubevirt.instancetype.infer import SOURCES
from pilvi.providers.kubevirt.instancetype.matcher import NOUNS, Matcher, find_matcher, find_ref
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.runtime import Informers, Watch, desire_changed

__all__ = ["watches"]


def watches(informers: Informers) -> list[Watch]:
    """What the controller of VirtualMachines watches for its instancetypes and preferences."""

    def by_name(kind: Resource, obj: JsonObject) -> list[Key]:
        name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace")
        return [Key.of(vm) for vm, matcher in _unsettled(informers, namespace) if matcher.name == name and matcher.resource == kind]

    def by_volume(_obj: JsonObject) -> list[Key]:
        # A source may be in another namespace, behind others; few machines wait for one, and not for long.
        return [Key.of(vm) for vm, matcher in _unsettled(informers, None) if matcher.volume]

    kinds = [kind for noun in NOUNS for kind in (noun.namespaced, noun.cluster)]
    return [
        *(Watch(kind, partial(by_name, kind), desire_changed) for kind in kinds),
        *(Watch(kind, by_volume, desire_changed) for kind in SOURCES),
    ]


def _unsettled(informers: Informers, namespace: str | None) -> Iterator[tuple[JsonObject, Matcher]]:
    for vm in informers.get(MACHINES).list(namespace):
        for noun in NOUNS:
            matcher = find_matcher(vm, noun)
            if matcher is not None and find_ref(vm, matcher) is None:
                yield vm, matcher
