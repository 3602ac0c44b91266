"""A DataSource that follows an image of a registry."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.providers.cdi.dataimportcron.plan import (
    CRON,
    DESIRED,
    LAST_POLL,
    NEXT_POLL,
    check_managed,
    import_of,
    is_due,
    plan_conditions,
    surplus,
)
from pilvi.providers.cdi.kinds import CLAIMS, DATA_IMPORT_CRONS, DATA_SOURCES, DATA_VOLUMES
from pilvi.providers.claims import annotations_of
from pilvi.runtime import find_condition
from tests.fake_api import FakeApi
from tests.images.bootsector import boot_disk
from tests.images.registry import make_layer, serve_registry
from tests.unit.providers.cdi.scene import content, phase, scene
from tests.unit.providers.stage import Stage

DIGESTS = [f"sha256:{digit * 64}" for digit in "abcd"]
NOW = datetime(2026, 11, 27, 4, tzinfo=UTC)


def make_cron(url: str = "docker://quay.io/team/debian:12", schedule: str = "0 3 * * *", **spec: Any) -> JsonObject:
    template = {"spec": {"source": {"registry": {"url": url}}, "storage": {"resources": {"requests": {"storage": "16Mi"}}}}}
    return {
        "metadata": {"name": "debian", "namespace": "team", "uid": "cron-uid"},
        "spec": {"managedDataSource": "golden", "schedule": schedule, "template": template, **spec},
    }


def named(name: str, created: str = "", label: str = "debian") -> JsonObject:
    return {"metadata": {"name": name, "creationTimestamp": created, "labels": {CRON: label}}}


def test_an_import_is_of_exactly_one_image() -> None:
    made = import_of(make_cron(), DIGESTS[0])
    assert made["metadata"]["name"] == "golden-aaaaaaaaaaaa"
    assert made["spec"]["source"]["registry"]["url"] == f"docker://quay.io/team/debian@{DIGESTS[0]}"
    assert made["metadata"]["labels"] == {CRON: "debian"}
    assert "ownerReferences" not in made["metadata"]
    owned = import_of(make_cron(retentionPolicy="None"), DIGESTS[0])
    assert owned["metadata"]["ownerReferences"][0]["uid"] == "cron-uid"


def test_when_the_registry_is_asked() -> None:
    cron = make_cron()
    assert is_due(cron, NOW)
    cron["metadata"]["annotations"] = {NEXT_POLL: "2026-11-27T03:59:00Z"}
    assert is_due(cron, NOW)
    cron["metadata"]["annotations"] = {NEXT_POLL: "2026-11-27T04:01:00Z"}
    assert not is_due(cron, NOW)
    cron["metadata"]["annotations"] = {NEXT_POLL: "nonsense"}
    assert is_due(cron, NOW)


@pytest.mark.parametrize(
    ("spec", "going"),
    [
        ({}, ["a"]),
        ({"importsToKeep": 1}, ["c", "b", "a"]),
        ({"importsToKeep": 0}, ["c", "b", "a"]),
        ({"importsToKeep": 9}, []),
        ({"importsToKeep": 1, "garbageCollect": "Never"}, []),
    ],
)
def test_which_imports_go(spec: JsonObject, going: list[str]) -> None:
    made = [
        named("a", "2026-01-01"),
        named("now", "2026-01-02"),
        named("c", "2026-01-04"),
        named("b", "2026-01-03"),
        named("x", label="other"),
    ]
    assert [obj["metadata"]["name"] for obj in surplus(make_cron(**spec), made, "now")] == going


@pytest.mark.parametrize(
    ("digest", "phase", "desired", "trouble", "told"),
    [
        ("", "", "", "", ("NoImport", "NoDigest")),
        ("", "", "", "no answer", ("NoImport", "NoDigest")),
        ("1", "Pending", "1", "", ("ImportScheduled", "ImportProgressing")),
        ("1", "ImportInProgress", "1", "", ("ImportProgressing", "ImportProgressing")),
        ("1", "Succeeded", "1", "", ("NoImport", "UpToDate")),
        ("1", "ImportInProgress", "2", "", ("ImportProgressing", "Outdated")),
    ],
)
def test_conditions(digest: str, phase: str, desired: str, trouble: str, told: tuple[str, str]) -> None:
    current = {"DataVolumeName": "golden-1", "Digest": digest} if digest else None
    assert tuple(entry["reason"] for entry in plan_conditions(current, phase, desired, trouble)) == told


def test_a_data_source_follows_one() -> None:
    other = {"metadata": {"name": "other"}, "spec": {"managedDataSource": "golden"}}
    check_managed(make_cron(), None, [other])
    check_managed(make_cron(), named("golden"), [other])
    check_managed(make_cron(), named("golden", label="gone"), [other])
    with pytest.raises(UserError, match="already managed by DataImportCron other"):
        check_managed(make_cron(), named("golden", label="other"), [other])


def status(stage: Stage) -> JsonObject:
    return stage.get(DATA_IMPORT_CRONS, "debian", "team").get("status") or {}


def reason(stage: Stage, type: str = "UpToDate") -> str:
    return str((find_condition(stage.get(DATA_IMPORT_CRONS, "debian", "team"), type) or {}).get("reason"))


def ask_again(stage: Stage) -> None:
    cron = stage.get(DATA_IMPORT_CRONS, "debian", "team")
    held = {**annotations_of(cron), NEXT_POLL: "2020-01-01T00:00:00Z"}
    stage.put(DATA_IMPORT_CRONS, {**cron, "metadata": {**cron["metadata"], "annotations": held}})


async def test_new_images_come_and_old_ones_go(fake_api: FakeApi, tmp_path: Path) -> None:
    async with serve_registry() as registry, scene(fake_api, tmp_path) as (stage, storage):
        images = [make_layer({"disk/disk.img": boot_disk(word)}) for word in ("one", "two", "three")]
        url = f"docker://{registry.add('team/debian', '12', images[0])}"
        stage.put(DATA_IMPORT_CRONS, make_cron(url, importsToKeep=2))
        await stage.until(lambda: reason(stage) == "UpToDate")
        first = status(stage)["currentImports"][0]
        assert first["Digest"] == registry.digest("team/debian", "12")
        source = stage.get(DATA_SOURCES, "golden", "team")
        assert source["spec"]["source"] == {"pvc": {"namespace": "team", "name": first["DataVolumeName"]}}
        assert source["metadata"]["labels"][CRON] == "debian"
        assert stage.get(CLAIMS, first["DataVolumeName"], "team")["metadata"]["labels"][CRON] == "debian"
        assert content(stage, storage, first["DataVolumeName"])[: 1 << 20] == boot_disk("one")
        held = annotations_of(stage.get(DATA_IMPORT_CRONS, "debian", "team"))
        assert held[DESIRED] == first["Digest"]
        assert held[NEXT_POLL].endswith("T03:00:00Z")
        assert status(stage)["lastExecutionTimestamp"] == held[LAST_POLL]
        await stage.settled()
        asked = len(registry.log)

        registry.add("team/debian", "12", images[1])
        await stage.settled()
        assert len(registry.log) == asked, "it is asked when it is due only"
        ask_again(stage)
        await stage.until(lambda: status(stage)["currentImports"][0] != first and reason(stage) == "UpToDate")
        second = status(stage)["currentImports"][0]["DataVolumeName"]
        assert stage.get(DATA_SOURCES, "golden", "team")["spec"]["source"]["pvc"]["name"] == second
        assert phase(stage, first["DataVolumeName"]) == "Succeeded", "two are kept"

        for name, created in ((first["DataVolumeName"], "2026-01-01T00:00:00Z"), (second, "2026-01-02T00:00:00Z")):
            made = stage.get(DATA_VOLUMES, name, "team")
            stage.put(DATA_VOLUMES, {**made, "metadata": {**made["metadata"], "creationTimestamp": created}})
        registry.add("team/debian", "12", images[2])
        ask_again(stage)
        await stage.until(lambda: stage.find(DATA_VOLUMES, first["DataVolumeName"], "team") is None)
        assert stage.find(DATA_VOLUMES, second, "team") is not None


async def test_what_is_in_the_way_is_told_and_passes(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.providers.cdi.dataimportcron.controller.AGAIN_S", 0.2)
    async with serve_registry() as registry, scene(fake_api, tmp_path) as (stage, _):
        stage.put(DATA_IMPORT_CRONS, make_cron(f"docker://{registry.host}/team/debian:12"))
        await stage.until(lambda: reason(stage) == "NoDigest")
        told = find_condition(stage.get(DATA_IMPORT_CRONS, "debian", "team"), "UpToDate")
        assert told is not None
        assert "has no" in told["message"]
        registry.add("team/debian", "12", make_layer({"disk/disk.img": boot_disk("late")}))
        await stage.until(lambda: reason(stage) == "UpToDate")
        await stage.platform.client.delete(DATA_IMPORT_CRONS, Key("team", "debian"))
        await stage.settled()
        assert stage.find(DATA_SOURCES, "golden", "team") is not None, "retained"


async def test_a_schedule_that_is_none(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(DATA_IMPORT_CRONS, make_cron(schedule="every day"))
        await stage.until(lambda: reason(stage) == "NoDigest")
        assert stage.find(DATA_VOLUMES, "golden", "team") is None


async def test_no_schedule_asks_nobody(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(DATA_IMPORT_CRONS, make_cron(schedule=""))
        await stage.until(lambda: reason(stage) == "NoDigest")
        await stage.settled()
        assert NEXT_POLL not in annotations_of(stage.get(DATA_IMPORT_CRONS, "debian", "team"))
