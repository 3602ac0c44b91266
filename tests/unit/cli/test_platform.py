"""Which API a command talks to, and the commands that pass it on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.cli import connection, kubectl
from pilvi.errors import NotFound, UserError
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
    with pytest.raises(UserError, match="your kubeconfig knows none"):
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
    user.write_bytes(kubeconfig_of(platform, "elsewhere"))
    assert "context is pilvi." in (await invoke("kubeconfig", "--merge")).stdout


async def test_why_in_words_and_as_data(invoke: Invoke, platform: FakeApi) -> None:
    result = await invoke("why", "cluster/first")
    assert isinstance(result.exception, NotFound)
    assert (await invoke("why", "cluster")).exit_code == 2
    assert "no kind" in str((await invoke("why", "clutser/first")).exception)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "vm"}, "status": {"conditions": []}}
    platform.put("/api/v1/nodes/vm", node)
    assert (await invoke("why", "node/vm")).stdout == "Node vm is ready.\n"
    assert json.loads((await invoke("why", "node/vm", "-o", "json")).stdout)["subject"]["name"] == "vm"


async def test_status_of_a_cloud_elsewhere(invoke: Invoke, platform: FakeApi) -> None:
    result = await invoke("status")
    assert result.exit_code == 0, result.output
    assert result.stdout == "API     answers\n"
    document = json.loads((await invoke("status", "-o", "json")).stdout)
    assert list(document) == ["cloud", "engine", "api", "units", "hosts", "clusters", "machines"]


async def test_status_with_a_dead_api_and_a_dead_engine(invoke: Invoke, tmp_path: Path) -> None:
    home = tmp_path / "home"
    save_cloud(make_cloud(home))
    (home / "admin.conf").write_bytes(kubeconfig(server="http://127.0.0.1:1"))
    result = await invoke("status")
    assert result.exit_code == 0
    assert "Engine  does not run; sudo pilvi up starts it" in result.stdout
    assert "API     list" in result.stdout


async def test_status_without_any_cloud(invoke: Invoke) -> None:
    result = await invoke("status")
    assert isinstance(result.exception, UserError)
    assert result.exit_code == 1
