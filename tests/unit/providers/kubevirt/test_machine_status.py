from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.virtualmachine.instance import GENERATION, TEMPLATE_HASH, new_instance, template_hash, with_defaults
from pilvi.providers.kubevirt.virtualmachine.status import Failure, plan_conditions, plan_status, printable_status
from tests.unit.providers.kubevirt.objects import UID, make_vm, make_vmi

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def condition(kind: str, status: str, reason: str, message: str = "because") -> JsonObject:
    return {"type": kind, "status": status, "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("vm", "vmi", "word"),
    [
        (make_vm(), None, "Starting"),
        (make_vm("Halted"), None, "Stopped"),
        (make_vm("Manual"), None, "Stopped"),
        (make_vm("RerunOnFailure", runStrategy="RerunOnFailure"), None, "Stopped"),
        (make_vm(), make_vmi(""), "Starting"),
        (make_vm(), make_vmi("Scheduled"), "Starting"),
        (make_vm(), make_vmi("Running"), "Running"),
        (make_vm(), make_vmi("Running", deleting=True), "Stopping"),
        (make_vm("Halted"), make_vmi("Running"), "Stopping"),
        (make_vm("Once"), make_vmi("Succeeded"), "Stopped"),
        (make_vm(), make_vmi("Running", conditions=[condition("Paused", "True", "PausedByUser")]), "Paused"),
        (make_vm(), make_vmi("Scheduling", conditions=[condition("PodScheduled", "False", "Unschedulable")]), "ErrorUnschedulable"),
        (make_vm(), make_vmi("Pending", conditions=[condition("Synchronized", "False", "ErrImagePull")]), "ErrImagePull"),
        (make_vm(startFailure={"consecutiveFailCount": 2}), None, "CrashLoopBackOff"),
    ],
)
def test_the_first_word_that_holds(vm: JsonObject, vmi: JsonObject | None, word: str) -> None:
    assert printable_status(vm, vmi) == word


def test_deletion_comes_before_all() -> None:
    vm = make_vm()
    vm["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert printable_status(vm, make_vmi("Running")) == "Terminating"


def test_status_of_a_running_machine() -> None:
    vmi = make_vmi("Running", conditions=[condition("Ready", "True", "GuestRunning", "")])
    status = plan_status(make_vm(), vmi, None, NOW)
    assert status == {
        "created": True,
        "ready": True,
        "runStrategy": "Always",
        "desiredGeneration": 3,
        "observedGeneration": 3,
        "printableStatus": "Running",
    }


def test_an_unsettled_strategy_keeps_its_old_name() -> None:
    old: dict[str, Any] = {"runStrategy": "Manual"}
    assert plan_status(make_vm("RerunOnFailure", **old), None, None, NOW, settled=False)["runStrategy"] == "Manual"
    assert "runStrategy" not in plan_status(make_vm("RerunOnFailure"), None, None, NOW, settled=False)


def test_a_changed_template_asks_for_a_restart() -> None:
    vm = make_vm()
    vmi = {**make_vmi("Running"), "metadata": {**new_instance(vm)["metadata"], "uid": UID}}
    assert [entry["type"] for entry in plan_conditions(vm, vmi, None)] == ["Ready"]
    vm["metadata"]["generation"] = 4
    assert plan_status(vm, vmi, None, NOW)["observedGeneration"] == 4
    _, required = plan_conditions(vm, vmi, None, ["a changed since the machine was started"])
    assert (required["type"], required["message"]) == (
        "RestartRequired",
        "a changed since the machine was started. Restart the machine to apply that",
    )
    assert plan_status(vm, vmi, None, NOW, restart=["a"])["observedGeneration"] == 3


def test_conditions_say_why() -> None:
    vmi = make_vmi("Scheduled", conditions=[condition("Ready", "False", "GuestNotRunning", "the image is not built")])
    ready, failure = plan_conditions(make_vm(), vmi, Failure("FailedCreate", "quota"))
    assert (ready["status"], ready["message"]) == ("False", "the image is not built")
    assert (failure["type"], failure["status"], failure["message"]) == ("Failure", "True", "quota")
    assert plan_conditions(make_vm(), None, None)[0]["reason"] == "VMINotExists"


def test_an_instance_is_made_from_the_template() -> None:
    vm = make_vm()
    instance = new_instance(vm)
    metadata = instance["metadata"]
    assert (metadata["name"], metadata["namespace"], metadata["labels"]) == ("web", "shop", {"app": "web"})
    assert metadata["annotations"] == {"note": "kept", GENERATION: "3", TEMPLATE_HASH: template_hash(vm)}
    assert metadata["ownerReferences"][0]["uid"] == "vm-uid"
    assert metadata["finalizers"] == ["kubevirt.io/foregroundDeleteVirtualMachine"]


def test_defaults_are_kubevirts() -> None:
    spec = with_defaults({"domain": None, "volumes": [{"name": "root"}, {"name": "data"}]}, "web")
    assert spec["networks"] == [{"name": "default", "pod": {}}]
    assert spec["domain"]["devices"]["interfaces"] == [{"name": "default", "bridge": {}}]
    assert [disk["name"] for disk in spec["domain"]["devices"]["disks"]] == ["root", "data"]
    assert spec["domain"]["machine"]["type"] == "q35"
    assert spec["domain"]["firmware"]["uuid"] == with_defaults({}, "web")["domain"]["firmware"]["uuid"]
    assert "networks" not in with_defaults({"domain": {"devices": {"autoattachPodInterface": False}}}, "web")


def test_defaults_do_not_touch_their_argument() -> None:
    vm = make_vm()
    new_instance(vm)
    assert "networks" not in vm["spec"]["template"]["spec"]
