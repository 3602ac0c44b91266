"""What the Vpc's reconciler does before it touches the host; the rest needs real namespaces (tests/host/test_vpc.py)."""

from __future__ import annotations

import asyncio
import dataclasses
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilvi.api import JsonObject, Key
from pilvi.api.kubeovn import Vpc
from pilvi.errors import UnitFailed
from pilvi.providers.kubeovn.objects import Objects
from pilvi.providers.kubeovn.sweep import OwnerSweep
from pilvi.providers.kubeovn.vpc import controller as vpc_controller
from pilvi.providers.kubeovn.vpc.controller import VpcReconciler
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller, Done, Failed, Result, find_condition
from tests.fake_api import FakeApi
from tests.unit.providers.stage import on_stage


def version_of(obj: JsonObject | None) -> str | None:
    return obj["metadata"]["resourceVersion"] if obj is not None else None


async def test_a_used_up_transit_pool_is_a_condition_and_a_failed_sweep_is_tried_again(
    fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[list[str]] = []

    async def sweep(_cloud: Any, _units: Any, uids: list[str]) -> None:
        swept.append(uids)
        if len(swept) == 1:
            raise UnitFailed("vpc-x-dns", "has processes that cannot be killed")

    monkeypatch.setattr(vpc_controller, "remove_strays", sweep)
    async with on_stage(fake_api, tmp_path, lambda _platform: []) as stage:
        cloud = msgspec.structs.replace(stage.platform.cloud, transit=IPv4Network("100.64.0.0/30"))  # the host's and one more
        platform = dataclasses.replace(stage.platform, cloud=cloud)
        objects = Objects(platform.informers, cloud)
        reconciler = VpcReconciler(platform, objects, OwnerSweep(platform.client))
        stage.put(Vpc.RESOURCE, {"metadata": {"name": "first", "annotations": {"pilvi.dev/transit": "100.64.0.2"}}})
        stage.put(Vpc.RESOURCE, {"metadata": {"name": "late"}})
        await stage.until(lambda: len(objects.vpcs) == 2)
        for _ in range(3):
            assert isinstance(await reconciler.reconcile(Key("", "late")), Failed)
            await stage.until(lambda: version_of(objects.vpcs.get(Key("", "late"))) == version_of(stage.get(Vpc.RESOURCE, "late")))
        ready = find_condition(stage.get(Vpc.RESOURCE, "late"), "Ready") or {}
        assert (ready["status"], ready["reason"]) == ("False", "NoTransitAddress")
        assert "100.64.0.0/30" in ready["message"]
        assert len(swept) == 2


async def test_other_nameservers_of_the_host_wake_every_vpc(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [(IPv4Address("192.0.2.1"),)]
    woken: list[str] = []

    async def reconcile(self: VpcReconciler, key: Key) -> Result:
        if key == vpc_controller.NOBODY:
            return await real(self, key)
        woken.append(key.name)
        return Done()

    real = VpcReconciler.reconcile
    monkeypatch.setattr(VpcReconciler, "reconcile", reconcile)
    monkeypatch.setattr(vpc_controller, "read_nameservers", lambda: servers[-1])
    monkeypatch.setattr(vpc_controller, "NAMESERVERS_LOOK_S", 0.02)

    def build(platform: Platform) -> list[Controller]:
        return [VpcReconciler(platform, Objects(platform.informers, platform.cloud), OwnerSweep(platform.client)).controller()]

    async with on_stage(fake_api, tmp_path, build) as stage:
        for name in ("one", "two"):
            stage.put(Vpc.RESOURCE, {"metadata": {"name": name}})
        await stage.until(lambda: sorted(woken) == ["one", "two"])
        await asyncio.sleep(0.1)
        assert len(woken) == 2
        servers.append((IPv4Address("192.0.2.2"),))
        await stage.until(lambda: sorted(woken) == ["one", "one", "two", "two"])
