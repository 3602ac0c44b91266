"""Machines that go on in another process, with real QEMUs: every line of the table in docs/design/0005."""

from __future__ import annotations

import os
import signal

import pytest

from pilvi.errors import MachineRefused
from pilvi.host.network import list_links
from pilvi.host.qemu.installed import has_qemu
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.backend import MachineSpec
from pilvi.providers.kubevirt.machines.moves import Move, MoveSettings
from pilvi.providers.kubevirt.machines.qemu.slots import slot_sockets
from pilvi.providers.names import SLOTS, machine_port, machine_unit, port_in_slot
from tests.host import test_qemu_machine as machine
from tests.host.test_qemu_machine import BRIDGE, UID, Lab
from tests.images.bootsector import boot_disk

pytestmark = pytest.mark.skipif(not has_qemu(), reason="needs the Debian package qemu-system-x86")

lab = machine.lab
FAST, SLOW = MoveSettings(), MoveSettings(bandwidth_bytes=8 << 10, downtime_ms=1)


async def start(lab: Lab) -> MachineSpec:
    spec = lab.spec(boot_disk("up"))
    assert (await lab.backend.ensure(spec)).phase == "running"
    await wait_for(lambda: "up" in lab.serial(), 30, "the guest's word")
    return spec


async def reach(lab: Lab, phase: str) -> Move:
    seen: list[Move] = []

    async def is_there() -> bool:
        seen.append(await lab.backend.moves.look(UID))
        return seen[-1].phase == phase

    await wait_for(is_there, 30, f"the move to be {phase}", interval_s=0.02)
    return seen[-1]


def running(lab: Lab) -> list[str]:
    """The slots whose process runs."""
    return [slot for slot in SLOTS if lab.units.state(machine_unit(UID, slot)).state == "running"]


def kill(lab: Lab, slot: str) -> None:
    pid = lab.units.state(machine_unit(UID, slot)).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def next_engine(lab: Lab) -> None:
    await lab.end_backend()
    lab.start_backend()


async def is_whole(lab: Lab, slot: str) -> bool:
    """The machine is in that slot alone, and nothing of the other one is left."""
    ports = {link.name for link in await list_links(lab.router) if link.master == BRIDGE}
    folders = [other for other in SLOTS if slot_sockets(lab.cloud, UID, other).folder.exists()]
    return running(lab) == folders == [slot] and ports == {port_in_slot(machine_port(UID), slot)}


@pytest.mark.parametrize("anew", ["never", "prepared", "running", "completed"])
async def test_a_guest_moves_there_and_back_whatever_engines_come_and_go(lab: Lab, anew: str) -> None:
    spec = await start(lab)
    for slot in ("b", ""):
        await lab.backend.moves.prepare(spec)
        if anew == "prepared":
            await next_engine(lab)
            await lab.backend.ensure(spec)
            await lab.backend.moves.prepare(spec)
        assert running(lab) == [*SLOTS]
        assert (await lab.backend.moves.look(UID)).phase == "prepared"
        await lab.backend.moves.begin(UID, FAST)
        if anew == "running":
            await next_engine(lab)
            await lab.backend.ensure(spec)
            await lab.backend.moves.begin(UID, FAST)
        move = await reach(lab, "completed")
        assert move.total_ms > 0
        assert move.copied_bytes > 0
        if anew == "completed":
            await next_engine(lab)
            assert (await lab.backend.ensure(spec)).phase == "running"
        await lab.backend.moves.finish(UID)
        await lab.backend.moves.finish(UID)
        assert lab.backend.state(UID).phase == "running"
        assert await is_whole(lab, slot)
        await next_engine(lab)
        assert (await lab.backend.ensure(spec)).phase == "running"
        assert await is_whole(lab, slot)
    assert lab.serial().count("up") == 1, "the guest was started once"
    await lab.backend.stop(UID, 0)
    assert lab.backend.state(UID).phase == "absent"
    await lab.backend.remove(UID)


async def test_after_a_power_cut_a_machine_starts_in_its_slot(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, FAST)
    await reach(lab, "completed")
    await lab.backend.moves.finish(UID)
    await lab.units.stop(machine_unit(UID, "b"), grace_s=0)  # the record goes, as /run does
    await next_engine(lab)
    assert (await lab.backend.ensure(spec)).phase == "running"
    assert await is_whole(lab, "b")


async def test_a_move_that_is_called_off_leaves_the_guest_where_it_is(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    assert not await lab.backend.moves.abandon(UID)
    assert await is_whole(lab, "")
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, SLOW)
    assert (await reach(lab, "running")).phase == "running"
    assert not await lab.backend.moves.abandon(UID)
    assert await is_whole(lab, "")
    assert (await lab.backend.ensure(spec)).phase == "running"
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, FAST)
    await reach(lab, "completed")
    assert await lab.backend.moves.abandon(UID), "it was too late"
    assert await is_whole(lab, "b")
    assert lab.backend.state(UID).phase == "running"


async def test_a_target_that_dies_costs_the_guest_nothing(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, SLOW)
    await reach(lab, "running")
    kill(lab, "b")
    move = await reach(lab, "failed")
    assert "has ended" in move.message
    assert not await lab.backend.moves.abandon(UID)
    await lab.until("running")
    assert await is_whole(lab, "")


async def test_a_source_that_dies_takes_the_guest_along_before_it_has_moved_and_not_after(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, SLOW)
    await reach(lab, "running")
    kill(lab, "")
    await wait_for(lambda: "" not in running(lab), 10, "the source to be gone")
    assert (await lab.backend.ensure(spec)).phase == "failed"
    assert running(lab) == []
    assert (await lab.backend.ensure(spec)).phase == "failed", "it is not started again by itself"


async def test_a_source_that_dies_after_the_guest_has_moved_is_missed_by_nobody(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, FAST)
    await reach(lab, "completed")
    kill(lab, "")
    await wait_for(lambda: running(lab) == ["b"], 10, "the source to be gone")
    assert lab.backend.state(UID).phase == "starting", "nobody knows yet"
    assert (await lab.backend.ensure(spec)).phase == "running"
    assert await is_whole(lab, "b")


async def test_a_guest_that_stands_still_goes_on_standing_still(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.control.pause(UID)
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, FAST)
    await reach(lab, "completed")
    await lab.backend.moves.finish(UID)
    assert lab.backend.state(UID).phase == "paused"
    await lab.backend.control.resume(UID)
    await lab.until("running")


async def test_a_guest_that_is_paused_to_arrive_runs_on(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    await lab.backend.moves.begin(UID, SLOW)
    await reach(lab, "running")
    await lab.backend.moves.pause(UID)
    await lab.backend.moves.begin(UID, FAST)  # it is under way: nothing begins anew
    await lab.backend._guests.get(UID).execute("migrate-set-parameters", {"max-bandwidth": 1 << 30})
    await reach(lab, "completed")
    await lab.backend.moves.finish(UID, resume=True)
    await lab.until("running")
    assert await is_whole(lab, "b")


@pytest.mark.parametrize("settings", [None, SLOW, FAST])
async def test_a_machine_is_stopped_and_removed_at_any_time_of_a_move(lab: Lab, settings: MoveSettings | None) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    if settings is not None:
        await lab.backend.moves.begin(UID, settings)
        await reach(lab, "completed" if settings is FAST else "running")
    await lab.backend.stop(UID, 0)
    assert running(lab) == []
    assert lab.backend.state(UID).phase == "absent"
    await lab.backend.remove(UID)
    assert await list_links(lab.router, machine_port(UID)) == []
    assert await list_links(lab.router, port_in_slot(machine_port(UID), "b")) == []
    assert not (lab.cloud.run / "machines").exists()


async def test_a_host_that_fails_takes_both_processes(lab: Lab) -> None:
    spec = await start(lab)
    await lab.backend.moves.prepare(spec)
    await lab.backend.kill(UID)
    assert running(lab) == []
    assert lab.backend.state(UID).phase == "absent"


async def test_what_does_not_run_does_not_move(lab: Lab) -> None:
    with pytest.raises(MachineRefused, match="does not run"):
        await lab.backend.moves.prepare(lab.spec(boot_disk("up")))
