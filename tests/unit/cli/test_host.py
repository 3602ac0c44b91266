"""The commands of virtual hosts, and the move of a machine, against a fake API server that has no engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NODES
from pilvi.errors import UserError
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES, MIGRATIONS
from tests.fake_api import FakeApi
from tests.unit.cli.conftest import Invoke, kubeconfig_of
from tests.unit.providers.kubevirt.objects import make_vm, make_vmi


@pytest_asyncio.fixture
async def cloud(user: Path) -> AsyncIterator[FakeApi]:
    api = FakeApi()
    await api.start()
    user.write_bytes(kubeconfig_of(api, "pilvi"))
    put_node(api, "box")
    put_node(api, "box-2")
    api.put(MACHINES.object_path(Key("shop", "web")), make_vm("Always"))
    api.put(INSTANCES.object_path(Key("shop", "web")), make_vmi("Running", nodeName="box"))
    yield api
    await api.stop()


def put_node(api: FakeApi, name: str, *, ready: bool = True, **spec: object) -> JsonObject:
    status = {"allocatable": {"cpu": "2", "memory": "4Gi"}, "conditions": [{"type": "Ready", "status": str(ready)}]}
    old = api.objects.get(NODES.object_path(Key("", name))) or {"metadata": {"name": name}}
    return api.put(NODES.object_path(Key("", name)), {**old, "kind": "Node", "apiVersion": "v1", "spec": spec, "status": status})


async def test_list(invoke: Invoke, cloud: FakeApi) -> None:
    put_node(cloud, "box-2", ready=False, unschedulable=True)
    lines = [line.split() for line in (await invoke("host", "list")).stdout.splitlines()]
    assert lines == [
        ["NAME", "STATUS", "MACHINES", "CPU", "MEMORY"],
        ["box", "Ready", "1", "2", "4Gi"],
        ["box-2", "NotReady,SchedulingDisabled", "0", "2", "4Gi"],
    ]
    rows = json.loads((await invoke("host", "list", "-o", "json")).stdout)
    assert rows[0] == {"name": "box", "status": "Ready", "machines": 1, "cpu": "2", "memory": "4Gi"}


async def test_fail_and_recover_wait_until_it_is_so(invoke: Invoke, cloud: FakeApi) -> None:
    async def engine(wanted: bool) -> None:
        node = NODES.object_path(Key("", "box"))
        await wait_for(
            lambda: ("pilvi.dev/failed" in cloud.objects[node]["metadata"].get("annotations", {})) is wanted, 5, "the word", interval_s=0.01
        )
        put_node(cloud, "box", ready=not wanted)

    acting = asyncio.create_task(engine(True))
    result = await invoke("host", "fail", "box", "--yes")
    await acting
    assert result.exit_code == 0, result.output
    assert "has failed" in result.stdout
    assert "Failed" in (await invoke("host", "list")).stdout
    acting = asyncio.create_task(engine(False))
    result = await invoke("host", "recover", "box")
    await acting
    assert result.stdout == "Virtual host box is back.\n"


async def test_a_host_that_is_not_there(invoke: Invoke, cloud: FakeApi) -> None:
    result = await invoke("host", "fail", "other", "--yes")
    assert isinstance(result.exception, UserError)
    assert result.exception.hint == "pilvi host list"


@pytest.mark.parametrize(
    ("words", "spec"),
    [([], {"vmiName": "web"}), (["--to", "box-2"], {"vmiName": "web", "addedNodeSelector": {"kubernetes.io/hostname": "box-2"}})],
)
@pytest.mark.parametrize("failure", ["", "no room"])
async def test_migrate_waits_for_the_end(invoke: Invoke, cloud: FakeApi, words: list[str], spec: JsonObject, failure: str) -> None:
    def migrations() -> list[JsonObject]:
        return [obj for obj in cloud.objects.values() if obj["kind"] == MIGRATIONS.kind]

    async def engine() -> JsonObject:
        await wait_for(migrations, 30, "a migration", interval_s=0.01)
        (made,) = migrations()
        state = {"targetNode": "box-2", **({"failed": True, "failureReason": failure} if failure else {})}
        done = {**made, "status": {"phase": "Failed" if failure else "Succeeded", "migrationState": state}}
        cloud.put(MIGRATIONS.object_path(Key.of(made)), done)
        return made

    acting = asyncio.create_task(engine())
    result = await invoke("vm", "migrate", "shop/web", *words)
    assert (await acting)["spec"] == spec
    if failure:
        assert isinstance(result.exception, UserError)
        assert "no room" in str(result.exception)
    else:
        assert result.stdout == "Machine shop/web is on virtual host box-2.\n"


async def test_migrate_without_a_wait(invoke: Invoke, cloud: FakeApi) -> None:
    assert (await invoke("vm", "migrate", "shop/web", "--no-wait")).stdout == "Machine shop/web is asked to move.\n"
    result = await invoke("vm", "migrate", "shop/other")
    assert isinstance(result.exception, UserError)
