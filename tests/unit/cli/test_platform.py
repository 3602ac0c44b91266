"""Which API a command talks to, and the commands that pass it on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.cli import connection, kubectl
from pilvi.cli.main import exit_code
from pilvi.errors import NotFound, TimedOut, UserError, WrongUse, find_hint, format_chain
from pilvi.host.cloud import save_cloud
from tests.fake_api import FakeApi
from tests.unit.cli.conftest import Invoke, kubeconfig_of
from tests.unit.cli.test_contexts import kubeconfig, make_cloud


def test_the_home_comes_first(tmp_path: Path, user: Path) -> None:
    user.write_bytes(kubeconfig(name="pilvi"))
    home = tmp_path / "home"
    home.mkdir()
    (home / "admin.conf").write_bytes(b"the administrator's")
    assert connection.get_platform(home) == b"the administrator's"


def test_then_the_users_kubeconfig_by_the_clouds_address(tmp_path: Path, user: Path) -> None:
    home = tmp_path / "home"
    save_cloud(make_cloud(home))
    with pytest.raises(UserError, match="there is no cloud in"):
        connection.get_platform(home)
    user.write_bytes(kubeconfig(server="https://10.250.8.2:6443"))
    assert connection.find_platform(home) is None
    user.write_bytes(kubeconfig())
    assert yaml.safe_load(connection.get_platform(home))["clusters"][0]["cluster"]["server"] == "https://10.250.7.2:6443"


def test_a_home_that_is_roots_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError

    (tmp_path / "admin.conf").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("pilvi.cli.contexts.find_platform", lambda _: None)
    with pytest.raises(UserError, match="belongs to root"):
        connection.get_platform(tmp_path)


async def test_kubectl_gets_its_kubeconfig_in_memory(
    invoke: Invoke, platform: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, list[str], dict[str, str], bytes]] = []

    def execve(program: Any, argv: list[str], env: dict[str, str]) -> None:
        calls.append((program, argv, env, Path(env["KUBECONFIG"]).read_bytes()))
        os.close(int(env["KUBECONFIG"].rpartition("/")[2]))

    monkeypatch.setattr(kubectl.os, "execve", execve)
    monkeypatch.setattr("pilvi.kit.get_binary", lambda name: Path("/kit/bin") / name)
    await invoke("kubectl", "--", "get", "nodes", "-o", "wide")
    await invoke("kubectl", "get", "pods", "--cluster", "kubectl's own")
    await invoke("clusterctl", "describe", "cluster", "first")
    (program, argv, env, content), second, third = calls
    assert str(program) == "/kit/bin/kubectl"
    assert argv == ["kubectl", "get", "nodes", "-o", "wide"]
    assert env["PATH"] == os.environ["PATH"]
    assert yaml.safe_load(content)["current-context"] == "pilvi"
    assert second[1] == ["kubectl", "get", "pods", "--cluster", "kubectl's own"]
    assert third[2]["CLUSTERCTL_DISABLE_VERSIONCHECK"] == "true"
    assert list(tmp_path.glob("*")) == [tmp_path / "kubeconfig"]


async def test_kubectl_on_a_cluster_that_is_not_there(invoke: Invoke, platform: FakeApi) -> None:
    result = await invoke("kubectl", "--cluster", "team/x", "--", "get", "nodes")
    assert str(result.exception) == "there is no cluster team/x"


async def test_kubeconfig_prints_and_merges(invoke: Invoke, platform: FakeApi, user: Path) -> None:
    printed = (await invoke("kubeconfig")).stdout
    assert yaml.safe_load(printed)["clusters"][0]["cluster"]["server"] == platform.kubeconfig.server
    # A cloud of this host, known by its home, is merged into a kubeconfig that knows nothing of it.
    home = user.parent / "home"
    save_cloud(make_cloud(home))
    (home / "admin.conf").write_bytes(kubeconfig())
    user.write_bytes(kubeconfig(b"theirs", "https://example.com", "elsewhere"))
    assert "context is pilvi-abcde." in (await invoke("kubeconfig", "--merge")).stdout
    assert [entry["name"] for entry in yaml.safe_load(user.read_text())["contexts"]] == ["it", "pilvi-abcde"]


async def test_why_in_words_and_as_data(invoke: Invoke, platform: FakeApi) -> None:
    result = await invoke("why", "cluster/first")
    assert isinstance(result.exception, NotFound)
    assert (await invoke("why", "cluster")).exit_code == 2
    assert "no kind" in str((await invoke("why", "clutser/first")).exception)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "vm"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    platform.put("/api/v1/nodes/vm", node)
    assert (await invoke("why", "node/vm")).stdout == "Node vm is ready.\n"
    assert json.loads((await invoke("why", "node/vm", "-o", "json")).stdout)["subject"]["name"] == "vm"


async def test_status_of_a_cloud_elsewhere(invoke: Invoke, platform: FakeApi) -> None:
    result = await invoke("status")
    assert result.exit_code == 0, result.output
    assert result.stdout == "API     answers\n"
    document = json.loads((await invoke("status", "-o", "json")).stdout)
    assert list(document) == ["cloud", "engine", "api", "units", "hosts", "clusters", "machines", "storageClasses"]


async def test_status_with_a_dead_api_and_a_dead_engine(invoke: Invoke, tmp_path: Path) -> None:
    home = tmp_path / "home"
    save_cloud(make_cloud(home))
    (home / "admin.conf").write_bytes(kubeconfig(server="http://127.0.0.1:1"))
    result = await invoke("status")
    assert result.exit_code == 0
    assert re.search(r"^Engine  does not run; (sudo )?pilvi up starts it$", result.stdout, re.MULTILINE)
    assert "API     list" in result.stdout


async def test_status_without_any_cloud(invoke: Invoke) -> None:
    result = await invoke("status")
    assert isinstance(result.exception, UserError)
    assert result.exit_code == 1


READING = [
    ["cluster", "list"],
    ["cluster", "describe", "x"],
    ["cluster", "kubeconfig", "x"],
    ["cluster", "scale", "x", "--workers", "1"],
    ["cluster", "delete", "x", "--yes"],
    ["cluster", "create", "x"],
    ["why", "cluster/x"],
    ["kubectl", "--cluster", "x", "--", "get", "nodes"],
    ["kubectl", "get", "nodes"],
    ["clusterctl", "version"],
    ["kubeconfig"],
    ["status"],
    ["logs", "engine"],
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize("by", ["option", "environment"])
async def test_a_home_that_was_named_is_never_replaced_by_another_cloud(
    command: list[str], by: str, invoke: Invoke, platform: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typo = str(tmp_path / "typo")
    place = command.index("--") if "--" in command else 2 if command[0] == "cluster" else 1
    words = command
    if by == "option":
        words = [*command[:place], "--home", typo, *command[place:]]
    else:
        monkeypatch.setenv("PILVI_HOME", typo)
    result = await invoke(*words)
    assert isinstance(result.exception, WrongUse), result.output
    assert str(result.exception) == f"there is no cloud in {typo}"
    assert platform.requests == []


async def test_a_home_that_is_closed_is_never_replaced_either(
    invoke: Invoke, platform: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if path.name == "cloud.json":
            raise PermissionError
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    result = await invoke("cluster", "list", "--home", str(tmp_path))
    assert isinstance(result.exception, WrongUse)
    assert "is closed to you" in str(result.exception)
    assert platform.requests == []


async def test_a_current_context_of_anybody_is_not_taken_for_a_cloud(invoke: Invoke, fake_api: FakeApi, user: Path) -> None:
    user.write_bytes(kubeconfig_of(fake_api, "prod"))
    result = await invoke("cluster", "delete", "first", "--yes")
    assert "there is no cloud in" in str(result.exception)
    assert "context pilvi" in str(find_hint(result.exception or Exception()))
    assert fake_api.requests == []


def test_a_question_says_which_cloud_is_meant(user: Path, platform: FakeApi, tmp_path: Path) -> None:
    assert connection.describe_platform(tmp_path / "home") == f"{platform.kubeconfig.server} (context pilvi)"


@pytest.mark.parametrize("command", [command for command in READING if command[0] in ("cluster", "why")], ids=" ".join)
async def test_an_api_that_is_gone_is_told_with_what_to_do(command: list[str], invoke: Invoke, user: Path) -> None:
    document = yaml.safe_load(kubeconfig(server="http://127.0.0.1:1"))
    document["contexts"][0]["name"] = "pilvi"
    user.write_text(yaml.safe_dump(document))
    result = await invoke(*command)
    assert isinstance(result.exception, UserError)
    text = format_chain(result.exception)
    assert text.startswith("the cloud's API does not answer: ")
    assert "no connection to http://127.0.0.1:1: Connection refused; pilvi status tells what runs; sudo pilvi up starts" in text


@pytest.mark.parametrize(
    "command", [["cluster", "list"], ["cluster", "describe", "x"], ["cluster", "kubeconfig", "x"], ["why", "cluster/x"]]
)
async def test_an_api_that_hangs_is_waited_for_within_the_deadline_and_visibly(
    command: list[str], invoke: Invoke, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilvi.cli.progress._FIRST_S", 0.1)

    done = asyncio.Event()
    connections: list[asyncio.Task[None] | None] = []

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        await done.wait()
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        document = yaml.safe_load(kubeconfig(server=address))
        document["contexts"][0]["name"] = "pilvi"
        user.write_text(yaml.safe_dump(document))
        result = await invoke(*command, "--timeout", "0.6")
        done.set()
        await asyncio.gather(*(task for task in connections if task is not None))
    assert isinstance(result.exception, TimedOut), result.output
    assert exit_code(result.exception) == 3
    assert f"… the cloud's API at {address} to answer" in result.stderr
    assert "pilvi status" in str(find_hint(result.exception))


async def test_a_kind_that_is_none_is_wrong_use(invoke: Invoke, platform: FakeApi) -> None:
    result = await invoke("why", "clutser/first")
    assert isinstance(result.exception, WrongUse)
    assert str(result.exception.hint).startswith("did you mean cluster? one of: ")
