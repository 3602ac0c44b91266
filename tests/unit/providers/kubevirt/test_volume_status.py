"""`status.volumeStatus`: from volumes, claims and what the machine shows its guest to what people read."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.instance.attachments import Attached
from pilvi.providers.kubevirt.instance.volumestatus import find_arrived, plan_volume_status
from pilvi.providers.kubevirt.machines.backend import DiskState, MachineState

ROOT = {"name": "root", "containerDisk": {"image": "a"}}
FIXED = {"name": "fixed", "persistentVolumeClaim": {"claimName": "c"}}
HOT = {"name": "hot", "dataVolume": {"name": "c", "hotpluggable": True}}
CLAIM: JsonObject = {
    "metadata": {"name": "c"},
    "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}},
    "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}},
}
INFO = {
    "claimName": "c",
    "accessModes": ["ReadWriteOnce"],
    "volumeMode": "Filesystem",
    "capacity": {"storage": "2Gi"},
    "requests": {"storage": "1Gi"},
    "filesystemOverhead": "0",
}
POD = {"metadata": {"name": "hp-volume-1", "uid": "pod-uid"}}
ATTACHED = {"hotplugVolume": {"attachPodName": "hp-volume-1", "attachPodUID": "pod-uid"}}


def plan(
    *volumes: JsonObject, disks: tuple[DiskState, ...] | None = (), attached: Attached | None = None, before: Any = ()
) -> list[JsonObject]:
    vmi = {"spec": {"volumes": list(volumes)}, "status": {"volumeStatus": list(before)}}
    claims = {"c": CLAIM}
    return plan_volume_status(vmi, MachineState("running", disks=disks), attached or Attached(pods={"hot": POD}), claims.get)


def test_volumes_that_stay() -> None:
    disks = (DiskState("root", target="vda", size_bytes=5), DiskState("fixed", target="sda", size_bytes=7))
    assert plan(ROOT, FIXED, disks=disks) == [
        {"name": "root", "target": "vda", "size": 5},
        {"name": "fixed", "target": "sda", "size": 7, "persistentVolumeClaimInfo": INFO},
    ]


@pytest.mark.parametrize(
    ("disk", "waiting", "phase", "reason", "words"),
    [
        (DiskState("hot", target="sda"), None, "Ready", "VolumeReady", "Successfully attach"),
        (None, ("FailedPvcNotFound", "no claim"), "Bound", "FailedPvcNotFound", "no claim"),
        (DiskState("hot", attached=False, message="QEMU says no"), None, "AttachedToNode", "AttachFailed", "QEMU says no"),
        (None, None, "AttachedToNode", "AttachedToNode", "about to be"),
    ],
)
def test_a_disk_that_comes(disk: DiskState | None, waiting: tuple[str, str] | None, phase: str, reason: str, words: str) -> None:
    attached = Attached(waiting={"hot": waiting} if waiting else {}, pods={"hot": POD})
    (found,) = plan(HOT, disks=(disk,) if disk else (), attached=attached)
    assert (found["phase"], found["reason"], found["hotplugVolume"]) == (phase, reason, ATTACHED["hotplugVolume"])
    assert words in found["message"]


def test_a_disk_that_goes_stays_until_the_guest_has_let_go_of_it() -> None:
    before = [{"name": "hot", "target": "sda", "phase": "Ready", "persistentVolumeClaimInfo": INFO, **ATTACHED}]
    (found,) = plan(disks=(DiskState("hot", detaching=True),), before=before)
    assert (found["phase"], found["target"], found["hotplugVolume"]) == ("Detaching", "sda", ATTACHED["hotplugVolume"])
    assert "unmount it there" in found["message"]
    assert plan(disks=(), before=before) == []


def test_an_event_is_for_what_the_guest_did_not_see_before() -> None:
    entries = [{"name": "root"}, {"name": "a", "phase": "Ready"}, {"name": "b", "phase": "Ready"}, {"name": "c", "phase": "Pending"}]
    assert find_arrived({"status": {"volumeStatus": [entries[1]]}}, entries) == [entries[2]]


def test_where_nobody_has_looked_yet_what_was_true_stays() -> None:
    ready = {"phase": "Ready", "reason": "VolumeReady", "message": "m", **ATTACHED}
    gone = {"name": "gone", "target": "sdb", "phase": "Detaching"}
    found, left = plan(HOT, disks=None, before=[{"name": "hot", "target": "sda", **ready}, gone])
    assert {name: found[name] for name in ready} == ready
    assert left == gone
