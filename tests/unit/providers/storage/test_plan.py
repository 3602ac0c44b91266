"""What is refused before anything is made, and what the objects look like. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api import JsonObject
from pilvi.errors import UserError, format_chain
from pilvi.providers.claims import find_volume
from pilvi.providers.storage.claim.plan import MEBIBYTE, plan_volume, round_up, volume_of
from pilvi.providers.storage.snapshot.plan import content_of, find_default_class
from pilvi.providers.storage.sources import Disk
from pilvi.providers.storage.storageclass import abilities
from pilvi.providers.storage.sweep import find_used
from tests.unit.providers.stage import make_cloud
from tests.unit.providers.storage.scene import make_claim, make_class, make_snapshot


def stored(obj: JsonObject, kind: str = "PersistentVolumeClaim") -> JsonObject:
    return {**obj, "kind": kind, "metadata": {**obj["metadata"], "uid": "u1", "resourceVersion": "7"}}


@pytest.mark.parametrize(
    ("spec", "more", "told"),
    [
        ({"selector": {"matchLabels": {}, "matchExpressions": []}}, {}, "leave spec.selector out"),
        ({}, {"parameters": {"fast": "yes", "a": "b"}}, "does not know: a, fast"),
        ({}, {"mountOptions": ["noatime"]}, "nothing is mounted"),
        ({"volumeAttributesClassName": "gold"}, {}, "VolumeAttributesClass gold"),
        ({"volumeMode": "Filesystem"}, {"metadata": {"annotations": {"pilvi.dev/volume-modes": "Block"}}}, "write volumeMode: Block"),
        ({"resources": {"requests": {"storage": "1500k"}, "limits": {"storage": "1600k"}}}, {}, "2Mi is larger than the limit 1600k"),
    ],
)
def test_refusals(spec: dict[str, Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_volume(stored(make_claim(**spec)), make_class(**more))
    assert told in format_chain(caught.value)


def test_the_volume_names_its_claim_and_follows_its_class() -> None:
    claim = stored(make_claim(size="3Gi", volumeMode="Block", accessModes=["ReadWriteMany"]))
    volume = volume_of(claim, plan_volume(claim, make_class(reclaimPolicy="Retain")))
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["claimRef"]["uid"] == "u1"
    assert volume["spec"]["capacity"] == {"storage": "3Gi"}
    assert (volume["spec"]["volumeMode"], volume["spec"]["accessModes"]) == ("Block", ["ReadWriteMany"])
    assert "nodeAffinity" not in volume["spec"]
    assert find_volume(volume) == volume["metadata"]["name"] == "pvc-u1"


@given(st.integers(0, 1 << 50))
def test_sizes_are_whole_and_never_less(size: int) -> None:
    rounded = round_up(size)
    assert rounded >= max(size, MEBIBYTE)
    assert rounded % MEBIBYTE == 0
    assert rounded - size < MEBIBYTE or size == 0


def test_the_content_holds_what_a_restore_needs(tmp_path: Any) -> None:
    snapshot = stored(make_snapshot(), "VolumeSnapshot")
    disk = Disk(make_cloud(tmp_path).home / "volumes" / "pvc-a" / "disk.img", 1, "Block", "claim team/disk")
    content = content_of(snapshot, {"metadata": {"name": "local"}, "deletionPolicy": "Retain"}, disk)
    assert content["spec"]["source"] == {"volumeHandle": "pvc-a"}
    assert (content["spec"]["sourceVolumeMode"], content["spec"]["deletionPolicy"]) == ("Block", "Retain")
    assert find_used([stored(make_claim()), {**content, "kind": "VolumeSnapshotContent"}]) == {"pvc-u1", "snapshot-u1"}


def test_exactly_one_default_class() -> None:
    marked = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
    ours = {"metadata": {"name": "a", "annotations": marked}, "driver": "local.pilvi.dev"}
    foreign = {"metadata": {"name": "f", "annotations": marked}, "driver": "example.com"}
    assert find_default_class([foreign, ours]) is ours
    with pytest.raises(UserError, match="are: none"):
        find_default_class([foreign])
    with pytest.raises(UserError, match="are: a, b"):
        find_default_class([ours, {**ours, "metadata": {**ours["metadata"], "name": "b"}}])


def test_a_class_that_does_not_expand_says_so() -> None:
    assert abilities(make_class(allowVolumeExpansion=False), shares_blocks=False)["pilvi.dev/expand"] == "false"
    assert abilities(make_class(), shares_blocks=True)["pilvi.dev/copy-method"] == "reflink"


@pytest.mark.parametrize("folder", ["../etc", "a/b", ".trial", ""])
def test_a_folder_outside_is_none(folder: str) -> None:
    assert find_volume({"metadata": {"annotations": {"pilvi.dev/volume": folder}}}) is None
