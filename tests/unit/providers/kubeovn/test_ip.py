"""IP objects over the life of machines."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.api.capk import KubevirtCluster
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.providers.kubeovn.ip.controller import IPReconciler
from pilvi.providers.kubeovn.objects import Objects
from pilvi.providers.kubeovn.subnet.controller import SubnetReconciler
from pilvi.providers.kubeovn.sweep import OwnerSweep
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller
from tests.fake_api import FakeApi
from tests.unit.providers.kubeovn.objects import make_subnet, make_vpc
from tests.unit.providers.kubeovn.running import events_of, find, put, quiet, remove, running, wait_for

DEFINITIONS = NetworkAttachmentDefinition.RESOURCE
VMIS, VMS = VirtualMachineInstance.RESOURCE, VirtualMachine.RESOURCE


def make(platform: Platform) -> list[Controller]:
    objects = Objects(platform.informers, platform.cloud)
    return [IPReconciler(platform, objects).controller(), SubnetReconciler(platform, objects, OwnerSweep(platform.client)).controller()]


@pytest.fixture
def api(fake_api: FakeApi) -> FakeApi:
    put(fake_api, Vpc.RESOURCE, make_vpc())
    put(fake_api, Subnet.RESOURCE, make_subnet("ovn-default"))
    return fake_api


def add_vm(api: FakeApi, name: str = "web", **annotations: str) -> JsonObject:
    template = {"metadata": {"annotations": annotations}}
    return put(api, VMS, VMS.new(Key("team", name), spec={"template": template}))


def add_vmi(
    api: FakeApi, name: str = "web", vm: JsonObject | None = None, status: Any = None, spec: Any = None, **annotations: str
) -> JsonObject:
    metadata: JsonObject = {"annotations": annotations}
    if vm is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": vm["metadata"]["uid"], "controller": True}
        ]
    return put(api, VMIS, VMIS.new(Key("team", name), metadata=metadata, spec=spec or {}, status=status or {}))


def address(api: FakeApi, name: str = "web") -> str | None:
    ip = find(api, IP.RESOURCE, f"{name}.team")
    return ip["spec"]["v4IpAddress"] if ip else None


SECOND = {
    "domain": {"devices": {"interfaces": [{"name": "default"}, {"name": "second"}]}},
    "networks": [{"name": "default", "pod": {}}, {"name": "second", "multus": {"networkName": "back"}}],
}
BACK = "web.team.back.team.ovn"


def add_definition(api: FakeApi, kind: str = "kube-ovn") -> None:
    config = json.dumps({"type": kind, "provider": "back.team.ovn"})
    put(api, DEFINITIONS, DEFINITIONS.new(Key("team", "back"), spec={"config": config}))


def interfaces(vmi: JsonObject, *, absent: bool = False, plugged: tuple[str, ...] = ()) -> JsonObject:
    spec = copy.deepcopy(SECOND)
    if absent:
        spec["domain"]["devices"]["interfaces"][1]["state"] = "absent"
    metadata = {**vmi["metadata"], "generation": vmi["metadata"].get("generation", 1) + 1}
    return {**vmi, "metadata": metadata, "spec": spec, "status": {"interfaces": [{"name": name} for name in plugged]}}


async def test_each_network_has_an_address_of_its_own_from_its_own_subnet(api: FakeApi) -> None:
    put(api, Subnet.RESOURCE, make_subnet("back", "10.0.2.0/24", provider="back.team.ovn"))
    add_definition(api)
    async with running(api, make):
        vm = add_vm(api)
        add_vmi(api, vm=vm, spec=SECOND)
        ip = await wait_for("second address", lambda: find(api, IP.RESOURCE, BACK))
        assert (ip["spec"]["v4IpAddress"], ip["spec"]["subnet"], ip["spec"]["podName"]) == ("10.0.2.2", "back", "web")
        first = await wait_for("first address", lambda: find(api, IP.RESOURCE, "web.team"))
        assert first["spec"]["macAddress"] != ip["spec"]["macAddress"]


@pytest.mark.parametrize("missing", ["definition", "type", "subnet"])
async def test_a_network_that_nobody_serves_holds_up_no_other(api: FakeApi, missing: str) -> None:
    if missing != "subnet":
        put(api, Subnet.RESOURCE, make_subnet("back", "10.0.2.0/24", provider="back.team.ovn"))
    if missing != "definition":
        add_definition(api, "macvlan" if missing == "type" else "kube-ovn")
    async with running(api, make):
        add_vmi(api, spec=SECOND)
        await wait_for("address", lambda: address(api))
        await wait_for("event", lambda: "AcquireAddressFailed" in events_of(api))
        assert find(api, IP.RESOURCE, BACK) is None
        put(api, Subnet.RESOURCE, make_subnet("back", "10.0.2.0/24", provider="back.team.ovn"))
        add_definition(api)
        await wait_for("second address", lambda: find(api, IP.RESOURCE, BACK))


async def test_an_address_goes_when_its_card_has_been_unplugged_and_not_before(api: FakeApi) -> None:
    put(api, Subnet.RESOURCE, make_subnet("back", "10.0.2.0/24", provider="back.team.ovn"))
    add_definition(api)
    async with running(api, make):
        vmi = add_vmi(api, spec=SECOND)
        await wait_for("second address", lambda: find(api, IP.RESOURCE, BACK))
        vmi = put(api, VMIS, interfaces(vmi, absent=True, plugged=("default", "second")))
        await quiet(api)
        assert find(api, IP.RESOURCE, BACK) is not None
        put(api, VMIS, interfaces(vmi, absent=True, plugged=("default",)))
        await wait_for("release", lambda: find(api, IP.RESOURCE, BACK) is None)
        assert address(api) is not None


async def test_the_addresses_of_a_stopped_machine_are_those_that_its_template_has_interfaces_for(api: FakeApi) -> None:
    put(api, Subnet.RESOURCE, make_subnet("back", "10.0.2.0/24", provider="back.team.ovn"))
    add_definition(api)
    async with running(api, make):
        vm = put(api, VMS, VMS.new(Key("team", "web"), spec={"template": {"spec": SECOND}}))
        add_vmi(api, vm=vm, spec=SECOND)
        await wait_for("second address", lambda: find(api, IP.RESOURCE, BACK))
        remove(api, VMIS, "web", "team")
        await quiet(api)
        assert find(api, IP.RESOURCE, BACK) is not None
        put(api, VMS, {**vm, "metadata": {**vm["metadata"], "generation": 7}, "spec": {"template": {"spec": {}}}})
        await wait_for("release", lambda: find(api, IP.RESOURCE, BACK) is None)
        assert address(api) is not None


async def test_a_new_machine_gets_address_mac_and_labels(api: FakeApi) -> None:
    async with running(api, make):
        vm = add_vm(api)
        add_vmi(api, vm=vm)
        await wait_for("address", lambda: address(api))
    ip = find(api, IP.RESOURCE, "web.team")
    assert ip is not None
    assert {
        "podName": "web",
        "namespace": "team",
        "subnet": "ovn-default",
        "v4IpAddress": "10.0.1.2",
        "ipAddress": "10.0.1.2",
    }.items() <= ip["spec"].items()
    assert ip["metadata"]["labels"] == {
        "ovn.kubernetes.io/subnet": "ovn-default",
        "pilvi.dev/owner-kind": "VirtualMachine",
        "pilvi.dev/owner-namespace": "team",
        "pilvi.dev/owner-name": "web",
        "pilvi.dev/owner-uid": vm["metadata"]["uid"],
    }
    assert "finalizers" not in ip["metadata"]


async def test_the_address_stays_while_the_machine_is_off(api: FakeApi) -> None:
    async with running(api, make):
        vm = add_vm(api)
        add_vmi(api, vm=vm)
        await wait_for("address", lambda: address(api))
        remove(api, VMIS, "web", "team")
        add_vmi(api, "other")
        await wait_for("another address", lambda: address(api, "other"))
        assert (address(api), address(api, "other")) == ("10.0.1.2", "10.0.1.3")
        add_vmi(api, vm=vm)
        await quiet(api)
        assert address(api) == "10.0.1.2"
        # The owner goes, and with it the address.
        remove(api, VMS, "web", "team")
        remove(api, VMIS, "web", "team")
        await wait_for("release", lambda: address(api) is None)


async def test_an_instance_without_a_vm_takes_its_address_along(api: FakeApi) -> None:
    async with running(api, make):
        add_vmi(api)
        await wait_for("address", lambda: address(api))
        remove(api, VMIS, "web", "team")
        await wait_for("release", lambda: address(api) is None)


async def test_a_namesake_gets_its_own(api: FakeApi) -> None:
    async with running(api, make):
        add_vmi(api, vm=add_vm(api))
        await wait_for("address", lambda: address(api))
        first = find(api, IP.RESOURCE, "web.team")
        remove(api, VMIS, "web", "team")
        remove(api, VMS, "web", "team")
        add_vmi(api, vm=add_vm(api))
        second = await wait_for("new object", lambda: (ip := find(api, IP.RESOURCE, "web.team")) != first and ip)
    assert first is not None
    assert second["spec"]["macAddress"] != first["spec"]["macAddress"]


async def test_a_stopped_machine_that_asks_for_another_subnet_lets_go(api: FakeApi) -> None:
    put(api, Subnet.RESOURCE, make_subnet("b", "10.0.2.0/24"))
    async with running(api, make):
        vm = add_vm(api)
        add_vmi(api, vm=vm)
        await wait_for("address", lambda: address(api))
        wanted = {"ovn.kubernetes.io/logical_switch": "b"}
        changed = add_vm(api, **wanted)
        await quiet(api)
        assert address(api) == "10.0.1.2"  # not while it runs
        remove(api, VMIS, "web", "team")
        await wait_for("release", lambda: address(api) is None)
        add_vmi(api, vm=changed, **wanted)
        await wait_for("address in the other Subnet", lambda: address(api) == "10.0.2.2")


async def test_who_gets_none_waits_until_there_is_one(api: FakeApi) -> None:
    put(api, Subnet.RESOURCE, make_subnet("tiny", "10.0.3.0/30"))
    wanted = {"ovn.kubernetes.io/logical_switch": "tiny"}
    async with running(api, make):
        add_vmi(api, "first", **wanted)
        await wait_for("address", lambda: address(api, "first"))
        add_vmi(api, "second", **wanted)
        await wait_for("event", lambda: "AcquireAddressFailed" in events_of(api))

        def error() -> JsonObject | None:
            conditions = (find(api, Subnet.RESOURCE, "tiny") or {}).get("status", {}).get("conditions", [])
            return next((entry for entry in conditions if entry["type"] == "Error"), None)

        put(api, Vpc.RESOURCE, {**make_vpc(), "status": {"standby": True, "subnets": ["tiny"]}})
        await wait_for("condition", lambda: (found := error()) and found["reason"] == "NoAvailableAddress")
        remove(api, VMIS, "first", "team")
        await wait_for("address", lambda: address(api, "second") == "10.0.3.2")


async def test_an_address_in_use_is_not_given_twice(api: FakeApi) -> None:
    wanted = {"ovn.kubernetes.io/ip_address": "10.0.1.50"}
    async with running(api, make):
        add_vmi(api, "first", **wanted)
        await wait_for("address", lambda: address(api, "first") == "10.0.1.50")
        add_vmi(api, "second", **wanted)
        await wait_for("event", lambda: "AcquireAddressFailed" in events_of(api))
        assert address(api, "second") is None


async def test_many_at_once(api: FakeApi) -> None:
    async with running(api, make):
        for number in range(60):
            add_vmi(api, f"m{number}")
        await wait_for("all addresses", lambda: all(address(api, f"m{number}") for number in range(60)))
    assert len({address(api, f"m{number}") for number in range(60)}) == 60


async def test_the_virtual_host_is_noted(api: FakeApi) -> None:
    async with running(api, make):
        add_vmi(api)
        await wait_for("address", lambda: address(api))
        add_vmi(api, status={"nodeName": "host-1"})
        await wait_for("node", lambda: find(api, IP.RESOURCE, "web.team")["spec"]["nodeName"] == "host-1")  # type: ignore[index]


async def test_what_lost_its_owner_while_nobody_looked_is_removed(api: FakeApi) -> None:
    async with running(api, make):
        add_vmi(api, vm=add_vm(api))
        await wait_for("address", lambda: address(api))
    remove(api, VMIS, "web", "team")
    remove(api, VMS, "web", "team")
    async with running(api, make):
        await wait_for("release", lambda: address(api) is None)


@pytest.mark.parametrize("number", range(5))
async def test_a_request_that_fails_changes_nothing_in_the_end(api: FakeApi, number: int) -> None:
    """Request number N that is no watch fails; the machine still gets its one address."""
    count = iter(range(1000))

    def fault(request: Any) -> Any:
        from tests.fake_api import status_response

        if "watch" in request.query or "/events" in request.path or next(count) != number + 8:
            return None  # the first eight are the lists of the informers
        return status_response(500, "InternalError")

    api.faults.append(fault)
    async with running(api, make):
        add_vmi(api)
        await wait_for("address", lambda: address(api))
        await quiet(api)
    assert [path for path in api.objects if "/ips/" in path] == ["/apis/kubeovn.io/v1/ips/web.team"]
    assert address(api) == "10.0.1.2"


async def test_a_subnet_waits_for_its_machines(api: FakeApi) -> None:
    async with running(api, make):
        add_vmi(api)
        await wait_for("address", lambda: address(api))
        subnet = await wait_for(
            "finalizer", lambda: (found := find(api, Subnet.RESOURCE, "ovn-default")) and found["metadata"].get("finalizers") and found
        )
        put(api, Subnet.RESOURCE, {**subnet, "metadata": {**subnet["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
        await wait_for("event", lambda: "InUse" in events_of(api))
        assert find(api, Subnet.RESOURCE, "ovn-default") is not None
        remove(api, VMIS, "web", "team")
        await wait_for("end", lambda: find(api, Subnet.RESOURCE, "ovn-default") is None)


async def test_what_an_owner_left_behind_is_swept_at_start(api: FakeApi) -> None:
    def owned(name: str, cidr: str, uid: str) -> JsonObject:
        subnet = make_subnet(name, cidr)
        labels = {"kind": "KubevirtCluster", "namespace": "team", "name": "cluster", "uid": uid}
        subnet["metadata"]["labels"] = {f"pilvi.dev/owner-{key}": value for key, value in labels.items()}
        return subnet

    cluster = put(api, KubevirtCluster.RESOURCE, KubevirtCluster.RESOURCE.new(Key("team", "cluster"), spec={}))
    put(api, Subnet.RESOURCE, owned("kept", "10.1.0.0/24", cluster["metadata"]["uid"]))
    put(api, Subnet.RESOURCE, owned("namesake", "10.2.0.0/24", "uid of an earlier cluster"))
    async with running(api, make):
        await wait_for("sweep", lambda: find(api, Subnet.RESOURCE, "namesake") is None)
        await quiet(api)
    assert find(api, Subnet.RESOURCE, "kept") is not None
