"""Machines on taps: their addresses by DHCP, and what they may send, with real frames."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import pytest
import pytest_asyncio

from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.host.network import Tap, ensure_tap, list_links
from pilvi.providers.kubeovn.vpc import controller as vpc_controller
from pilvi.providers.names import machine_port, subnet_bridge, vpc_netns
from tests.fake_api import FakeApi
from tests.host.vpc_lab import OUTSIDE_ADDRESS, Lab, start_lab, until, wait_for
from tests.host.wire import ACK, BROADCAST, DECLINE, DISCOVER, NAK, Answer, Wire, arp, ethernet, ipv4, tcp, udp

GATEWAY = IPv4Address("10.0.1.1")
STRANGER = "02:99:99:99:99:99"
NOBODY = IPv4Address("10.0.1.77")
SILENCE_S = 0.5


@pytest_asyncio.fixture
async def lab(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(vpc_controller, "read_nameservers", lambda: (OUTSIDE_ADDRESS,))
    async with start_lab(fake_api) as made:
        yield made


async def test_a_guest_gets_its_own_address_and_what_it_needs_to_know(lab: Lab) -> None:
    lab.put(Vpc.RESOURCE, "one", spec={})
    lab.put(Subnet.RESOURCE, "one-a", spec={"vpc": "one", "cidrBlock": "10.0.1.0/24", "mtu": 1400, "dhcpV4Options": "ntp_server=10.0.1.9"})
    await wait_for("subnet", lambda: "one-a" in lab.status(Vpc.RESOURCE, "one").get("subnets", []))
    guest = await lab.guest("web", "team", "one-a", "one", hostname="12")
    answer = await _lease_soon(guest)
    assert str(answer.address) == _ip(lab, "web.team")
    assert {number: answer.addresses(number) for number in (1, 3, 6, 28, 42, 54)} == {
        1: [IPv4Address("255.255.255.0")],
        3: [GATEWAY],
        6: [GATEWAY],
        28: [IPv4Address("10.0.1.255")],
        42: [IPv4Address("10.0.1.9")],
        54: [GATEWAY],
    }
    assert (answer.number(26), answer.number(51)) == (1400, 999 * 24 * 3600)
    assert (answer.options[12], answer.options[15], answer.options[119]) == (b"12", b"team", b"\x04team\0")

    # Without privileges in the router, and without a name in DNS that it chose itself.
    process = lab.process("dhcp")
    assert "CapEff:\t0000000000001000" in _status(process)
    assert os.stat(f"/proc/{process}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    assert {link.mtu for link in await list_links(guest_netns(lab), "sn")} == {1400}


async def test_a_second_card_is_told_its_address_and_what_its_interface_asks_for_and_no_way_out(lab: Lab) -> None:
    lab.put(Vpc.RESOURCE, "one", spec={})
    lab.put(Subnet.RESOURCE, "one-a", spec={"vpc": "one", "cidrBlock": "10.0.1.0/24"})
    lab.put(Subnet.RESOURCE, "back", spec={"vpc": "one", "cidrBlock": "10.0.2.0/24", "provider": "back.team.ovn"})
    config = '{"type": "kube-ovn", "provider": "back.team.ovn"}'
    lab.put(NetworkAttachmentDefinition.RESOURCE, "back", "team", spec={"config": config})
    await wait_for("subnets", lambda: {"one-a", "back"} <= set(lab.status(Vpc.RESOURCE, "one").get("subnets", [])))
    told = {"tftpServerName": "10.0.2.9", "bootFileName": "grub/a,b.efi", "privateOptions": [{"option": 230, "value": "10"}]}
    interfaces = [{"name": "default", "bridge": {}}, {"name": "back", "bridge": {}, "dhcpOptions": told}]
    networks = [{"name": "default", "pod": {}}, {"name": "back", "multus": {"networkName": "back"}}]
    first = await lab.guest("web", "team", "one-a", "one", domain={"devices": {"interfaces": interfaces}}, networks=networks)
    ip = await wait_for("second IP", lambda: lab.get(IP.RESOURCE, "web.team.back.team.ovn"))
    port = machine_port(lab.uid(VirtualMachineInstance.RESOURCE, "web", "team"), "back.team.ovn")
    await ensure_tap(Tap(netns=guest_netns(lab), name=port, master=subnet_bridge(lab.uid(Subnet.RESOURCE, "back"))))
    second = lab.wire(Wire.on_tap(guest_netns(lab), port, ip["spec"]["macAddress"]))
    answer = await _lease_soon(second)
    assert str(answer.address) == ip["spec"]["v4IpAddress"] == "10.0.2.2"
    assert {3, 6, 15, 119} & answer.options.keys() == set(), "neither gateway nor resolver nor domain"
    texts = {number: answer.options[number].rstrip(b"\0") for number in (66, 67, 230)}
    assert texts == {66: b"10.0.2.9", 67: b"grub/a,b.efi", 230: b"10"}
    assert (await _lease_soon(first)).addresses(3) == [GATEWAY]


async def test_a_guest_renews_what_nobody_remembers(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    guest = await lab.guest("web", "team", "one-a", "one")
    await _lease_soon(guest)
    (gateway,) = [link.mac for link in await list_links(guest_netns(lab), "sn")]
    answer = await guest.renew(GATEWAY, gateway)
    assert answer is not None
    assert (answer.kind, answer.address) == (ACK, guest.address)

    before = lab.process("dhcp")
    os.kill(before, 9)
    await wait_for("another process", lambda: lab.process("dhcp") not in (0, before))
    await until("answer", lambda: _is_answered(guest))
    answer = await guest.renew(GATEWAY, gateway)
    assert answer is not None
    assert (answer.kind, answer.address) == (ACK, guest.address)
    # An address that it should not have is refused at once, so that it asks anew.
    guest.address = NOBODY
    refused = await guest.ask(3, 2.0, {50: NOBODY.packed})
    assert refused is not None
    assert refused.kind == NAK


async def test_who_is_not_known_gets_nothing(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    guest = await lab.guest("web", "team", "one-a", "one")
    await _lease_soon(guest)
    # From a port without a filter, so that it is the server that says nothing.
    sandbox = await lab.machine("box", "team", "one-a", "one")
    link = lab.wire(Wire.on_link(sandbox.netns, "eth0", STRANGER))
    assert await link.ask(DISCOVER, SILENCE_S) is None
    assert await link.ask(3, SILENCE_S, {50: NOBODY.packed}) is None
    assert await link.ask(DISCOVER, SILENCE_S, chaddr=_mac(lab, "box.team")) is None
    assert await link.ask(DISCOVER, 2.0, chaddr=guest.mac) is not None


async def test_an_engine_that_comes_back_restarts_nothing_and_a_later_subnet_is_served(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    assert lab.process("dhcp") == 0
    guest = await lab.guest("web", "team", "one-a", "one")
    await _lease_soon(guest)
    before = {service: lab.process(service) for service in ("dns", "dhcp")}
    await lab.stop_engine()
    assert (await _lease_soon(guest)).address == guest.address
    await lab.start_engine()
    lab.put(Subnet.RESOURCE, "one-b", spec={"vpc": "one", "cidrBlock": "10.0.2.0/25"})
    await wait_for("second subnet", lambda: len(lab.status(Vpc.RESOURCE, "one")["subnets"]) == 2)
    assert {service: lab.process(service) for service in before} == before
    other = await lab.guest("db", "team", "one-b", "one")
    answer = await _lease_soon(other)
    assert answer.addresses(1) + answer.addresses(3) == [IPv4Address("255.255.255.128"), IPv4Address("10.0.2.1")]
    # Names are resolved all the while, and who has a lease keeps it.
    assert lab.process("dns") == before["dns"]
    assert (await _lease_soon(guest)).address == guest.address
    for name in ("web", "db"):
        await lab.remove_guest(name, "team")
    await wait_for("no process for nobody", lambda: lab.process("dhcp") == 0)


async def test_an_address_passes_on(lab: Lab) -> None:
    """Nobody remembers that another machine had it for 999 days."""
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    first = await lab.guest("a", "team", "one-a", "one")
    address = (await _lease_soon(first)).address
    await lab.remove_guest("a", "team")
    interfaces = [{"name": "default", "macAddress": "02-AB-00-00-00-01"}]
    second = await lab.guest("b", "team", "one-a", "one", domain={"devices": {"interfaces": interfaces}})
    assert second.mac == "02:ab:00:00:00:01" != first.mac
    assert (await _lease_soon(second)).address == address


async def test_a_guest_sends_for_nobody_else(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    liar, victim = [await lab.guest(name, "team", "one-a", "one") for name in ("liar", "victim")]
    own, other = IPv4Address(_ip(lab, "liar.team")), IPv4Address(_ip(lab, "victim.team"))
    mac = liar.mac
    lies = {
        "another address": udp(mac, BROADCAST, NOBODY, other, 5000, 5000, b"lie"),
        "the victim's address": udp(mac, BROADCAST, other, other, 5000, 5000, b"lie"),
        "no address": udp(mac, BROADCAST, IPv4Address(0), other, 5000, 5000, b"lie"),
        "another MAC": udp(STRANGER, BROADCAST, own, other, 5000, 5000, b"lie"),
        "ARP for the gateway": arp(mac, GATEWAY, other, operation=2, to=BROADCAST),
        "ARP with another MAC inside": arp(mac, own, other, operation=2, to=BROADCAST, says=STRANGER),
        "a probe for another's address": arp(mac, IPv4Address(0), other),
        "a DHCP server": udp(mac, BROADCAST, own, IPv4Address("255.255.255.255"), 67, 68, b"lie"),
        "an IPv6 router": ethernet(mac, "33:33:00:00:00:01", 0x86DD, b"\x60" + bytes(60)),
        "a VLAN": ethernet(mac, BROADCAST, 0x8100, b"\0\7\x08\0" + udp(mac, BROADCAST, own, other, 5000, 5000, b"lie")[14:]),
    }
    truths = {
        "its own address": udp(mac, BROADCAST, own, other, 5000, 5000, b"truth"),
        "ARP about itself": arp(mac, own, other),
        "a probe for its own": arp(mac, IPv4Address(0), own),
        "where it has moved to": ethernet(mac, BROADCAST, 0x8035, bytes(28)),
    }
    last = udp(mac, BROADCAST, own, other, 5000, 5001, b"the last")

    async def arrives() -> bool:
        liar.send(last)
        return await victim.receive(lambda frame: frame == last, 0.2) is not None

    await until("frame of its own", arrives)
    victim.seen.clear()
    for frame in (*lies.values(), *truths.values(), last):
        liar.send(frame)
    assert await victim.receive(lambda frame: frame == last, 2.0) is not None
    assert {name for name, frame in {**lies, **truths}.items() if frame in victim.seen} == set(truths)

    # Of DHCP it may not speak for another either: a DECLINE would take the victim's address from it for ten minutes.
    assert await liar.ask(DISCOVER, SILENCE_S, chaddr=victim.mac) is None
    await liar.ask(DECLINE, 0.1, {50: other.packed, 54: GATEWAY.packed}, chaddr=victim.mac)
    assert (await _lease_soon(victim)).address == other


async def test_a_guest_lets_in_the_ports_that_it_names_and_answers(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    ports = [{"port": 80}, {"port": 5000, "protocol": "UDP"}]
    devices = {"interfaces": [{"name": "default", "masquerade": {}, "ports": ports}]}
    guest = await lab.guest("web", "team", "one-a", "one", domain={"devices": devices}, networks=[{"name": "default", "pod": {}}])
    other = await lab.guest("other", "team", "one-a", "one")
    await _lease_soon(guest)  # the answer of the router's DHCP is let in
    own, its = IPv4Address(_ip(lab, "other.team")), IPv4Address(_ip(lab, "web.team"))
    mac, to = other.mac, guest.mac
    syn, ack, synack, rst = 0x02, 0x10, 0x12, 0x04
    let_in = {
        "a connection to the port": tcp(mac, to, own, its, 40000, 80, syn),
        "an answer to a connection": tcp(mac, to, own, its, 443, 40000, synack),
        "data": tcp(mac, to, own, its, 443, 40000, ack),
        "a refusal": tcp(mac, to, own, its, 443, 40000, rst),
        "a message to the port": udp(mac, to, own, its, 40000, 5000, b"hello"),
        "an echo": ipv4(mac, to, own, its, 1, bytes.fromhex("0800f7ff00000000")),
        "the rest of a packet": ipv4(mac, to, own, its, 17, bytes(64), fragment=8),
        "who has its address": arp(mac, own, its),
    }
    kept_out = {
        "another connection": tcp(mac, to, own, its, 40000, 22, syn),
        "a connection to the other port": tcp(mac, to, own, its, 40000, 5000, syn),
        "another message": udp(mac, to, own, its, 40000, 53, b"hello"),
        "a message to the first port": udp(mac, to, own, its, 40000, 80, b"hello"),
        "neither TCP nor UDP": ipv4(mac, to, own, its, 132, bytes(32)),
    }
    last = udp(mac, to, own, its, 40000, 5000, b"the last")

    async def arrives(frame: bytes) -> bool:
        other.send(frame)
        return await guest.receive(lambda found: found == frame, 0.2) is not None

    await until("a message to the open port", lambda: arrives(last))
    guest.seen.clear()
    for frame in (*let_in.values(), *kept_out.values(), last):
        other.send(frame)
    assert await guest.receive(lambda frame: frame == last, 2.0) is not None
    assert {name for name, frame in {**let_in, **kept_out}.items() if frame in guest.seen} == set(let_in)

    answer = udp(mac, to, own, its, 53, 40001, b"answer")
    assert not await arrives(answer)
    guest.send(udp(to, mac, its, own, 40001, 53, b"question"))
    await until("the answer to its question", lambda: arrives(answer))
    assert not await arrives(udp(mac, to, own, its, 54, 40001, b"of another port"))


async def test_a_node_sends_for_its_pods_and_a_sandbox_as_it_likes(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    node, other = [await lab.guest(name, "team", "one-a", "one") for name in ("node", "other")]
    sandbox = await lab.machine("box", "team", "one-a", "one")
    target = IPv4Address(_ip(lab, "other.team"))
    pod = udp(node.mac, BROADCAST, IPv4Address("10.244.3.7"), target, 5000, 5000, b"pod")

    async def arrives() -> bool:
        node.send(pod)
        return await other.receive(lambda frame: frame == pod, 0.1) is not None

    assert not await arrives()
    lab.put(IP.RESOURCE, "node.team", metadata={"annotations": {"pilvi.dev/pod-cidrs": "10.244.3.0/24"}})
    await until("frame of a pod", arrives)
    link = lab.wire(Wire.on_link(sandbox.netns, "eth0", STRANGER))
    frame = udp(STRANGER, BROADCAST, NOBODY, target, 5000, 5000, b"sandbox")
    link.send(frame)
    assert await other.receive(lambda found: found == frame, 2.0) is not None


async def test_a_machine_that_starts_anew_has_another_port(lab: Lab) -> None:
    await lab.vpc("one", "10.0.1.0/24", "one-a")
    guest = await lab.guest("web", "team", "one-a", "one")
    first = await _lease_soon(guest)
    await lab.remove_guest("web", "team")
    again = await lab.guest("web", "team", "one-a", "one")
    assert (await _lease_soon(again)).address == first.address
    assert guest.port != again.port


def guest_netns(lab: Lab) -> str:
    return vpc_netns(lab.cloud, lab.uid(Vpc.RESOURCE, "one"))


async def _lease_soon(guest: Wire) -> Answer:
    """A lease, asked for again as clients do: the server may not have heard of the machine yet."""
    for _ in range(20):
        answer = await guest.lease(0.5)
        if answer is not None:
            assert answer.kind == ACK
            return answer
    raise AssertionError(f"no lease for {guest.mac}")


async def _is_answered(guest: Wire) -> bool:
    return await guest.ask(DISCOVER, 0.2) is not None


def _ip(lab: Lab, name: str) -> str:
    return str((lab.get(IP.RESOURCE, name) or {})["spec"]["v4IpAddress"])


def _mac(lab: Lab, name: str) -> str:
    return str((lab.get(IP.RESOURCE, name) or {})["spec"]["macAddress"])


def _status(process: int) -> str:
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return file.read()
