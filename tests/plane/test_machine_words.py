"""What a machine that does not run yet says, where the real scheduler has its own words first; and probes before admission."""

from __future__ import annotations

import pytest

from pilvi.api import JsonObject
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS
from pilvi.errors import Invalid
from pilvi.providers.kubevirt.kinds import DATA_VOLUMES, INSTANCES, MACHINES
from pilvi.runtime import find_condition, is_true
from tests.plane import test_kubevirt as stage
from tests.plane.machine_plane import Scene
from tests.plane.test_kubevirt import printable, put_network
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_vm
from tests.unit.providers.kubevirt.test_probes import Control

machines, scene = stage.machines, stage.scene


async def put_vm(scene: Scene, **spec: object) -> None:
    await put_network(scene)
    vm = make_vm()
    del vm["status"]
    instance = vm["spec"]["template"]["spec"]
    volumes = spec.pop("volumes", [])
    assert isinstance(volumes, list)
    instance["volumes"] += volumes
    instance.update(spec)
    await scene.put(MACHINES, vm)


async def condition(scene: Scene, kind: str) -> JsonObject | None:
    return find_condition(await scene.client.get(INSTANCES, scene.key("web")), kind)


async def test_a_disk_on_its_way_is_told_in_kubevirts_words(scene: Scene) -> None:
    await put_vm(scene, volumes=[{"name": "data", "dataVolume": {"name": "data"}}])
    await scene.until(MACHINES, "web", printable("ErrorPvcNotFound"))
    await scene.until(INSTANCES, "web", lambda vmi: (find_condition(vmi, "Ready") or {}).get("reason") == "FailedPvcNotFound")
    assert await condition(scene, "PodScheduled") is None
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "nobody"}
    await scene.put(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "data"}, "spec": claim})
    await scene.until(MACHINES, "web", printable("WaitingForVolumeBinding"))
    source = {"source": {"http": {"url": "http://192.0.2.1/disk.img"}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}
    await scene.put(DATA_VOLUMES, {"metadata": {"name": "data"}, "spec": source})
    running = {"type": "Running", "status": "True", "reason": "Pod"}
    ready = {"type": "Ready", "status": "False", "reason": "ImportInProgress", "message": "a third is here"}
    status: JsonObject = {"phase": "ImportInProgress", "conditions": [running, ready]}
    await scene.client.patch(DATA_VOLUMES, scene.key("data"), {"status": status}, subresource="status")
    await scene.until(MACHINES, "web", printable("Provisioning"))
    await scene.until(INSTANCES, "web", lambda vmi: find_condition(vmi, "DataVolumesReady"))
    told = await condition(scene, "DataVolumesReady")
    assert told is not None
    assert told["message"] == "DataVolume data: a third is here"
    status["conditions"][0] |= {"status": "False", "reason": "TransferFailed"}
    await scene.client.patch(DATA_VOLUMES, scene.key("data"), {"status": status}, subresource="status")
    await scene.until(MACHINES, "web", printable("DataVolumeError"))


async def test_a_machine_that_no_host_can_take_says_so(scene: Scene) -> None:
    await put_vm(scene, domain={"memory": {"guest": "100Ti"}, "devices": {}})
    await scene.until(MACHINES, "web", printable("ErrorUnschedulable"))
    told = await condition(scene, "PodScheduled")
    assert told is not None
    assert "no host gives its machines more than" in told["message"]
    assert "Insufficient memory" in told["message"], "the scheduler's words too"


async def test_a_probe_is_taken_and_decides(scene: Scene, machines: FakeMachines) -> None:
    control = Control(1)
    machines.control = control
    await put_vm(scene, readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    await scene.until(MACHINES, "web", printable("Running"))
    await scene.until(INSTANCES, "web", lambda vmi: (find_condition(vmi, "Ready") or {}).get("reason") == "ContainersNotReady")
    control.code = 0
    await scene.until(MACHINES, "web", lambda vm: is_true(vm, "Ready"))


async def test_a_probe_asks_nobody_else(scene: Scene) -> None:
    for asked in ({"tcpSocket": {"port": 80, "host": "10.0.0.1"}}, {"httpGet": {"port": 80, "host": "other"}}):
        vm = make_vm()
        del vm["status"]
        vm["spec"]["template"]["spec"]["livenessProbe"] = asked
        with pytest.raises(Invalid, match="the machine's own address is asked"):
            await scene.put(MACHINES, vm)
