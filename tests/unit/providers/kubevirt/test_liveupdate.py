"""A changed template and an instance that runs: what is passed on, and what waits for a restart."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.virtualmachine.headroom import give_headroom
from pilvi.providers.kubevirt.virtualmachine.instance import GENERATION, TEMPLATE_HASH, new_instance, template_hash
from pilvi.providers.kubevirt.virtualmachine.liveupdate import ADDED_VOLUMES, LiveUpdate, plan_live_update
from tests.unit.providers.kubevirt.objects import UID, make_vm

DATA = {"name": "data", "dataVolume": {"name": "data", "hotpluggable": True}}
DISK = {"name": "data", "disk": {"bus": "scsi"}}
FIXED = {"name": "fixed", "dataVolume": {"name": "fixed"}}

Change = Callable[[JsonObject], Any]


def started(change: Change = lambda spec: None, **status: Any) -> tuple[JsonObject, JsonObject]:
    """A machine, changed, and the instance that it was started with then."""
    vm = make_vm()
    spec = vm["spec"]["template"]["spec"]
    spec["domain"]["cpu"]["sockets"] = 2
    spec["domain"]["memory"]["guest"] = "2Gi"
    change(spec)
    vmi = new_instance(vm)
    vmi["metadata"]["uid"] = UID
    vmi["status"] = {"phase": "Running", "memory": {"guestAtBoot": "2Gi"}, **status}
    return vm, vmi


def changed(vm: JsonObject, change: Change) -> JsonObject:
    vm = copy.deepcopy(vm)
    change(vm["spec"]["template"]["spec"])
    vm["metadata"]["generation"] = 4
    return vm


def plan(vm: JsonObject, vmi: JsonObject) -> LiveUpdate:
    return plan_live_update(vm, vmi, new_instance(vm)["spec"])


def add(*volumes: JsonObject, disk: JsonObject | None = None) -> Change:
    def change(spec: JsonObject) -> None:
        spec["volumes"] += volumes
        spec["domain"]["devices"]["disks"] += [disk] if disk is not None else []

    return change


def put(path: str, value: Any) -> Change:
    def change(spec: JsonObject) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            spec = spec.setdefault(parent, {})
        spec[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        (put("domain.cpu.sockets", 8), "domain.cpu.sockets", 8),
        (put("domain.memory.guest", "3Gi"), "domain.memory.guest", "3Gi"),
        (put("nodeSelector", {"a": "b"}), "nodeSelector", {"a": "b"}),
        (put("affinity", {"nodeAffinity": {}}), "affinity", {"nodeAffinity": {}}),
        (put("tolerations", [{"key": "a"}]), "tolerations", [{"key": "a"}]),
    ],
)
def test_what_is_passed_on(change: Change, path: str, value: object) -> None:
    vm, vmi = started()
    assert plan(vm, vmi) == LiveUpdate()
    after = changed(vm, change)
    update = plan(after, vmi)
    assert (update.restart, update.annotations) == ((), {TEMPLATE_HASH: template_hash(after), GENERATION: "4"})
    found: Any = update.spec
    for name in path.split("."):
        found = found[name]
    assert found == value
    vmi["spec"], vmi["metadata"]["annotations"] = update.spec, {**vmi["metadata"]["annotations"], **(update.annotations or {})}
    assert plan(after, vmi) == LiveUpdate(), "it is done"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("domain.cpu.sockets", 9), "domain.cpu.sockets is more than the 8"),
        (put("domain.cpu.sockets", 1), "domain.cpu.sockets is less than the 2"),
        (put("domain.memory.guest", "9Gi"), "domain.memory.guest is more than the 8Gi"),
        (put("domain.memory.guest", "1Gi"), "domain.memory.guest is less than the 2Gi"),
        (put("domain.memory.guest", "2049Mi"), "blocks of 2Mi"),
        (put("domain.cpu.cores", 3), "spec.template.spec.domain.cpu.cores changed"),
        (put("domain.cpu.maxSockets", 4), "spec.template.spec.domain.cpu.maxSockets changed"),
        (put("domain.firmware", {"serial": "1"}), "spec.template.spec.domain.firmware.serial changed"),
        (put("hostname", "a"), "spec.template.spec.hostname changed"),
        (add(FIXED), "spec.template.spec.domain.devices.disks[fixed], spec.template.spec.volumes[fixed] changed"),
        (add(DATA), "bus sata takes no disks while the machine runs"),
        (
            lambda spec: spec["volumes"][0]["containerDisk"].update(image="b"),
            "spec.template.spec.volumes[root].containerDisk.image changed",
        ),
    ],
)
def test_what_waits_for_a_restart(change: Change, words: str) -> None:
    vm, vmi = started()
    update = plan(changed(vm, change), vmi)
    (said,) = update.restart
    assert words in said
    assert (update.spec, update.annotations) == (None, None)
    assert plan(changed(vm, lambda spec: None), vmi).restart == (), "taken back"


def test_the_same_size_in_other_words_is_no_change() -> None:
    vm, vmi = started()
    assert plan(changed(vm, put("domain.memory.guest", "2048Mi")), vmi).restart == ()


def test_disks_come_and_go_with_the_template() -> None:
    vm, vmi = started()
    vmi["spec"] = plan(changed(vm, add(DATA, disk=DISK)), vmi).spec
    assert vmi["spec"]["volumes"][-1] == DATA
    assert vmi["spec"]["domain"]["devices"]["disks"][-1] == DISK
    spec = plan(vm, vmi).spec
    assert spec is not None
    assert [volume["name"] for volume in spec["volumes"]] == ["root"]
    assert [disk["name"] for disk in spec["domain"]["devices"]["disks"]] == ["root"]


def test_another_claim_of_the_same_name_waits_until_the_first_is_gone() -> None:
    vm, vmi = started(add(DATA, disk=DISK))
    other = {"name": "data", "persistentVolumeClaim": {"claimName": "b", "hotpluggable": True}}
    after = changed(vm, lambda spec: spec["volumes"].__setitem__(1, other))
    update = plan(after, vmi)
    assert update.spec is not None
    assert [volume["name"] for volume in update.spec["volumes"]] == ["root"]
    assert update.restart == ()
    vmi["spec"] = update.spec
    vmi["status"]["volumeStatus"] = [{"name": "data", "phase": "Detaching"}]
    assert plan(after, vmi).spec is None
    vmi["status"]["volumeStatus"] = []
    again = plan(after, vmi).spec
    assert again is not None
    assert again["volumes"][-1] == other


def test_what_was_added_to_one_run_stays_until_the_template_has_it() -> None:
    vm, vmi = started()
    vmi["spec"] = copy.deepcopy(vmi["spec"])
    vmi["spec"]["volumes"].append(DATA)
    vmi["spec"]["domain"]["devices"]["disks"].append(DISK)
    vmi["metadata"]["annotations"][ADDED_VOLUMES] = json.dumps(["data"])
    assert plan(vm, vmi) == LiveUpdate()
    assert plan(changed(vm, put("hostname", "a")), vmi).restart[0].endswith("spec.hostname changed since the machine was started")
    update = plan(changed(vm, add(DATA, disk=DISK)), vmi)
    assert update.spec is None
    assert (update.annotations or {})[ADDED_VOLUMES] is None


def test_processors_that_the_guest_never_got_can_be_taken_back() -> None:
    vm, vmi = started(currentCPUTopology={"sockets": 3})
    vmi["spec"]["domain"]["cpu"]["sockets"] = 8
    update = plan(changed(vm, put("domain.cpu.sockets", 3)), vmi)
    assert update.spec is not None
    assert (update.spec["domain"]["cpu"]["sockets"], update.restart) == (3, ())
    (said,) = plan(changed(vm, put("domain.cpu.sockets", 2)), vmi).restart
    assert "less than the 3" in said


def test_a_sandbox_changes_nothing_while_it_runs() -> None:
    vm, vmi = started(conditions=[{"type": "pilvi.dev/Fidelity", "status": "True", "reason": "Sandbox"}])
    update = plan(changed(vm, put("domain.cpu.sockets", 3)), vmi)
    assert (update.spec, update.restart) == (None, ("spec.template.spec.domain.cpu.sockets changed since the machine was started",))


@pytest.mark.parametrize(
    ("domain", "sockets", "guest"),
    [
        ({"memory": {"guest": "1Gi"}}, 4, "4Gi"),
        ({"memory": {"guest": "1023Mi"}}, 4, None),
        ({"memory": {"guest": "2Gi", "maxGuest": "3Gi"}, "cpu": {"sockets": 2, "maxSockets": 2}}, 2, "3Gi"),
        ({"memory": {"guest": "2Gi"}, "cpu": {"sockets": 3, "cores": 100}}, 5, "8Gi"),
        ({"memory": {"guest": "2Gi"}, "resources": {"limits": {"memory": "2Gi", "cpu": "3"}}}, 12, None),
        ({"memory": {"guest": "2Gi", "hugepages": {"pageSize": "2Mi"}}}, 4, None),
        ({"resources": {"requests": {"memory": "2Gi"}}}, 4, None),
    ],
)
def test_headroom(domain: JsonObject, sockets: int, guest: str | None) -> None:
    found = give_headroom({"domain": domain})["domain"]
    assert (found["cpu"]["maxSockets"], (found.get("memory") or {}).get("maxGuest")) == (sockets, guest)


def test_no_headroom_where_no_size_is_given() -> None:
    assert give_headroom({"domain": {}}) == {"domain": {}}


POD: JsonObject = {"name": "default", "pod": {}}
BACK: JsonObject = {"name": "back", "multus": {"networkName": "back"}}


def networks(*found: JsonObject, **back: Any) -> Change:
    def change(spec: JsonObject) -> None:
        spec["networks"] = list(found)
        more = {"back": back}
        spec["domain"]["devices"]["interfaces"] = [{"name": each["name"], "bridge": {}, **more.get(each["name"], {})} for each in found]

    return change


def test_a_card_comes_moves_its_cable_and_goes_without_a_restart() -> None:
    vm, vmi = started(interfaces=[{"name": "default"}])
    vm = changed(vm, networks(POD, BACK))
    update = plan(vm, vmi)
    assert update.restart == ()
    assert update.spec is not None
    assert update.spec["networks"] == [POD, BACK]
    assert update.annotations == {TEMPLATE_HASH: template_hash(vm), GENERATION: "4"}
    vmi = {**vmi, "spec": update.spec, "status": {**vmi["status"], "interfaces": [{"name": "default"}, {"name": "back"}]}}
    for state in ("down", "absent"):
        update = plan(changed(vm, networks(POD, BACK, state=state)), vmi)
        assert update.restart == ()
        assert (update.spec or {})["domain"]["devices"]["interfaces"][1]["state"] == state
    update = plan(changed(vm, networks(POD)), vmi)
    assert update.spec is None
    assert "interfaces[back]" in update.restart[0]
    update = plan(changed(vm, networks(POD, BACK, model="e1000e")), vmi)
    assert (update.spec, "model" in update.restart[0]) == (None, True)
