"""Why something is not ready: the one function behind `pilvi why`, `status`, `describe` and every time-out message.

From the object up to its owners, where what had to come before it may be at fault, and from it down its children to the first one
that is not as it should be; then the last Events about that one and the last log lines of the unit behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import NAMESPACES
from pilvi.errors import NotFound
from pilvi.host.units import UnitState
from pilvi.kube import Client
from pilvi.lib.hashing import short_hash
from pilvi.plane.faults import Fault, find_fault, is_healthy
from pilvi.plane.world import World, rank_of, read_world

__all__ = ["Explanation", "Link", "explain", "explain_object", "unit_prefix"]

LAST_EVENTS = 5
LAST_LINES = 8
_MOST_OWNERS = 10


class Link(msgspec.Struct, frozen=True):
    """One object on the way from what was asked for to what is at fault. `reason` and `fault` (in full) are empty for one that is well."""

    kind: str
    namespace: str
    name: str
    reason: str = ""
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {Key(self.namespace, self.name)}"


class Explanation(msgspec.Struct, frozen=True, rename="camel"):
    """Why an object is not ready. `trail` leads from its topmost owner concerned to the culprit; it is empty when all is well.

    `events` are lines, oldest first. `unit` is the process behind the culprit, `log` its last lines; both empty when none is known.
    `engine` says that nobody acts at all; empty when all is well, or the engine is. An object is `stateless` when it has no status.
    """

    subject: Link
    trail: tuple[Link, ...] = ()
    events: tuple[str, ...] = ()
    unit: str = ""
    log: str = ""
    engine: str = ""
    stateless: bool = False

    @property
    def cause(self) -> str:
        """One line; empty when all is well."""
        if not self.trail:
            return ""
        culprit = self.trail[-1]
        told = culprit.fault if culprit == self.subject else f"{culprit}: {culprit.fault}"
        return f"{told}; {self.engine}" if self.engine else told

    def text(self) -> str:
        """Everything, for a person."""
        if not self.trail:
            return f"{self.subject} is there; it has no status that could say more." if self.stateless else f"{self.subject} is ready."
        lines = [f"{self.subject} is not ready:"]
        for depth, link in enumerate(self.trail):
            # Summaries repeat what is said below them, so only the culprit is shown in full.
            told = link.fault if depth == len(self.trail) - 1 else link.reason
            lines.append("  " * (depth + 1) + str(link) + (f" - {told}" if told else ""))
        if self.engine:
            lines.append(f"{self.engine[0].upper()}{self.engine[1:]}.")
        if self.events:
            lines += ["Last events:", *(f"  {event}" for event in self.events)]
        if self.unit:
            lines.append(f"Unit {self.unit}:")
            lines += [f"  {line}" for line in self.log.splitlines()] or ["  its log is empty"]
        return "\n".join(lines)


def explain(world: World, obj: JsonObject, units: Sequence[UnitState] = ()) -> Explanation:
    """Why the object is not ready. Pure.

    `units` are the processes of this host, as far as the caller may see them. What a healthy object's owners or siblings lack is not
    its story; what is asked about a cluster that is well gives an empty trail.
    """
    trail = _find_trail(world, obj)
    if not trail:
        return Explanation(_link(obj, None), stateless=not obj.get("status"))
    culprit, fault = trail[-1]
    told = next((events for link, _ in reversed(trail) if (events := world.events_of(link))), [])
    unit = _find_unit(world, culprit, units)
    return Explanation(
        _link(obj, None) if culprit is not obj else _link(obj, fault),
        tuple(_link(link, found) for link, found in trail),
        tuple(_event_line(event) for event in told[-LAST_EVENTS:]),
        unit.name if unit else "",
        "\n".join(unit.log_tail.splitlines()[-LAST_LINES:]) if unit else "",
        world.engine,
    )


async def explain_object(client: Client, resource: Resource, key: Key, units: Sequence[UnitState] = ()) -> Explanation:
    """Read what is around the object and explain it. Raises NotFound, and what the API refuses."""
    namespace = key.name if resource == NAMESPACES else key.namespace
    world = await read_world(client, namespace or None)
    obj = world.find(resource, key) or await client.find(resource, key)
    if obj is None:
        raise NotFound(f"there is no {resource.kind} {key}", {"code": 404, "reason": "NotFound"})
    return explain(world, obj, units)


def unit_prefix(obj: JsonObject) -> str | None:
    """What the names of the units behind an object begin with (docs/design/0001); None for kinds without units."""
    prefix = {"TenantControlPlane": "cp", "VirtualMachineInstance": "m", "Vpc": "vpc"}.get(obj["kind"])
    return f"{prefix}-{short_hash(obj['metadata']['uid'])}" if prefix else None


_Trail = list[tuple[JsonObject, Fault | None]]


def _find_trail(world: World, obj: JsonObject) -> _Trail:
    below = _descend(world, obj)
    if not below:
        return []
    above: list[JsonObject] = []
    current = obj
    while (owner := world.owner(current)) is not None and len(above) < _MOST_OWNERS:
        above.append(owner)
        current = owner
    # From the top: what had to work before the branch in which the object is.
    branch = [obj, *above]
    trails: list[_Trail] = []
    for number in range(len(above), 0, -1):
        owner, towards = branch[number], branch[number - 1]
        for sibling in world.children(owner):
            if rank_of(sibling) < rank_of(towards):
                trails += [[(owner, find_fault(owner)), *found] for found in _descend(world, sibling)]
    return _first([*trails, *below])


def _first(trails: Sequence[_Trail]) -> _Trail:
    """The first way that does not end at an object which only waits for another; when all do, the first."""
    return next((trail for trail in trails if not _waits(trail[-1][1])), trails[0])


def _waits(fault: Fault | None) -> bool:
    return fault is not None and fault.reason.startswith("WaitingFor")


def _descend(world: World, obj: JsonObject, *, ending: bool = False) -> list[_Trail]:
    """The ways down to objects at fault that have none at fault below them, in the order of events; none when the object is well.

    `ending`: something above is being deleted, and so what is well may stand above what is still to go.
    """
    ending = ending or bool(obj["metadata"].get("deletionTimestamp"))
    if is_healthy(obj) and _sums_up(obj) and not ending:
        return []
    below = [found for child in world.children(obj) for found in _descend(world, child, ending=ending)]
    fault = find_fault(obj)
    if below:
        return [[(obj, fault), *found] for found in below]
    return [[(obj, fault)]] if fault is not None else []


def _sums_up(obj: JsonObject) -> bool:
    """Whether the health of the object says something about its children: those without a status say nothing."""
    return bool(obj.get("status"))


def _link(obj: JsonObject, fault: Fault | None) -> Link:
    key = Key.of(obj)
    return Link(obj["kind"], key.namespace, key.name, fault.reason if fault else "", fault.summary if fault else "")


def _find_unit(world: World, culprit: JsonObject, units: Sequence[UnitState]) -> UnitState | None:
    """The unit behind the culprit, or behind what is below it: the one that is down, else the one that was restarted most."""
    for obj in world.descendants(culprit):
        prefix = unit_prefix(obj)
        found = [unit for unit in units if prefix and (unit.name == prefix or unit.name.startswith(f"{prefix}-"))]
        if found:
            return min(found, key=lambda unit: (unit.state == "running", -unit.restarts, not unit.name.endswith("kube-apiserver")))
    return None


def _event_line(event: JsonObject) -> str:
    moment = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
    count = event.get("count") or 1
    times = f" (x{count})" if count > 1 else ""
    message = " ".join((event.get("message") or "").split())
    return f"{moment} {event.get('type', '')} {event.get('reason', '')}{times}: {message}"
