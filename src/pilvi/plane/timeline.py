"""How a cluster came to be, phase by phase, from times that its objects and units carry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import DEPLOYMENTS, NAMESPACES, NODES
from pilvi.api.capk import KubevirtCluster
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.errors import PilviError
from pilvi.host.units import UnitState
from pilvi.kube import Client
from pilvi.lib.clock import parse_time
from pilvi.plane.why import unit_prefix
from pilvi.plane.world import World
from pilvi.runtime import conditions_of

__all__ = ["COREDNS", "Inside", "Phase", "compute_timeline", "read_inside"]

COREDNS = Key("kube-system", "coredns")
FIRST_NAMESPACE = Key("", "kube-system")


class Phase(msgspec.Struct, frozen=True, rename="camel"):
    """One phase; times are seconds since the epoch. Kubernetes stores whole seconds, units more."""

    name: str
    started_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended_at - self.started_at)

    @property
    def is_exact(self) -> bool:
        """Whether both ends are times of processes: what Kubernetes stores has no fraction, and may be off by a second."""
        return self.started_at % 1 != 0 and self.ended_at % 1 != 0


class Inside(msgspec.Struct, frozen=True):
    """What the cluster's own API tells: its Nodes, the Deployment of CoreDNS, and its first Namespace; None when there is none.

    The Namespace is among the first objects that an API server stores: it tells since when etcd takes writes.
    """

    nodes: Sequence[JsonObject] = ()
    coredns: JsonObject | None = None
    first_namespace: JsonObject | None = None


async def read_inside(client: Client) -> Inside:
    """Read it with a client of the cluster's own API; empty when that does not answer."""
    try:
        return Inside(await client.list(NODES), await client.find(DEPLOYMENTS, COREDNS), await client.find(NAMESPACES, FIRST_NAMESPACE))
    except PilviError:
        return Inside()


def compute_timeline(world: World, cluster: JsonObject, inside: Inside, units: Sequence[UnitState] = ()) -> list[Phase]:
    """The phases whose beginning and end are known: network, etcd, API, join, Ready, DNS. Pure.

    `units` are for root to see; without them all times come from objects, in whole seconds.
    """
    below = world.descendants(cluster)
    started = _created(cluster)
    if started is None:
        return []
    network_at = _latest(_since(obj, "NetworkReady") for obj in _of_kind(below, KubevirtCluster.RESOURCE.kind))
    control_planes = _of_kind(below, TenantControlPlane.RESOURCE.kind)
    machines = _of_kind(below, VirtualMachineInstance.RESOURCE.kind)
    first_machine = min((moment for obj in machines if (moment := _created(obj)) is not None), default=None)
    joined_at = _latest(_created(node) for node in inside.nodes)
    serving_at = _created(inside.first_namespace) if inside.first_namespace else None
    etcd, api = (_start_of(control_planes, units, name, serving_at) for name in ("-etcd", "-kube-apiserver"))
    # The manager is started when the API server is ready.
    manager = _start_of(control_planes, units, "-kube-controller-manager", first_machine) if api else None
    api_at = manager or _latest(_deployment_since(obj) for obj in control_planes)
    machine = _start_of(machines, units, "", joined_at)
    ready = [_since(node, "Ready") for node in inside.nodes]
    ready_at = _latest(ready)
    first_ready = min((moment for moment in ready if moment is not None), default=None)
    dns_at = _since(inside.coredns, "Available") if inside.coredns else None
    phases = [
        ("network", started, network_at),
        ("etcd", etcd or network_at, serving_at),
        ("API", api or network_at, api_at),
        ("join", machine or first_machine, joined_at),
        ("Ready", joined_at, ready_at),
        ("DNS", first_ready, dns_at),
    ]
    return [Phase(name, begin, max(begin, end)) for name, begin, end in phases if begin is not None and end is not None]


def _of_kind(objects: Iterable[JsonObject], kind: str) -> list[JsonObject]:
    return [obj for obj in objects if obj["kind"] == kind]


def _start_of(objects: Sequence[JsonObject], units: Sequence[UnitState], component: str, before: float | None) -> float | None:
    """When the first unit of that name behind one of the objects was started for the first time; not known any more after a restart.

    One that began after `before`, when its work was done (in whole seconds), was made anew: after a power cut a unit has no past.
    """
    names = {f"{unit_prefix(obj)}{component}" for obj in objects}
    found = (unit.started_at for unit in units if unit.name in names and not unit.restarts and unit.started_at is not None)
    return min((moment for moment in found if before is None or moment < before + 1), default=None)


def _created(obj: JsonObject) -> float | None:
    return _seconds(obj["metadata"].get("creationTimestamp"))


def _since(obj: JsonObject, type: str) -> float | None:
    """Since when the condition is True."""
    found = next((entry for entry in conditions_of(obj) if entry["type"] == type and entry["status"] == "True"), None)
    return _seconds(found.get("lastTransitionTime")) if found else None


def _deployment_since(tenant: JsonObject) -> float | None:
    deployment = ((tenant.get("status") or {}).get("kubernetesResources") or {}).get("deployment") or {}
    return _since({"status": deployment}, "Available")


def _latest(moments: Iterable[float | None]) -> float | None:
    """None when any is unknown: then the phase is not over."""
    known = list(moments)
    return max((moment for moment in known if moment is not None), default=None) if None not in known else None


def _seconds(text: str | None) -> float | None:
    return parse_time(text).timestamp() if text else None
