"""Which machines QEMU lets have the same disk: what `volumes/holders.py` says beforehand, asked of QEMU itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pilvi.api import JsonObject
from pilvi.errors import PilviError
from pilvi.host.qemu.drives import drive_devices, drive_nodes
from pilvi.host.qemu.installed import has_qemu
from pilvi.host.qemu.spec import Drive, Layer
from tests.unit.providers.kubevirt.disk_users import CLAIM, holders, user

pytestmark = pytest.mark.skipif(not has_qemu(), reason="needs the Debian package qemu-system-x86")

KINDS: dict[str, tuple[JsonObject, JsonObject]] = {
    "writes": ({}, {}),
    "shares": ({}, {"shareable": True}),
    "reads": ({"readOnly": True}, {}),
    "reads and shares": ({"readOnly": True}, {"shareable": True}),
    "ephemeral": ({"ephemeral": True}, {}),
    "a cdrom": ({}, {"cdrom": {"bus": "sata"}}),
}


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_what_is_refused_is_what_qemu_refuses(first: str, second: str, tmp_path: Path) -> None:
    with machine(tmp_path, "a", first) as before:
        assert before == ""
        with machine(tmp_path, "b", second) as refusal:
            assert refusal == "" or "lock" in refusal
            assert is_refused(first, second) == bool(refusal), refusal


def is_refused(first: str, second: str) -> bool:
    before, after = user("a", "Running", *KINDS[first]), user("b", "Scheduled", *KINDS[second])
    try:
        holders(before, after).take(after, CLAIM)
    except PilviError:
        return True
    return False


@contextmanager
def machine(folder: Path, name: str, kind: str) -> Iterator[str]:
    """A machine that never begins, with the disk; gives what QEMU says when it does not start, or nothing."""
    source, disk = KINDS[kind]
    base = folder / "disk.img"
    if not base.exists():
        base.write_bytes(bytes(1 << 20))
    layers = (Layer(path=base),)
    if source.get("ephemeral"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / name, "1M"], check=True)
        layers = (Layer(path=folder / name, format="qcow2"), *layers)
    is_cdrom = "cdrom" in disk
    drive = Drive(
        name="data",
        layers=layers,
        bus="sata" if is_cdrom else "scsi",
        kind="cdrom" if is_cdrom else "disk",
        read_only=bool(source.get("readOnly")) or is_cdrom,
        shareable=bool(disk.get("shareable")),
        cache="writeback",
    )
    argv = ["qemu-system-x86_64", "-S", "-machine", "q35", "-nodefaults", "-display", "none", "-accel", "tcg", "-m", "16"]
    argv += ["-device", "virtio-scsi-pci,id=scsi", "-qmp", "stdio"]
    for node in drive_nodes(drive, lambda layer, _writable: str(layer.path)):
        argv += ["-blockdev", json.dumps(node)]
    for device in drive_devices(drive, 0, None):
        argv += ["-device", json.dumps(device)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield "" if has_begun(process) else said(process)
    finally:
        process.kill()
        process.communicate(timeout=60)


def has_begun(process: subprocess.Popen[str]) -> bool:
    """QEMU greets before it makes its devices, and answers after."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write('{"execute": "qmp_capabilities"}\n')
        process.stdin.flush()
    return any('"return"' in line for line in iter(process.stdout.readline, "") if "QMP" not in line)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()
