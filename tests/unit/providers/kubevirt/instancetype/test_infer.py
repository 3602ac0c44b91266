"""Names in labels of what a volume is made from: each way, and its end."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject, Key, Resource
from pilvi.providers.kubevirt.instancetype.infer import CLAIMS, DATA_SOURCES, DATA_VOLUMES, SNAPSHOTS, NotInferred, infer
from pilvi.providers.kubevirt.instancetype.matcher import INSTANCETYPE, PREFERENCE
from tests.unit.providers.kubevirt.objects import make_vm

LABELS = {
    "instancetype.kubevirt.io/default-instancetype": "u1.small",
    "instancetype.kubevirt.io/default-instancetype-kind": "VirtualMachineInstancetype",
    "instancetype.kubevirt.io/default-preference": "debian",
}
Objects = dict[tuple[Resource, Key], JsonObject]


def labelled(**spec: Any) -> JsonObject:
    return {"metadata": {"labels": LABELS}, "spec": spec}


def plain(**spec: Any) -> JsonObject:
    return {"metadata": {}, "spec": spec}


CLAIM = {"persistentVolumeClaim": {"claimName": "disk"}}
VOLUME = {"dataVolume": {"name": "disk"}}
HERE = Key("shop", "disk")
GOLDEN = Key("images", "golden")
PVC = {"source": {"pvc": {"namespace": "images", "name": "golden"}}}
SNAPSHOT = {"source": {"snapshot": {"namespace": "images", "name": "golden"}}}
DATA_SOURCE = {"sourceRef": {"kind": "DataSource", "namespace": "images", "name": "golden"}}

WAYS: list[tuple[JsonObject, Objects]] = [
    (CLAIM, {(CLAIMS, HERE): labelled()}),
    (VOLUME, {(DATA_VOLUMES, HERE): labelled()}),
    (VOLUME, {(CLAIMS, HERE): labelled()}),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(**PVC), (CLAIMS, GOLDEN): labelled()}),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(**SNAPSHOT), (SNAPSHOTS, GOLDEN): labelled()}),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(**DATA_SOURCE), (DATA_SOURCES, GOLDEN): labelled()}),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(**DATA_SOURCE), (DATA_SOURCES, GOLDEN): plain(**PVC), (CLAIMS, GOLDEN): labelled()}),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(**DATA_SOURCE), (DATA_SOURCES, GOLDEN): plain(**SNAPSHOT), (SNAPSHOTS, GOLDEN): labelled()}),
]


def machine(volume: JsonObject, templates: list[JsonObject] | None = None) -> JsonObject:
    vm = make_vm()
    vm["spec"]["template"]["spec"]["volumes"].append({"name": "data", **volume})
    return {**vm, "spec": {**vm["spec"], "dataVolumeTemplates": templates or []}}


async def ask(vm: JsonObject, objects: Objects, noun: Any = INSTANCETYPE, volume: str = "data") -> tuple[str, str]:
    async def find(resource: Resource, key: Key) -> JsonObject | None:
        return objects.get((resource, key))

    return await infer(vm, noun, volume, find)


@pytest.mark.parametrize(("volume", "objects"), WAYS)
async def test_the_ways_to_a_label(volume: JsonObject, objects: Objects) -> None:
    assert await ask(machine(volume), objects) == ("u1.small", "VirtualMachineInstancetype")
    assert await ask(machine(volume), objects, PREFERENCE) == ("debian", "")


@pytest.mark.parametrize("spec", [PVC, DATA_SOURCE])
async def test_a_data_volume_that_is_still_to_be_made(spec: JsonObject) -> None:
    vm = machine(VOLUME, [{"metadata": {"name": "disk"}, "spec": spec}])
    assert (await ask(vm, {(CLAIMS, GOLDEN): labelled(), (DATA_SOURCES, GOLDEN): labelled()}))[0] == "u1.small"


ENDS: list[tuple[JsonObject, Objects, str, bool]] = [
    (CLAIM, {}, "PersistentVolumeClaim shop/disk is not there", False),
    (CLAIM, {(CLAIMS, HERE): plain()}, "PersistentVolumeClaim shop/disk has no label instancetype.kubevirt.io/default-instancetype", True),
    (VOLUME, {}, "PersistentVolumeClaim shop/disk is not there", False),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(source={"blank": {}})}, "is no copy of a claim, a snapshot or a DataSource", True),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(**DATA_SOURCE)}, "DataSource images/golden is not there", False),
    (VOLUME, {(DATA_VOLUMES, HERE): plain(**DATA_SOURCE), (DATA_SOURCES, GOLDEN): plain(source={})}, "stands for neither", True),
    ({"emptyDisk": {"capacity": "1Gi"}}, {}, "volume data is neither a persistentVolumeClaim nor a dataVolume", True),
]


@pytest.mark.parametrize(("volume", "objects", "words", "may_be_ignored"), ENDS)
async def test_where_nothing_is_said(volume: JsonObject, objects: Objects, words: str, may_be_ignored: bool) -> None:
    with pytest.raises(NotInferred) as failure:
        await ask(machine(volume), objects)
    assert words in str(failure.value)
    assert failure.value.may_be_ignored is may_be_ignored


async def test_a_volume_that_the_template_lacks() -> None:
    with pytest.raises(NotInferred, match="no volume other"):
        await ask(machine(CLAIM), {}, volume="other")
