"""Reconciles Vpc: one network namespace each, in which this reconciler alone writes routes, addresses, rules and bridges.

Each run computes the whole router from the caches and lets the host layer find the difference; nothing is remembered that matters.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.kubeovn import Vpc
from pilvi.errors import DriverError, PilviError, UserError, format_chain
from pilvi.host.netns import ensure_netns, has_netns
from pilvi.host.network import delete_link, delete_netns, ensure_network, ensure_veth, list_links
from pilvi.lib.backoff import Backoff
from pilvi.lib.together import together
from pilvi.providers.announce import Announcer
from pilvi.providers.kubeovn.names import FINALIZER, HOST_PORTS, TRANSIT
from pilvi.providers.kubeovn.objects import Objects, vpc_of_subnet
from pilvi.providers.kubeovn.subnet.plan import SubnetPlan
from pilvi.providers.kubeovn.sweep import OwnerSweep
from pilvi.providers.kubeovn.vpc.host_filter import host_filter
from pilvi.providers.kubeovn.vpc.network import router_network, router_uplink
from pilvi.providers.kubeovn.vpc.ports import port_rules
from pilvi.providers.kubeovn.vpc.resolver import read_nameservers
from pilvi.providers.kubeovn.vpc.router import UPLINK, Problem, Router, build_router, find_trespass, vpc_of_control_plane
from pilvi.providers.kubeovn.vpc.rules import router_rules
from pilvi.providers.kubeovn.vpc.services import Services
from pilvi.providers.kubeovn.vpc.status import refused_status, vpc_status
from pilvi.providers.kubeovn.vpc.strays import remove_strays
from pilvi.providers.kubeovn.vpc.transit import choose_transit, find_own_transit, find_transit
from pilvi.providers.kubeovn.vpc.wakeups import vpc_watches
from pilvi.providers.names import vpc_netns
from pilvi.runtime import Controller, Done, Failed, RequeueAfter, Result, Waiting, ensure_finalizer, is_deleting, remove_finalizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address

    from pilvi.providers.platform import Platform

__all__ = ["VpcReconciler"]

log = logging.getLogger(__name__)

MANAGER = "pilvi-vpc"
NO_TRANSIT = "NoTransitAddress"
# The leg of a control plane is made by another controller, mostly milliseconds after the namespace is there, and nothing in the API
# tells when.
LEG_RETRY_S = (0.2, 15.0)
NAMESERVERS_LOOK_S = 20.0
NOBODY = Key("", "")  # the key of no Vpc: its pass looks at what concerns all
_NO_NAMESERVER = Problem(
    "NoNameserver",
    "the host has no nameserver that a VPC can reach, so its resolver knows only machines; "
    "name one in /etc/resolv.conf that is not on loopback",
)


class VpcReconciler:
    """One reconcile for each Vpc."""

    def __init__(self, platform: Platform, objects: Objects, sweep: OwnerSweep) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._units = platform.units
        self._events = platform.events
        self._objects = objects
        self._sweep = sweep
        self._swept = False
        self._tables = platform.tables
        self._nameservers = read_nameservers()
        self._enqueue: Callable[[Key], None] = lambda _key: None
        self._transit_lock = asyncio.Lock()
        self._host_lock = asyncio.Lock()
        self._services: dict[str, Services] = {}
        self._leg_backoffs: dict[str, Backoff] = {}
        self._announcer = Announcer()

    def controller(self) -> Controller:
        """The controller that runs it."""
        controller = Controller("vpc", Vpc.RESOURCE, self.reconcile, watches=vpc_watches(self._objects))
        self._units.subscribe(lambda unit: self._unit_changed(controller, unit))
        self._enqueue = controller.enqueue
        controller.enqueue(NOBODY)
        return controller

    async def reconcile(self, key: Key) -> Result:
        """Make one router be as the objects say, or take it away."""
        if key == NOBODY:
            return self._look_at_nameservers()
        if not self._swept:
            await self._remove_strays()
        vpc = self._objects.vpcs.get(key)
        if vpc is None:
            await self._ensure_host_filter()
            return Done()
        if is_deleting(vpc):
            return await self._delete(vpc)
        if await self._sweep.delete_orphan(Vpc.RESOURCE, vpc):
            return Done()
        # The finalizer first: whatever is made from here on is taken away again.
        vpc = await ensure_finalizer(self._client, Vpc.RESOURCE, vpc, FINALIZER)
        try:
            vpc, transit = await self._record_transit(vpc)
        except UserError as e:
            return await self._refuse(vpc, format_chain(e))
        router = self._build(vpc, transit)
        nameservers = read_nameservers()
        problems = [*router.problems, *([] if nameservers else [_NO_NAMESERVER])]
        failure: PilviError | OSError | None = None
        missing_legs = False
        try:
            missing_legs = await self._apply(router)
            await self._services_of(router.uid).ensure(router, nameservers)
        except (PilviError, OSError) as e:
            failure = e
        await self._write_status(vpc, router, problems, format_chain(failure) if failure is not None else None)
        if failure is not None:
            return Failed(format_chain(failure))
        if missing_legs:
            return RequeueAfter(self._leg_backoffs.setdefault(router.uid, Backoff(*LEG_RETRY_S)).next_s())
        self._leg_backoffs.pop(router.uid, None)
        return Done()

    def _look_at_nameservers(self) -> Result:
        """The host's nameservers are in no object, so nothing tells when they change."""
        nameservers = read_nameservers()
        if nameservers != self._nameservers:
            self._nameservers = nameservers
            for key in [*self._objects.vpcs.keys()]:
                self._enqueue(key)
        return RequeueAfter(NAMESERVERS_LOOK_S)

    async def _remove_strays(self) -> None:
        """Once after a start. A router that cannot be removed yet keeps nobody from theirs: the next pass tries again."""
        self._swept = True  # the other workers need not do the same meanwhile
        try:
            await remove_strays(self._cloud, self._units, [vpc["metadata"]["uid"] for vpc in self._objects.vpcs.list()])
        except (PilviError, OSError) as e:
            self._swept = False
            log.warning("routers whose Vpc is gone are not all removed yet: %s", format_chain(e))

    async def _record_transit(self, vpc: JsonObject) -> tuple[JsonObject, IPv4Address]:
        """The Vpc with its transit address, which stands in the API before anything uses it. Raises UserError when there is none left."""
        pool = self._cloud.transit
        recorded = find_own_transit(vpc, self._objects.vpcs.list(), pool)
        if recorded is not None:
            return vpc, recorded
        # One at a time, and on a fresh list: a cache could miss what the last one has just recorded.
        async with self._transit_lock:
            address = choose_transit(vpc, await self._client.list(Vpc.RESOURCE), pool)
            if address != find_transit(vpc, pool):
                guard = {"uid": vpc["metadata"]["uid"], "resourceVersion": vpc["metadata"]["resourceVersion"]}
                annotated = {"metadata": {**guard, "annotations": {TRANSIT: str(address)}}}
                vpc = await self._client.patch(Vpc.RESOURCE, Key.of(vpc), annotated)
        return vpc, address

    def _build(self, vpc: JsonObject, transit: IPv4Address) -> Router:
        objects = self._objects
        return build_router(
            vpc,
            cloud=self._cloud,
            transit=transit,
            subnets=[plan for plan in objects.plans().values() if isinstance(plan, SubnetPlan)],
            ips=objects.ips.list(),
            instances={Key.of(instance): instance for instance in objects.machines.list()},
            control_planes=objects.control_planes.list(),
            services={Key.of(service): service for service in objects.services.list()},
            published=objects.published(),
        )

    async def _apply(self, router: Router) -> bool:
        """Make the kernel have the router; returns whether the leg of a control plane is still missing."""
        netns = vpc_netns(self._cloud, router.uid)
        if not has_netns(netns):
            # A process in a namespace that lost its name would answer nobody.
            await self._services_of(router.uid).remove()
            self._tables.forget(netns)
        await ensure_netns(netns)
        # Rules before links: a router that is half made must not forward what it will refuse later, nor ask the host.
        await together(self._ensure_host_filter(router), self._ensure_rules(router, netns))
        await ensure_veth(router_uplink(router, self._cloud))
        links = await _list_names(netns)
        try:
            await ensure_network(router_network(router, self._cloud, links))
        except DriverError:
            # A control plane that is taken away takes its leg along, at any time.
            before, links = links, await _list_names(netns)
            if links == before:
                raise
            await ensure_network(router_network(router, self._cloud, links))
        await self._announce(router, netns)
        return any(leg.link not in links for leg in router.legs)

    async def _ensure_rules(self, router: Router, netns: str) -> None:
        table = self._cloud.nft_table
        await self._tables.ensure(netns, router_rules(router, table), port_rules(router, table))

    async def _announce(self, router: Router, netns: str) -> None:
        """Say on the bridge where the router's addresses are; they may have been elsewhere before."""
        if mac := router_uplink(router, self._cloud).b.mac:
            await self._announcer.announce(netns, UPLINK, mac, {router.transit.ip, *(item.address for item in router.published)})

    async def _ensure_host_filter(self, router: Router | None = None, *, without: str | None = None) -> None:
        """Have the host let in what all Vpcs together say, `router` as it is now, and nothing for the Vpc with the UID `without`."""
        # One at a time: an older table must not replace a newer one.
        async with self._host_lock:
            vpcs = self._objects.vpcs.list()
            routers = [] if router is None else [router]
            for vpc in vpcs:
                # The others only where it matters: a router is made from many objects.
                if vpc["metadata"]["uid"] in (without, router.uid if router else None) or HOST_PORTS not in _annotations(vpc):
                    continue
                transit = find_own_transit(vpc, vpcs, self._cloud.transit)
                if transit is not None:
                    routers.append(self._build(vpc, transit))
            await self._tables.ensure(None, host_filter(self._cloud, routers, read_nameservers()))

    async def _write_status(self, vpc: JsonObject, router: Router, problems: list[Problem], failure: str | None) -> None:
        if await self._put_status(vpc, vpc_status(vpc, router, vpc_netns(self._cloud, router.uid), problems, failure)):
            for problem in problems:
                self._events.record(vpc, "Warning", problem.reason, problem.message)

    async def _refuse(self, vpc: JsonObject, message: str) -> Result:
        """No router for this Vpc, until another one gives its outer address back."""
        if await self._put_status(vpc, refused_status(vpc, NO_TRANSIT, message)):
            self._events.record(vpc, "Warning", NO_TRANSIT, message)
        return Failed(message)

    async def _put_status(self, vpc: JsonObject, status: JsonObject) -> bool:
        """Write what differs; returns whether anything does."""
        before = vpc.get("status") or {}
        if all(before.get(field) == value for field, value in status.items()):
            return False
        await self._client.apply_status(Vpc.RESOURCE, {**vpc, "status": status}, manager=MANAGER)
        return True

    async def _delete(self, vpc: JsonObject) -> Result:
        name, uid = vpc["metadata"]["name"], vpc["metadata"]["uid"]
        inside = [f"Subnet {subnet['metadata']['name']}" for subnet in self._objects.subnets.list() if vpc_of_subnet(subnet) == name]
        # Whose annotation names a Vpc that is not for its namespace has no leg in it, and must not keep it from ending either.
        inside += [
            f"TenantControlPlane {Key.of(item)}"
            for item in self._objects.control_planes.list()
            if vpc_of_control_plane(item) == name and find_trespass(vpc, item) is None
        ]
        if inside:
            message = f"Vpc {name} is not deleted yet: {inside[0]} is still in it ({len(inside)} in all); delete what is in it first"
            self._events.record(vpc, "Normal", "InUse", message)
            return Waiting("InUse", message)
        await self._services_of(uid).remove()
        await delete_link(None, self._cloud.link_name(uid))
        await delete_netns(vpc_netns(self._cloud, uid))
        # Before the transit address is free for another.
        await self._ensure_host_filter(without=uid)
        self._services.pop(uid, None)
        self._tables.forget(vpc_netns(self._cloud, uid))
        self._announcer.forget(vpc_netns(self._cloud, uid))
        self._leg_backoffs.pop(uid, None)
        await remove_finalizer(self._client, Vpc.RESOURCE, vpc, FINALIZER)
        return Done()

    def _unit_changed(self, controller: Controller, unit: str) -> None:
        """A service that died becomes a condition of its Vpc, also when it is started again at once."""
        uid = next((uid for uid, services in self._services.items() if unit in services.names), None)
        if uid is None or self._units.state(unit).state == "running":
            return
        for vpc in self._objects.vpcs.list():
            if vpc["metadata"]["uid"] == uid:
                controller.enqueue(Key.of(vpc))

    def _services_of(self, uid: str) -> Services:
        return self._services.setdefault(uid, Services(self._cloud, self._units, uid))


def _annotations(obj: JsonObject) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


async def _list_names(netns: str) -> set[str]:
    return {link.name for link in await list_links(netns)}
