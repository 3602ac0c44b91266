"""VPCs in real namespaces with real nftables, dnsmasq and packets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import pytest
import pytest_asyncio

from pilvi.api.builtin import SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.host.network import delete_netns, list_links
from pilvi.providers.kubeovn.vpc import controller as vpc_controller
from tests.fake_api import FakeApi
from tests.host.vpc_lab import (
    OUTSIDE_ADDRESS,
    Lab,
    ask,
    ask_until,
    command,
    leftovers,
    resolve,
    resolves,
    start_dns,
    start_lab,
    until,
    wait_for,
)

GATEWAY = IPv4Address("10.0.1.1")


@pytest_asyncio.fixture
async def lab(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    # The machine that runs the tests may have no nameserver, or one that is slow to say no.
    monkeypatch.setattr(vpc_controller, "read_nameservers", lambda: (OUTSIDE_ADDRESS,))
    async with start_lab(fake_api) as made:
        yield made


async def test_equal_networks_do_not_meet(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    await lab.vpc("two", "10.0.1.0/24", "two-a")
    first = [await lab.machine(name, "one", "one-a", "one") for name in ("m1", "m2")]
    second = [await lab.machine(name, "two", "two-a", "two") for name in ("m1", "m2")]
    assert [machine.address for machine in first] == [machine.address for machine in second]
    for machine in (*first, *second):
        await lab.serve(machine.netns, 80, machine.netns)

    # Each client gets the machine of its own VPC at the one address.
    target = first[1].address
    assert await ask(first[0].netns, target, 80) == f"{first[1].netns} {first[0].address}"
    assert await ask(second[0].netns, target, 80) == f"{second[1].netns} {second[0].address}"

    # Not even by naming the other router.
    other = lab.get(Vpc.RESOURCE, "two")["metadata"]["annotations"]["pilvi.dev/transit"]
    assert await ask(first[0].netns, other, 80) == "refused"


async def test_what_leaves_has_the_transit_address(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    machine = await lab.machine("m1", "one", "one-a", "one")
    transit = lab.get(Vpc.RESOURCE, "one")["metadata"]["annotations"]["pilvi.dev/transit"]
    await lab.serve(lab.outside, 80, "outside")
    assert await ask(machine.netns, OUTSIDE_ADDRESS, 80) == f"outside {transit}"
    # The cloud's own range is on the link, and the source is the same.
    assert await ask(machine.netns, lab.cloud.host_address.ip, 80) == f"outside {transit}"


async def test_nothing_gets_in_from_the_bridge(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    machine = await lab.machine("m1", "one", "one-a", "one")
    await lab.serve(machine.netns, 80, "m1")
    transit = lab.get(Vpc.RESOURCE, "one")["metadata"]["annotations"]["pilvi.dev/transit"]
    await _route(lab.outside, "10.0.1.0/24", transit)
    assert await ask(lab.outside, machine.address, 80, 0.5) == "nothing"
    assert await ask(lab.outside, transit, 53) == "refused"


async def test_subnets_of_one_vpc_reach_each_other_unless_private(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    for name, cidr, extra in (
        ("one-b", "10.0.2.0/24", {}),
        ("one-p", "10.0.3.0/24", {"private": True}),
        ("one-q", "10.0.4.0/24", {"private": True, "allowSubnets": ["10.0.1.0/24"]}),
    ):
        lab.put(Subnet.RESOURCE, name, spec={"vpc": "one", "cidrBlock": cidr, **extra})
    await wait_for("four subnets", lambda: len(lab.status(Vpc.RESOURCE, "one")["subnets"]) == 4)
    machines = {name: await lab.machine(f"m-{name}", "one", name, "one") for name in ("one-a", "one-b", "one-p", "one-q")}
    for name, machine in machines.items():
        await lab.serve(machine.netns, 80, name)
    source = machines["one-a"]
    assert await ask(source.netns, machines["one-b"].address, 80) == f"one-b {source.address}"
    assert await ask(source.netns, machines["one-p"].address, 80) == "refused"
    assert await ask(source.netns, machines["one-q"].address, 80) == f"one-q {source.address}"
    assert await ask(machines["one-b"].netns, machines["one-q"].address, 80) == "refused"
    # Private keeps others out, not its own in.
    assert await ask(machines["one-p"].netns, source.address, 80) == f"one-a {machines['one-p'].address}"


async def test_a_machine_cannot_take_an_address_of_another_subnet(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    lab.put(Subnet.RESOURCE, "one-b", spec={"vpc": "one", "cidrBlock": "10.0.2.0/24"})
    await wait_for("two subnets", lambda: len(lab.status(Vpc.RESOURCE, "one")["subnets"]) == 2)
    liar = await lab.machine("liar", "one", "one-a", "one")
    await command(liar.netns, "ip", "address", "add", "10.0.2.99/32", "dev", "eth0")
    await command(liar.netns, "ip", "route", "add", f"{OUTSIDE_ADDRESS}/32", "via", str(GATEWAY), "src", "10.0.2.99")
    await lab.serve(lab.outside, 80, "outside")
    assert await ask(liar.netns, OUTSIDE_ADDRESS, 80, 0.5) == "nothing"


async def test_a_control_plane_reaches_machines_and_pods_and_they_reach_it(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    node = await lab.machine("node", "one", "one-a", "one")
    plane = await lab.control_plane("cluster", "one", "one")
    await _route(plane.netns, "10.0.1.0/24", str(plane.gateway))
    await _route(plane.netns, "10.244.0.0/16", str(plane.gateway))
    await lab.serve(plane.netns, 6443, "api")
    await lab.serve(plane.netns, 2379, "etcd")
    # A pod: an address behind the node.
    await command(node.netns, "ip", "address", "add", "10.244.3.7/32", "dev", "lo")
    lab.put(IP.RESOURCE, "node.one", metadata={"annotations": {"pilvi.dev/pod-cidrs": "10.244.3.0/24"}})
    await lab.serve(node.netns, 10250, "kubelet")

    await ask_until(f"api {node.address}", node.netns, plane.address, 6443)
    assert (await ask(plane.netns, node.address, 10250)).startswith("kubelet ")
    await ask_until("kubelet ", plane.netns, "10.244.3.7", 10250)
    # Its address inside the leg is nobody's business.
    inner = plane.gateway + 1
    assert await ask(node.netns, inner, 2379) == "refused"


async def test_published_service_keeps_the_client_and_spreads(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    await lab.vpc("two", "10.0.1.0/24", "two-a")
    backends = [await lab.machine(f"web{number}", "one", "one-a", "one") for number in (1, 2)]
    stranger = await lab.machine("web1", "two", "two-a", "two")
    for machine in backends:
        await lab.serve(machine.netns, 8080, machine.name)
    await lab.serve(stranger.netns, 8080, "wrong")
    lab.service("web", "one", {80: 8080}, backends)
    address = await lab.cloud_address("web", "one")
    client = lab.cloud.host_address.ip
    await ask_until("web", lab.outside, address, 80)
    answers = {await ask(lab.outside, address, 80) for _ in range(40)}
    assert answers == {f"web1 {client}", f"web2 {client}"}
    assert await ask(lab.outside, address, 81) == "refused"

    # From the other VPC its router is the client; from the same VPC the address works as well.
    transit = lab.get(Vpc.RESOURCE, "two")["metadata"]["annotations"]["pilvi.dev/transit"]
    assert (await ask(stranger.netns, address, 80)).split()[1] == transit
    assert {(await ask(backends[0].netns, address, 80)).split()[0] for _ in range(20)} == {"web1", "web2"}

    # Sticky: one client, one endpoint.
    lab.service("web", "one", {80: 8080}, backends, sessionAffinity="ClientIP")
    await until("sticky client", lambda: _is_sticky(lab, address))
    assert lab.condition(SERVICES, "web", "pilvi.dev/EndpointsReachable", "one")["status"] == "True"

    # Without endpoints the connection is refused, and the Service says so.
    lab.service("web", "one", {80: 8080}, [])
    await wait_for("condition", lambda: lab.condition(SERVICES, "web", "pilvi.dev/EndpointsReachable", "one").get("status") == "False")


async def test_an_address_that_moves_to_another_vpc_is_found_there_at_once(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    await lab.vpc("two", "10.0.1.0/24", "two-a")
    machines = [await lab.machine("m", namespace, f"{namespace}-a", namespace) for namespace in ("one", "two")]
    client = lab.cloud.host_address.ip
    for namespace, machine in zip(("one", "two"), machines, strict=True):
        await lab.serve(machine.netns, 80, namespace)
        lab.service("web", namespace, {80: 80}, [machine])
        address = await lab.cloud_address("web", namespace)
        # Neighbours would believe what they know for half a minute.
        started = time.monotonic()
        await ask_until(f"{namespace} {client}", lab.outside, address, 80)
        assert time.monotonic() - started < 20
        await lab.delete(SERVICES, "web", namespace)
    assert address == lab.cloud.range[3]


async def test_a_router_is_made_in_spite_of_errors(lab: Lab) -> None:
    lab.api.fail(500, method="PATCH", times=4)
    netns = await lab.vpc("one", "10.0.1.0/24", "one-a")
    machine = await lab.machine("m1", "one", "one-a", "one")
    await lab.serve(lab.outside, 80, "outside")
    await ask_until("outside", machine.netns, OUTSIDE_ADDRESS, 80)
    assert netns.startswith(lab.cloud.netns_prefix)


async def test_resolver_knows_machines_and_asks_the_host_for_the_rest(lab: Lab) -> None:
    process = await start_dns(lab.outside)
    try:
        await lab.vpc("one", "10.0.1.0/24", "one-a")
        machine = await lab.machine("m1", "team", "one-a", "one")
        await resolves(machine.netns, GATEWAY, "m1.team", machine.address)
        assert await resolve(machine.netns, GATEWAY, "example.test") == IPv4Address("192.0.2.7")
        unit = next(state for state in lab.units.states() if state.name.endswith("-dns"))

        # A second machine and a second subnet: the same process answers.
        other = await lab.machine("m2", "team", "one-a", "one")
        await resolves(machine.netns, GATEWAY, "m2.team", other.address)
        lab.put(Subnet.RESOURCE, "one-b", spec={"vpc": "one", "cidrBlock": "10.0.2.0/24"})
        await wait_for("second subnet", lambda: len(lab.status(Vpc.RESOURCE, "one")["subnets"]) == 2)
        third = await lab.machine("m3", "team", "one-b", "one")
        await resolves(third.netns, IPv4Address("10.0.2.1"), "m2.team", other.address)
        assert lab.units.state(unit.name).pid == unit.pid
    finally:
        process.terminate()
        await process.wait()


async def test_an_engine_that_comes_back_changes_nothing(lab: Lab) -> None:
    netns = await lab.vpc("one", "10.0.1.0/24", "one-a")
    machine = await lab.machine("m1", "one", "one-a", "one")
    await lab.serve(machine.netns, 80, "m1")
    lab.service("web", "one", {80: 80}, [machine])
    address = await lab.cloud_address("web", "one")
    await ask_until(f"m1 {lab.cloud.host_address.ip}", lab.outside, address, 80)
    before = await _kernel_state(netns)
    units = [(state.name, state.pid) for state in lab.units.states()]

    await lab.stop_engine()
    assert await ask(lab.outside, address, 80) == f"m1 {lab.cloud.host_address.ip}"
    seen = len(lab.api.requests)
    await lab.start_engine()
    second = await lab.machine("m2", "one", "one-a", "one")
    await resolves(second.netns, GATEWAY, "m2.one", second.address)
    await delete_netns(second.netns)
    await lab.delete(VirtualMachineInstance.RESOURCE, "m2", "one")
    await wait_for("the second IP gone", lambda: lab.get(IP.RESOURCE, "m2.one") is None)

    assert await _kernel_state(netns) == before
    assert [(state.name, state.pid) for state in lab.units.states()] == units
    writes = [path for method, path in lab.api.requests[seen:] if method in ("PATCH", "PUT") and "/vpcs/" in path]
    assert writes == []


async def test_drift_is_repaired_at_the_next_run(lab: Lab) -> None:
    netns = await lab.vpc("one", "10.0.1.0/24", "one-a")
    machine = await lab.machine("m1", "one", "one-a", "one")
    await lab.serve(lab.outside, 80, "outside")
    await command(netns, "ip", "route", "del", "default")
    await command(netns, "ip", "link", "del", "uplink")
    lab.put(Vpc.RESOURCE, "one", metadata={"labels": {"touched": "yes"}})
    transit = lab.get(Vpc.RESOURCE, "one")["metadata"]["annotations"]["pilvi.dev/transit"]
    await ask_until(f"outside {transit}", machine.netns, OUTSIDE_ADDRESS, 80)


async def test_deletion_waits_for_what_is_inside_and_leaves_nothing(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    machine = await lab.machine("m1", "one", "one-a", "one")
    plane = await lab.control_plane("cluster", "one", "one")
    # The wrong order: the Vpc first.
    for resource, name in ((Vpc.RESOURCE, "one"), (Subnet.RESOURCE, "one-a")):
        await lab.delete(resource, name)
    await delete_netns(plane.netns)
    await lab.delete(TenantControlPlane.RESOURCE, "cluster", "one")
    await wait_for("event", lambda: any(obj.get("reason") == "InUse" for path, obj in lab.api.objects.items() if "/events/" in path))
    assert lab.get(Vpc.RESOURCE, "one") is not None
    assert lab.get(Subnet.RESOURCE, "one-a") is not None

    await delete_netns(machine.netns)
    await lab.delete(VirtualMachineInstance.RESOURCE, "m1", "one")
    await wait_for("Vpc gone", lambda: lab.get(Vpc.RESOURCE, "one") is None)
    assert lab.get(Subnet.RESOURCE, "one-a") is None
    assert await leftovers(lab.cloud, keep=[lab.outside]) == []


async def test_a_control_plane_that_may_not_be_in_a_vpc_keeps_it_from_nothing(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a", namespaces=["one"])
    lab.put(TenantControlPlane.RESOURCE, "foreign", "other", metadata={"annotations": {"pilvi.dev/vpc": "one"}}, spec={})
    await wait_for("refusal", lambda: lab.condition(Vpc.RESOURCE, "one", "Error").get("reason") == "NamespaceNotAllowed")
    for resource, name in ((Subnet.RESOURCE, "one-a"), (Vpc.RESOURCE, "one")):
        await lab.delete(resource, name)
    await wait_for("Vpc gone", lambda: lab.get(Vpc.RESOURCE, "one") is None)


async def test_a_router_without_its_vpc_is_removed_at_start(lab: Lab) -> None:
    netns = await lab.vpc("one", "10.0.1.0/24", "one-a")
    await lab.stop_engine()
    lab.api.remove("/apis/kubeovn.io/v1/vpcs/one")
    lab.api.remove("/apis/kubeovn.io/v1/subnets/one-a")
    await lab.start_engine()
    await lab.vpc("two", "10.0.1.0/24", "two-a")
    assert netns not in [entry.split()[-1] for entry in await leftovers(lab.cloud)]
    assert len([state for state in lab.units.states() if state.name.endswith("-dns")]) == 1


async def _route(netns: str, network: str, via: str) -> None:
    await command(netns, "ip", "route", "add", network, "via", via)


async def _kernel_state(netns: str) -> tuple[str, str, str, list[str]]:
    """All that a restart must not change: addresses, routes and rules without their counters, and the links by index."""
    routes = await command(netns, "ip", "-4", "route", "show", "table", "all")
    rules = await command(netns, "nft", "list", "ruleset")
    addresses = await command(netns, "ip", "-4", "-oneline", "address")
    return routes, rules, addresses, [f"{link.index} {link.name} {link.mac}" for link in await list_links(netns)]


async def _is_sticky(lab: Lab, address: IPv4Address) -> bool:
    return len({await ask(lab.outside, address, 80) for _ in range(12)}) == 1
