from __future__ import annotations

import base64
import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.capk.machine.status import Progress, find_terminal, plan_status
from pilvi.providers.capk.machine.virtualmachine import new_user_data_secret, new_virtual_machine
from pilvi.providers.capk.template import plan_capacity
from pilvi.runtime import find_condition, is_true
from tests.unit.providers.capk.objects import make_bootstrap_secret, make_kubevirt_machine, make_machine, ready_vmi

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "first-md-0-abcde"


def build_vm(kubevirt_machine: JsonObject, *, control_plane: bool = False) -> JsonObject:
    return new_virtual_machine(kubevirt_machine, make_machine(control_plane=control_plane), "first", f"{NAME}-userdata", "own")


class TestVirtualMachine:
    def test_labels_and_owner(self) -> None:
        vm = build_vm(make_kubevirt_machine())
        expected = {
            "team": "a",
            "kubevirt.io/vm": NAME,
            "name": NAME,
            "cluster.x-k8s.io/role": "worker",
            "cluster.x-k8s.io/cluster-name": "first",
            "capk.cluster.x-k8s.io/kubevirt-machine-name": NAME,
            "capk.cluster.x-k8s.io/kubevirt-machine-namespace": "shop",
        }
        assert vm["metadata"]["labels"] == expected
        assert vm["spec"]["template"]["metadata"]["labels"] == expected
        assert vm["metadata"]["ownerReferences"][0]["uid"] == "km-uid"
        assert build_vm(make_kubevirt_machine(), control_plane=True)["metadata"]["labels"]["cluster.x-k8s.io/role"] == "control-plane"

    def test_annotations_pass_and_the_subnet_is_filled_in(self) -> None:
        annotations = build_vm(make_kubevirt_machine(note="kept"))["spec"]["template"]["metadata"]["annotations"]
        assert annotations == {"ovn.kubernetes.io/logical_switch": "own", "pilvi.dev/machine": "sandbox", "note": "kept"}
        named = build_vm(make_kubevirt_machine(**{"ovn.kubernetes.io/logical_switch": "blue"}))
        assert named["spec"]["template"]["metadata"]["annotations"]["ovn.kubernetes.io/logical_switch"] == "blue"

    def test_user_data_is_attached_once(self) -> None:
        machine = make_kubevirt_machine()
        spec = machine["spec"]["virtualMachineTemplate"]["spec"]["template"]["spec"]
        spec["volumes"].append({"name": "cloudinitvolume", "cloudInitNoCloud": {"userData": "old"}})
        built = build_vm(machine)["spec"]["template"]["spec"]
        volumes = [volume for volume in built["volumes"] if volume["name"] == "cloudinitvolume"]
        assert volumes == [{"name": "cloudinitvolume", "cloudInitConfigDrive": {"secretRef": {"name": f"{NAME}-userdata"}}}]
        assert [disk["name"] for disk in built["domain"]["devices"]["disks"]] == ["root", "cloudinitvolume"]

    def test_the_template_is_left_alone(self) -> None:
        machine = make_kubevirt_machine()
        before = copy.deepcopy(machine)
        build_vm(machine)
        assert machine == before

    def test_nulls_and_missing_parts(self) -> None:
        machine = make_kubevirt_machine()
        machine["spec"]["virtualMachineTemplate"] = {"metadata": None, "spec": {"template": {"metadata": None, "spec": {"domain": None}}}}
        spec = build_vm(machine)["spec"]
        assert spec["runStrategy"] == "Always"
        assert spec["template"]["spec"]["domain"]["devices"]["disks"][0]["name"] == "cloudinitvolume"

    def test_running_is_no_reason_for_a_second_strategy(self) -> None:
        machine = make_kubevirt_machine()
        template = machine["spec"]["virtualMachineTemplate"]["spec"]
        del template["runStrategy"]
        template["running"] = True
        assert "runStrategy" not in build_vm(machine)["spec"]

    def test_data_volumes_get_the_machines_name(self) -> None:
        machine = make_kubevirt_machine()
        template = machine["spec"]["virtualMachineTemplate"]["spec"]
        template["dataVolumeTemplates"] = [{"metadata": {"name": "disk"}, "spec": {}}]
        template["template"]["spec"]["volumes"] += [
            {"name": "d", "dataVolume": {"name": "disk"}},
            {"name": "e", "dataVolume": {"name": "somebody-elses"}},
        ]
        spec = build_vm(machine)["spec"]
        assert spec["dataVolumeTemplates"][0]["metadata"]["name"] == f"{NAME}-disk"
        names = [volume["dataVolume"]["name"] for volume in spec["template"]["spec"]["volumes"] if "dataVolume" in volume]
        assert names == [f"{NAME}-disk", "somebody-elses"]

    def test_user_data_secret(self) -> None:
        secret = new_user_data_secret(make_kubevirt_machine(), make_bootstrap_secret(), "first")
        assert secret["metadata"]["name"] == f"{NAME}-userdata"
        assert base64.b64decode(secret["data"]["userdata"]) == b"#cloud-config"


class TestStatus:
    def plan(self, progress: Progress, **status: Any) -> JsonObject:
        return {"status": plan_status({**make_kubevirt_machine(), "status": status}, progress, NOW)}

    def vm(self, strategy: str = "Always") -> JsonObject:
        return {"metadata": {}, "spec": {"runStrategy": strategy}, "status": {"printableStatus": "Starting"}}

    def test_waiting_says_for_what(self) -> None:
        obj = self.plan(Progress(waiting=("WaitingForBootstrapData", "not yet")))
        assert obj["status"]["ready"] is False
        assert "initialization" not in obj["status"]
        for kind in ("VMProvisioned", "Ready"):
            found = find_condition(obj, kind)
            assert found is not None
            assert (found["reason"], found["message"], found["severity"]) == ("WaitingForBootstrapData", "not yet", "Info")

    def test_running(self) -> None:
        obj = self.plan(Progress(vm=self.vm(), vmi=ready_vmi()))
        status = obj["status"]
        assert (status["ready"], status["initialization"]) == (True, {"provisioned": True})
        assert {(entry["type"], entry["address"]) for entry in status["addresses"]} == {
            ("Hostname", NAME),
            ("InternalIP", "10.9.0.7"),
            ("ExternalIP", "10.9.0.7"),
            ("InternalDNS", NAME),
        }
        assert all(is_true(obj, kind) for kind in ("Ready", "VMProvisioned", "BootstrapExecSucceeded"))

    def test_no_condition_has_an_empty_message(self) -> None:
        for progress in (Progress(), Progress(vm=self.vm(), vmi=ready_vmi()), Progress(paused=True), Progress(vm=self.vm(), deleting=True)):
            for entry in self.plan(progress)["status"]["conditions"]:
                assert entry.get("message") != ""

    def test_provisioned_stays_when_the_machine_is_down(self) -> None:
        down = ready_vmi(conditions=[{"type": "Ready", "status": "False", "reason": "GuestNotRunning", "message": "signal SIGKILL"}])
        obj = self.plan(Progress(vm=self.vm(), vmi=down), initialization={"provisioned": True})
        assert obj["status"]["initialization"] == {"provisioned": True}
        assert obj["status"]["ready"] is False
        ready = find_condition(obj, "Ready")
        assert ready is not None
        assert "signal SIGKILL" in ready["message"]

    def test_the_instances_words_are_passed_on(self) -> None:
        refused = ready_vmi(
            phase="Pending", conditions=[{"type": "Synchronized", "status": "False", "reason": "ErrImagePull", "message": "no such image"}]
        )
        ready = find_condition(self.plan(Progress(vm=self.vm(), vmi=refused)), "Ready")
        assert ready is not None
        assert "no such image" in ready["message"]

    @pytest.mark.parametrize(
        ("first_boot", "node", "status", "reason"),
        [
            ("True", False, "True", "Bootstrapped"),
            ("Unknown", False, "False", "Bootstrapping"),
            ("Unknown", True, "True", "Bootstrapped"),
            ("False", False, "False", "BootstrapFailed"),
        ],
    )
    def test_bootstrap(self, first_boot: str, node: bool, status: str, reason: str) -> None:
        vmi = ready_vmi()
        vmi["status"]["conditions"][1]["status"] = first_boot
        found = find_condition(self.plan(Progress(vm=self.vm(), vmi=vmi, node_known=node)), "BootstrapExecSucceeded")
        assert found is not None
        assert (found["status"], found["reason"]) == (status, reason)

    def test_unchanged_is_equal(self) -> None:
        progress = Progress(vm=self.vm(), vmi=ready_vmi())
        once = self.plan(progress)["status"]
        assert plan_status({**make_kubevirt_machine(), "status": once}, progress, datetime(2027, 1, 1, tzinfo=UTC)) == once

    @pytest.mark.parametrize(
        ("strategy", "phase", "terminal"),
        [("Always", "Failed", False), ("Once", "Failed", True), ("Once", "Running", False), ("RerunOnFailure", "Succeeded", True)],
    )
    def test_terminal_states(self, strategy: str, phase: str, terminal: bool) -> None:
        assert (find_terminal(self.vm(strategy), ready_vmi(phase=phase)) is not None) is terminal

    def test_terminal_by_label(self) -> None:
        vm = {**self.vm(), "metadata": {"labels": {"capk.cluster.x-k8s.io/vm-terminal": "broken disk"}}}
        status = self.plan(Progress(vm=vm, vmi=ready_vmi()))["status"]
        assert status["failureReason"] == "UpdateError"
        assert "broken disk" in status["failureMessage"]


def test_capacity_of_a_template() -> None:
    template = {"spec": {"template": {"spec": make_kubevirt_machine()["spec"]}}}
    assert plan_capacity(template) == {"cpu": "2", "memory": "2Gi"}
    assert plan_capacity({"spec": {"template": {"spec": {}}}}) == {}
