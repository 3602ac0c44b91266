"""The memory of a machine in a claim: what a request comes to, and what is made of QEMU's words by engines that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.builtin import PERSISTENT_VOLUMES as VOLUMES
from pilvi.api.builtin import PODS
from pilvi.errors import MachineRefused, NoSpace, UserError
from pilvi.host.disks import allocated_bytes
from pilvi.host.qemu.dump import Dump, look_at_dump
from pilvi.host.qemu.monitor import Monitor
from pilvi.providers import kubevirt
from pilvi.providers.claims import VOLUME, volume_file
from pilvi.providers.kubevirt.instance.attachment import volume_of
from pilvi.providers.kubevirt.instance.memorydump import check_claim
from pilvi.providers.kubevirt.instance.volumes.claim import NamedClaim, find_claim
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS, VPCS
from pilvi.providers.kubevirt.machines.dumps import MachineDump
from pilvi.providers.kubevirt.machines.qemu.dumps import QemuDumps
from pilvi.providers.kubevirt.machines.volumes import EmptyDisk
from pilvi.providers.kubevirt.restore.plan import new_machine, plan_restores
from pilvi.providers.kubevirt.snapshot.volumes import MachineVolumes
from pilvi.providers.kubevirt.virtualhost.node import node_name
from pilvi.providers.kubevirt.virtualmachine.instance import new_instance
from pilvi.providers.kubevirt.virtualmachine.liveupdate import plan_live_update
from pilvi.providers.kubevirt.virtualmachine.memorydump import ANNOTATION, DumpStep, plan_dump
from tests.fake_api import FakeApi, status_response
from tests.unit.host.qemu.fake_qmp import FakeQemu, listening, watching
from tests.unit.providers.kubevirt.hot_machines import HotMachines
from tests.unit.providers.kubevirt.objects import make_ip, make_subnet, make_vpc
from tests.unit.providers.stage import Stage, on_stage

MIB = 1 << 20
ROOT = {"name": "root", "emptyDisk": {"capacity": "1Gi"}}
DUMP = {"name": "mem", "memoryDump": {"claimName": "mem", "hotpluggable": True}}
CORE = b"\x7fELF" + bytes(12) + b"\x04\0"
COMPLETED = {"phase": "MemoryDumpCompleted", "memoryDumpVolume": {"targetFileName": "f", "startTimestamp": "s", "endTimestamp": "e"}}
FAILED = {"phase": "MemoryDumpFailed", "message": "no room", "memoryDumpVolume": {"startTimestamp": "s", "endTimestamp": "e"}}


def machine(phase: str | None, *volumes: JsonObject, **request: Any) -> JsonObject:
    status = {"memoryDumpRequest": {"claimName": "mem", "phase": phase, **request}} if phase else {}
    spec = {"domain": {"memory": {"guest": "64Mi"}}, "volumes": [ROOT, *volumes]}
    return {"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": {"template": {"spec": spec}}, "status": status}


def instance(*volumes: JsonObject, phase: str = "Running", entry: JsonObject | None = None) -> JsonObject:
    told = [] if entry is None else [{"name": "mem", "target": "", **entry}]
    status = {"phase": phase, "volumeStatus": [{"name": "root", "target": "vda"}, *told]}
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"volumes": [ROOT, *volumes]}, "status": status}


WITH, WITHOUT = [ROOT, DUMP], [ROOT]
LOST = "the machine ended before its memory was written; start it, and ask again"


@pytest.mark.parametrize(
    ("vm", "vmi", "phase", "template", "volumes", "annotation"),
    [
        (machine(None), instance(), None, None, None, None),
        (machine("Associating"), None, "Associating", None, None, None),
        (machine("Associating"), instance(phase="Scheduled"), "Associating", None, None, None),
        (machine("Associating"), instance(), "Associating", WITH, WITH, None),
        (machine("Associating", DUMP), instance(), "Associating", None, WITH, None),
        (machine("Associating"), instance(DUMP), "Associating", WITH, None, None),
        (machine("Associating", DUMP), instance(DUMP), "InProgress", None, None, None),
        (machine("Associating", DUMP), instance(DUMP, entry={"phase": "Pending"}), "InProgress", None, None, None),
        # The last dump is let go of before the next one begins.
        (machine("Associating", DUMP), instance(DUMP, entry=COMPLETED), "Associating", None, WITHOUT, None),
        (machine("Associating", DUMP), instance(entry={"phase": "Detaching"}), "Associating", None, None, None),
        (machine("InProgress", DUMP), instance(DUMP), "InProgress", None, None, None),
        (machine("InProgress", DUMP), instance(DUMP, entry={"phase": "MemoryDumpInProgress"}), "InProgress", None, None, None),
        # What the instance says is kept before its volume goes.
        (machine("InProgress", DUMP), instance(DUMP, entry=COMPLETED), "Unmounting", None, None, None),
        (machine("InProgress", DUMP), instance(DUMP, entry=FAILED), "Failed", None, None, None),
        (machine("InProgress", DUMP), None, "Failed", None, None, None),
        (machine("InProgress", DUMP), instance(DUMP, phase="Succeeded"), "Failed", None, None, None),
        (machine("InProgress", DUMP), instance(), "Failed", None, None, None),
        (machine("Unmounting", DUMP, fileName="f"), instance(DUMP, entry=COMPLETED), "Unmounting", None, WITHOUT, "f"),
        (machine("Unmounting", DUMP, fileName="f"), instance(entry=COMPLETED), "Unmounting", None, None, "f"),
        (machine("Unmounting", DUMP, fileName="f"), instance(), "Completed", None, None, "f"),
        (machine("Unmounting", DUMP, fileName="f"), None, "Completed", None, None, "f"),
        (machine("Completed", DUMP, fileName="f"), instance(), "Completed", None, None, "f"),
        (machine("Failed", DUMP), instance(DUMP, entry=FAILED), "Failed", None, WITHOUT, "Memory dump failed"),
        # Whoever takes the volume out of the template ends the association.
        (machine("Completed", fileName="f"), instance(), None, None, None, None),
        (machine("Failed"), None, None, None, None, None),
        (machine("Dissociating", DUMP, remove=True), instance(DUMP, entry=COMPLETED), "Dissociating", WITHOUT, WITHOUT, None),
        (machine("InProgress", DUMP, remove=True), instance(DUMP), "Dissociating", WITHOUT, WITHOUT, None),
        (machine("Dissociating", remove=True), instance(entry={"phase": "Detaching"}), "Dissociating", None, None, None),
        (machine("Dissociating", remove=True), instance(), None, None, None, None),
        (machine("Dissociating", DUMP, remove=True), None, "Dissociating", WITHOUT, None, None),
    ],
)
def test_what_follows_from_a_request(
    vm: JsonObject,
    vmi: JsonObject | None,
    phase: str | None,
    template: list[JsonObject] | None,
    volumes: list[JsonObject] | None,
    annotation: str | None,
) -> None:
    step = plan_dump(vm, vmi)
    assert (None if step.request is None else step.request["phase"]) == phase
    assert (step.template, step.instance, step.annotation) == (template, volumes, annotation)


def test_what_a_request_tells() -> None:
    completed = plan_dump(machine("InProgress", DUMP), instance(DUMP, entry=COMPLETED))
    assert completed == DumpStep({"claimName": "mem", "phase": "Unmounting", "fileName": "f", "startTimestamp": "s", "endTimestamp": "e"})
    failed = plan_dump(machine("InProgress", DUMP), instance(DUMP, entry=FAILED)).request or {}
    assert (failed["message"], failed["endTimestamp"]) == ("no room", "e")
    assert (plan_dump(machine("InProgress", DUMP), None).request or {})["message"] == LOST


def test_the_volume_is_no_disk_and_no_restart_is_asked_for() -> None:
    assert find_claim(DUMP) == NamedClaim("mem", hotpluggable=True, dump=True)
    vm = machine("Completed", DUMP)
    made = new_instance(vm)
    assert made["spec"]["volumes"] == [ROOT], "a machine that starts is not asked for its memory again"
    running = new_instance(machine(None))
    running["spec"]["volumes"].append(DUMP)
    update = plan_live_update(machine("InProgress", DUMP), running, new_instance(vm)["spec"])
    assert (update.spec, update.restart) == (None, ())
    # Without a request the template says it all.
    by_hand = machine(None, DUMP)
    assert [disk["name"] for disk in new_instance(by_hand)["spec"]["domain"]["devices"]["disks"]] == ["root"]
    update = plan_live_update(by_hand, new_instance(machine(None)), new_instance(by_hand)["spec"])
    assert update.spec is not None
    assert update.spec["volumes"] == [ROOT, DUMP]
    assert [disk["name"] for disk in update.spec["domain"]["devices"]["disks"]] == ["root"]
    gone = plan_live_update(machine(None), running, new_instance(machine(None))["spec"])
    assert gone.spec is not None
    assert gone.spec["volumes"] == [ROOT]


def test_a_restore_has_no_dump() -> None:
    backup = {"volumeName": "mem", "persistentVolumeClaim": {"metadata": {"name": "mem"}}, "volumeSnapshotName": "s"}
    vm = machine(None, DUMP)
    content = {"metadata": {"name": "c"}, "spec": {"source": {"virtualMachine": vm}, "volumeBackups": [backup]}}
    restore = {"metadata": {"name": "r", "namespace": "shop", "uid": "r"}, "spec": {"target": {"name": "web"}}}
    assert plan_restores(restore, content, []) == []
    assert new_machine(restore, content, [])["spec"]["template"]["spec"]["volumes"] == [ROOT]


def test_a_dump_whose_claim_is_gone_is_in_no_snapshots_way() -> None:
    platform: Any = SimpleNamespace(informers=SimpleNamespace(get=lambda _resource: {}))
    data = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    _, dump, disk = MachineVolumes(platform).look(machine(None, DUMP, data))
    assert (dump.claim, dump.awaited, disk.awaited) == (None, False, True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"volumeMode": "Block"}, "should be filesystem pvc"),
        ({"accessModes": ["ReadOnlyMany"]}, "can't be read only"),
        ({"resources": {"requests": {"storage": "163Mi"}}}, r"pvc size \[163Mi\] should be bigger then \[164Mi\]"),
        ({}, "pvc size"),
    ],
)
def test_claims_that_do_not_fit(spec: JsonObject, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_claim({"spec": spec}, 64 * MIB)
    check_claim({"spec": {"resources": {"requests": {"storage": "164Mi"}}}}, 64 * MIB)


class DumpStage:
    """A machine that runs, and a claim for its memory, on a small API server."""

    def __init__(self, stage: Stage, machines: HotMachines) -> None:
        self.stage, self.machines = stage, machines

    async def begin(self, size: str = "164Mi") -> None:
        for resource, obj in ((VPCS, make_vpc()), (SUBNETS, make_subnet()), (IPS, make_ip())):
            self.stage.put(resource, obj)
        file = volume_file(self.stage.platform.cloud, "mem")
        file.parent.mkdir(parents=True)
        with file.open("wb") as disk:
            disk.truncate(164 * MIB)
        spec = {"volumeName": "pv", "resources": {"requests": {"storage": size}}}
        claim = {"metadata": {"name": "mem", "namespace": "shop"}, "spec": spec, "status": {"phase": "Bound"}}
        uid = self.stage.put(CLAIMS, claim)["metadata"]["uid"]
        self.stage.put(VOLUMES, {"metadata": {"name": "pv", "annotations": {VOLUME: "mem"}}, "spec": {"claimRef": {"uid": uid}}})
        vm = machine(None)
        self.stage.put(MACHINES, {**vm, "spec": {**vm["spec"], "runStrategy": "Always"}})
        await self.bind(attached=False)
        await self.stage.until(lambda: ((self.vmi or {}).get("status") or {}).get("phase") == "Running", "a running machine")
        await self.stage.settled()

    @property
    def vmi(self) -> JsonObject | None:
        return self.stage.find(INSTANCES, "web", "shop")

    @property
    def request(self) -> JsonObject:
        return self.stage.get(MACHINES, "web", "shop")["status"].get("memoryDumpRequest") or {}

    @property
    def entry(self) -> JsonObject:
        told = ((self.vmi or {}).get("status") or {}).get("volumeStatus") or []
        return next((entry for entry in told if entry["name"] == "mem"), {})

    def pods(self, *, attached: bool) -> list[JsonObject]:
        found = [obj for path, obj in self.stage.api.objects.items() if path.startswith(PODS.path("shop"))]
        return [pod for pod in found if (volume_of(pod) is not None) == attached]

    async def bind(self, *, attached: bool) -> None:
        """Do what the scheduler does."""
        (pod,) = await self.stage.until(lambda: self.pods(attached=attached), "a Pod")
        self.stage.put(PODS, {**pod, "spec": {**pod["spec"], "nodeName": node_name()}})

    async def ask(self, **request: Any) -> None:
        body = {"status": {"memoryDumpRequest": {"claimName": "mem", **request}}}
        await self.stage.platform.client.patch(MACHINES, Key("shop", "web"), body, subresource="status")

    async def until(self, phase: str | None) -> None:
        await self.stage.until(lambda: self.request.get("phase") == phase, f"the request to be {phase}")

    def is_clean(self) -> bool:
        return self.entry == {} and self.pods(attached=True) == [] and self.vmi is not None and self.vmi["spec"]["volumes"] == [ROOT]


@pytest_asyncio.fixture
async def on(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DumpStage]:
    monkeypatch.setattr("pilvi.providers.kubevirt.instance.memorydump._LOOK_S", 0.02)
    machines = HotMachines()
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"qemu": machines})) as stage:
        yield DumpStage(stage, machines)


@pytest.mark.parametrize("number", range(1, 13))
@pytest.mark.parametrize(("code", "reason"), [(409, "Conflict"), (500, "InternalError")])
async def test_any_write_may_fail(on: DumpStage, number: int, code: int, reason: str) -> None:
    await on.begin()
    on.machines.dumps.ends = None
    await on.ask(phase="Associating")
    on.stage.fail_write(number, code, reason, but="")
    await on.bind(attached=True)
    await on.stage.until(lambda: on.entry.get("phase") == "MemoryDumpInProgress", "the dump to be written")
    assert on.machines.dumps.disks in ([], [volume_file(on.stage.platform.cloud, "mem")])
    assert on.machines.specs[on.vmi["metadata"]["uid"]].volumes == (EmptyDisk("root", 1 << 30),), "it is no disk"  # type: ignore[index]
    on.machines.dumps.ends = MachineDump("completed")
    await on.until("Completed")
    name = on.request["fileName"]
    assert name.startswith("web-mem-")
    assert name.endswith(".memory.dump")
    assert {"startTimestamp", "endTimestamp"} <= on.request.keys()
    assert on.stage.get(CLAIMS, "mem", "shop")["metadata"]["annotations"][ANNOTATION] == name
    await on.stage.until(on.is_clean, "the claim to be let go")
    vm = on.stage.get(MACHINES, "web", "shop")
    assert [volume["name"] for volume in vm["spec"]["template"]["spec"]["volumes"]] == ["root", "mem"]
    assert "RestartRequired" not in {condition["type"] for condition in vm["status"]["conditions"]}
    assert len(on.machines.dumps.disks) == 1
    await on.ask(phase="Dissociating", remove=True)
    await on.until(None)
    await on.stage.settled()
    assert on.stage.get(MACHINES, "web", "shop")["spec"]["template"]["spec"]["volumes"] == [ROOT]


async def test_one_that_fails_says_why_and_may_be_asked_for_again(on: DumpStage) -> None:
    await on.begin()
    on.machines.dumps.ends = MachineDump("failed", "no room")
    await on.ask(phase="Associating")
    await on.bind(attached=True)
    await on.until("Failed")
    assert on.request["message"] == "Memory dump to pvc mem failed: no room"
    await on.stage.until(on.is_clean, "the claim to be let go")
    assert on.stage.get(CLAIMS, "mem", "shop")["metadata"]["annotations"][ANNOTATION] == "Memory dump failed"
    on.machines.dumps.ends = MachineDump("completed")
    await on.ask(phase="Associating")
    await on.bind(attached=True)
    await on.until("Completed")
    assert len(on.machines.dumps.disks) == 2


async def test_a_claim_that_is_too_small_or_in_use_is_not_touched(on: DumpStage) -> None:
    await on.begin("100Mi")
    pod = {"metadata": {"name": "other", "namespace": "shop"}, "spec": {"containers": [], "volumes": []}}
    pod["spec"]["volumes"] = [{"name": "d", "persistentVolumeClaim": {"claimName": "mem"}}]
    for words in ("should be bigger then", "in use by Pod other"):
        await on.ask(phase="Associating")
        await on.bind(attached=True)
        await on.until("Failed")
        assert words in on.request["message"]
        await on.stage.until(on.is_clean, "the claim to be let go")
        claim = on.stage.get(CLAIMS, "mem", "shop")
        claim["spec"]["resources"]["requests"]["storage"] = "164Mi"
        on.stage.put(CLAIMS, claim)
        on.stage.put(PODS, pod)
    assert on.machines.dumps.disks == []


async def test_a_disk_that_is_gone_ends_the_dump_and_not_the_machine(on: DumpStage) -> None:
    await on.begin()
    on.machines.dumps.failure = FileNotFoundError(2, "No such file or directory", "disk.img")
    await on.ask(phase="Associating")
    await on.bind(attached=True)
    await on.until("Failed")
    assert "No such file" in on.request["message"]
    vm = on.stage.get(MACHINES, "web", "shop")
    assert {entry["type"]: entry["status"] for entry in vm["status"]["conditions"]}["Ready"] == "True"


async def test_one_whose_volume_is_refused_is_forgotten_with_an_event(on: DumpStage) -> None:
    await on.begin()
    on.machines.dumps.ends = None

    def refuse(request: web.Request) -> web.StreamResponse | None:
        is_template = request.method == "PATCH" and request.path.endswith("/virtualmachines/web")
        return status_response(403, "Forbidden") if is_template else None

    on.stage.api.faults.append(refuse)
    await on.ask(phase="Associating")
    events = on.stage.api.objects
    await on.stage.until(lambda: any(obj.get("reason") == "MemoryDumpError" for obj in [*events.values()]), "the Event")
    await on.stage.until(lambda: on.request == {}, "the request to be gone")
    await on.stage.until(on.is_clean, "the instance to be as before")


async def test_one_whose_pod_is_deleted_goes_on(on: DumpStage) -> None:
    await on.begin()
    on.machines.dumps.ends = None
    await on.ask(phase="Associating")
    await on.bind(attached=True)
    await on.stage.until(lambda: on.machines.dumps.writing, "the dump to be written")
    (pod,) = on.pods(attached=True)
    await on.stage.platform.client.delete(PODS, Key.of(pod))
    await on.stage.until(
        lambda: [each for each in on.pods(attached=True) if each["metadata"]["uid"] != pod["metadata"]["uid"]], "the next Pod"
    )
    assert on.entry["phase"] == "MemoryDumpInProgress"
    on.machines.dumps.ends = MachineDump("completed")
    await on.bind(attached=True)
    await on.until("Completed")
    assert len(on.machines.dumps.disks) == 1


async def test_one_that_is_called_off_is_let_go_when_it_is_written(on: DumpStage) -> None:
    await on.begin()
    on.machines.dumps.ends = None
    await on.ask(phase="Associating")
    await on.bind(attached=True)
    await on.stage.until(lambda: on.machines.dumps.writing, "the dump to be written")
    await on.ask(phase="Dissociating", remove=True)
    await on.stage.until(lambda: on.entry.get("phase") == "Detaching", "the volume to go")
    assert on.request["phase"] == "Dissociating"
    assert on.pods(attached=True), "the claim is in use as long"
    on.machines.dumps.writing = False
    await on.until(None)
    await on.stage.until(on.is_clean, "the claim to be let go")


async def test_a_machine_that_ends_meanwhile(on: DumpStage) -> None:
    await on.begin()
    on.machines.dumps.ends = None
    await on.ask(phase="Associating")
    await on.bind(attached=True)
    await on.stage.until(lambda: on.machines.dumps.writing, "the dump to be written")
    with on.machines.dumps.disks[0].open("r+b") as disk:
        disk.write(CORE)
    await on.stage.platform.client.delete(INSTANCES, Key("shop", "web"))
    await on.until("Failed")
    assert on.request["message"] == LOST
    await on.stage.until(lambda: on.pods(attached=True) == [], "the claim to be let go")
    assert (allocated_bytes(on.machines.dumps.disks[0]), on.machines.dumps.disks[0].stat().st_size) == (0, 164 * MIB)


class Lab:
    """A QEMU that says what a test wants, and the disk of a claim."""

    def __init__(self, folder: Path) -> None:
        self.qemu, self.disk = FakeQemu(folder / "qmp.sock"), folder / "disk.img"
        with self.disk.open("wb") as file:
            file.truncate(MIB)
        self.dump, self.status, self.refusal = "none", "running", False
        self.qemu.commands = {
            "query-dump": lambda _: {"status": self.dump, "completed": 5, "total": 9},
            "query-status": lambda _: {"status": self.status},
            "getfd": {},
            "closefd": {},
            "dump-guest-memory": self._begin,
        }

    def _begin(self, arguments: JsonObject) -> JsonObject:
        assert arguments == {"paging": False, "protocol": "fd:memory-dump", "detach": True}
        self.dump, self.status = "active", "save-vm"
        return {}

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[QemuDumps]:
        """A new engine, which remembers nothing."""
        monitor = Monitor("web", self.qemu.path, lambda _event: None)
        task = asyncio.create_task(monitor.run())

        class Guests:
            def get(self, uid: str) -> Monitor:
                return monitor

        try:
            yield QemuDumps(Guests())  # type: ignore[arg-type]
        finally:
            task.cancel()
            await asyncio.wait([task])

    def begun(self) -> int:
        return sum(1 for name, _ in self.qemu.asked if name == "dump-guest-memory")

    def end(self, dump: str, written: bytes = CORE) -> None:
        with self.disk.open("r+b") as file:
            file.write(written)
        self.dump, self.status = dump, "running"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def test_a_dump_is_begun_once_whichever_engine_looks(lab: Lab) -> None:
    async with listening(lab.qemu):
        async with lab.engine() as dumps:
            assert not await dumps.is_busy("u")
            await dumps.prepare("u", lab.disk, MIB)
            assert await dumps.advance("u", lab.disk) == MachineDump("running")
        async with lab.engine() as dumps:
            assert await dumps.is_busy("u")
            assert await dumps.advance("u", lab.disk) == MachineDump("running")
            lab.dump = "completed"  # and the guest does not go on yet
            assert await dumps.advance("u", lab.disk) == MachineDump("running")
        lab.end("completed")
        for _ in range(2):
            async with lab.engine() as dumps:
                assert await dumps.advance("u", lab.disk) == MachineDump("completed")
        assert lab.begun() == 1
        assert lab.disk.stat().st_size == MIB


@pytest.mark.parametrize("last", ["none", "completed", "failed"])
async def test_what_qemu_says_of_an_earlier_dump_is_not_taken_for_this_one(lab: Lab, last: str) -> None:
    lab.disk.write_bytes(CORE.ljust(MIB, b"x"))
    lab.dump = last
    async with listening(lab.qemu):
        async with lab.engine() as dumps:
            await dumps.prepare("u", lab.disk, 0)
        assert allocated_bytes(lab.disk) == 0
        async with lab.engine() as dumps:
            assert await dumps.advance("u", lab.disk) == MachineDump("running")
        assert lab.begun() == 1


@pytest.mark.parametrize(("same", "roomy", "words"), [(True, True, "could not write"), (False, True, "log"), (True, False, "is full")])
async def test_one_that_fails_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch, same: bool, roomy: bool, words: str) -> None:
    monkeypatch.setattr("pilvi.providers.kubevirt.machines.qemu.dumps.has_room", lambda _folder: roomy)
    async with listening(lab.qemu):
        async with lab.engine() as dumps:
            await dumps.prepare("u", lab.disk, MIB)
            await dumps.advance("u", lab.disk)
            lab.end("failed", b"" if same else CORE)
            failed = await dumps.advance("u", lab.disk) if same else None
        if failed is None:
            async with lab.engine() as dumps:
                failed = await dumps.advance("u", lab.disk)
    assert failed.phase == "failed"
    assert words in failed.message
    assert (allocated_bytes(lab.disk), lab.disk.stat().st_size, lab.begun()) == (0, MIB, 1)


async def test_data_are_never_replaced_and_room_is_needed(lab: Lab) -> None:
    async with lab.engine() as dumps:
        with pytest.raises(NoSpace):
            await dumps.prepare("u", lab.disk, 1 << 60)
        with lab.disk.open("r+b") as file:
            file.write(b"a file system")
        with pytest.raises(UserError, match="holds data, which a dump would replace"):
            await dumps.prepare("u", lab.disk, MIB)
    assert lab.disk.read_bytes().startswith(b"a file system")


async def test_a_refusal_closes_the_file(lab: Lab) -> None:
    del lab.qemu.commands["dump-guest-memory"]
    async with listening(lab.qemu), lab.engine() as dumps:
        with pytest.raises(MachineRefused):
            await dumps.advance("u", lab.disk)
    assert lab.qemu.asked[-1] == ("closefd", {"fdname": "memory-dump"})


@pytest.mark.parametrize(
    "answer", [{"status": "active"}, {"completed": 1, "total": 2}, [], {"status": "none", "completed": "x", "total": 1}]
)
async def test_answers_that_are_none(lab: Lab, answer: Any) -> None:
    lab.qemu.commands["query-dump"] = answer
    async with listening(lab.qemu), watching(lab.qemu) as (monitor, _):
        with pytest.raises(MachineRefused, match="not understood"):
            await look_at_dump(monitor)
    assert Dump("none").written_bytes == 0
