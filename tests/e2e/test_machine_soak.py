"""Machines and disks come, go, change and move while the engine dies again and again. `make soak` only.

The engine dies at the n-th event of a namespace, never after a number of seconds. A seed says at which, so a failure can be had again.
Each scenario ends with nothing left on the host, which its namespace sees to, and says what no kill may ever do: a second process of a
machine, a guest that is started anew without anybody's wish, a disk with other bytes.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilvi.kube import load_kubeconfig
from pilvi.providers.names import machine_unit
from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.e2e.conftest import cloud_of_its_own
from tests.e2e.guests import console, guest_machine, hang_up, push_guest
from tests.e2e.host import kill_engine, start_engine
from tests.e2e.kills import Killer, Witness
from tests.http_server import HttpServer, http_server_in_thread
from tests.images.bootsector import boot_disk
from tests.images.registry import FakeRegistry, make_layer, registry_in_thread
from tests.virtctl import Virtctl

pytestmark = pytest.mark.soak

MIB = 1 << 20
WORD = "the guest is up"
# It boots, and is large enough to be broken off in the middle.
DISK = boot_disk(WORD) + random.Random(1).randbytes(15 * MIB)  # noqa: S311
MARK_AT = 20 * MIB
ROUNDS = 8
MOVES = 6
LAST_EVENT = 14
"""About as many events as what is done here has."""
WANDERER = "wanderer"


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        made.add("guests/up", "1", make_layer({"disk/disk.img": DISK}))
        yield made


@pytest.fixture(scope="module")
def web() -> Iterator[HttpServer]:
    with http_server_in_thread() as server:
        yield server


@pytest.fixture(autouse=True)
def _attended(request: pytest.FixtureRequest) -> Iterator[None]:
    """The engine that a scenario leaves behind has no parent that would start it again: the end of its namespace finds one that has."""
    clouds = [request.getfixturevalue(name) for name in ("cloud", "namespace", "hosts") if name in request.fixturenames]
    yield
    for cloud in clouds:
        if isinstance(cloud, CloudUnderTest):
            cloud.up()


def dice(seed: int | str) -> random.Random:
    """The same throws for the same seed."""
    return random.Random(seed)  # noqa: S311


def data_volume(namespace: str, name: str, size: str = "32Mi", **source: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": source, "storage": {"resources": {"requests": {"storage": size}}}},
    }


def disk_path(cloud: CloudUnderTest, namespace: str, claim: str) -> Path:
    uid = cloud.get("-n", namespace, "pvc", claim)["metadata"]["uid"]
    return cloud.home / "volumes" / f"pvc-{uid}" / "disk.img"


class Machine:
    """A machine with a disk that outlives its runs, as its user sees it."""

    def __init__(self, cloud: CloudUnderTest, namespace: str, name: str) -> None:
        self.cloud, self.namespace, self.name = cloud, namespace, name

    def apply(self) -> None:
        manifest = guest_machine(self.namespace, "", name=self.name, memory="64Mi", terminationGracePeriodSeconds=0)
        template = manifest["spec"]["template"]["spec"]
        template["volumes"] = [{"name": "root", "dataVolume": {"name": self.name}}]
        del template["domain"]["devices"]["disks"][1:]
        self.cloud.apply(manifest)

    def get(self, kind: str = "vmi") -> Any:
        return self.cloud.get("-n", self.namespace, kind, self.name)

    def exists(self, kind: str = "vmi") -> bool:
        return self.cloud.exists("-n", self.namespace, kind, self.name)

    def uid(self) -> str:
        return str(self.get()["metadata"]["uid"])

    def patch(self, spec: dict[str, Any]) -> None:
        self.cloud.kubectl("-n", self.namespace, "patch", "vm", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self) -> None:
        self.cloud.kubectl("-n", self.namespace, "delete", "vm", self.name, "--wait=false")

    def restart(self) -> None:
        async def call() -> None:
            async with Virtctl.connect(load_kubeconfig(self.cloud.kubeconfig()), self.namespace) as virtctl:
                await virtctl.restart(self.name)

        asyncio.run(hang_up(call()))

    def runs(self) -> bool:
        """It is ready, its guest has said its word, and one process runs it."""
        uid = self.uid()
        said = WORD in (self.cloud.home / "machines" / uid / "serial.log").read_text(errors="replace")
        return said and is_true(self.get(), "Ready") and is_true(self.get("vm"), "Ready") and self.units() == [machine_unit(uid)]

    def stands_still(self) -> bool:
        stopped = self.get("vm")["status"]["printableStatus"] == "Stopped"
        return stopped and not self.exists() and not self.units()

    def gone(self) -> bool:
        return not self.exists("vm") and not self.exists() and not self.units()

    def units(self) -> list[str]:
        """Units of machines that are not those of workers."""
        workers = {machine_unit(vmi["metadata"]["uid"]) for vmi in self.cloud.items("-n", "default", "vmi")}
        return [name for name, pid in self.cloud.units().items() if name.startswith("m-") and pid and name not in workers]


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_comes_and_goes(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry, seed: int) -> None:
    rng = dice(seed)
    machine = Machine(cloud, namespace, "soaked")
    words = {"absent": ["create"], "runs": ["stop", "restart", "restart", "delete"], "stopped": ["start", "start", "delete"]}
    state = "absent"
    cloud.apply(data_volume(namespace, "soaked", registry={"url": f"docker://{registry.host}/guests/up:1"}))
    with Witness(cloud) as witness, Killer(cloud, namespace) as killer:
        for number in range(ROUNDS):
            word = rng.choice(words[state])
            uid = machine.uid() if machine.exists() else ""
            if word == "restart":
                machine.restart()  # by a subresource, which needs an engine
            killer.kill_at(*rng.sample(range(1, LAST_EVENT), rng.choice((1, 2, 3))))
            match word:
                case "create":
                    machine.apply()
                case "stop":
                    machine.patch({"runStrategy": "Halted"})
                case "start":
                    machine.patch({"runStrategy": "Always"})
                case "delete":
                    machine.delete()
            what = f"round {number}: {word}"
            if word in ("create", "start"):
                wait_until(machine.runs, what)
            elif word == "restart":
                wait_until(lambda uid=uid: machine.uid() != uid and machine.runs(), what)  # type: ignore[misc]
            else:
                wait_until(machine.stands_still if word == "stop" else machine.gone, what)
            state = {"stop": "stopped", "delete": "absent"}.get(word, "runs")
            killer.rest()
            if state == "runs":
                uid = machine.uid()
                kill_engine(cloud, for_good=True)
                start_engine(cloud)
                wait_until(lambda: cloud.kubectl("get", "--raw", "/apis/subresources.kubevirt.io/v1/version"), "the next engine")
                assert machine.uid() == uid
                assert machine.runs(), "a kill without anything to do is not noticed"
            assert disk_path(cloud, namespace, "soaked").read_bytes()[: len(DISK)] == DISK
        assert len(killer.kills) >= ROUNDS, "most rounds had their kill"
        # All at once, as a namespace goes.
        if state == "absent":
            machine.apply()
            wait_until(machine.runs, "a last machine")
        killer.kill_at(*rng.sample(range(1, 12), 2))
        cloud.kubectl("delete", "namespace", namespace, "--wait=false")
        wait_until(lambda: not cloud.exists("namespace", namespace), "the namespace to go")
    witness.check()


def packed(tmp_path: Path, form: str) -> bytes:
    """The disk as a server offers it."""
    if form == "gz":
        return gzip.compress(DISK, 1)
    if form == "raw":
        return DISK
    (tmp_path / "raw").write_bytes(DISK)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", tmp_path / "raw", tmp_path / "q"], check=True)
    return (tmp_path / "q").read_bytes()


@pytest.mark.parametrize("form", ["raw", "qcow2", "gz"])
def test_an_import_goes_on(cloud: CloudUnderTest, namespace: str, web: HttpServer, tmp_path: Path, form: str) -> None:
    """Killed while bytes arrive, and then at each of the events that an import has."""
    web.files["/disk"] = packed(tmp_path, form)
    rng = dice(form)
    for round_ in range(3):
        name, asked = f"bytes-{round_}", len(web.requests)
        web.pause_s = 0.05
        try:
            cloud.apply(data_volume(namespace, name, http={"url": web.url("/disk")}))
            for _ in range(2):  # each engine gets further than what is recorded once in two seconds
                goal = web.sent + rng.randrange(4 * MIB, 6 * MIB)
                wait_until(lambda goal=goal: web.sent >= goal, "some more of the image", interval_s=0.01)  # type: ignore[misc]
                kill_engine(cloud, for_good=True)
                start_engine(cloud)
        finally:
            web.pause_s = 0.0
        finished(cloud, namespace, name)
        assert any("Range" in headers for _, _, headers in web.requests[asked:]), "it went on where it was"
    with Killer(cloud, namespace) as killer:
        for point in range(1, 13):
            name = f"event-{point}"
            killer.kill_at(point, point + rng.randrange(1, 4))
            cloud.apply(data_volume(namespace, name, http={"url": web.url("/disk")}))
            finished(cloud, namespace, name)
            killer.rest()
            cloud.kubectl("-n", namespace, "delete", "dv", name, "--wait=false")
    assert len(killer.kills) >= 12
    wait_until(lambda: not any((cloud.home / "imports").iterdir()), "nothing on the way to stay")


def finished(cloud: CloudUnderTest, namespace: str, name: str) -> None:
    """The import has ended with the right bytes."""
    wait_until(lambda: cloud.get("-n", namespace, "dv", name).get("status", {}).get("phase") == "Succeeded", f"{name} to be imported")
    assert disk_path(cloud, namespace, name).read_bytes()[: len(DISK)] == DISK


def mark(cloud: CloudUnderTest, namespace: str, claim: str, text: bytes) -> None:
    """Write into a machine's disk, which nobody else does meanwhile: what its guest would have written there."""
    with disk_path(cloud, namespace, claim).open("r+b") as file:
        file.seek(MARK_AT)
        file.write(text)
        os.fsync(file.fileno())


def marked(cloud: CloudUnderTest, namespace: str, claim: str) -> bytes:
    content = disk_path(cloud, namespace, claim).read_bytes()
    assert content[: len(DISK)] == DISK
    return content[MARK_AT : MARK_AT + 1]


def snapshot(namespace: str, name: str, machine: str) -> dict[str, Any]:
    return {
        "apiVersion": "snapshot.kubevirt.io/v1beta1",
        "kind": "VirtualMachineSnapshot",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": _machine(machine)},
    }


def restore(namespace: str, name: str, machine: str, source: str) -> dict[str, Any]:
    return {
        "apiVersion": "snapshot.kubevirt.io/v1beta1",
        "kind": "VirtualMachineRestore",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"target": _machine(machine), "virtualMachineSnapshotName": source},
    }


def clone(namespace: str, name: str, machine: str, target: str) -> dict[str, Any]:
    return {
        "apiVersion": "clone.kubevirt.io/v1beta1",
        "kind": "VirtualMachineClone",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": _machine(machine), "target": _machine(target)},
    }


def _machine(name: str) -> dict[str, str]:
    return {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": name}


@pytest.mark.parametrize("seed", range(3))
def test_snapshots_restores_and_clones(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry, seed: int) -> None:
    rng = dice(seed)
    machine = Machine(cloud, namespace, "kept")

    def ready(kind: str, name: str) -> bool:
        return is_true(cloud.get("-n", namespace, kind, name), "Ready")

    def root() -> str:
        """The claim that the machine boots from: a restore gives it another."""
        (volume,) = machine.get("vm")["spec"]["template"]["spec"]["volumes"]
        return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or volume["dataVolume"]["name"])

    with Witness(cloud) as witness, Killer(cloud, namespace) as killer:
        cloud.apply(data_volume(namespace, "kept", registry={"url": f"docker://{registry.host}/guests/up:1"}))
        machine.apply()
        wait_until(machine.runs, "the machine to run")
        for number in range(3):
            machine.patch({"runStrategy": "Halted"})
            wait_until(machine.stands_still, "the machine to stop")
            text, other = bytes([65 + 2 * number]), bytes([66 + 2 * number])
            mark(cloud, namespace, root(), text)
            if running := rng.random() < 0.5:
                machine.patch({"runStrategy": "Always"})
                wait_until(machine.runs, "the machine to run")
            killer.kill_at(*rng.sample(range(1, LAST_EVENT), 3))
            cloud.apply(snapshot(namespace, f"s{number}", "kept"))
            wait_until(lambda number=number: ready("vmsnapshot", f"s{number}"), "the snapshot")  # type: ignore[misc]
            if running:
                machine.patch({"runStrategy": "Halted"})
                wait_until(machine.stands_still, "the machine to stop again")
            killer.rest()
            mark(cloud, namespace, root(), other)
            killer.kill_at(*rng.sample(range(1, LAST_EVENT), 3))
            cloud.apply(restore(namespace, f"r{number}", "kept", f"s{number}"))
            wait_until(lambda number=number: ready("vmrestore", f"r{number}"), "the restore")  # type: ignore[misc]
            killer.rest()
            assert marked(cloud, namespace, root()) == text
            killer.kill_at(*rng.sample(range(1, LAST_EVENT), 3))
            cloud.apply(clone(namespace, f"c{number}", "kept", f"again-{number}"))
            wait_until(lambda number=number: ready("vmclone", f"c{number}"), "the clone")  # type: ignore[misc]
            again = cloud.get("-n", namespace, "vm", f"again-{number}")["spec"]["template"]["spec"]["volumes"][0]
            assert marked(cloud, namespace, again["persistentVolumeClaim"]["claimName"]) == text
            killer.rest()
            machine.patch({"runStrategy": "Always"})
            wait_until(machine.runs, "the machine to run from what was brought back")
            killer.kill_at(*rng.sample(range(1, 15), 2))
            cloud.kubectl("-n", namespace, "delete", f"vm/again-{number}", f"vmsnapshot/s{number}", "--wait=false")
            wait_until(lambda number=number: not cloud.exists("-n", namespace, "vmsnapshot", f"s{number}"), "the snapshot to go")  # type: ignore[misc]
            killer.rest()
        assert len(killer.kills) >= 12
        machine.delete()
        cloud.kubectl("-n", namespace, "delete", "vmrestores,vmclones,dv", "--all", "--wait=false")
        kinds = "pvc,volumesnapshots,vmsnapshots,vmsnapshotcontents,vmrestores,vmclones,vm"
        wait_until(lambda: not cloud.exists("-n", namespace, kinds), "all to go", 60)
    witness.check()


def test_disks_come_and_go(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    """Disks of both kinds are plugged in and out of a Linux that reads and writes them, in one run."""
    rng = dice(0)
    machine = Machine(cloud, namespace, "guest")

    def run(command: str) -> str:
        return console(cloud, namespace, "guest", command).strip()

    def volume(name: str) -> dict[str, Any]:
        return next((entry for entry in machine.get()["status"].get("volumeStatus") or [] if entry["name"] == name), {})

    def attachments() -> list[Any]:
        return cloud.items("-n", namespace, "pods", "-l", "kubevirt.io=hotplug-disk")

    manifest = guest_machine(namespace, push_guest(registry))
    template = manifest["spec"]["template"]["spec"]
    cloud.apply([manifest, data_volume(namespace, "extra", blank={})])
    run("true")
    uid = machine.uid()
    with Witness(cloud) as witness, Killer(cloud, namespace) as killer:
        for number in range(10):
            bus = rng.choice(("scsi", "virtio"))
            disks = [*template["domain"]["devices"]["disks"], {"name": "extra", "disk": {"bus": bus}}]
            volumes = [*template["volumes"], {"name": "extra", "dataVolume": {"name": "extra", "hotpluggable": True}}]
            killer.kill_at(*rng.sample(range(1, 12), 2))
            machine.patch({"template": {"spec": {"domain": {"devices": {"disks": disks}}, "volumes": volumes}}})
            wait_until(lambda: volume("extra").get("phase") == "Ready", f"the disk to be there, round {number}")
            device = f"/dev/{'sd?' if bus == 'scsi' else 'vdc'}"
            wait_until(lambda device=device: run(f"ls {device} 2>/dev/null"), "the guest to see it")  # type: ignore[misc]
            assert run(f"head -c 5 {device}").strip("\0") == ("" if number == 0 else f"n{number:04}"), "what was written is there"
            run(f"echo n{number + 1:04} >{device.replace('sd?', '$(basename $(ls /dev/sd?))')}; sync")
            killer.rest()
            killer.kill_at(*rng.sample(range(1, 12), 2))
            machine.patch({"template": {"spec": {"domain": {"devices": {"disks": disks[:-1]}}, "volumes": volumes[:-1]}}})
            wait_until(lambda: not volume("extra") and not attachments(), f"the disk to be gone, round {number}")
            assert run(f"ls {device} 2>/dev/null") == ""
            killer.rest()
        assert machine.uid() == uid
        assert find_condition(machine.get("vm"), "RestartRequired") is None
        assert len(killer.kills) >= 20
        machine.delete()
        wait_until(machine.gone, "the machine to go")
    witness.check()


@pytest.fixture(scope="module")
def hosts(registry: FakeRegistry) -> Iterator[CloudUnderTest]:
    with cloud_of_its_own("wander", "--hosts", "2") as cloud:
        yield cloud


@pytest.mark.parametrize("seed", range(2))
def test_a_machine_moves(hosts: CloudUnderTest, registry: FakeRegistry, seed: int) -> None:
    """To the other host and back, slowly enough to be killed on the way: the guest lives on, and one process is left."""
    rng = dice(seed)
    cloud = hosts
    machine = Machine(cloud, "default", WANDERER)
    manifest = guest_machine("default", push_guest(registry), name=WANDERER, evictionStrategy="LiveMigrate")
    policy = {
        "apiVersion": "migrations.kubevirt.io/v1alpha1",
        "kind": "MigrationPolicy",
        "metadata": {"name": WANDERER},
        "spec": {"selectors": {"virtualMachineInstanceSelector": {"app": WANDERER}}, "bandwidthPerMigration": "32Mi"},
    }
    cloud.apply([policy, manifest])
    boot = console(cloud, "default", WANDERER, "cat /proc/sys/kernel/random/boot_id")
    uid, moved = machine.uid(), 0

    def processes() -> list[str]:
        unit = machine_unit(uid)
        return [name for name, pid in cloud.units().items() if name.startswith(unit) and pid]

    with Witness(cloud) as witness, Killer(cloud, "default") as killer:
        for number in range(MOVES):
            here = machine.get()["status"]["nodeName"]
            name = f"move-{number}"
            killer.kill_at(*rng.sample(range(1, 25), rng.choice((1, 2, 3))))
            cloud.apply(
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "VirtualMachineInstanceMigration",
                    "metadata": {"name": name, "namespace": "default"},
                    "spec": {"vmiName": WANDERER},
                }
            )
            ended = lambda name=name: cloud.get("vmim", name).get("status", {}).get("phase") in ("Succeeded", "Failed")  # noqa: E731
            wait_until(ended, f"move {number} to end")  # type: ignore[arg-type]
            killer.rest()
            succeeded = cloud.get("vmim", name)["status"]["phase"] == "Succeeded"
            moved += succeeded
            wait_until(lambda: len(processes()) == 1, "one process to be left")
            assert (machine.get()["status"]["nodeName"] != here) == succeeded
            assert console(cloud, "default", WANDERER, "cat /proc/sys/kernel/random/boot_id") == boot, "the guest lives on"
            assert machine.uid() == uid
            pods = [pod for pod in cloud.items("pods", "-l", "kubevirt.io=virt-launcher") if pod["status"]["phase"] == "Running"]
            assert [pod["spec"]["nodeName"] for pod in pods] == [machine.get()["status"]["nodeName"]]
        assert moved == MOVES, "no kill is a reason to fail"
        assert len(killer.kills) >= MOVES
        machine.delete()
        wait_until(machine.gone, "the machine to go")
        cloud.kubectl("delete", "vmim", "--all")
        cloud.kubectl("delete", "migrationpolicy", WANDERER)
    assert max(witness.most.values()) == 2, "both ends of a move, never more"
