"""What is said of KVM without trying it; tests/host tries."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from pilvi.host.qemu import accelerator
from pilvi.host.qemu.accelerator import Trial, find_kernel, kvm_group, probe_kvm
from pilvi.host.qemu.installed import Qemu
from pilvi.host.qemu.probe import WORD, tiny_initrd

QEMU = Qemu(Path("/usr/bin/qemu"), "7.2.22", "pc-q35-7.2")


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "kvm"
    path.touch()
    path.chmod(0o666)
    return path


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a kernel was booted; it always works."""
    calls: list[int] = []

    async def boot(kernel: Path, *, accelerator: str, user: int, group: int | None, timeout_s: float) -> Trial:
        calls.append(user)
        return Trial(works=True, reason="a kernel booted")

    monkeypatch.setattr(accelerator, "try_boot", boot)
    return calls


async def test_no_device(tmp_path: Path, tried: list[int]) -> None:
    trial = await probe_kvm(QEMU, Path("/k"), tmp_path / "kept", user=5, device=tmp_path / "absent")
    assert (trial.works, tried) == (False, [])


async def test_a_device_that_is_closed_to_machines(tmp_path: Path, device: Path, tried: list[int]) -> None:
    device.chmod(0o600)
    trial = await probe_kvm(QEMU, Path("/k"), tmp_path / "kept", user=5, device=device)
    assert not trial.works
    assert "chmod 660" in trial.reason
    assert tried == []


async def test_no_kernel_is_said_and_not_kept(tmp_path: Path, device: Path, tried: list[int]) -> None:
    trial = await probe_kvm(QEMU, None, tmp_path / "kept", user=5, device=device)
    assert trial.reason.startswith("not tried:")
    assert not (tmp_path / "kept").exists()
    assert (await probe_kvm(QEMU, Path("/k"), tmp_path / "kept", user=5, device=device)).works
    assert tried == [5]


async def test_once_for_each_boot_kernel_and_qemu(tmp_path: Path, device: Path, tried: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"

    async def ask(qemu: Qemu = QEMU) -> None:
        assert (await probe_kvm(qemu, Path("/k"), kept, user=5, device=device)).works

    await ask()
    await ask()
    assert len(tried) == 1
    await ask(QEMU._replace(version="8.0"))
    assert len(tried) == 2
    monkeypatch.setattr(accelerator, "boot_id", lambda: "another")
    await ask(QEMU._replace(version="8.0"))
    assert len(tried) == 3
    for damaged in (b"", b"[]", b'{"works": 1}'):
        kept.write_bytes(damaged)
        await ask()
    assert len(tried) == 6
    assert msgspec.json.decode(kept.read_bytes(), type=Trial).works


def test_the_group_of_the_device(device: Path) -> None:
    assert kvm_group(device) is None
    device.chmod(0o660)
    assert kvm_group(device) == device.stat().st_gid


def test_the_newest_kernel(tmp_path: Path) -> None:
    assert find_kernel(tmp_path) is None
    for age, name in enumerate(("vmlinuz-6.9", "vmlinuz-6.10", "vmlinuz-5.1")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 + age * (age < 2), 1000 + age * (age < 2)))
    (tmp_path / "initrd.img-9").touch()
    found = find_kernel(tmp_path)
    assert found is not None
    assert found.name == "vmlinuz-6.10"


def test_the_tiny_guest() -> None:
    initrd = tiny_initrd()
    assert initrd.startswith(b"070701")
    assert len(initrd) % 4 == 0
    start = initrd.index(b"\x7fELF")
    # The address that the program writes from is where the word is loaded.
    word_at = 0x400000 + initrd.index(WORD) - start
    assert b"\xbe" + word_at.to_bytes(4, "little") in initrd
    assert len(initrd) < 600
