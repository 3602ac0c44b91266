"""Who may have the disk of a claim that somebody else has."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.providers.kubevirt.instance.volumes.holders import DiskHolders, held_claims, is_held_up
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.wakeups import disks_let_go
from tests.unit.providers.kubevirt.disk_users import CLAIM, Instances, holders, user

SHARED = {"shareable": True}
HOT = {"hotpluggable": True}
GONE = {"name": "data", "phase": "Detaching", "persistentVolumeClaimInfo": {"claimName": "data"}}


@pytest.mark.parametrize("phase", ["Scheduled", "Running"])
def test_who_comes_first_has_it(phase: str) -> None:
    a, b = user("a", phase), user("b", "Scheduled")
    found = holders(a, b)
    found.take(a, CLAIM)
    with pytest.raises(VolumeNotReady, match="PersistentVolumeClaim team/data is in use by VirtualMachineInstance a; stop it") as told:
        found.take(b, CLAIM)
    assert (told.value.reason, told.value.failed) == ("FailedAttachVolume", True)
    found.take(a, CLAIM)


def test_after_a_start_of_the_engine_a_machine_that_runs_has_its_disks() -> None:
    a, b, c = user("a", "Scheduled"), user("b", "Running"), user("c", "Scheduled")
    found = holders(a, b, c)
    with pytest.raises(VolumeNotReady, match="VirtualMachineInstance b;"):
        found.take(a, CLAIM)
    found.take(b, CLAIM)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_who_has_ended_has_it_no_longer(phase: str) -> None:
    a, b = user("a", "Scheduled"), user("b", "Scheduled")
    found = holders(a, b)
    found.take(a, CLAIM)
    a["status"]["phase"] = phase
    found.take(b, CLAIM)


def test_who_is_gone_has_it_no_longer() -> None:
    a, b = user("a", "Running"), user("b", "Scheduled")
    cache = Instances([a, b])
    found: Any = DiskHolders(cache)  # type: ignore[arg-type]
    found.take(a, CLAIM)
    cache.objects = [b]
    found.take(b, CLAIM)


def test_a_disk_that_came_is_had_until_the_guest_lets_go() -> None:
    a, b = user("a", "Running", HOT), user("b", "Running", HOT)
    found = holders(a, b)
    found.take(a, CLAIM)
    with pytest.raises(VolumeNotReady, match="VirtualMachineInstance a;"):
        found.take(b, CLAIM)
    a["spec"]["volumes"].pop()
    a["status"]["volumeStatus"] = [GONE]
    with pytest.raises(VolumeNotReady, match="VirtualMachineInstance a;"):
        found.take(b, CLAIM)
    a["status"]["volumeStatus"] = []
    found.take(b, CLAIM)


def test_a_disk_that_waits_is_nobody_s() -> None:
    """One that nobody has taken: its claim was not bound, or its Pod not scheduled."""
    a, b = user("a", "Running", HOT), user("b", "Scheduled")
    holders(a, b).take(b, CLAIM)


def test_a_claim_of_another_namespace_is_another_one() -> None:
    a, b = user("a", "Running"), user("b", "Scheduled")
    a["metadata"]["namespace"] = "other"
    holders(a, b).take(b, CLAIM)


def test_a_claim_that_can_only_be_read_is_for_all() -> None:
    claim = {**CLAIM, "spec": {"accessModes": ["ReadOnlyMany"]}}
    a, b = user("a", "Running"), user("b", "Scheduled")
    holders(a, b).take(b, claim)
    with pytest.raises(VolumeNotReady):
        holders(a, b).take(b, CLAIM)


def test_who_waits_is_woken_when_the_disk_is_free() -> None:
    waiting = {"conditions": [{"type": "Ready", "status": "False", "reason": "FailedAttachVolume"}]}
    hot = {"volumeStatus": [{"name": "data", "phase": "Bound", "reason": "FailedAttachVolume"}]}
    a, b, c, d = user("a", "Running"), user("b", "Scheduled", **waiting), user("c", "Running", HOT, **hot), user("d", "Scheduled")
    assert [is_held_up(each) for each in (a, b, c, d)] == [False, True, True, False]
    assert holders(a, b, c, d).held_up(a) == [Key("team", "b"), Key("team", "c")]


def test_a_disk_is_let_go_with_the_machine_or_by_the_guest() -> None:
    running, ended = user("a", "Running"), user("a", "Succeeded")
    plugged = user("a", "Running", HOT, volumeStatus=[{**GONE, "phase": "Ready"}])
    unplugged = user("a", "Running", HOT, volumeStatus=[])
    assert [held_claims(each) for each in (running, ended, plugged, unplugged)] == [{"data"}, set(), {"data"}, set()]
    for dump, held in (({"startTimestamp": "t"}, {"data"}), ({"startTimestamp": "t", "endTimestamp": "t"}, set())):
        assert held_claims(user("a", "Running", HOT, volumeStatus=[{**GONE, "phase": "Dump", "memoryDumpVolume": dump}])) == held
    assert disks_let_go(running, ended)
    assert disks_let_go(plugged, unplugged)
    assert not disks_let_go(unplugged, plugged)
    assert not disks_let_go(user("a", "Scheduled"), running)


@pytest.mark.parametrize("disk", [{}, SHARED])
def test_both_have_to_share(disk: JsonObject) -> None:
    a, b = user("a", "Running", disk=SHARED), user("b", "Scheduled", disk=disk)
    if disk:
        holders(a, b).take(b, CLAIM)
        return
    with pytest.raises(VolumeNotReady):
        holders(a, b).take(b, CLAIM)
