"""Which Kubernetes the platform runs, and how clusters come to have a version that is built while the engine runs."""

import asyncio
from pathlib import Path

import pytest

from pilvi import kit
from pilvi.api import JsonObject
from pilvi.errors import ApiUnreachable, UserError
from pilvi.host.cloud import Cloud, find_cloud
from pilvi.plane import up
from pilvi.plane.platform import choose_version, platform_control_plane, settle_version
from tests.unit.cli.test_contexts import make_cloud


def made_with(kubernetes: str, home: Path = Path("/var/lib/pilvi")) -> Cloud:
    import msgspec

    made: Cloud = msgspec.structs.replace(make_cloud(home), kubernetes=kubernetes)
    return made


@pytest.mark.parametrize(
    ("current", "built", "is_present", "chosen"),
    [
        ("", ["v1.37.2", "v1.38.0"], False, "v1.38.0"),
        ("v1.37.2", ["v1.37.2"], True, "v1.37.2"),
        ("v1.37.2", ["v1.37.3"], True, "v1.37.3"),
        ("v1.37.2", ["v1.37.2", "v1.38.0"], True, "v1.38.0"),
        ("v1.37.2", ["v1.38.0", "v1.39.0"], False, "v1.38.0"),
        ("v1.37.2", ["v1.36.3"], True, "v1.37.2"),  # an older pilvi, with the newer one's part still there
        ("v1.37.2", [], True, "v1.37.2"),
    ],
)
def test_an_up_takes_the_platform_one_step_at_most(current: str, built: list[str], is_present: bool, chosen: str) -> None:
    assert choose_version(made_with(current), built, is_present=is_present) == chosen


@pytest.mark.parametrize("built", [["v1.37.1"], ["v1.36.3"], ["v1.39.0"]])
def test_a_kit_without_a_version_that_may_follow_is_named(built: list[str]) -> None:
    with pytest.raises(UserError, match=rf"runs Kubernetes v1\.37\.2; .* has only {built[0]}") as raised:
        choose_version(made_with("v1.37.2"), built, is_present=False)
    assert "v1.37.2" in (raised.value.hint or "")


def test_only_up_changes_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "built_versions", lambda: ["v1.37.2"])
    monkeypatch.setattr(kit, "has_kubernetes", lambda version: version == "v1.37.2")
    cloud = settle_version(make_cloud(tmp_path))
    assert find_cloud(tmp_path) == cloud
    monkeypatch.setattr(kit, "built_versions", lambda: ["v1.37.2", "v1.38.0"])
    assert platform_control_plane(cloud).version == "v1.37.2"  # an engine that is started again
    assert platform_control_plane(settle_version(cloud)).version == "v1.38.0"
    stored = find_cloud(tmp_path)
    assert stored is not None
    assert stored.kubernetes == "v1.38.0"


async def test_policies_follow_what_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = [["v1.37.2"], ["v1.37.2", "v1.38.0"], ["v1.37.2", "v1.38.0"]]
    applied: list[str] = []

    async def apply_all(_client: object, objects: list[JsonObject], *, manager: str) -> None:
        applied.append(str(objects))
        if len(applied) == 1:
            raise ApiUnreachable("no answer")

    monkeypatch.setattr(up, "VERSIONS_CHECK_S", 0.001)
    monkeypatch.setattr(up, "apply_all", apply_all)
    monkeypatch.setattr(kit, "built_versions", lambda: built.pop(0) if len(built) > 1 else built[0])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await up.keep_versions(make_cloud(tmp_path), None, ["v1.37.2"])  # type: ignore[arg-type]
    assert len(applied) == 2  # once refused, once taken, and then there is nothing to do
    assert all("write one of: v1.37.2, v1.38.0" in objects for objects in applied)
