"""Replica sets on a small API server: from nothing to a number, and what happens when one ends, changes or is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.api import JsonObject
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import INSTANCES, REPLICA_SETS
from pilvi.runtime import find_condition
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.replicaset.test_plan import make_set
from tests.unit.providers.stage import Stage, on_stage


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": FakeMachines()})) as stage:
        yield stage


def put_set(stage: Stage, replicas: int = 2, *, paused: bool = False) -> None:
    replica_set = make_set(replicas, paused=paused)
    old = stage.find(REPLICA_SETS, "web", "shop")
    if old is None:
        del replica_set["metadata"]["uid"]
        stage.put(REPLICA_SETS, replica_set)
    else:
        stage.put(REPLICA_SETS, {**old, "spec": replica_set["spec"]})


def replicas(stage: Stage) -> list[JsonObject]:
    return [obj for path, obj in stage.api.objects.items() if "/virtualmachineinstances/" in path]


def alive(stage: Stage) -> list[JsonObject]:
    return [obj for obj in replicas(stage) if not obj["metadata"].get("deletionTimestamp")]


def status(stage: Stage) -> JsonObject:
    found: JsonObject = stage.get(REPLICA_SETS, "web", "shop").get("status") or {}
    return found


async def count(stage: Stage, number: int) -> list[JsonObject]:
    await stage.until(lambda: len(replicas(stage)) == number and status(stage).get("replicas") == number, f"{number} instances")
    await stage.settled()
    assert len(replicas(stage)) == number
    return replicas(stage)


async def test_up_and_down(stage: Stage) -> None:
    put_set(stage, 3)
    await count(stage, 3)
    assert (status(stage)["labelSelector"], status(stage)["readyReplicas"]) == ("app=web", 0)
    put_set(stage, 1)
    await count(stage, 1)


async def test_one_that_ends_is_replaced(stage: Stage) -> None:
    put_set(stage, 2)
    first, second = await count(stage, 2)
    stage.put(INSTANCES, {**first, "status": {**(first.get("status") or {}), "phase": "Failed"}})
    await stage.until(lambda: first["metadata"]["name"] not in {obj["metadata"]["name"] for obj in replicas(stage)}, "the end of it")
    left = {obj["metadata"]["name"] for obj in await count(stage, 2)}
    assert second["metadata"]["name"] in left


async def test_a_paused_set_rests(stage: Stage) -> None:
    put_set(stage, 2)
    await count(stage, 2)
    put_set(stage, 5, paused=True)
    await stage.until(lambda: find_condition(stage.get(REPLICA_SETS, "web", "shop"), "ReplicaPaused"), "the word")
    await count(stage, 2)
    put_set(stage, 5)
    await count(stage, 5)
    assert find_condition(stage.get(REPLICA_SETS, "web", "shop"), "ReplicaPaused") is None


async def test_orphans_are_adopted_and_others_released(stage: Stage) -> None:
    put_set(stage, 1)
    (own,) = await count(stage, 1)
    changed = {**own, "metadata": {**own["metadata"], "labels": {"app": "db"}}}
    stage.put(INSTANCES, changed)
    await stage.until(lambda: len(replicas(stage)) == 2, "another in its place")
    await stage.settled()
    assert not stage.get(INSTANCES, own["metadata"]["name"], "shop")["metadata"]["ownerReferences"]
    put_set(stage, 2)
    await stage.until(lambda: len(replicas(stage)) == 3, "a second one")
    await stage.settled()
    back = stage.get(INSTANCES, own["metadata"]["name"], "shop")
    stage.put(INSTANCES, {**back, "metadata": {**back["metadata"], "labels": {"app": "web"}}})
    await count(stage, 2)


async def test_a_refusal_is_told_and_tried_again(stage: Stage) -> None:
    stage.api.fail(403, "Forbidden", method="POST", times=3)
    put_set(stage, 1)
    failed = await stage.until(lambda: find_condition(stage.get(REPLICA_SETS, "web", "shop"), "ReplicaFailure"), "the word")
    assert failed["reason"] == "FailedCreate"
    await count(stage, 1)
    assert find_condition(stage.get(REPLICA_SETS, "web", "shop"), "ReplicaFailure") is None


@pytest.mark.parametrize("number", range(1, 8))
async def test_every_write_may_fail_once(stage: Stage, number: int) -> None:
    stage.fail_write(number, 500, "InternalError", but="")
    put_set(stage, 2)
    await count(stage, 2)
    put_set(stage, 1)
    await count(stage, 1)
