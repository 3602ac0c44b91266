"""VolumeSnapshots: made, restored, kept and let go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import Key
from pilvi.errors import Transient
from pilvi.providers.claims import PROVISIONER, VOLUME, annotations_of
from pilvi.providers.storage import files
from tests.fake_api import FakeApi
from tests.unit.providers.storage.scene import (
    CLAIMS,
    CONTENTS,
    MIB,
    SNAPSHOT_CLASSES,
    SNAPSHOTS,
    Store,
    make_claim,
    make_snapshot,
    put,
    scene,
)


def from_snapshot(name: str, size: str = "16Mi", **spec: Any) -> dict[str, Any]:
    named = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "snap"}
    return make_claim(name, size, dataSource=named, dataSourceRef=named, **spec)


async def bound(store: Store, content: bytes = b"") -> None:
    store.stage.put(CLAIMS, make_claim())
    await store.stage.until(store.is_bound)
    with store.file().open("r+b") as disk:
        disk.write(content)


def error(store: Store, name: str = "snap") -> str:
    status = store.stage.get(SNAPSHOTS, name, "team").get("status") or {}
    return str((status.get("error") or {}).get("message", ""))


def contents(api: FakeApi) -> list[str]:
    return [path for path in api.objects if "/volumesnapshotcontents/" in path]


@pytest.mark.parametrize("number", range(8))
async def test_a_snapshot_shows_one_moment(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    """Whichever write is refused on the way."""
    before = os.urandom(MIB)
    async with scene(fake_api, tmp_path) as store:
        await bound(store, before)
        await store.stage.settled()
        store.stage.fail_write(number, 500, "InternalError", but="")
        store.stage.put(SNAPSHOTS, make_snapshot())
        await store.stage.until(store.ready)
        with store.file().open("r+b") as disk:
            disk.write(os.urandom(MIB))
        await store.stage.settled()
        snapshot = store.stage.get(SNAPSHOTS, "snap", "team")
        status = snapshot["status"]
        content = store.stage.get(CONTENTS, status["boundVolumeSnapshotContentName"])
        assert status["restoreSize"] == "16Mi"
        assert status["creationTime"].endswith("Z")
        assert "error" not in status
        assert snapshot["spec"]["volumeSnapshotClassName"] == "local"
        assert content["spec"]["source"] == {"volumeHandle": store.file().parent.name}
        assert content["status"]["snapshotHandle"] == annotations_of(content)[VOLUME]
        store.stage.put(CLAIMS, from_snapshot("restored", "24Mi"))
        await store.stage.until(lambda: store.is_bound("restored"))
        assert store.file("restored").read_bytes() == before + bytes(23 * MIB)
        assert len(contents(fake_api)) == 1


async def test_a_claim_waits_for_its_snapshot(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, from_snapshot("restored"))
        await store.stage.until(lambda: store.told("restored").get("reason") == "SourceNotFound")
        store.stage.put(SNAPSHOTS, make_snapshot())
        await store.stage.until(lambda: "there is no claim team/disk" in error(store))
        await bound(store)
        await store.stage.until(lambda: store.is_bound("restored"))
        assert error(store) == ""


@pytest.mark.parametrize(("size", "mode", "told"), [("8Mi", "Filesystem", "ask for at least 16Mi"), ("16Mi", "Block", "mode Filesystem")])
async def test_a_claim_that_a_snapshot_does_not_fit(fake_api: FakeApi, tmp_path: Path, size: str, mode: str, told: str) -> None:
    async with scene(fake_api, tmp_path) as store:
        await bound(store)
        store.stage.put(SNAPSHOTS, make_snapshot())
        await store.stage.until(store.ready)
        store.stage.put(CLAIMS, from_snapshot("restored", size, volumeMode=mode))
        await store.stage.until(lambda: told in store.told("restored").get("message", ""))


@pytest.mark.parametrize("number", range(5))
async def test_the_copy_goes_with_its_snapshot(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    async with scene(fake_api, tmp_path) as store:
        await bound(store)
        store.stage.put(SNAPSHOTS, make_snapshot())
        await store.stage.until(store.ready)
        await store.stage.settled()
        assert len(store.folders()) == 2
        # The volume may go before its snapshots.
        await store.delete(CLAIMS, "disk", "team")
        await store.stage.until(lambda: len(store.folders()) == 1)
        assert store.ready()
        store.stage.fail_write(number, 500, "InternalError", but=SNAPSHOTS.object_path(Key("team", "snap")))
        await store.delete(SNAPSHOTS, "snap", "team")
        await store.stage.until(lambda: store.stage.find(SNAPSHOTS, "snap", "team") is None)
        await store.stage.until(lambda: (store.folders(), contents(fake_api)) == (set(), []))


async def test_a_copy_that_is_retained_can_be_named_again(fake_api: FakeApi, tmp_path: Path) -> None:
    put(fake_api, SNAPSHOT_CLASSES, {"metadata": {"name": "kept"}, "driver": PROVISIONER, "deletionPolicy": "Retain"})
    async with scene(fake_api, tmp_path) as store:
        await bound(store, b"data")
        store.stage.put(SNAPSHOTS, make_snapshot(volumeSnapshotClassName="kept"))
        await store.stage.until(store.ready)
        name = store.stage.get(SNAPSHOTS, "snap", "team")["status"]["boundVolumeSnapshotContentName"]
        handle = store.stage.get(CONTENTS, name)["status"]["snapshotHandle"]
        await store.delete(SNAPSHOTS, "snap", "team")
        await store.stage.until(lambda: store.stage.find(SNAPSHOTS, "snap", "team") is None)
        await store.delete(CONTENTS, name)
        await store.stage.until(lambda: contents(fake_api) == [])
        await store.stage.settled(0.5)
        assert handle in store.folders()

        by_hand = {
            "deletionPolicy": "Delete",
            "driver": PROVISIONER,
            "source": {"snapshotHandle": handle},
            "volumeSnapshotRef": {"namespace": "team", "name": "snap"},
        }
        store.stage.put(CONTENTS, {"metadata": {"name": "mine"}, "spec": by_hand})
        source = {"source": {"volumeSnapshotContentName": "mine"}}
        store.stage.put(SNAPSHOTS, {"metadata": {"name": "thief", "namespace": "team"}, "spec": source})
        await store.stage.until(lambda: "belongs to VolumeSnapshot team/snap" in error(store, "thief"))
        store.stage.put(SNAPSHOTS, {"metadata": {"name": "snap", "namespace": "team"}, "spec": source})
        await store.stage.until(store.ready)
        store.stage.put(CLAIMS, from_snapshot("restored"))
        await store.stage.until(lambda: store.is_bound("restored"))
        assert store.file("restored").read_bytes()[:4] == b"data"
        await store.delete(SNAPSHOTS, "snap", "team")
        await store.stage.until(lambda: handle not in store.folders())


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"volumeSnapshotClassName": "absent"}, "there is no VolumeSnapshotClass absent"),
        ({"volumeSnapshotClassName": "foreign"}, "is of driver example.com"),
        ({"volumeSnapshotClassName": "odd"}, "parameters that nobody knows: speed"),
    ],
)
async def test_classes_that_cannot_be_used(fake_api: FakeApi, tmp_path: Path, spec: dict[str, str], told: str) -> None:
    put(fake_api, SNAPSHOT_CLASSES, {"metadata": {"name": "foreign"}, "driver": "example.com", "deletionPolicy": "Delete"})
    odd = {"metadata": {"name": "odd"}, "driver": PROVISIONER, "deletionPolicy": "Delete", "parameters": {"speed": "9"}}
    put(fake_api, SNAPSHOT_CLASSES, odd)
    async with scene(fake_api, tmp_path) as store:
        await bound(store)
        store.stage.put(SNAPSHOTS, make_snapshot(**spec))
        await store.stage.until(lambda: told in error(store))
        await store.stage.settled()
        assert contents(fake_api) == []
        await store.delete(SNAPSHOTS, "snap", "team")
        await store.stage.until(lambda: store.stage.find(SNAPSHOTS, "snap", "team") is None)


async def test_a_disk_that_is_written_to_is_not_copied_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, disk = tmp_path / "a" / "disk.img", tmp_path / "b" / "disk.img"
    await files.create(source, MIB)
    real = files.clone_file

    async def busy(origin: Path, target: Path, **more: Any) -> str:
        await real(origin, target, **more)
        origin.write_bytes(b"guest")
        return "copy"

    monkeypatch.setattr(files, "clone_file", busy)
    with pytest.raises(Transient, match="written to while it was copied"):
        await files.copy(source, disk, MIB)
    assert [*disk.parent.iterdir()] == []
    monkeypatch.setattr(files, "clone_file", real)
    await files.copy(source, disk, 2 * MIB)
    assert disk.read_bytes() == b"guest" + bytes(2 * MIB - 5)
    assert [*disk.parent.iterdir()] == [disk]
    with pytest.raises(Transient, match="not there"):
        await files.copy(tmp_path / "gone", tmp_path / "c" / "disk.img", MIB)
