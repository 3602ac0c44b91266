"""Which memory QEMU loses writes in while a guest moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilvi.host.qemu.spec import Memory
from pilvi.host.qemu.tracking import misses_writes, promised_bytes, ram_bytes
from tests.unit.host.qemu.fake_qmp import FakeQemu, listening, watching
from tests.unit.host.qemu.machines import MIB, machine


@pytest.mark.parametrize("size_mib", [1, 2, 33, 256, 4096])
@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
def test_the_promise_is_found_again(size_mib: int, accelerator: str) -> None:
    ram = ram_bytes(machine(memory=Memory(size_bytes=size_mib * MIB), accelerator=accelerator))
    assert promised_bytes(ram) == size_mib * MIB
    assert (ram % (64 * 4096) == 0) is (accelerator == "kvm")
    assert ram % 8192 == 0


def test_huge_pages_are_not_divided() -> None:
    memory = Memory(size_bytes=256 * MIB, hugepage_bytes=2 * MIB)
    assert ram_bytes(machine(memory=memory)) == 256 * MIB


@pytest.mark.parametrize(
    ("kvm", "sizes", "used", "expected"),
    [
        (False, {"ram": 256 * MIB + 8192}, None, False),
        (False, {"ram": 256 * MIB}, None, True),
        (True, {"ram": 256 * MIB, "more": 256 * MIB}, 2 * MIB, False),
        (False, {"ram": 256 * MIB + 8192, "more": 256 * MIB}, 0, False),
        (False, {"ram": 256 * MIB + 8192, "more": 256 * MIB}, 2 * MIB, True),
    ],
)
async def test_where_writes_are_lost(tmp_path: Path, kvm: bool, sizes: dict[str, int], used: int | None, expected: bool) -> None:
    devices: list[dict[str, Any]] = [] if used is None else [{"type": "virtio-mem", "data": {"memdev": "/objects/more", "size": used}}]
    qemu = FakeQemu(tmp_path / "qmp.sock")
    qemu.commands |= {
        "query-kvm": {"enabled": kvm, "present": True},
        "query-memdev": [{"id": id, "size": size} for id, size in sizes.items()],
        "query-memory-devices": devices,
    }
    async with listening(qemu), watching(qemu) as (monitor, _):
        assert await misses_writes(monitor) is expected
