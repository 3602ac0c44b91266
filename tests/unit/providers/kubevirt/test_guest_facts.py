"""What a guest tells: how it is asked, and what the instance's status makes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.instance.guest.agent import plan_agent_conditions
from pilvi.providers.kubevirt.instance.guest.interfaces import merge_interfaces
from pilvi.providers.kubevirt.instance.status import Report, plan_status
from pilvi.providers.kubevirt.machines.backend import MachineState
from pilvi.providers.kubevirt.machines.guest import GuestFacts, GuestLink
from pilvi.providers.kubevirt.machines.qemu import facts as asking
from pilvi.providers.kubevirt.machines.qemu.facts import ask_guest
from tests.unit.host.qemu.test_agent import Guest, talking
from tests.unit.providers.kubevirt.objects import make_vmi
from tests.unit.providers.kubevirt.test_machine_status import NOW

MAC = "02:00:00:00:00:01"
OWN: JsonObject = {
    "name": "default",
    "mac": MAC.upper(),
    "ipAddress": "10.0.0.2",
    "ipAddresses": ["10.0.0.2"],
    "interfaceName": "eth0",
    "infoSource": "domain",
}
BASIC = [
    "guest-ping",
    "guest-get-time",
    "guest-info",
    "guest-shutdown",
    "guest-network-get-interfaces",
    "guest-get-fsinfo",
    "guest-get-host-name",
    "guest-get-users",
    "guest-get-timezone",
    "guest-get-osinfo",
]


@pytest.mark.parametrize(
    ("links", "merged"),
    [
        ([], [OWN]),
        (
            [GuestLink("ens3", MAC, ("10.0.0.2", "fe80::1"))],
            [{**OWN, "interfaceName": "ens3", "ipAddresses": ["10.0.0.2", "fe80::1"], "infoSource": "domain, guest-agent"}],
        ),
        # The address is the machine's, whether the guest has taken it up or not.
        ([GuestLink("ens3", MAC)], [{**OWN, "interfaceName": "ens3", "infoSource": "domain, guest-agent"}]),
        (
            [GuestLink("docker0", "02:42:00:00:00:00", ("fe80::2", "172.17.0.1")), GuestLink("tun0", "")],
            [
                OWN,
                {
                    "interfaceName": "docker0",
                    "mac": "02:42:00:00:00:00",
                    "ipAddress": "172.17.0.1",
                    "ipAddresses": ["fe80::2", "172.17.0.1"],
                    "infoSource": "guest-agent",
                },
                {"interfaceName": "tun0", "infoSource": "guest-agent"},
            ],
        ),
        # A bridge in the guest has the MAC of its port: the first of them is the card.
        ([GuestLink("ens3", MAC), GuestLink("br0", MAC)], [{**OWN, "interfaceName": "ens3", "infoSource": "domain, guest-agent"}]),
    ],
)
def test_interfaces(links: list[GuestLink], merged: list[JsonObject]) -> None:
    assert merge_interfaces([OWN], links) == merged


BY_AGENT = {"propagationMethod": {"qemuGuestAgent": {"users": ["root"]}}, "source": {"secret": {"secretName": "keys"}}}
BY_SEED = {"propagationMethod": {"noCloud": {}}, "source": {"secret": {"secretName": "keys"}}}


@pytest.mark.parametrize(
    ("spec", "commands", "missing"),
    [
        ({}, BASIC, None),
        ({}, BASIC[1:], "guest-ping"),
        ({"accessCredentials": [{"sshPublicKey": BY_SEED}]}, BASIC, None),
        ({"accessCredentials": [{"sshPublicKey": BY_AGENT}]}, [*BASIC, "guest-ssh-get-authorized-keys"], "guest-ssh-add-authorized-keys"),
        ({"accessCredentials": [{"userPassword": BY_AGENT}]}, BASIC, "guest-set-user-password"),
        ({"readinessProbe": {"exec": {"command": ["true"]}}}, BASIC, "guest-exec"),
        ({"livenessProbe": {"guestAgentPing": {}}}, BASIC, None),
    ],
)
def test_what_an_agent_lacks(spec: JsonObject, commands: list[str], missing: str | None) -> None:
    found = plan_agent_conditions(spec, answers=True, facts=GuestFacts("1.0", frozenset(commands)))
    assert [entry["type"] for entry in found] == ["AgentConnected", *(["AgentVersionNotSupported"] if missing else [])]
    if missing:
        assert missing in found[-1]["message"]


def test_an_agent_that_has_told_nothing_lacks_nothing() -> None:
    assert [entry["type"] for entry in plan_agent_conditions({}, answers=True, facts=None)] == ["AgentConnected"]
    assert plan_agent_conditions({}, answers=False, facts=None) == []


def status_after(old: JsonObject, machine: MachineState) -> JsonObject:
    vmi = make_vmi("Running")
    vmi["status"].update(old)
    return plan_status(vmi, Report("Running", machine=machine, interfaces=[OWN]), NOW)


def types(status: JsonObject) -> set[str]:
    return {entry["type"] for entry in status["conditions"]}


def test_what_was_told_goes_with_the_agent() -> None:
    facts = GuestFacts(links=(GuestLink("ens3", MAC),), os={"id": "debian"}, is_frozen=True)
    told = status_after({}, MachineState("running", agent=True, guest=facts, guest_os=dict(facts.os)))
    assert (told["interfaces"][0]["interfaceName"], told["guestOSInfo"], told["fsFreezeStatus"]) == ("ens3", {"id": "debian"}, "frozen")
    assert "AgentConnected" in types(told)
    # Before the same agent has told anything to the next engine, and before that has heard of the guest at all.
    for machine in (MachineState("running", agent=True), MachineState("starting")):
        assert "AgentConnected" in types(status_after(told, machine))
        assert status_after(told, machine)["guestOSInfo"] == {"id": "debian"}
    assert status_after(told, MachineState("running", agent=True))["interfaces"][0]["interfaceName"] == "ens3"
    gone = status_after(told, MachineState("running", agent=False))
    assert gone["interfaces"] == [OWN]
    assert "guestOSInfo" not in gone
    assert "fsFreezeStatus" not in gone
    assert "AgentConnected" not in types(gone)


ANSWERS: dict[str, Any] = {
    "guest-info": {
        "version": "7.2",
        "supported_commands": [{"name": "guest-ping", "enabled": True}, {"name": "guest-exec", "enabled": False}],
    },
    "guest-get-osinfo": {"id": "debian", "pretty-name": "x" * 1000, "kernel-release": "6.1"},
    "guest-network-get-interfaces": [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
        {
            "name": "eth0",
            "hardware-address": MAC.upper(),
            "ip-addresses": [{"ip-address": each, "ip-address-type": "ipv4", "prefix": 8} for each in ("10.0.0.2", "<script>")],
        },
        *({"name": f"veth{number}"} for number in range(100)),
    ],
    "guest-fsfreeze-status": "thawed",
}


async def test_a_guest_is_asked_again_and_what_it_tells_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_SHORTEST_S", 0.01)
    monkeypatch.setattr(asking, "_QUESTIONS", tuple((0.0, ask) for _, ask in asking._QUESTIONS))
    guest, told, running = Guest(), list[GuestFacts](), True
    guest.commands = dict(ANSWERS)
    async with talking(guest, tmp_path / "socket") as agent:
        task = asyncio.create_task(ask_guest(agent, lambda: running, told.append))
        try:
            await wait_for(lambda: told, 30, "the first answers")
            facts = told[0]
            assert facts.commands == frozenset({"guest-ping"})
            assert facts.os == {"id": "debian", "prettyName": "x" * 256, "kernelRelease": "6.1"}
            assert facts.links is not None
            assert len(facts.links) == 64
            assert facts.links[0] == GuestLink("eth0", MAC, ("10.0.0.2",))
            guest.commands["guest-fsfreeze-status"] = "frozen"
            await wait_for(lambda: len(told) > 1, 30, "what has changed")
            assert told[1].is_frozen
            assert told[1].os == facts.os
            del guest.commands["guest-get-osinfo"]
            running = False
            await asyncio.sleep(0.05)
            asked = len(guest.asked)
            await asyncio.sleep(0.05)
            assert len(guest.asked) == asked, "a guest that stands still cannot answer"
        finally:
            task.cancel()
    assert len(told) == 2, "nothing is told that has not changed"
