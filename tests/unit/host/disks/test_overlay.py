"""Layers over images, and empty disks, as QEMU's own tools see them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import NoSpace, Unusable, UserError
from pilvi.host.disks import create_empty, create_overlay

SIZE = 8 << 20


def info(path: Path) -> dict[str, Any]:
    done = subprocess.run(["qemu-img", "info", "-f", "qcow2", "--output=json", path], check=True, capture_output=True)
    return dict(json.loads(done.stdout))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(SIZE)], check=True)
    return path


async def test_a_layer_over_a_qcow2(tmp_path: Path, base: Path) -> None:
    layer = tmp_path / "layer"
    await create_overlay(layer, base, "qcow2", 2 * SIZE)
    told = info(layer)
    assert (told["virtual-size"], told["full-backing-filename"], told["backing-filename-format"]) == (2 * SIZE, str(base), "qcow2")
    assert layer.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["base", "layer"]


async def test_a_raw_base_is_not_looked_into(tmp_path: Path, base: Path) -> None:
    """A guest may have written a qcow2 header into its raw disk."""
    os.truncate(base, SIZE // 2)
    layer = tmp_path / "layer"
    await create_overlay(layer, base, "raw", SIZE // 2)
    told = info(layer)
    assert (told["virtual-size"], told["backing-filename-format"]) == (SIZE // 2, "raw")


@pytest.mark.parametrize("format", ["qcow2", "raw"])
async def test_a_layer_is_not_smaller_than_its_base(tmp_path: Path, base: Path, format: str) -> None:
    if format == "raw":
        os.truncate(base, SIZE)
    with pytest.raises(UserError, match=f"ask for at least {SIZE} bytes|which has {SIZE}"):
        await create_overlay(tmp_path / "layer", base, format, SIZE - 512)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["base"]


async def test_a_base_with_a_base_is_refused(tmp_path: Path, base: Path) -> None:
    await create_overlay(tmp_path / "layer", base, "qcow2", SIZE)
    with pytest.raises(Unusable, match="another file"):
        await create_overlay(tmp_path / "second", tmp_path / "layer", "qcow2", SIZE)


async def test_an_empty_disk(tmp_path: Path) -> None:
    await create_empty(tmp_path / "disk", 1 << 40)
    assert info(tmp_path / "disk")["virtual-size"] == 1 << 40
    assert (tmp_path / "disk").stat().st_size < 1 << 20
    with pytest.raises(UserError, match="is none"):
        await create_empty(tmp_path / "other", 0)
    assert os.listdir(tmp_path) == ["disk"]


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-img").write_text("#!/bin/sh\necho 'qemu-img: x: Could not write: No space left on device' >&2\nexit 1\n")
    (programs / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(NoSpace, match=str(tmp_path)):
        await create_empty(tmp_path / "disk", SIZE)
    assert os.listdir(tmp_path) == ["bin"]
