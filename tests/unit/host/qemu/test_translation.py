"""Room for translated code: how much a guest gets, and whether another processor may have some of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import UserError
from pilvi.host.qemu.hotplug import plug_sockets
from pilvi.host.qemu.translation import check_room, free_regions, translation_bytes
from tests.unit.host.qemu.fake_qmp import FakeQemu, listening, watching

MIB = 1 << 20


def told(used: int, size: int = 32 * MIB) -> str:
    """As QEMU 7.2 says it; a page of each region is a guard, and some bytes at its end are kept free."""
    regions = size // (2 * MIB)
    return f"Translation buffer state:\ngen code size       {used}/{size - regions * (4096 + 1024)}\nTB count            59634\n"


def test_room_for_code_grows_with_memory_and_processors() -> None:
    assert [translation_bytes(size * MIB, 1) // MIB for size in (64, 256, 512, 1024, 8192)] == [32, 32, 64, 128, 256]
    assert [translation_bytes(256 * MIB, most) // MIB for most in (1, 2, 4, 8, 16, 64)] == [32, 32, 64, 128, 256, 256]


@pytest.mark.parametrize(
    ("statistics", "processors", "most", "free"),
    [
        (told(0), 1, 4, 15),
        (told(5 * MIB), 1, 4, 13),
        (told(31 * MIB), 1, 4, 0),
        (told(5 * MIB), 3, 4, 11),
        (told(0, 1024 * MIB), 1, 4, 31),
        (told(1000 * MIB, 1024 * MIB), 1, 4, 0),
        (told(0), 1, 32, 31),
        ("nothing of the kind", 1, 4, None),
    ],
    ids=["empty", "begun", "full", "each-has-one", "eight-for-each", "larger-regions", "one-for-each", "unknown"],
)
def test_regions_that_nobody_has(statistics: str, processors: int, most: int, free: int | None) -> None:
    assert free_regions(statistics, processors, most) == free


@pytest.mark.parametrize(
    ("commands", "plugged", "reason"),
    [
        ({"x-query-jit": {"human-readable-text": told(1 * MIB)}}, 2, ""),
        ({"x-query-jit": {"human-readable-text": told(27 * MIB)}}, 1, "has no room for another processor"),
        ({"x-query-jit": {"human-readable-text": told(31 * MIB)}}, 0, "has no room for another processor"),
        ({}, 0, "does not tell"),
        ({"query-kvm": {"enabled": True}}, 2, ""),
    ],
    ids=["room", "room-for-one", "full", "unknown", "kvm"],
)
async def test_processors_come_as_long_as_there_is_room(tmp_path: Path, commands: dict[str, Any], plugged: int, reason: str) -> None:
    qemu = FakeQemu(tmp_path / "qmp.sock")
    places = [{"type": "max", "props": {"socket-id": n, "core-id": 0, "thread-id": 0}} for n in (3, 2, 1, 0)]
    places[-1]["qom-path"] = "/machine/unattached/device[0]"

    def plug(arguments: dict[str, Any]) -> dict[str, Any]:
        next(place for place in places if place["props"]["socket-id"] == arguments["socket-id"])["qom-path"] = arguments["id"]
        return {}

    qemu.commands |= {"query-kvm": {"enabled": False}, "query-hotpluggable-cpus": lambda _: places, "device_add": plug, **commands}
    async with listening(qemu), watching(qemu) as (monitor, _):
        if reason:
            with pytest.raises(UserError, match=reason):
                await plug_sockets(monitor, 3)
            with pytest.raises(UserError, match=reason):
                await check_room(monitor)
        else:
            await plug_sockets(monitor, 3)
        assert sum("qom-path" in place for place in places) == 1 + plugged
