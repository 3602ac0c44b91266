"""Volumes that are discs of files: what they name, what is on them, and what a machine waits for."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CONFIG_MAPS, PODS, SECRETS
from pilvi.errors import UserError
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.instance.pod import new_launcher
from pilvi.providers.kubevirt.instance.volumes.filesets import NamedFiles, downward_files, find_named_files, named_objects
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS, VPCS
from pilvi.providers.kubevirt.machines.backend import MachineSpec, MachineState
from pilvi.providers.kubevirt.machines.volumes import FilesDisk
from pilvi.providers.kubevirt.virtualhost.node import node_name
from pilvi.runtime import find_condition
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_ip, make_subnet, make_vm, make_vmi, make_vpc
from tests.unit.providers.stage import Stage, on_stage


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ({"configMap": {"name": "web"}}, NamedFiles(CONFIG_MAPS, "web", "cfgdata")),
        ({"configMap": {"name": "web", "volumeLabel": "mine", "optional": True}}, NamedFiles(CONFIG_MAPS, "web", "mine", optional=True)),
        ({"secret": {"secretName": "key"}}, NamedFiles(SECRETS, "key", "cfgdata")),
        ({"sysprep": {"secret": {"name": "win"}}}, NamedFiles(SECRETS, "win", "unattendCD", answers=True)),
        ({"sysprep": {"configMap": {"name": "win"}}}, NamedFiles(CONFIG_MAPS, "win", "unattendCD", answers=True)),
        ({"emptyDisk": {"capacity": "1Gi"}}, None),
    ],
)
def test_what_a_volume_names(source: JsonObject, found: NamedFiles | None) -> None:
    assert find_named_files({"name": "data", **source}) == found


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"configMap": {}}, "names no ConfigMap"),
        ({"secret": {"optional": True}}, "names no Secret"),
        ({"sysprep": {}}, "names 0 objects"),
        ({"sysprep": {"configMap": {"name": "a"}, "secret": {"name": "b"}}}, "names 2 objects"),
    ],
)
def test_what_is_wrong_is_named_and_wakes_nobody(source: JsonObject, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_named_files({"name": "data", **source})
    assert not [*named_objects({"spec": {"volumes": [{"name": "data", **source}]}})]


POD = new_launcher({**make_vmi(), "metadata": {**make_vmi()["metadata"], "annotations": {"say": 'a "b"\nc'}}}, "image")
POD["metadata"]["uid"] = "pod-uid"


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ({"fieldRef": {"fieldPath": "metadata.name"}}, POD["metadata"]["name"]),
        ({"fieldRef": {"fieldPath": "metadata.uid"}}, "pod-uid"),
        ({"fieldRef": {"fieldPath": "metadata.namespace"}}, "shop"),
        ({"fieldRef": {"fieldPath": "metadata.labels['app']"}}, "web"),
        ({"fieldRef": {"fieldPath": "metadata.labels['none']"}}, ""),
        ({"fieldRef": {"fieldPath": "metadata.annotations"}}, 'kubevirt.io/domain="web"\nsay="a \\"b\\"\\nc"'),
        ({"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Gi"}}, "2"),
        ({"resourceFieldRef": {"resource": "requests.memory", "divisor": 0}}, str(1536 << 20)),
        ({"resourceFieldRef": {"resource": "requests.cpu", "containerName": "compute", "divisor": "1m"}}, "200"),
    ],
)
def test_downward_fields(field: JsonObject, content: str) -> None:
    volume = {"name": "about", "downwardAPI": {"fields": [{"path": "f", **field}]}}
    assert downward_files(volume, POD) == {"f": content.encode()}


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({}, "one of fieldRef and resourceFieldRef"),
        ({"fieldRef": {"fieldPath": "spec.nodeName"}}, "fieldPath is 'spec.nodeName'"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "has no limits.cpu"),
        ({"resourceFieldRef": {"resource": "requests.cpu", "containerName": "other"}}, "of other"),
    ],
)
def test_downward_fields_that_are_none(field: JsonObject, words: str) -> None:
    with pytest.raises(UserError, match=words):
        downward_files({"name": "about", "downwardAPI": {"fields": [{"path": "f", **field}]}}, POD)


class Machines(FakeMachines):
    """Keeps what each machine was made with first."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[str, MachineSpec] = {}

    async def ensure(self, spec: MachineSpec) -> MachineState:
        self.made.setdefault(spec.uid, spec)
        return await super().ensure(spec)


@pytest.fixture
def machines() -> Machines:
    return Machines()


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path, machines: Machines) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines})) as stage:
        yield stage


async def put_machine(stage: Stage, *volumes: JsonObject) -> None:
    """A machine with these volumes, whose Pod is bound."""
    vm = make_vm()
    vm["spec"]["template"]["spec"]["volumes"].extend(volumes)
    del vm["metadata"]["uid"], vm["status"]
    stage.put(VPCS, make_vpc())
    stage.put(SUBNETS, make_subnet())
    stage.put(IPS, make_ip())
    stage.put(MACHINES, vm)
    pod = await stage.until(lambda: find_pod(stage))
    stage.put(PODS, {**pod, "spec": {**pod["spec"], "nodeName": node_name()}})


def find_pod(stage: Stage) -> JsonObject | None:
    pods = [obj for path, obj in stage.api.objects.items() if "/pods/" in path]
    return pods[0] if pods else None


def refusal(stage: Stage) -> JsonObject:
    return find_condition(stage.get(INSTANCES, "web", "shop"), "Synchronized") or {}


def discs(specs: dict[str, MachineSpec]) -> dict[str, FilesDisk]:
    (spec,) = specs.values()
    return {volume.name: volume for volume in spec.volumes if isinstance(volume, FilesDisk)}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestMachines:
    async def test_wait_for_what_is_named_and_start_when_it_comes(self, stage: Stage, machines: Machines) -> None:
        await put_machine(
            stage,
            {"name": "conf", "configMap": {"name": "web"}},
            {"name": "key", "secret": {"secretName": "key"}},
            {"name": "more", "configMap": {"name": "more", "optional": True}},
        )
        await stage.until(lambda: refusal(stage).get("reason") == "FailedMount")
        assert "ConfigMap shop/web of volume conf does not exist" in refusal(stage)["message"]
        stage.put(CONFIG_MAPS, {"metadata": {"name": "web", "namespace": "shop"}, "data": {"a": "1"}, "binaryData": {"b": encoded("2")}})
        await stage.until(lambda: "Secret shop/key" in refusal(stage).get("message", ""))
        stage.put(SECRETS, {"metadata": {"name": "key", "namespace": "shop"}, "type": "Opaque", "data": {"pem": encoded("secret")}})
        await stage.until(lambda: machines.made)
        assert discs(machines.made) == {
            "conf": FilesDisk("conf", "cfgdata", {"a": b"1", "b": b"2"}),
            "key": FilesDisk("key", "cfgdata", {"pem": b"secret"}),
            "more": FilesDisk("more", "cfgdata", {}),
        }

    async def test_that_run_keep_what_they_have(self, stage: Stage, machines: Machines) -> None:
        stage.put(CONFIG_MAPS, {"metadata": {"name": "web", "namespace": "shop"}, "data": {"a": "1"}})
        await put_machine(stage, {"name": "conf", "configMap": {"name": "web"}})
        await stage.until(lambda: stage.get(INSTANCES, "web", "shop").get("status", {}).get("phase") == "Running")
        await stage.settled()
        await stage.platform.client.delete(CONFIG_MAPS, Key("shop", "web"))
        await stage.until(lambda: discs(machines.specs)["conf"].files is None)
        await stage.settled()
        assert stage.get(INSTANCES, "web", "shop")["status"]["phase"] == "Running"

    async def test_sysprep_needs_answers(self, stage: Stage) -> None:
        stage.put(CONFIG_MAPS, {"metadata": {"name": "win", "namespace": "shop"}, "data": {"other.xml": ""}})
        await put_machine(stage, {"name": "setup", "sysprep": {"configMap": {"name": "win"}}})
        await stage.until(lambda: "has no answer file" in str(stage.get(INSTANCES, "web", "shop").get("status")))

    async def test_a_service_account_is_that_of_the_pod(self, stage: Stage, machines: Machines) -> None:
        asked: list[JsonObject] = []
        reading: list[asyncio.Future[None]] = []

        async def body(request: web.Request) -> None:
            asked.append((await request.json())["spec"]["boundObjectRef"])

        def token(request: web.Request) -> web.StreamResponse | None:
            if not request.path.endswith("/serviceaccounts/builder/token"):
                return None
            reading.append(asyncio.ensure_future(body(request)))
            return web.json_response({"status": {"token": "xyz"}}, status=201)

        stage.api.faults.append(token)
        await put_machine(stage, {"name": "who", "serviceAccount": {"serviceAccountName": "builder"}})
        await stage.until(lambda: machines.made)
        pod = find_pod(stage)
        assert pod is not None
        assert pod["spec"]["serviceAccountName"] == "builder"
        await asyncio.gather(*reading)
        (bound,) = asked
        assert (bound["name"], bound["uid"]) == (pod["metadata"]["name"], pod["metadata"]["uid"])
        files = discs(machines.made)["who"].files
        assert files == {"token": b"xyz", "namespace": b"shop", "ca.crt": b""}

    async def test_two_service_accounts_are_refused(self, stage: Stage) -> None:
        vm = make_vm()
        vm["spec"]["template"]["spec"]["volumes"] += [
            {"name": name, "serviceAccount": {"serviceAccountName": name}} for name in ("one", "two")
        ]
        del vm["metadata"]["uid"], vm["status"]
        stage.put(MACHINES, vm)
        await stage.until(lambda: stage.find(INSTANCES, "web", "shop") and refusal(stage).get("reason") == "InvalidSpec")
        assert "more than one serviceAccount" in refusal(stage)["message"]
