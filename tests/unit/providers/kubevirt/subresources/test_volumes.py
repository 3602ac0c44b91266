"""virtctl addvolume and removevolume, down to the template or the instance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.virtualmachine.liveupdate import ADDED_VOLUMES, added_volumes
from tests.unit.providers.kubevirt.objects import make_vmi_spec
from tests.unit.providers.kubevirt.subresources.served import Served
from tests.virtctl import VirtctlError

DATA = {"name": "data", "dataVolume": {"name": "data", "hotpluggable": True}}
DISK = {"name": "data", "disk": {"bus": "scsi"}, "serial": "data"}


def names(spec: JsonObject) -> tuple[list[str], list[str]]:
    return [volume["name"] for volume in spec["volumes"]], [disk["name"] for disk in spec["domain"]["devices"]["disks"]]


async def test_with_persist_the_template_gets_it(served: Served) -> None:
    served.put_machine("Halted")
    async with served.virtctl() as virtctl:
        await virtctl.add_volume("web", "data", persist=True)
        spec = served.get(MACHINES)["spec"]["template"]["spec"]
        assert (spec["volumes"][-1], spec["domain"]["devices"]["disks"][-1]) == (DATA, DISK)
        other = {"name": "other", "disk": {}, "volumeSource": {"persistentVolumeClaim": {"claimName": "data"}}}
        for call, words in (
            (virtctl.add_volume("web", "root", persist=True), "with that name already exists"),
            (virtctl._put("virtualmachines", "web", "addvolume", other), r"volume source \[data\] because it already exists"),
        ):
            with pytest.raises(VirtctlError, match=words) as refused:
                await call
            assert refused.value.code == 409
        await virtctl.remove_volume("web", "data", persist=True)
        assert names(served.get(MACHINES)["spec"]["template"]["spec"]) == (["root"], ["root"])
        for name, words in (("data", "does not exist"), ("root", "not hotpluggable")):
            with pytest.raises(VirtctlError, match=words):
                await virtctl.remove_volume("web", name, persist=True)


async def test_a_dry_run_is_one_all_the_way(served: Served) -> None:
    served.put_machine()
    served.put_instance()
    async with served.virtctl() as virtctl:
        await virtctl.add_volume("web", "data", persist=True, dry_run=True)
        await virtctl.add_volume("web", "more", dry_run=True)
    patches = [path for method, path in served.api.requests if method == "PATCH" and "/namespaces/shop/virtualmachine" in path]
    assert [path.partition("?")[2] for path in patches] == ["dryRun=All", "dryRun=All"]


async def test_without_persist_one_run_gets_it(served: Served) -> None:
    served.put_machine()
    served.put_instance()
    async with served.virtctl() as virtctl:
        await virtctl.add_volume("web", "data", bus="virtio", claim=True)
        vmi = served.get(INSTANCES)
        assert vmi["spec"]["volumes"][-1] == {"name": "data", "persistentVolumeClaim": {"claimName": "data", "hotpluggable": True}}
        assert added_volumes(vmi) == ["data"]
        assert names(served.get(MACHINES)["spec"]["template"]["spec"]) == (["root"], ["root"])
        await virtctl.remove_volume("web", "data")
        vmi = served.get(INSTANCES)
        assert names(vmi["spec"]) == (["root"], ["root"])
        assert ADDED_VOLUMES not in (vmi["metadata"].get("annotations") or {})


async def test_what_the_template_has_does_not_go_from_one_run_alone(served: Served) -> None:
    spec = make_vmi_spec()
    vm = served.put_machine()
    vm["spec"]["template"]["spec"]["volumes"].append(DATA)
    served.put(MACHINES, vm)
    served.put_instance(spec={"volumes": [*spec["volumes"], DATA]})
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match=r"the VirtualMachine has it too.*--persist") as refused:
            await virtctl.remove_volume("web", "data")
    assert refused.value.code == 409


@pytest.mark.parametrize(
    ("phase", "fidelity", "status", "words"),
    [
        ("Scheduled", "Tcg", {}, "VMI is not running"),
        ("Running", "Sandbox", {}, "sandbox"),
        ("Running", "Tcg", {"volumeStatus": [{"name": "data", "target": "", "phase": "Detaching"}]}, "has not let go"),
    ],
)
async def test_states_in_which_it_cannot_be(served: Served, phase: str, fidelity: str, status: JsonObject, words: str) -> None:
    served.put_machine()
    vmi = served.put_instance(phase, fidelity=fidelity)
    vmi["status"] |= status
    served.put(INSTANCES, vmi)
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match=words) as refused:
            await virtctl.add_volume("web", "data")
    assert refused.value.code == 409


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "requires name"),
        ({"name": "a"}, "requires disk"),
        ({"name": "a", "disk": {}}, "requires volumeSource"),
        ({"name": "a", "disk": {}, "volumeSource": {"dataVolume": {}}}, "names nothing"),
        ({"name": "a", "disk": {}, "volumeSource": {"containerDisk": {"image": "x"}}}, "dataVolume and persistentVolumeClaim"),
        ({"name": "a", "disk": {"disk": {"bus": "sata"}}, "volumeSource": {"dataVolume": {"name": "a"}}}, "scsi or virtio"),
        ({"name": "a", "disk": {"cdrom": {"bus": "scsi"}}, "volumeSource": {"dataVolume": {"name": "a"}}}, "cdrom cannot come"),
        (
            {"name": "a", "disk": {"disk": {"bus": "scsi"}, "serial": "x" * 37}, "volumeSource": {"dataVolume": {"name": "a"}}},
            "serial number",
        ),
        ({"name": "a", "disk": {"disk": "x"}, "volumeSource": {"dataVolume": {"name": "a"}}}, "not understood"),
    ],
)
async def test_bodies_that_ask_for_what_cannot_be(served: Served, body: dict[str, Any], words: str) -> None:
    served.put_machine()
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match=words) as refused:
            await virtctl._put("virtualmachines", "web", "addvolume", body)
    assert refused.value.code == 400


def test_an_annotation_that_is_none_names_no_volumes() -> None:
    for text in ("", "{", "3", json.dumps([1])):
        assert added_volumes({"metadata": {"annotations": {ADDED_VOLUMES: text}}}) == []
