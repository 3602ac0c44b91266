"""Names of images, and what the commands say before a registry is asked. The registry itself is in tests/host and tests/e2e."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import click
import pytest

from pilvi.api.builtin import SECRETS
from pilvi.api.registry import REGISTRY_SECRET
from pilvi.cli.image.access import parse_image
from pilvi.errors import UserError
from pilvi.plane.registry import make_secret
from tests.fake_api import FakeApi
from tests.unit.cli.conftest import Invoke


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("debian", "pilvi.dev/debian:latest"),
        ("debian:13", "pilvi.dev/debian:13"),
        ("team-a/app:v1", "pilvi.dev/team-a/app:v1"),
        ("pilvi.dev/team-a/app:v1", "pilvi.dev/team-a/app:v1"),
    ],
)
def test_names(typed: str, meant: str) -> None:
    assert str(parse_image(typed)) == meant


@pytest.mark.parametrize("typed", ["", "Debian", "a b", "debian:", f"debian@sha256:{'0' * 64}", "-x:1"])
def test_what_is_no_name(typed: str) -> None:
    with pytest.raises(click.UsageError):
        parse_image(typed)


async def test_the_password_has_to_be_there_and_readable(invoke: Invoke, platform: FakeApi) -> None:
    missing = await invoke("image", "list")
    assert isinstance(missing.exception, UserError)
    assert "no password yet" in str(missing.exception)
    platform.fail(403, "Forbidden")
    forbidden = await invoke("image", "delete", "debian:13", "--yes")
    assert "may not read the password" in str(forbidden.exception)


async def test_a_folder_that_is_no_image_is_refused_before_anybody_is_asked(invoke: Invoke, platform: FakeApi, tmp_path: Path) -> None:
    refused = await invoke("image", "push", str(tmp_path), "x:1")
    assert "no index.json" in str(refused.exception)
    assert platform.requests == []


async def test_login_writes_what_other_programs_read(invoke: Invoke, platform: FakeApi, tmp_path: Path) -> None:
    platform.put(SECRETS.object_path(REGISTRY_SECRET), make_secret("the password"))
    done = await invoke("image", "login", str(tmp_path / "new/login"))
    address = done.stdout.strip()
    config = tmp_path / "new/login/config.json"
    entry = json.loads(config.read_text())["auths"][address]
    assert (entry["username"], entry["password"]) == ("pilvi", "the password")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert (tmp_path / "new/login/ca.crt").exists()
