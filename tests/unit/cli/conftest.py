"""A command run as a user would, against a fake API server, with a kubeconfig and a home of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from click.testing import CliRunner, Result

from pilvi.cli import options
from pilvi.cli.main import pilvi
from tests.fake_api import FakeApi

Invoke: TypeAlias = Callable[..., Coroutine[Any, Any, Result]]


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without clouds: nothing of this host's is read or written. Returns the path of the kubeconfig."""
    kubeconfig = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr(options, "DEFAULT_HOME", str(tmp_path / "home"))
    for name in ("PILVI_HOME", "SUDO_UID", "SUDO_GID"):
        monkeypatch.delenv(name, raising=False)
    return kubeconfig


@pytest.fixture
def invoke() -> Invoke:
    """`await invoke("cluster", "list")`; in a thread, so that a fake API server on this loop can answer."""

    async def run(*arguments: str, input: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, pilvi, [*arguments], input=input)

    return run


@pytest.fixture
def platform(fake_api: FakeApi, user: Path) -> FakeApi:
    """The platform is the fake API server, as the user's kubeconfig says."""
    user.write_bytes(kubeconfig_of(fake_api, "pilvi"))
    return fake_api


def kubeconfig_of(api: FakeApi, name: str) -> bytes:
    """A kubeconfig of the fake API server with one context of that name."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": api.kubeconfig.server}}],
            "users": [{"name": name, "user": {"token": "t"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    ).encode()
