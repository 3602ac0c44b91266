"""Disks, processors and memory of machines that run, on a real API server: Pods that hold claims, resized Pods, policies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.builtin import PERSISTENT_VOLUMES as VOLUMES
from pilvi.api.builtin import PODS
from pilvi.errors import Forbidden, Invalid
from pilvi.lib.quantity import format_bytes
from pilvi.providers import kubevirt
from pilvi.providers.claims import VOLUME, volume_file
from pilvi.providers.kubevirt.instance.attachment import attachment_name
from pilvi.providers.kubevirt.instance.pod import launcher_name
from pilvi.providers.kubevirt.instance.volumes.holders import is_held_up
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.volumes import EmptyDisk, VolumeDisk
from pilvi.runtime import find_condition
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.plane.test_kubevirt import put_address, put_network
from tests.unit.providers.kubevirt.hot_machines import HotMachines

MIB = 1 << 20
DISK = {"name": "data", "disk": {"bus": "scsi"}}
DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "data", "hotpluggable": True}}


@pytest.fixture
def machines() -> HotMachines:
    return HotMachines()


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, machines: HotMachines, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    name = request.node.name.replace("_", "-")[:50].strip("-")
    async with on_plane(plane, name, tmp_path, lambda platform: kubevirt.controllers(platform, {"qemu": machines})) as scene:
        yield scene


def template(*, sockets: int = 1, guest: str = "256Mi", hot: bool = False) -> JsonObject:
    root = {"name": "root", "disk": {"bus": "virtio"}}
    return {
        "domain": {
            "cpu": {"sockets": sockets, "maxSockets": 64},
            "memory": {"guest": guest, "maxGuest": "1Gi"},
            "devices": {"disks": [root, DISK] if hot else [root]},
        },
        "volumes": [{"name": "root", "emptyDisk": {"capacity": "1Gi"}}, *([DATA] if hot else [])],
    }


async def run_machine(scene: Scene, **spec: Any) -> JsonObject:
    await put_network(scene)
    await scene.put(MACHINES, {"metadata": {"name": "web"}, "spec": {"runStrategy": "Always", "template": {"spec": template(**spec)}}})
    return await scene.until(INSTANCES, "web", lambda vmi: (vmi.get("status") or {}).get("phase") == "Running")


async def change(scene: Scene, spec: JsonObject) -> None:
    await scene.client.patch(MACHINES, scene.key("web"), {"spec": {"template": {"spec": spec}}})


async def put_claim(scene: Scene, name: str = "data", size: int = MIB) -> None:
    """A claim and its volume, which names the claim: the other way round Kubernetes looks again after 15 s."""
    file = volume_file(scene.platform.cloud, name)
    file.parent.mkdir(parents=True)
    with file.open("wb") as disk:
        disk.truncate(size)
    room, modes = {"storage": format_bytes(size)}, ["ReadWriteOnce"]
    claim = {"accessModes": modes, "resources": {"requests": room}, "storageClassName": ""}
    made = await scene.put(CLAIMS, {"metadata": {"name": name}, "spec": claim})
    reference = {"namespace": scene.namespace, "name": name, "uid": made["metadata"]["uid"]}
    volume = {"accessModes": modes, "capacity": room, "storageClassName": "", "hostPath": {"path": str(file)}, "claimRef": reference}
    await scene.client.create(VOLUMES, {"metadata": {"name": f"{scene.namespace}-{name}", "annotations": {VOLUME: name}}, "spec": volume})


def volume(phase: str | None) -> Any:
    """Whether the disk `data` is in that phase; None for no such disk."""

    def holds(vmi: JsonObject) -> bool:
        found = [entry for entry in vmi["status"]["volumeStatus"] if entry["name"] == "data"]
        return (found[0].get("phase") if found else None) == phase

    return holds


async def test_a_disk_comes_when_its_claim_is_there_and_goes_when_the_guest_lets_it(scene: Scene, machines: HotMachines) -> None:
    vmi = await run_machine(scene)
    uid = vmi["metadata"]["uid"]
    assert machines.specs[uid].volumes == (EmptyDisk("root", 1 << 30),)
    await change(scene, template(hot=True))
    waiting = await scene.until(INSTANCES, "web", volume("Pending"), "the disk to wait for its claim")
    assert waiting["status"]["volumeStatus"][1]["reason"] == "FailedPvcNotFound"
    assert find_condition(waiting, "Ready")["status"] == "True"  # type: ignore[index]
    await put_claim(scene)
    vmi = await scene.until(INSTANCES, "web", volume("Ready"), "the disk")
    pod = await scene.client.get(PODS, scene.key(attachment_name(vmi, "data")))
    assert pod["status"]["phase"] == "Running"
    found = vmi["status"]["volumeStatus"][1]
    assert found["hotplugVolume"] == {"attachPodName": pod["metadata"]["name"], "attachPodUID": pod["metadata"]["uid"]}
    assert (found["size"], found["persistentVolumeClaimInfo"]["claimName"]) == (MIB, "data")
    assert isinstance(machines.specs[uid].volumes[1], VolumeDisk)
    launcher = await scene.client.get(PODS, scene.key(launcher_name(vmi)))
    assert not any("persistentVolumeClaim" in each for each in launcher["spec"].get("volumes") or [])

    machines.holds_on = True
    await change(scene, template())
    await scene.until(INSTANCES, "web", volume("Detaching"), "the guest to hold on")
    assert await scene.client.find(PODS, Key.of(pod)) is not None, "its claim is in use as long"
    machines.let_go()
    await scene.until(INSTANCES, "web", volume(None), "the disk to be gone")
    await scene.until_gone(PODS, pod["metadata"]["name"])
    vm = await scene.client.get(MACHINES, scene.key("web"))
    assert find_condition(vm, "RestartRequired") is None


async def test_a_machine_waits_for_a_disk_that_another_one_has(scene: Scene, machines: HotMachines) -> None:
    await put_claim(scene)
    first = await run_machine(scene)
    await change(scene, template(hot=True))
    await scene.until(INSTANCES, "web", volume("Ready"), "the disk")
    await put_address(scene, "cold", 6)
    cold = template(hot=True)
    cold["volumes"][1] = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    await scene.put(MACHINES, {"metadata": {"name": "cold"}, "spec": {"runStrategy": "Always", "template": {"spec": cold}}})
    vmi = await scene.until(INSTANCES, "cold", is_held_up, "the other machine to say that it waits")
    told = find_condition(vmi, "Ready")
    assert told is not None
    assert told["message"].startswith(f"PersistentVolumeClaim {scene.namespace}/data is in use by VirtualMachineInstance web; stop it")
    assert vmi["metadata"]["uid"] not in machines.specs, "nothing is started that must fail"
    # Its guest lets go of the disk, and the other one has it at once; then it is the first that waits.
    await change(scene, template())
    await scene.until(INSTANCES, "cold", lambda vmi: vmi["status"]["phase"] == "Running", "the other machine to run")
    await change(scene, template(hot=True))
    vmi = await scene.until(INSTANCES, "web", is_held_up, "the disk to wait")
    assert "VirtualMachineInstance cold" in vmi["status"]["volumeStatus"][1]["message"]
    assert find_condition(vmi, "Ready")["status"] == "True"  # type: ignore[index]
    await scene.client.delete(MACHINES, scene.key("cold"))
    await scene.until(INSTANCES, "web", volume("Ready"), "the disk again")
    assert first["metadata"]["uid"] == (await scene.client.get(INSTANCES, scene.key("web")))["metadata"]["uid"]


async def test_with_the_machine_the_pods_of_its_disks_go(scene: Scene, machines: HotMachines) -> None:
    await put_claim(scene)
    vmi = await run_machine(scene)
    await change(scene, template(hot=True))
    await scene.until(INSTANCES, "web", volume("Ready"), "the disk")
    await scene.client.delete(MACHINES, scene.key("web"))
    await scene.until_gone(PODS, attachment_name(vmi, "data"))
    await scene.until_gone(MACHINES, "web")


async def test_a_machine_grows_as_far_as_its_host_has_room(scene: Scene, machines: HotMachines) -> None:
    vmi = await run_machine(scene)
    uid = vmi["metadata"]["uid"]
    await change(scene, template(sockets=3, guest="512Mi"))
    vmi = await scene.until(INSTANCES, "web", lambda vmi: vmi["status"]["currentCPUTopology"]["sockets"] == 3, "the processors")
    assert vmi["status"]["memory"] == {"guestAtBoot": "256Mi", "guestCurrent": "512Mi", "guestRequested": "512Mi"}
    assert (machines.specs[uid].size.sockets, machines.specs[uid].size.memory_bytes) == (3, 512 * MIB)
    pod = await scene.client.get(PODS, scene.key(launcher_name(vmi)))
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "300m", "memory": "512Mi"}

    def refused(vmi: JsonObject) -> bool:
        return (find_condition(vmi, "HotVCPUChange") or {}).get("status") == "False"

    # 64 of them request 6.4 processors, of which two are more than any host of a test has left.
    await change(scene, template(sockets=64, guest="512Mi"))
    vmi = await scene.until(INSTANCES, "web", refused, "the host to have no room")
    assert "the virtual host has" in find_condition(vmi, "HotVCPUChange")["message"]  # type: ignore[index]
    assert machines.specs[uid].size.sockets == 3
    await scene.until(MACHINES, "web", refused, "the machine to say so too")
    # What it did not get is taken back; memory goes back to what it was at the start, and the Pod's share with it.
    await change(scene, template(sockets=3, guest="256Mi"))
    await scene.until(
        PODS, pod["metadata"]["name"], lambda pod: pod["spec"]["containers"][0]["resources"]["requests"]["memory"] == "256Mi", "less"
    )
    await scene.until(MACHINES, "web", lambda vm: find_condition(vm, "HotVCPUChange") is None, "nothing to be under way")
    assert find_condition(await scene.client.get(MACHINES, scene.key("web")), "RestartRequired") is None


async def test_what_is_refused_at_once(scene: Scene) -> None:
    for spec, words in (
        (template(sockets=65), "sockets is more than maxSockets"),
        (template(guest="2Gi"), "maxGuest must be a quantity that is not less than guest"),
    ):
        with pytest.raises((Invalid, Forbidden), match=words):
            await scene.put(MACHINES, {"metadata": {"name": "bad"}, "spec": {"runStrategy": "Always", "template": {"spec": spec}}})


async def test_the_memory_is_written_to_a_claim_once(scene: Scene, machines: HotMachines) -> None:
    await put_claim(scene, size=132 * MIB)
    await run_machine(scene, guest="32Mi")
    spec = template(guest="32Mi")
    two = [*spec["volumes"], *({"name": name, "memoryDump": {"claimName": name}} for name in ("data", "more"))]
    with pytest.raises(Invalid, match="one claim at a time"):
        await change(scene, {**spec, "volumes": two})
    read_only = {"name": "data", "memoryDump": {"claimName": "data", "readOnly": True}}
    with pytest.raises(Invalid, match="readOnly"):
        await change(scene, {**spec, "volumes": [*spec["volumes"], read_only]})
    body = {"status": {"memoryDumpRequest": {"claimName": "data", "phase": "Associating"}}}
    await scene.client.patch(MACHINES, scene.key("web"), body, subresource="status")

    def is_completed(vm: JsonObject) -> bool:
        return (vm["status"].get("memoryDumpRequest") or {}).get("phase") == "Completed"

    vm = await scene.until(MACHINES, "web", is_completed, "the dump")
    assert machines.dumps.disks == [volume_file(scene.platform.cloud, "data")]
    vmi = await scene.until(INSTANCES, "web", volume(None), "the claim to be let go")
    await scene.until_gone(PODS, attachment_name(vmi, "data"))
    claim = await scene.client.get(CLAIMS, scene.key("data"))
    assert claim["metadata"]["annotations"]["kubevirt.io/memory-dump"] == vm["status"]["memoryDumpRequest"]["fileName"]
    vm = await scene.client.get(MACHINES, scene.key("web"))
    assert vm["spec"]["template"]["spec"]["volumes"][-1] == {"name": "data", "memoryDump": {"claimName": "data", "hotpluggable": True}}
    assert find_condition(vm, "RestartRequired") is None
    await change(scene, spec)
    await scene.until(MACHINES, "web", lambda vm: "memoryDumpRequest" not in vm["status"], "the association to end")
