"""The cloud's registry: its unit, its files, and a password that follows its Secret."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.api import JsonObject
from pilvi.api.builtin import SECRETS
from pilvi.api.registry import REGISTRY_HOST, REGISTRY_SECRET
from pilvi.controlplane import ControlPlane
from pilvi.errors import UserError
from pilvi.host.cloud import Cloud
from pilvi.host.units import UnitSpec
from pilvi.images import read_docker_config
from pilvi.pki import KeyPair
from pilvi.plane import registry
from pilvi.plane.platform import platform_control_plane
from tests.fake_api import FakeApi
from tests.unit.providers.stage import Stage, make_cloud, on_stage


@dataclass
class NotedUnits:
    """`failures` of a start come first."""

    failures: int = 0
    started: list[UnitSpec] = field(default_factory=list)

    async def ensure(self, spec: UnitSpec) -> None:
        if self.failures:
            self.failures -= 1
            raise UserError("the kit's part registry is not built", hint="pilvi kit build")
        self.started.append(spec)


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("os.chown", lambda *_arguments, **_more: None)
    monkeypatch.setattr("os.fchown", lambda *_arguments, **_more: None)
    monkeypatch.setattr(registry.kit, "get_binary", lambda name: Path("/kit") / name)
    monkeypatch.setattr(registry, "CHECK_S", 0.02)
    registry.install_certificate(make_cloud(tmp_path), KeyPair(b"certificate", b"key"))
    return tmp_path


def plane_of(cloud: Cloud) -> ControlPlane:
    return platform_control_plane(cloud)


def password_in(secret: JsonObject) -> str:
    return read_docker_config(base64.b64decode(secret["data"][".dockerconfigjson"]))[REGISTRY_HOST].password


def kept(home: Path) -> str:
    path = home / "registry/password"
    return path.read_text() if path.exists() else ""


def hash_of(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


class Running:
    """`keep_registry` at work."""

    def __init__(self, stage: Stage, units: NotedUnits) -> None:
        cloud = stage.platform.cloud
        work = registry.keep_registry(cloud, plane_of(cloud), stage.platform.client, stage.platform.informers, units)  # type: ignore[arg-type]
        self.task = asyncio.create_task(work)
        stage.tasks.append(self.task)


async def test_a_password_is_made_and_follows_its_secret(api: FakeApi, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    units = NotedUnits(failures=1)
    path = SECRETS.object_path(REGISTRY_SECRET)
    async with on_stage(api, home, lambda _platform: []) as stage:
        Running(stage, units)
        first = await stage.until(lambda: stage.find(SECRETS, REGISTRY_SECRET.name, REGISTRY_SECRET.namespace))
        await stage.until(lambda: kept(home) == hash_of(password_in(first)), "the file has the first password")
        await stage.until(lambda: units.started, "the unit is started, though the first time it could not be")
        stage.put(SECRETS, registry.make_secret("another password, as long as it has to be"))
        await stage.until(lambda: kept(home) == hash_of("another password, as long as it has to be"), "the file follows")
        stage.put(SECRETS, registry.make_secret("short"))
        await stage.until(lambda: "holds no password of 24 characters" in caplog.text, "it is said")
        assert kept(home) == hash_of("another password, as long as it has to be"), "a weak one is not taken"
        api.remove(path)
        third = await stage.until(lambda: api.objects.get(path))
        await stage.until(lambda: kept(home) == hash_of(password_in(third)), "the file has the new password")
    assert len(password_in(first)) >= 24
    assert password_in(first) != password_in(third)


def test_the_unit_is_nobody_else_and_serves_where_clients_look(home: Path) -> None:
    cloud = make_cloud(home)
    spec = registry.registry_unit(cloud, plane_of(cloud))
    assert spec.uid == spec.gid == cloud.uids[-2]
    assert f"--address={cloud.platform_address.ip}:443" in spec.argv
    assert spec.netns == cloud.netns("plane")
    assert spec.cgroup is not None
    assert spec.cgroup.memory_bytes == registry.MEMORY_BYTES
    assert "password" not in " ".join((*spec.argv, *spec.env.values())).replace(str(home), "")


def test_a_certificate_is_written_when_it_differs(home: Path) -> None:
    cloud, folder = make_cloud(home), home / "registry"
    before = (folder / "tls.crt").stat().st_mtime_ns
    registry.install_certificate(cloud, KeyPair(b"certificate", b"key"))
    assert (folder / "tls.crt").stat().st_mtime_ns == before
    registry.install_certificate(cloud, KeyPair(b"renewed", b"key 2"))
    assert [(folder / name).read_bytes() for name in ("tls.crt", "tls.key")] == [b"renewed", b"key 2"]
    assert (folder / "tls.key").stat().st_mode & 0o777 == 0o640
    assert (folder / "data").stat().st_mode & 0o777 == 0o700


def test_the_secret_is_what_other_programs_take() -> None:
    secret = registry.make_secret("p")
    entry = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]["pilvi.dev"]
    assert base64.b64decode(entry["auth"]) == b"pilvi:p"
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
