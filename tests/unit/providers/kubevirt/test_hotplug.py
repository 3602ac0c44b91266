"""A disk that comes to a machine that runs and goes again, with each write of the controllers failing once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.builtin import PERSISTENT_VOLUMES as VOLUMES
from pilvi.api.builtin import PODS
from pilvi.providers import kubevirt
from pilvi.providers.claims import VOLUME, volume_file
from pilvi.providers.kubevirt.instance.attachment import volume_of
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS, VPCS
from pilvi.providers.kubevirt.virtualhost.node import node_name
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.hot_machines import HotMachines
from tests.unit.providers.kubevirt.objects import make_ip, make_subnet, make_vpc
from tests.unit.providers.stage import Stage, on_stage

KEY = Key("shop", "web")
ROOT = {"name": "root", "emptyDisk": {"capacity": "1Gi"}}
DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "data", "hotpluggable": True}}
SHOWN = {"root": {"name": "root", "disk": {"bus": "virtio"}}, "data": {"name": "data", "disk": {"bus": "scsi"}}}


@pytest.fixture
def machines() -> HotMachines:
    return HotMachines()


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path, machines: HotMachines) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"qemu": machines})) as stage:
        yield stage


def spec(*volumes: JsonObject) -> JsonObject:
    disks = [SHOWN[volume["name"]] for volume in volumes]
    return {"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": disks}}, "volumes": list(volumes)}


def put_claim(stage: Stage) -> None:
    file = volume_file(stage.platform.cloud, "data")
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(512))
    named = {"metadata": {"name": "data", "namespace": "shop"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}
    uid = stage.put(CLAIMS, named)["metadata"]["uid"]
    stage.put(VOLUMES, {"metadata": {"name": "pv", "annotations": {VOLUME: "data"}}, "spec": {"claimRef": {"uid": uid}}})


def pods(stage: Stage, *, attached: bool) -> list[JsonObject]:
    found = [obj for path, obj in stage.api.objects.items() if path.startswith(PODS.path("shop"))]
    return [pod for pod in found if (volume_of(pod) is not None) == attached]


async def bind(stage: Stage, *, attached: bool) -> None:
    """Do what the scheduler does."""
    (pod,) = await stage.until(lambda: pods(stage, attached=attached), "a Pod")
    stage.put(PODS, {**pod, "spec": {**pod["spec"], "nodeName": node_name()}})


def phase(stage: Stage) -> str | None:
    status = (stage.find(INSTANCES, "web", "shop") or {}).get("status") or {}
    return next((entry.get("phase") for entry in status.get("volumeStatus") or [] if entry["name"] == "data"), None)


def runs(stage: Stage) -> bool:
    return ((stage.find(INSTANCES, "web", "shop") or {}).get("status") or {}).get("phase") == "Running"


async def change(stage: Stage, *volumes: JsonObject) -> None:
    vm = stage.get(MACHINES, "web", "shop")
    stage.put(MACHINES, {**vm, "spec": {**vm["spec"], "template": {"spec": spec(*volumes)}}})


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize(("code", "reason"), [(409, "Conflict"), (500, "InternalError")])
async def test_any_write_may_fail(stage: Stage, machines: HotMachines, number: int, code: int, reason: str) -> None:
    for resource, obj in ((VPCS, make_vpc()), (SUBNETS, make_subnet()), (IPS, make_ip())):
        stage.put(resource, obj)
    put_claim(stage)
    vm = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"runStrategy": "Always", "template": {"spec": spec(ROOT)}}}
    stage.put(MACHINES, vm)
    await bind(stage, attached=False)
    await stage.until(lambda: runs(stage), "a running machine")
    await stage.settled()
    stage.fail_write(number, code, reason, but="")
    machines.holds_on = True
    await change(stage, ROOT, DATA)
    await bind(stage, attached=True)
    await stage.until(lambda: phase(stage) == "Ready", "the disk")
    await change(stage, ROOT)
    await stage.until(lambda: phase(stage) == "Detaching", "the guest to hold on")
    assert pods(stage, attached=True)
    machines.let_go()
    await stage.until(lambda: phase(stage) is None and not pods(stage, attached=True), "the disk to be gone")
    await stage.settled()
    assert [volume.name for volume in machines.specs[stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]].volumes] == ["root"]


async def test_a_machine_that_ends_takes_the_pods_of_its_disks_along(stage: Stage, machines: HotMachines) -> None:
    for resource, obj in ((VPCS, make_vpc()), (SUBNETS, make_subnet()), (IPS, make_ip())):
        stage.put(resource, obj)
    put_claim(stage)
    vm = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"runStrategy": "Once", "template": {"spec": spec(ROOT, DATA)}}}
    stage.put(MACHINES, vm)
    await bind(stage, attached=False)
    await bind(stage, attached=True)
    await stage.until(lambda: phase(stage) == "Ready", "the machine with its disk")
    uid = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    assert [volume.name for volume in machines.specs[uid].volumes] == ["root", "data"], "it has waited for what is there already"
    await stage.platform.client.delete(MACHINES, KEY)
    await stage.until(lambda: stage.find(MACHINES, "web", "shop") is None, "the machine to go")
    assert pods(stage, attached=True) == []
