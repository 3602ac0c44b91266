"""Machines that have their disks made: from templates to a started instance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import DATA_VOLUMES, INSTANCES, MACHINES
from pilvi.providers.kubevirt.virtualmachine.datavolumes import new_data_volume
from pilvi.providers.kubevirt.virtualmachine.disks import data_volume_changed
from pilvi.runtime import find_condition
from tests.fake_api import FakeApi, status_response
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_vm
from tests.unit.providers.stage import Stage, on_stage

SPEC = {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}


def template(name: str = "root", **metadata: Any) -> JsonObject:
    return {"metadata": {"name": name, **metadata}, "spec": SPEC}


def data_volume(phase: str = "", reason: str = "", name: str = "root") -> JsonObject:
    conditions = [{"type": "Ready", "status": "False", "reason": reason}] if reason else []
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": SPEC, "status": {"phase": phase, "conditions": conditions}}


def test_a_data_volume_is_the_machines_own() -> None:
    made = new_data_volume(make_vm(), template(labels={"a": "b"}, annotations={"c": "d"}))
    assert made["metadata"]["labels"] == {"a": "b", "kubevirt.io/created-by": "vm-uid"}
    assert made["metadata"]["annotations"] == {"c": "d"}
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("VirtualMachine", "vm-uid", True)
    assert made["spec"] == SPEC


def test_progress_wakes_no_machine() -> None:
    before, after = data_volume("ImportInProgress", "TransferRunning"), data_volume("ImportInProgress", "TransferRunning")
    after["status"]["progress"] = "50.0%"
    assert not data_volume_changed(before, after)
    assert data_volume_changed(before, data_volume("Succeeded"))
    assert data_volume_changed(before, data_volume("ImportInProgress", "NoSpace"))


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": FakeMachines()})) as stage:
        yield stage


def put_vm(stage: Stage, strategy: str = "Always", *templates: JsonObject) -> None:
    vm = make_vm(strategy)
    vm["spec"]["dataVolumeTemplates"] = [*templates] or [template()]
    vm["spec"]["template"]["spec"]["volumes"].append({"name": "data", "dataVolume": {"name": "root"}})
    del vm["metadata"]["uid"], vm["status"]
    stage.put(MACHINES, vm)


def word(stage: Stage) -> str:
    return str((stage.get(MACHINES, "web", "shop").get("status") or {}).get("printableStatus"))


def set_phase(stage: Stage, phase: str, reason: str = "") -> None:
    stored = stage.get(DATA_VOLUMES, "root", "shop")
    stage.put(DATA_VOLUMES, {**stored, "status": data_volume(phase, reason)["status"]})


class TestMachines:
    async def test_start_when_their_disks_are_whole(self, stage: Stage) -> None:
        put_vm(stage)
        made = await stage.until(lambda: stage.find(DATA_VOLUMES, "root", "shop"))
        assert made["metadata"]["ownerReferences"][0]["uid"] == stage.get(MACHINES, "web", "shop")["metadata"]["uid"]
        set_phase(stage, "ImportInProgress", "TransferRunning")
        await stage.until(lambda: word(stage) == "Provisioning")
        await stage.settled()
        assert stage.find(INSTANCES, "web", "shop") is None
        set_phase(stage, "ImportInProgress", "TransferFailed")
        await stage.until(lambda: word(stage) == "DataVolumeError")
        assert stage.find(INSTANCES, "web", "shop") is None
        set_phase(stage, "Succeeded")
        await stage.until(lambda: stage.find(INSTANCES, "web", "shop"))

    async def test_start_to_be_the_first_consumer(self, stage: Stage) -> None:
        put_vm(stage)
        await stage.until(lambda: stage.find(DATA_VOLUMES, "root", "shop"))
        stage.put(CLAIMS, {"metadata": {"name": "root", "namespace": "shop"}, "spec": {}, "status": {"phase": "Pending"}})
        set_phase(stage, "WaitForFirstConsumer")
        await stage.until(lambda: stage.find(INSTANCES, "web", "shop"))
        await stage.until(lambda: word(stage) == "WaitingForVolumeBinding")

    async def test_that_are_halted_have_their_disks_made_too(self, stage: Stage) -> None:
        put_vm(stage, "Halted")
        await stage.until(lambda: stage.find(DATA_VOLUMES, "root", "shop"))
        set_phase(stage, "Succeeded")
        await stage.until(lambda: word(stage) == "Stopped")

    async def test_do_not_take_the_disk_of_another(self, stage: Stage) -> None:
        stage.put(DATA_VOLUMES, data_volume("Succeeded"))
        put_vm(stage)
        await stage.until(lambda: find_condition(stage.get(MACHINES, "web", "shop"), "Failure"))
        failure = find_condition(stage.get(MACHINES, "web", "shop"), "Failure")
        assert failure is not None
        assert failure["reason"] == "FailedCreate"
        assert "DataVolume root that is not this machine's" in failure["message"]
        assert stage.find(INSTANCES, "web", "shop") is None
        await stage.platform.client.delete(DATA_VOLUMES, Key("shop", "root"))
        await stage.until(lambda: stage.find(DATA_VOLUMES, "root", "shop"))
        await stage.until(lambda: find_condition(stage.get(MACHINES, "web", "shop"), "Failure") is None)

    async def test_use_the_claim_that_a_data_volume_has_left(self, stage: Stage) -> None:
        stage.put(CLAIMS, {"metadata": {"name": "root", "namespace": "shop"}, "spec": {}})
        put_vm(stage)
        await stage.until(lambda: stage.find(INSTANCES, "web", "shop"))
        assert stage.find(DATA_VOLUMES, "root", "shop") is None

    @pytest.mark.parametrize("strategy", ["Always", "Halted"])
    async def test_say_why_a_disk_cannot_be_made(self, stage: Stage, strategy: str) -> None:
        stage.api.faults.append(
            lambda request: status_response(422, "Invalid") if request.path.endswith("/datavolumes") and request.method == "POST" else None
        )
        put_vm(stage, strategy)
        await stage.until(lambda: find_condition(stage.get(MACHINES, "web", "shop"), "Failure"))
        assert "DataVolume root cannot be made" in find_condition(stage.get(MACHINES, "web", "shop"), "Failure")["message"]  # type: ignore[index]
        stage.api.faults.clear()
        await stage.until(lambda: stage.find(DATA_VOLUMES, "root", "shop"), "the next try")
