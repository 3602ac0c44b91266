"""What is done to a machine that runs: wanted and present -> steps; and where disks sit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.host.qemu.drives import node_name
from pilvi.host.qemu.present import Present
from pilvi.host.qemu.spec import Bus, Cpu, Drive, Layer, Memory, Nic, QemuSpec, Sockets
from pilvi.host.units import OpenTap
from pilvi.providers.kubevirt.machines.qemu.changes import (
    CloseFiles,
    OfferMemory,
    PlugCard,
    PlugDisk,
    PlugSockets,
    ResizeDisk,
    SetLink,
    Step,
    UnplugCard,
    UnplugDisk,
    Wanted,
    as_present,
    plan_changes,
)
from pilvi.providers.kubevirt.machines.qemu.places import Places, assign_places, read_places, write_places

MIB = 1 << 20


def disk(name: str, bus: Bus = "virtio", *, read_only: bool = False) -> Drive:
    return Drive(name=name, layers=(Layer(path=Path(f"/{name}")),), bus=bus, read_only=read_only)


def machine(*drives: Drive, sockets: int = 1, mib: int = 256) -> QemuSpec:
    return QemuSpec(
        name="m-1",
        title="t",
        uuid="u",
        user=1,
        netns="n",
        sockets=Sockets(folder=Path("/s")),
        log=Path("/l"),
        serial_log=Path("/sl"),
        memory=Memory(size_bytes=mib * MIB, max_bytes=1024 * MIB),
        machine="pc-q35-7.2",
        cpu=Cpu(sockets=sockets, max_sockets=4),
        drives=drives,
    )


def present(*disks: str, nodes: dict[str, int] | None = None, files: tuple[str, ...] = (), sockets: int = 1, offered: int = 0) -> Present:
    return Present(
        devices=frozenset({"memory", "nic-default", *(f"disk-{name}" for name in disks)}),
        nodes=nodes if nodes is not None else {node_name(name): 100 for name in disks},
        files=frozenset(files),
        sockets=sockets,
        memory_bytes=256 * MIB,
        offered_bytes=offered * MIB,
    )


A, B = disk("a"), disk("b", "scsi")
GONE = node_name("gone")[:-1]


@pytest.mark.parametrize(
    ("wanted", "seen", "steps"),
    [
        (machine(A), present("a"), []),
        (machine(A, B), present("a"), [PlugDisk(B)]),
        (machine(A), present("a", "b"), [UnplugDisk("b")]),
        (machine(B), present("a"), [UnplugDisk("a"), PlugDisk(B)]),
        (machine(A), present("a", nodes={node_name("a"): 100, f"{GONE}0": 5, f"{GONE}1": 5}), [CloseFiles(GONE)]),
        (machine(A), present("a", files=(f"{GONE}0", node_name("a"))), [CloseFiles(GONE)]),
        # Its device is still there: first that goes.
        (machine(A), present("a", "gone"), [UnplugDisk("gone")]),
        (machine(A), present("a", nodes={node_name("a"): 90}), [ResizeDisk("a", 100)]),
        (machine(disk("a", read_only=True)), present("a", nodes={node_name("a"): 90}), []),
        (machine(A, sockets=3), present("a"), [PlugSockets(3)]),
        (machine(A, sockets=1), present("a", sockets=2), []),
        (machine(A, mib=512), present("a"), [OfferMemory(256 * MIB)]),
        (machine(A, mib=513), present("a"), [OfferMemory(256 * MIB)]),
        (machine(A, mib=512), present("a", offered=256), []),
        (machine(A, mib=256), present("a", offered=256), [OfferMemory(0)]),
        (machine(A, mib=128), present("a", offered=0), []),
    ],
)
def test_steps(wanted: QemuSpec, seen: Present, steps: list[Step]) -> None:
    assert plan_changes(Wanted(wanted, {"a": 100}), seen) == steps


def test_a_machine_that_was_made_without_more_memory_is_offered_none() -> None:
    assert plan_changes(Wanted(machine(A, mib=512), {}), Present(devices=frozenset({"disk-a"}), memory_bytes=256 * MIB)) == []


def test_no_disk_moves_when_one_goes_or_comes(tmp_path: Path) -> None:
    three, known = assign_places((disk("a"), disk("b"), disk("c")), Places())
    assert [drive.port for drive in three] == [0, 1, 2]
    write_places(tmp_path / "places.json", known)
    assert read_places(tmp_path / "places.json") == known
    two, known = assign_places((disk("a"), disk("c")), known)
    assert [drive.port for drive in two] == [0, 2]
    again, _ = assign_places((disk("a"), disk("c"), disk("d"), disk("e", "scsi")), known)
    assert [drive.port for drive in again] == [0, 2, 1, 0]


def test_what_the_guest_has_not_let_go_of_keeps_its_place() -> None:
    _, known = assign_places((disk("a"), disk("b")), Places())
    (_, new), _ = assign_places((disk("a"), disk("c")), known, {"a", "b"})
    assert new.port == 2


def test_disks_beyond_the_room_get_no_place() -> None:
    placed, _ = assign_places(tuple(disk(f"d{number}") for number in range(13)), Places())
    assert [drive.port for drive in placed] == [*range(12), None]


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(st.lists(st.tuples(NAMES, st.sets(st.sampled_from("abcdefgh"))), min_size=1, max_size=6))
def test_places_are_never_shared_and_never_change(rounds: list[tuple[list[str], set[str]]]) -> None:
    known = Places()
    for names, kept in rounds:
        before = known
        placed, known = assign_places(tuple(disk(name) for name in names), known, kept)
        assert len(set(known.disks.values())) == len(known.disks)
        assert {drive.name for drive in placed} <= known.disks.keys()
        assert all(known.disks[name] == place for name, place in before.disks.items() if name in known.disks)
        assert {name for name in before.disks if name in kept} <= known.disks.keys()


def cards(*nics: Nic, also: tuple[str, ...] = ()) -> Wanted:
    wanted = msgspec.structs.replace(machine(A), nics=nics)
    return Wanted(wanted, {"a": 100}, frozenset({*(nic.name for nic in nics), *also}))


def nic(name: str, port: int = 0, *, up: bool = True) -> Nic:
    return Nic(name=name, tap=OpenTap(name=f"t-{name}", netns="n"), mac="02:00:00:00:00:01", up=up, port=port)


def with_cards(*names: str, **links: bool) -> Present:
    seen = present("a")
    return dataclasses.replace(seen, devices=seen.devices - {"nic-default"} | {f"nic-{name}" for name in names}, links=links)


@pytest.mark.parametrize(
    ("wanted", "seen", "steps"),
    [
        (cards(nic("x")), with_cards("x", x=True), []),
        (cards(nic("x")), with_cards("x"), [SetLink("x", is_up=True)]),
        (cards(nic("x", up=False)), with_cards("x", x=True), [SetLink("x", is_up=False)]),
        (cards(nic("x"), nic("y", 1)), with_cards("x", x=True), [PlugCard(nic("y", 1))]),
        (cards(nic("y", 1, up=False)), with_cards(), [PlugCard(nic("y", 1, up=False)), SetLink("y", is_up=False)]),
        (cards(nic("x")), with_cards("x", "y", x=True, y=True), [UnplugCard("y")]),
        # It is wanted, and only its leg is not to be had at the moment.
        (cards(nic("x"), also=("y",)), with_cards("x", "y", x=True, y=True), []),
        (Wanted(machine(A), {"a": 100}), with_cards("x"), []),
    ],
)
def test_cards_that_come_and_go(wanted: Wanted, seen: Present, steps: list[Step]) -> None:
    assert plan_changes(wanted, seen) == steps


def test_a_second_process_has_what_the_guest_has() -> None:
    nic = Nic(name="default", tap=OpenTap(name="t", netns="v"), mac="02:00:00:00:00:01")
    grown = machine(disk("root"), disk("later"), sockets=3, mib=512)
    grown = msgspec.structs.replace(grown, nics=(nic, msgspec.structs.replace(nic, name="back")))
    seen = present("root", "goes", sockets=2)
    seen = dataclasses.replace(seen, devices=seen.devices | {"cpu-1-0-0", "cpu-1-0-1", "cpu-2-0-0"})  # the third is not whole
    made = as_present(grown, seen)
    assert ([drive.name for drive in made.drives], [nic.name for nic in made.nics]) == (["root"], ["default"])
    assert (made.cpu.sockets, made.cpu.plugged_sockets, made.cpu.max_sockets) == (1, 1, 4)
    made = as_present(grown, present("root", sockets=2))
    assert (made.cpu.sockets, made.cpu.plugged_sockets) == (2, 0)
    assert (made.memory.size_bytes, made.memory.max_bytes) == (256 * MIB, 1024 * MIB)
