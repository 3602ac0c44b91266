"""When a resolver is told to read its files again."""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.host.units import UnitState
from pilvi.providers.kubeovn.vpc.resolver import Resolver, hosts_file, servers_file
from pilvi.providers.kubeovn.vpc.router import Router
from tests.unit.providers.kubeovn.objects import make_ip
from tests.unit.providers.kubeovn.test_router import build
from tests.unit.providers.stage import make_cloud

SERVERS = (IPv4Address("192.0.2.53"),)


class OneUnit:
    """A unit that is restarted whenever `pid` changes; notes what is asked of it."""

    def __init__(self) -> None:
        self.pid = 7
        self.log: list[str] = []

    def state(self, name: str) -> UnitState:
        return UnitState(name=name, state="running", pid=self.pid)

    async def ensure(self, spec: Any) -> UnitState:
        return self.state(spec.name)

    async def wait_ready(self, name: str, timeout_s: float) -> None:
        self.log.append("ready")


def router(*names: str) -> Router:
    return build(ips=[make_ip(name, f"10.0.1.{number}") for number, name in enumerate(names, 2)])


async def test_only_a_ready_process_is_told_and_only_of_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = OneUnit()
    monkeypatch.setattr(os, "kill", lambda pid, number: units.log.append(f"signal {pid}"))
    resolver = Resolver(make_cloud(tmp_path), units, "uid")  # type: ignore[arg-type]
    for machines in (("a",), ("a",), ("a", "b")):
        await resolver.ensure(router(*machines), SERVERS)
    # The first has been there before us, perhaps with other names.
    assert units.log == ["ready", "signal 7", "ready", "ready", "signal 7"]


def test_a_machine_has_its_short_name_in_the_pod_network_and_elsewhere_where_that_is_not() -> None:
    def named(name: str, address: str) -> JsonObject:
        ip = make_ip("web", address)
        return {**ip, "metadata": {**ip["metadata"], "name": name}}

    second, only = named("web.team.back.team.ovn", "10.0.1.6"), named("db.team.back.team.ovn", "10.0.1.7")
    machines = build(ips=[named("web.team", "10.0.1.5"), second, only]).machines
    assert hosts_file(machines).splitlines() == [
        "10.0.1.7 db.team.back.team.ovn db.team",
        "10.0.1.5 web.team",
        "10.0.1.6 web.team.back.team.ovn",
    ]


async def test_the_registry_is_known_and_nobody_outside_is_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda _pid, _number: None)
    cloud = make_cloud(tmp_path)
    resolver = Resolver(cloud, OneUnit(), "uid")  # type: ignore[arg-type]
    await resolver.ensure(router("a"), SERVERS)
    (hosts,) = tmp_path.rglob("hosts")
    assert hosts.read_text().splitlines()[0] == f"{cloud.platform_address.ip} pilvi.dev"
    assert servers_file(SERVERS).splitlines() == ["server=/pilvi.dev/", "server=192.0.2.53"]
