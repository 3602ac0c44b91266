from __future__ import annotations

import base64
import copy
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.providers.attachments import find_attachments
from pilvi.providers.kubevirt.instance.network import Link, NoLeg, find_failures, plan_interfaces, plan_leg, plan_legs
from pilvi.providers.kubevirt.instance.pod import launcher_name, new_launcher, plan_pod_status
from pilvi.providers.kubevirt.instance.status import FIDELITY, FIRST_BOOT, Report, plan_status
from pilvi.providers.kubevirt.instance.volumes.cloudinit import CloudInit, Given, InSecret, decode_secret, find_cloud_init
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachineState
from pilvi.providers.kubevirt.machines.choice import Refusal, choose_backend, find_boot_image
from pilvi.providers.kubevirt.virtualmachine.instance import new_instance
from pilvi.providers.names import subnet_bridge, vpc_netns
from pilvi.runtime import find_condition
from tests.unit.providers.kubevirt.objects import UID, make_ip, make_subnet, make_vm, make_vmi, make_vpc
from tests.unit.providers.stage import make_cloud

TWO: JsonObject = {
    "domain": {"devices": {"interfaces": [{"name": "main", "bridge": {}}, {"name": "second", "bridge": {}, "state": "down"}]}},
    "networks": [{"name": "second", "multus": {"networkName": "back"}}, {"name": "main", "pod": {}}],
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLOUD = make_cloud(Path("/var/lib/pilvi"))


def get_leg() -> MachineLeg:
    leg = plan_leg(CLOUD, link(make_ip(), make_subnet(), make_vpc()))
    assert isinstance(leg, MachineLeg)
    return leg


def link(ip: JsonObject | None, subnet: JsonObject | None, vpc: JsonObject | None, spec: JsonObject | None = None, place: int = 0) -> Link:
    return Link(find_attachments(spec or {}, "team")[place], ip, subnet, vpc)


class TestPod:
    def test_is_what_the_scheduler_and_services_need(self) -> None:
        vmi = make_vmi()
        vmi["spec"] |= {"nodeSelector": {"zone": "a"}, "priorityClassName": "high", "tolerations": [{"key": "x", "operator": "Exists"}]}
        pod = new_launcher(vmi, "pilvi.dev/node:v1.37.2")
        labels, spec = pod["metadata"]["labels"], pod["spec"]
        assert labels == {"app": "web", "kubevirt.io": "virt-launcher", "kubevirt.io/created-by": UID, "vm.kubevirt.io/name": "web"}
        assert pod["metadata"]["ownerReferences"][0]["uid"] == UID
        assert spec["containers"][0]["resources"]["requests"] == {"cpu": "200m", "memory": "1536Mi"}
        assert spec["containers"][0]["imagePullPolicy"] == "Never"
        assert spec["nodeSelector"] == {"zone": "a", "kubevirt.io/schedulable": "true"}
        assert spec["priorityClassName"] == "high"
        assert spec["automountServiceAccountToken"] is False
        keys = [toleration["key"] for toleration in spec["tolerations"]]
        assert keys == ["x", "pilvi.dev/machines-only", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        assert all("tolerationSeconds" not in toleration for toleration in spec["tolerations"])

    def test_reserves_what_is_requested(self) -> None:
        vmi = make_vmi()
        vmi["spec"]["domain"]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}
        (container,) = new_launcher(vmi, "x")["spec"]["containers"]
        assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}

    def test_asks_for_huge_pages_and_for_little_beside_them(self) -> None:
        vmi = make_vmi()
        vmi["spec"]["domain"]["memory"] = {"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}}
        (container,) = new_launcher(vmi, "x", 100 << 20)["spec"]["containers"]
        assert container["resources"]["limits"] == {"hugepages-2Mi": "1Gi"}
        assert container["resources"]["requests"] == {"cpu": "200m", "memory": "100Mi", "hugepages-2Mi": "1Gi"}

    def test_reserves_no_overhead_that_shall_be_overcommitted(self) -> None:
        vmi = make_vmi()
        vmi["spec"]["domain"]["resources"] = {"requests": {"memory": "1Gi"}, "overcommitGuestOverhead": True}
        (container,) = new_launcher(vmi, "x", 100 << 20)["spec"]["containers"]
        assert container["resources"]["requests"]["memory"] == "1Gi"

    def test_has_one_name_for_one_instance(self) -> None:
        vmi = make_vmi()
        assert launcher_name(vmi) == launcher_name(make_vmi("Running"))
        assert launcher_name(vmi).startswith("virt-launcher-web-")
        assert len(launcher_name(vmi)) == len("virt-launcher-web-") + 5
        vmi["metadata"]["uid"] = "another"
        assert launcher_name(vmi) != launcher_name(make_vmi())

    def test_needs_a_size(self) -> None:
        vmi = make_vmi()
        del vmi["spec"]["domain"]["memory"]
        with pytest.raises(UserError, match="memory is not given"):
            new_launcher(vmi, "x")

    @pytest.mark.parametrize(
        ("phase", "state", "ready"), [("Pending", "waiting", False), ("Running", "running", True), ("Failed", "terminated", False)]
    )
    def test_status_mirrors_the_machine(self, phase: str, state: str, ready: bool) -> None:
        pod = {**new_launcher(make_vmi(), "image"), "status": {}}
        started = "2026-01-01T00:00:00Z" if phase != "Pending" else None
        status = plan_pod_status(pod, phase=phase, address="10.9.0.5", started_at=started, ready=ready, message="why", host="10.250.0.1")
        assert [*status["containerStatuses"][0]["state"]] == [state]
        assert status["podIP"] == "10.9.0.5"
        truths = {entry["type"]: entry["status"] for entry in status["conditions"]}
        assert truths == {"Initialized": "True", "ContainersReady": str(ready), "Ready": str(ready)}


class TestLeg:
    def test_comes_from_ip_subnet_and_vpc(self) -> None:
        leg = get_leg()
        assert (str(leg.address), str(leg.gateway), leg.mac) == ("10.9.0.5/16", "10.9.0.1", "02:00:00:00:00:05")
        assert (leg.netns, leg.bridge) == (vpc_netns(CLOUD, "vpc-uid"), subnet_bridge("subnet-uid"))

    @pytest.mark.parametrize(("mtu", "expected"), [(None, 1500), (0, 1500), (1400, 1400)])
    def test_packets_are_as_large_as_the_subnet_says(self, mtu: int | None, expected: int) -> None:
        subnet = make_subnet()
        subnet["spec"]["mtu"] = mtu
        leg = plan_leg(CLOUD, link(make_ip(), subnet, make_vpc()))
        assert isinstance(leg, MachineLeg)
        assert leg.mtu == expected

    @pytest.mark.parametrize(("missing", "named"), [("ip", "no address yet"), ("subnet", "Subnet net"), ("vpc", "Vpc vpc")])
    def test_names_what_is_missing(self, missing: str, named: str) -> None:
        objects: dict[str, Any] = {"ip": make_ip(), "subnet": make_subnet(), "vpc": make_vpc(), missing: None}
        leg = plan_leg(CLOUD, link(objects["ip"], objects["subnet"], objects["vpc"]))
        assert isinstance(leg, NoLeg)
        assert named in leg.message

    def test_bad_addresses_are_named(self) -> None:
        subnet = make_subnet()
        subnet["spec"]["cidrBlock"] = "10.9.0.0/99"
        leg = plan_leg(CLOUD, link(make_ip(), subnet, make_vpc()))
        assert isinstance(leg, NoLeg)
        assert "net" in leg.message

    def test_a_machine_waits_for_all_its_legs_and_once_it_runs_for_its_way_out_alone(self) -> None:
        first = link(make_ip(), make_subnet(), make_vpc(), TWO)
        second = link(None, None, None, TWO, 1)
        assert isinstance(plan_legs(CLOUD, (first, second), running=False), NoLeg)
        legs = plan_legs(CLOUD, (first, second), running=True)
        assert not isinstance(legs, NoLeg)
        assert [leg.name for leg in legs] == ["main"]
        lost = plan_legs(CLOUD, (link(None, None, None, TWO), second), running=True)
        assert isinstance(lost, NoLeg)
        assert "no address yet: " in lost.message

    def test_an_absent_interface_has_no_leg_and_the_others_keep_their_places(self) -> None:
        spec = copy.deepcopy(TWO)
        spec["domain"]["devices"]["interfaces"].insert(0, {"name": "gone", "state": "absent"})
        spec["networks"].append({"name": "gone", "multus": {"networkName": "x"}})
        links = [link(make_ip(), make_subnet(), make_vpc(), spec, place) for place in range(3)]
        legs = plan_legs(CLOUD, links, running=False)
        assert not isinstance(legs, NoLeg)
        assert [(leg.name, leg.place, leg.provider, leg.is_default, leg.is_up) for leg in legs] == [
            ("main", 1, "ovn", True, True),
            ("second", 2, "back.team.ovn", False, False),
        ]

    def test_status_names_the_cards_that_the_guest_has_the_way_out_first(self) -> None:
        main, second = (dataclasses.replace(get_leg(), name=name, is_default=name == "main") for name in ("main", "second"))
        assert [entry["name"] for entry in plan_interfaces((second, main), None)] == ["main", "second"]
        assert [entry["podInterfaceName"] for entry in plan_interfaces((second, main), None)] == ["eth0", "pod16367aac"]
        gone = {"name": "gone", "ipAddress": "10.0.0.9"}
        assert plan_interfaces((main, second), ("gone", "main"), [gone])[1:] == [gone]
        state = MachineState("running", unchanged={"card second": "no such tap", "disk a": "x"})
        assert find_failures(state) == ["interface second: no such tap"]
        down = dataclasses.replace(main, is_up=False)
        assert plan_interfaces((down,), None)[0]["linkState"] == "down"


class TestCloudInit:
    def with_source(self, name: str, **source: Any) -> JsonObject:
        vmi = make_vmi()
        vmi["spec"]["volumes"].append({"name": "init", name: source})
        return vmi

    def find(self, name: str, **source: Any) -> CloudInit:
        found = find_cloud_init(self.with_source(name, **source))
        assert found is not None
        return found

    def test_every_way_to_give_it(self) -> None:
        assert find_cloud_init(make_vmi()) is None
        encoded = base64.b64encode(b"x").decode()
        assert self.find("cloudInitNoCloud", userData="#cloud-config") == CloudInit("init", "NoCloud", Given(b"#cloud-config"))
        assert self.find("cloudInitConfigDrive", userDataBase64=encoded).user_data == Given(b"x")
        assert self.find("cloudInitConfigDrive", networkDataBase64=encoded).network_data == Given(b"x")
        named = self.find("cloudInitConfigDrive", secretRef={"name": "boot"}, networkDataSecretRef={"name": "net"})
        assert (named.source, named.user_data) == ("ConfigDrive", InSecret(Key("shop", "boot"), ("userdata", "userData")))
        assert named.network_data == InSecret(Key("shop", "net"), ("networkdata", "networkData"))

    def test_two_sources_are_refused(self) -> None:
        vmi = self.with_source("cloudInitNoCloud", userData="x")
        vmi["spec"]["volumes"].append({"name": "more", "cloudInitConfigDrive": {"userData": "y"}})
        with pytest.raises(UserError, match="both give user data"):
            find_cloud_init(vmi)
        with pytest.raises(UserError, match=r"volumes\[init\]\.cloudInitNoCloud: userData and secretRef"):
            self.find("cloudInitNoCloud", userData="x", secretRef={"name": "boot"})

    @pytest.mark.parametrize("field", ["userDataBase64", "networkDataBase64"])
    def test_bad_base64_is_refused(self, field: str) -> None:
        with pytest.raises(UserError, match=field):
            self.find("cloudInitNoCloud", **{field: "%%%"})

    def test_secret_keys(self) -> None:
        metadata = {"namespace": "shop", "name": "boot"}
        names = ("userdata", "userData")
        assert decode_secret({"metadata": metadata, "data": {"userData": base64.b64encode(b"x").decode()}}, names) == b"x"
        with pytest.raises(UserError, match="shop/boot has no key userdata"):
            decode_secret({"metadata": metadata, "data": {}}, names)


def with_image(image: str | None, machine: str | None = None) -> JsonObject:
    vmi = make_vmi()
    vmi["spec"]["volumes"] = [{"name": "root", "containerDisk": {"image": image}}] if image else []
    if machine:
        vmi["metadata"]["annotations"] = {"pilvi.dev/machine": machine}
    return vmi


class TestChoice:
    @pytest.mark.parametrize("default", ["auto", "sandbox"])
    def test_node_images_run_in_sandboxes(self, default: str) -> None:
        assert choose_backend(make_vmi(), default) == "sandbox"

    def test_annotation_wins(self) -> None:
        vmi = make_vmi()
        vmi["metadata"]["annotations"] = {"pilvi.dev/machine": "sandbox"}
        assert choose_backend(vmi, "qemu") == "sandbox"

    def test_what_runs_stays_where_it_is(self) -> None:
        vmi = make_vmi()
        vmi["metadata"]["annotations"] = {"pilvi.dev/machine": "qemu"}
        assert choose_backend(vmi, "qemu", running="sandbox") == "sandbox"

    def test_a_sandbox_is_in_one_network(self) -> None:
        vmi = make_vmi()
        vmi["spec"]["networks"] = [{"name": "a", "pod": {}}, {"name": "b", "multus": {"networkName": "b"}}]
        refusal = choose_backend(vmi, "auto")
        assert isinstance(refusal, Refusal)
        assert "is in one network, and this machine is in 2" in refusal.message
        vmi["spec"]["networks"].pop(0)
        assert choose_backend(vmi, "auto") == "sandbox"

    def test_everything_else_runs_under_qemu(self) -> None:
        assert choose_backend(with_image("quay.io/containerdisks/fedora:41"), "auto") == "qemu"
        assert choose_backend(with_image(None), "auto") == "qemu"
        assert choose_backend(with_image("quay.io/containerdisks/fedora:41", "qemu"), "sandbox") == "qemu"
        assert choose_backend(with_image("pilvi.dev/node:v1.37.2", "qemu"), "auto") == "qemu"

    @pytest.mark.parametrize(
        ("image", "machine", "default", "reason"),
        [
            ("quay.io/containerdisks/fedora:41", "sandbox", "auto", "InvalidMachine"),
            ("quay.io/containerdisks/fedora:41", None, "sandbox", "InvalidMachine"),
            ("pilvi.dev/node:v1.37.2", "docker", "auto", "InvalidMachine"),
            (None, "sandbox", "auto", "InvalidMachine"),
        ],
    )
    def test_refusals(self, image: str | None, machine: str | None, default: str, reason: str) -> None:
        refusal = choose_backend(with_image(image, machine), default)
        assert isinstance(refusal, Refusal)
        assert refusal.reason == reason

    def test_boot_order_chooses_the_disk(self) -> None:
        spec = {
            "volumes": [{"name": "a", "containerDisk": {"image": "A"}}, {"name": "b", "containerDisk": {"image": "B"}}],
            "domain": {"devices": {"disks": [{"name": "a", "bootOrder": 2}, {"name": "b", "bootOrder": 1}]}},
        }
        assert find_boot_image(spec) == "B"
        assert find_boot_image({"volumes": [{"name": "a", "emptyDisk": {}}], "domain": None}) is None


class TestStatus:
    def running(self, **state: Any) -> Report:
        machine = MachineState("running", NOW, **state)
        pod: JsonObject = {"metadata": {"uid": "pod-uid"}, "spec": {"nodeName": "host"}, "status": {"qosClass": "Burstable"}}
        return Report("Running", machine=machine, pod=pod, interfaces=plan_interfaces((get_leg(),), None), fidelity=("Sandbox", "not real"))

    def test_of_a_running_machine(self) -> None:
        status = plan_status(make_vmi("Scheduled"), self.running(first_boot=0, guest_os={"id": "debian"}), NOW)
        assert (status["phase"], status["nodeName"], status["activePods"]) == ("Running", "host", {"pod-uid": "host"})
        assert status["phaseTransitionTimestamps"] == [{"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}]
        assert status["interfaces"][0]["ipAddress"] == "10.9.0.5"
        assert status["guestOSInfo"] == {"id": "debian"}
        assert status["memory"]["guestAtBoot"] == "1536Mi"
        vmi = {"status": status}
        for kind, truth, reason in (("Ready", "True", "GuestRunning"), (FIDELITY, "True", "Sandbox"), (FIRST_BOOT, "True", "Completed")):
            found = find_condition(vmi, kind)
            assert found is not None
            assert (found["status"], found["reason"]) == (truth, reason)

    @pytest.mark.parametrize(("code", "truth"), [(None, "Unknown"), (0, "True"), (1, "False")])
    def test_first_boot(self, code: int | None, truth: str) -> None:
        found = find_condition({"status": plan_status(make_vmi(), self.running(first_boot=code), NOW)}, FIRST_BOOT)
        assert found is not None
        assert found["status"] == truth

    def test_stays_the_same_when_nothing_changes(self) -> None:
        once = plan_status(make_vmi("Scheduled"), self.running(), NOW)
        assert plan_status({**make_vmi(), "status": once}, self.running(), datetime(2027, 1, 1, tzinfo=UTC)) == once

    def test_the_scheduler_speaks_for_itself(self) -> None:
        pod: JsonObject = {
            "metadata": {"uid": "p"},
            "spec": {},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]},
        }
        status = plan_status(make_vmi(), Report("Scheduling", pod=pod), NOW)
        found = find_condition({"status": status}, "PodScheduled")
        assert found is not None
        assert (found["reason"], found["message"]) == ("Unschedulable", "0/1 nodes")
        status = plan_status(make_vmi(), Report("Scheduling", pod=pod, pressure="the disk is full"), NOW)
        found = find_condition({"status": status}, "PodScheduled")
        assert found is not None
        assert found["message"] == "the disk is full; 0/1 nodes"
        pod["status"]["conditions"] = []
        assert (
            find_condition({"status": plan_status({**make_vmi(), "status": status}, Report("Scheduling", pod=pod), NOW)}, "PodScheduled")
            is None
        )

    def test_what_others_wrote_stays(self) -> None:
        foreign = {"type": "EvictionRequested", "status": "True"}
        vmi = make_vmi("Running", evacuationNodeName="host", conditions=[foreign])
        status = plan_status(vmi, self.running(), NOW)
        assert status["evacuationNodeName"] == "host"
        assert foreign["type"] in [entry["type"] for entry in status["conditions"]]


def test_a_start_that_was_asked_for_paused_is_one() -> None:
    stop, start = {"action": "Stop", "uid": "old"}, {"action": "Start", "data": {"paused": "true"}}
    assert new_instance(make_vm("Manual", stateChangeRequests=[stop, start]))["spec"]["startStrategy"] == "Paused"
    assert "startStrategy" not in new_instance(make_vm("Manual", stateChangeRequests=[{"action": "Start"}]))["spec"]
    assert "startStrategy" not in new_instance(make_vm("Always"))["spec"]
