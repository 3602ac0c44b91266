"""The instancetypes and preferences that a cloud begins with."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.api.instancetype import VirtualMachineClusterInstancetype, VirtualMachineClusterPreference
from pilvi.api.object import decode
from pilvi.kube import Client
from pilvi.lib.quantity import quantity_bytes
from pilvi.plane.machine_types import create_missing, instancetypes, preferences
from pilvi.providers.kubevirt.instancetype.expand import Chosen, expand
from tests.fake_api import FakeApi

TYPES = {obj["metadata"]["name"]: obj for obj in instancetypes()}
LIKED = {obj["metadata"]["name"]: obj for obj in preferences()}
TEMPLATE: JsonObject = {"spec": {"domain": {"devices": {}}, "volumes": [{"name": "root", "emptyDisk": {"capacity": "1Gi"}}]}}


def test_they_are_of_their_kinds() -> None:
    assert len(TYPES) == len(instancetypes())
    assert len(LIKED) == len(preferences())
    for obj in TYPES.values():
        decoded = decode(VirtualMachineClusterInstancetype, obj)
        labels = decoded.metadata.labels
        assert labels["instancetype.kubevirt.io/cpu"] == str(decoded.spec.cpu.guest)
        assert labels["instancetype.kubevirt.io/memory"] == decoded.spec.memory.guest
    for obj in LIKED.values():
        decode(VirtualMachineClusterPreference, obj)


@pytest.mark.parametrize("name", LIKED)
def test_a_machine_can_have_each_preference(name: str) -> None:
    expanded = expand(TEMPLATE, Chosen(TYPES["u1.large"]["spec"], LIKED[name]["spec"]))
    (disk,) = expanded["spec"]["domain"]["devices"]["disks"]
    assert disk["disk"]["bus"] == ("sata" if name.startswith("windows") and not name.endswith("virtio") else "virtio")


def test_the_sizes_of_a_series_grow() -> None:
    for series in ("u1", "o1", "cx1", "m1"):
        sizes = [
            (o["spec"]["cpu"]["guest"], quantity_bytes(o["spec"]["memory"]["guest"])) for n, o in TYPES.items() if n.startswith(series)
        ]
        assert sizes == sorted(sizes)
        assert len(sizes) > 2
    nano: Any = expand(TEMPLATE, Chosen(TYPES["o1.nano"]["spec"]))["spec"]["domain"]
    assert (nano["memory"]["guest"], nano["resources"]["requests"]["memory"]) == ("512Mi", "256Mi")


async def test_what_is_there_stays(fake_api: FakeApi) -> None:
    path = "/apis/instancetype.kubevirt.io/v1beta1/virtualmachineclusterinstancetypes"
    own = fake_api.put(f"{path}/u1.nano", {"metadata": {"name": "u1.nano"}, "spec": {"cpu": {"guest": 9}, "memory": {"guest": "9Gi"}}})
    async with Client.open(fake_api.kubeconfig) as client:
        await create_missing(client)
        assert fake_api.objects[f"{path}/u1.nano"] == own
        assert len([name for name in fake_api.objects if name.startswith(path)]) == len(TYPES)
        fake_api.remove(f"{path}/u1.small")
        fake_api.requests.clear()
        await create_missing(client)
        assert [(method, where) for method, where in fake_api.requests if method != "GET"] == [("POST", path)]
