"""Classes, sizes, phases: what is decided without asking anybody."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api import JsonObject, Key
from pilvi.api.cdi import ClaimPropertySet, DataVolume
from pilvi.api.cdi.config import FilesystemOverhead
from pilvi.api.object import decode
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.cdi.config import overheads
from pilvi.providers.cdi.datavolume.claim import ClassFacts, claim_of, find_class
from pilvi.providers.cdi.datavolume.status import phase_of, plan_status
from pilvi.providers.cdi.kinds import PHASE, PROGRESS
from pilvi.providers.cdi.population.controller import overall_progress
from pilvi.providers.cdi.population.fills import Fill
from pilvi.providers.cdi.sources import Disk, Missing
from pilvi.providers.cdi.storageprofile import MODES, choose_properties, properties_of
from pilvi.providers.claims import POPULATED, VOLUME
from tests.unit.providers.cdi.scene import MIB, make_class, make_data_volume

SETS = [
    ClaimPropertySet(["ReadWriteMany"], "Block"),
    ClaimPropertySet(["ReadWriteOnce"], "Block"),
    ClaimPropertySet(["ReadWriteOnce"], "Filesystem"),
]


def rendered(data_volume: JsonObject, overhead: str = "0", copied: Disk | None = None) -> Any:
    data_volume = {
        **data_volume,
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {**data_volume["metadata"], "uid": "u"},
    }
    return claim_of(data_volume, decode(DataVolume, data_volume).spec, ClassFacts("local", SETS, Fraction(overhead)), copied)


def test_classes_in_order_of_preference() -> None:
    plain, default, virt = make_class("plain"), make_class(), make_class("virt")
    virt["metadata"]["annotations"] = {"storageclass.kubevirt.io/is-default-virt-class": "true"}
    spec = decode(DataVolume, make_data_volume()).spec
    assert find_class(spec, [plain]) is None
    assert find_class(spec, [plain, default]) == "local"
    assert find_class(spec, [plain, default, virt]) == "virt"
    named = decode(DataVolume, make_data_volume(storage={"storageClassName": "plain"})).spec
    assert find_class(named, [plain, default, virt]) == "plain"


def test_properties() -> None:
    assert properties_of(make_class(), None) == SETS
    limited = make_class()
    limited["metadata"]["annotations"][MODES] = "Filesystem"
    assert properties_of(limited, None) == SETS[2:]
    assert properties_of({**make_class(), "provisioner": "other"}, None) == []
    given_sets = [{"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}]
    profile = {"metadata": {"name": "local"}, "spec": {"claimPropertySets": given_sets}}
    assert properties_of(make_class(), profile) == SETS[2:]


@pytest.mark.parametrize(
    ("mode", "access", "found"),
    [
        (None, [], (["ReadWriteMany"], "Block")),
        ("Filesystem", [], (["ReadWriteOnce"], "Filesystem")),
        (None, ["ReadWriteOnce"], (["ReadWriteOnce"], "Block")),
        ("Filesystem", ["ReadWriteMany"], (["ReadWriteMany"], "Filesystem")),  # as written; storage says whether it can
        (None, ["ReadOnlyMany"], None),
    ],
)
def test_what_is_left_open_comes_from_the_best_set(mode: str | None, access: list[str], found: tuple[list[str], str] | None) -> None:
    chosen = choose_properties(SETS, mode, access)
    assert (None if chosen is None else (chosen.access_modes, chosen.volume_mode)) == found


def test_a_class_that_nobody_knows_has_to_be_described() -> None:
    data_volume = make_data_volume(
        storage={"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadOnlyMany"]}, source={"blank": {}}
    )
    found = rendered(data_volume)
    assert isinstance(found, Missing)
    assert "StorageProfile local" in found.message


def test_a_written_claim_stays_as_written() -> None:
    pvc = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1500M"}}, "selector": {"matchLabels": {"a": "b"}}}
    data_volume = make_data_volume(pvc=pvc, source={"blank": {}})
    del data_volume["spec"]["storage"]
    data_volume["metadata"] |= {
        "labels": {"mine": "yes"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "k": "v"},
    }
    claim = rendered(data_volume, "0.5")
    assert claim["spec"] == {**pvc, "storageClassName": "local"}
    assert claim["metadata"]["labels"]["mine"] == "yes"
    assert claim["metadata"]["annotations"]["k"] == "v"
    assert claim["metadata"]["annotations"][POPULATED] == "false"
    assert "last-applied" not in str(claim["metadata"]["annotations"])


def test_data_from_elsewhere_are_not_ours_to_fill() -> None:
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    claim = rendered(make_data_volume(storage={"dataSource": source, "resources": {"requests": {"storage": "1Gi"}}}))
    assert claim["spec"]["dataSource"] == source
    assert POPULATED not in claim["metadata"]["annotations"]


@given(size=st.integers(1, 1 << 45), overhead=st.fractions(0, Fraction(9, 10), max_denominator=1000))
def test_a_file_system_takes_its_share_and_leaves_the_asked_size(size: int, overhead: Fraction) -> None:
    storage = {"resources": {"requests": {"storage": str(size)}}, "volumeMode": "Filesystem"}
    claim = rendered(make_data_volume(storage=storage, source={"blank": {}}), str(overhead))
    got = quantity_bytes(claim["spec"]["resources"]["requests"]["storage"])
    assert got * (1 - overhead) >= size
    assert got * (1 - overhead) < size + MIB or overhead == 0
    if overhead:
        assert got % MIB == 0
    else:
        assert got == size


@given(size=st.integers(1, 1 << 40), asked=st.one_of(st.none(), st.integers(1, 1 << 40)))
def test_a_copy_is_never_smaller_than_its_source(size: int, asked: int | None) -> None:
    copied = Disk(None, size, "Block", "claim a/b")  # type: ignore[arg-type]
    claim = rendered(
        make_data_volume(size=None if asked is None else str(asked), source={"pvc": {"name": "b", "namespace": "a"}}), "0", copied
    )
    if asked is not None and asked < size:
        assert isinstance(claim, Missing)
        assert claim.reason == "CloneValidationFailed"
    else:
        assert quantity_bytes(claim["spec"]["resources"]["requests"]["storage"]) == (asked or size)


def test_overheads() -> None:
    classes = [make_class(), {**make_class("ceph"), "provisioner": "other"}]
    found = overheads(None, classes)
    assert (found.global_, found.storage_class) == ("0.06", {"local": "0"})
    found = overheads(FilesystemOverhead(global_="0.1", storage_class={"local": "0.2"}), classes)
    assert (found.global_, found.storage_class) == ("0.1", {"local": "0.2"})


def claim_with(bound: str = "Pending", source: bool = True, **annotations: str) -> JsonObject:
    held = {POPULATED: "false", **annotations} if source else annotations
    return {"metadata": {"name": "disk", "annotations": held}, "spec": {}, "status": {"phase": bound}}


@pytest.mark.parametrize(
    ("claim", "first_consumer", "phase"),
    [
        (None, False, "Pending"),
        (claim_with(), False, "Pending"),
        (claim_with(), True, "WaitForFirstConsumer"),
        (claim_with(**{VOLUME: "x"}), True, "ImportScheduled"),
        (claim_with(**{VOLUME: "x", PHASE: "Running"}), False, "ImportInProgress"),
        (claim_with(**{VOLUME: "x", PHASE: "Failed"}), False, "Failed"),
        (claim_with(**{VOLUME: "x", PHASE: "Succeeded", POPULATED: "true"}), False, "RebindInProgress"),
        (claim_with("Bound", **{POPULATED: "true"}), True, "Succeeded"),
        (claim_with("Lost", **{POPULATED: "true"}), False, "Failed"),
        (claim_with(source=False), False, "Pending"),
        (claim_with("Bound", source=False), False, "Succeeded"),
    ],
)
def test_phases(claim: JsonObject | None, first_consumer: bool, phase: str) -> None:
    assert phase_of(claim, way="import", first_consumer=first_consumer) == phase
    assert phase_of(claim, way="clone", first_consumer=first_consumer) == phase.replace("Import", "Clone")


def test_a_status_that_says_the_same_is_the_same() -> None:
    data_volume = make_data_volume(source={"blank": {}})
    claim = claim_with(**{VOLUME: "x", PHASE: "Running", PROGRESS: "12.5%"})
    status = plan_status(data_volume, claim, "ImportInProgress", None)
    assert status["progress"] == "12.5%"
    assert plan_status({**data_volume, "status": status}, claim, "ImportInProgress", None) == status


def test_progress_grows_over_the_steps() -> None:
    fill = Fill(Key("team", "disk"))
    seen = []
    for step, total in (("downloading", None), ("downloading", 100), ("checking", 100), ("unpacking", 100), ("converting", 100)):
        for done in (0, 50, 100):
            fill.meter.begin(step, total, done)
            seen.append(overall_progress(fill))
    assert seen[:3] == ["N/A"] * 3
    shares = [float(text.removesuffix("%")) for text in seen[3:]]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 100.0)
