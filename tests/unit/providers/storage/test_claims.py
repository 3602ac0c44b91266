"""Claims from nothing to bound, grown and let go."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pilvi.api import Key
from pilvi.providers.claims import BIND_AT_ONCE, POPULATED, VOLUME, annotations_of, claim_volume
from pilvi.providers.storage import files
from pilvi.providers.storage.kinds import PROVISIONER_OF_CLAIM
from tests.fake_api import FakeApi
from tests.unit.providers.storage.scene import CLAIMS, CLASSES, MIB, VOLUMES, Store, make_claim, make_class, put, scene

WRITES = 6  # more than there are from an empty cloud to a bound claim


async def test_a_volume_of_exactly_the_size(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim(size="10M"))
        await store.stage.until(store.is_bound)
        found = store.file().stat()
        assert (found.st_size, found.st_blocks, found.st_mode & 0o777) == (10 * MIB, 0, 0o600)
        spec = store.volume()["spec"]
        assert spec["capacity"] == {"storage": "10Mi"}
        assert spec["csi"] == {"driver": "local.pilvi.dev", "volumeHandle": claim_volume(store.claim())}
        assert (spec["volumeMode"], spec["accessModes"], spec["storageClassName"]) == ("Filesystem", ["ReadWriteOnce"], "local")
        assert annotations_of(store.volume())[VOLUME] == store.file().parent.name
        await store.stage.settled()
        assert store.told() == {}
        assert "ProvisioningSucceeded" in store.events()


@pytest.mark.parametrize("number", range(1, WRITES + 1))
async def test_from_half_made(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    """Whichever write is refused, the next pass goes on from there."""
    async with scene(fake_api, tmp_path) as store:
        store.stage.fail_write(number, 500, "InternalError", but="")
        store.stage.put(CLAIMS, make_claim())
        await store.stage.until(store.is_bound)
        await store.stage.settled()
        assert len([path for path in fake_api.objects if "/persistentvolumes/" in path]) == 1
        assert store.folders() == {claim_volume(store.claim())}


async def test_an_engine_that_died_after_the_file_goes_on(fake_api: FakeApi, tmp_path: Path) -> None:
    claim = put(fake_api, CLAIMS, make_claim())
    disk = tmp_path / "volumes" / claim_volume(claim) / "disk.img"
    await files.create(disk, 16 * MIB)
    disk.with_name(".disk.img.new").write_bytes(b"half")
    disk.write_bytes(b"data" + bytes(16 * MIB - 4))
    async with scene(fake_api, tmp_path) as store:
        await store.stage.until(store.is_bound)
        assert store.file().read_bytes()[:4] == b"data"


async def test_a_claim_that_is_filled_is_bound_when_its_data_are_whole(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim(annotations={POPULATED: "false"}))
        await store.stage.until(lambda: VOLUME in annotations_of(store.claim()))
        await store.stage.settled()
        assert annotations_of(store.claim())[VOLUME] == claim_volume(store.claim())
        assert store.file().stat().st_size == 16 * MIB
        assert not store.is_bound()
        store.annotate("disk", pilvi_dev="")  # any other change does not bind it
        await store.stage.settled()
        assert not store.is_bound()
        store.annotate("disk", **{POPULATED: "true"})
        await store.stage.until(store.is_bound)


async def test_who_shall_make_the_volume(fake_api: FakeApi, tmp_path: Path) -> None:
    put(fake_api, CLASSES, make_class("later", volumeBindingMode="WaitForFirstConsumer"))
    put(fake_api, CLASSES, make_class("foreign", provisioner="example.com/disks"))
    async with scene(fake_api, tmp_path) as store:
        for name, class_name, told in (
            ("waits", "later", {PROVISIONER_OF_CLAIM: ""}),
            ("forged", "foreign", {BIND_AT_ONCE: "true"}),
            ("hurried", "later", {PROVISIONER_OF_CLAIM: "", BIND_AT_ONCE: "true"}),
        ):
            store.stage.put(CLAIMS, make_claim(name, storageClassName=class_name, annotations=told))
        await store.stage.until(lambda: store.is_bound("hurried"))
        await store.stage.settled()
        assert not store.is_bound("waits")
        assert not store.is_bound("forged")
        assert store.folders() == {claim_volume(store.claim("hurried"))}
        # Kubernetes has found a place for the first consumer.
        store.annotate("waits", **{PROVISIONER_OF_CLAIM: "local.pilvi.dev"})
        await store.stage.until(lambda: store.is_bound("waits"))


async def test_a_disk_that_cannot_be_filled_is_refused_until_there_is_room(
    fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 8
    monkeypatch.setattr(files, "free_bytes", lambda _folder: free * MIB)
    monkeypatch.setattr("pilvi.providers.storage.claim.controller.LOOK_AGAIN_S", 0.1)
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim())
        await store.stage.until(lambda: store.told().get("reason") == "ProvisioningFailed")
        assert "16 MiB could not be filled: 8 MiB are free" in store.told()["message"]
        assert store.told()["status"] == "False"
        await store.stage.until(lambda: "ProvisioningFailed" in store.events())
        assert store.folders() == set()
        free = 64
        await store.stage.until(store.is_bound)
        await store.stage.until(lambda: store.told() == {})


async def test_a_copy_of_another_claim(fake_api: FakeApi, tmp_path: Path) -> None:
    content = os.urandom(3 * MIB)
    async with scene(fake_api, tmp_path) as store:
        named = {"kind": "PersistentVolumeClaim", "name": "disk"}
        store.stage.put(CLAIMS, make_claim("copy", "20Mi", dataSource=named, dataSourceRef=named))
        await store.stage.until(lambda: store.told("copy").get("reason") == "SourceNotFound")
        store.stage.put(CLAIMS, make_claim())
        await store.stage.until(store.is_bound)
        # The copy waits for nothing else, so write before it can begin: its claim is looked at again only when the source is bound.
        await store.stage.until(lambda: store.is_bound("copy"))
        assert store.file("copy").stat().st_size == 20 * MIB
        with store.file().open("r+b") as disk:
            disk.write(content)
        store.stage.put(CLAIMS, make_claim("again", dataSource=named, dataSourceRef=named))
        await store.stage.until(lambda: store.is_bound("again"))
        assert store.file("again").read_bytes() == content + bytes(13 * MIB)
        assert store.file("again").stat().st_blocks * 512 < 4 * MIB
        assert store.told("copy") == {}
        assert "Copied" in store.events()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "disk"}, "volumeMode": "Block"}, "write volumeMode: Filesystem"),
        ({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "disk", "namespace": "other"}}, "with a DataVolume"),
        ({"dataSourceRef": {"apiGroup": "x.io", "kind": "Robot", "name": "r"}}, "nobody here fills a claim from a Robot of x.io"),
        ({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "big"}}, "ask for at least 32Mi"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "leave spec.selector out"),
    ],
)
async def test_claims_that_cannot_be_made(fake_api: FakeApi, tmp_path: Path, spec: dict[str, object], told: str) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim())
        store.stage.put(CLAIMS, make_claim("big", "32Mi"))
        await store.stage.until(lambda: store.is_bound() and store.is_bound("big"))
        store.stage.put(CLAIMS, make_claim("bad", **spec))
        await store.stage.until(lambda: told in store.told("bad").get("message", ""))
        await store.stage.settled()
        assert not store.is_bound("bad")
        assert claim_volume(store.claim("bad")) not in store.folders()


async def grow(store: Store, size: str) -> None:
    store.change(CLAIMS, "disk", "team", spec={**store.claim()["spec"], "resources": {"requests": {"storage": size}}})


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_claim_grows(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim())
        await store.stage.until(store.is_bound)
        await store.stage.settled()
        store.stage.fail_write(number, 500, "InternalError", but="")
        await grow(store, "40Mi")
        await store.stage.until(lambda: store.claim()["status"]["capacity"] == {"storage": "40Mi"})
        assert store.volume()["spec"]["capacity"] == {"storage": "40Mi"}
        assert store.file().stat().st_size == 40 * MIB
        await store.stage.until(lambda: "VolumeResizeSuccessful" in store.events())


async def test_growth_without_room_says_so(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim())
        await store.stage.until(store.is_bound)
        monkeypatch.setattr(files, "free_bytes", lambda _folder: 20 * MIB)
        await grow(store, "40Mi")
        await store.stage.until(lambda: "20 MiB are free" in store.told(type="ControllerResizeError").get("message", ""))
        assert store.file().stat().st_size == 16 * MIB
        monkeypatch.undo()
        await grow(store, "41Mi")
        await store.stage.until(lambda: store.claim()["status"]["capacity"] == {"storage": "41Mi"})
        assert store.told(type="ControllerResizeError") == {}


@pytest.mark.parametrize("number", range(4))
async def test_a_volume_goes_with_its_claim(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim())
        await store.stage.until(store.is_bound)
        await store.stage.settled()
        path = CLAIMS.object_path(Key("team", "disk"))
        store.stage.fail_write(number, 500, "InternalError", but=path)
        await store.delete(CLAIMS, "disk", "team")
        await store.stage.until(lambda: not [path for path in fake_api.objects if "/persistentvolumes/" in path])
        await store.stage.until(lambda: store.folders() == set())


async def test_a_volume_that_is_retained_keeps_its_data(fake_api: FakeApi, tmp_path: Path) -> None:
    put(fake_api, CLASSES, make_class("kept", reclaimPolicy="Retain"))
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim(storageClassName="kept"))
        await store.stage.until(store.is_bound)
        folder = claim_volume(store.claim())
        await store.delete(CLAIMS, "disk", "team")
        await store.stage.until(lambda: store.stage.get(VOLUMES, folder)["status"]["phase"] == "Released")
        await store.stage.settled()
        assert store.stage.find(VOLUMES, folder) is not None
        await store.delete(VOLUMES, folder)
        await store.stage.until(lambda: store.stage.find(VOLUMES, folder) is None)
        await asyncio.sleep(0.5)  # a sweep
        assert (tmp_path / "volumes" / folder / "disk.img").stat().st_size == 16 * MIB
        assert "claim team/disk" in (tmp_path / "volumes" / folder / "kept").read_text()


async def test_what_nothing_stands_for_is_swept(fake_api: FakeApi, tmp_path: Path) -> None:
    for name in ("pvc-gone", "snapshot-gone", "by-hand"):
        await files.create(tmp_path / "volumes" / name / "disk.img", MIB)
    async with scene(fake_api, tmp_path) as store:
        await store.stage.until(lambda: store.folders() == {"by-hand"})
        # Deleted before it was bound: there is no volume that could take its file along.
        store.stage.put(CLAIMS, make_claim(annotations={POPULATED: "false"}))
        await store.stage.until(lambda: len(store.folders()) == 2)
        await store.delete(CLAIMS, "disk", "team")
        await store.stage.until(lambda: store.folders() == {"by-hand"})


async def test_a_sweep_asks_the_api_and_not_only_a_cache_that_lags(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim("other"))
        await store.stage.until(lambda: store.is_bound("other"))
        await store.stage.settled()
        await asyncio.sleep(0.3)
        fake_api.hold_events = True
        put(
            fake_api,
            VOLUMES,
            {
                "metadata": {"name": "v", "annotations": {VOLUME: "pvc-new"}},
                "spec": {"claimRef": store.volume("other")["spec"]["claimRef"]},
                "status": {"phase": "Bound"},
            },
        )
        await files.create(tmp_path / "volumes" / "pvc-new" / "disk.img", MIB)
        store.change(CLAIMS, "other", "team")
        from pilvi.providers.storage.copies import Copies
        from pilvi.providers.storage.sweep import Sweep

        await Sweep(store.stage.platform, Copies()).sweep()
        assert "pvc-new" in store.folders()
        fake_api.remove(VOLUMES.object_path(Key("", "v")), quietly=True)
        await Sweep(store.stage.platform, Copies()).sweep()
        assert "pvc-new" not in store.folders()


async def test_a_disk_that_is_gone_is_told(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as store:
        store.stage.put(CLAIMS, make_claim())
        await store.stage.until(store.is_bound)
        await store.stage.settled()
        store.file().unlink()
        store.annotate("disk", touched="1")
        await store.stage.until(lambda: store.told().get("reason") == "VolumeLost")


async def test_classes_say_what_they_can_do(fake_api: FakeApi, tmp_path: Path) -> None:
    put(fake_api, CLASSES, make_class("foreign", provisioner="example.com/disks"))
    async with scene(fake_api, tmp_path) as store:
        await store.stage.until(lambda: "pilvi.dev/copy-method" in annotations_of(store.stage.get(CLASSES, "local")))
        told = annotations_of(store.stage.get(CLASSES, "local"))
        assert told["pilvi.dev/copy-method"] in ("reflink", "copy")
        assert {told[f"pilvi.dev/{what}"] for what in ("clone", "snapshot", "share", "expand")} == {"true"}
        assert annotations_of(store.stage.get(CLASSES, "foreign")) == {}
        assert store.folders() == set()
