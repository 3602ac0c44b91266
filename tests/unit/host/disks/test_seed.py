"""Discs that are made for one machine, as a reader of their own standard sees them; tests/host mounts them."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pycdlib
import pytest

from pilvi.errors import UserError
from pilvi.host.disks import config_drive, folder_disk, no_cloud, write_disk

KEYS = ("ssh-ed25519 AAAA one", "ssh-rsa BBBB two")
META = {"instance-id": "5d307ca9-b3ef-428c-8861-06e72d69f223", "local-hostname": "vm", "instance-type": ""}


def read(image: bytes, kind: str) -> dict[str, bytes]:
    """All files of a disk, by Rock Ridge (`rr`) or Joliet (`joliet`) names."""
    iso, found = pycdlib.PyCdlib(), {}
    iso.open_fp(io.BytesIO(image))
    try:
        for folder, _, names in iso.walk(**{f"{kind}_path": "/"}):
            for name in names:
                content, path = io.BytesIO(), f"{folder.rstrip('/')}/{name}"
                iso.get_file_from_iso_fp(content, **{f"{kind}_path": path})
                found[path.lstrip("/")] = content.getvalue()
    finally:
        iso.close()
    return found


def test_no_cloud() -> None:
    label, files = no_cloud(b"#cloud-config\n", META, b"version: 2\n", KEYS, b"#cloud-config\n{}\n")
    assert label == "cidata"
    assert sorted(files) == ["meta-data", "network-config", "user-data", "vendor-data"]
    assert json.loads(files["meta-data"]) == {
        "instance-id": META["instance-id"],
        "local-hostname": "vm",
        "public-keys": {"0": KEYS[0], "1": KEYS[1]},
    }
    assert sorted(no_cloud(b"", META)[1]) == ["meta-data", "user-data"]


def test_config_drive() -> None:
    label, files = config_drive(b"#cloud-config\n", META, b"{}", KEYS, b"{}")
    assert label == "config-2"
    assert json.loads(files["openstack/latest/meta_data.json"]) == {
        "instance_id": META["instance-id"],
        "uuid": META["instance-id"],
        "local_hostname": "vm",
        "hostname": "vm",
        "public_keys": {"0": KEYS[0], "1": KEYS[1]},
    }
    assert files["openstack/latest/network_data.json"] == b"{}"
    assert files["openstack/latest/vendor_data.json"] == b"{}"
    assert files["openstack/latest/user_data"] == b"#cloud-config\n"


@pytest.mark.parametrize("kind", ["rr", "joliet"])
def test_every_file_is_there_for_linux_and_for_windows(kind: str) -> None:
    files = {"a": b"", "Unattend.xml": b"<x/>" * 5000, "openstack/latest/user_data": b"u", "openstack/content/0000": b"c", "zwölf": b"12"}
    assert read(folder_disk("sysprep", files), kind) == files


def test_long_names_are_for_linux() -> None:
    files = {"n" * 64: b"64", "m" * 255: b"255"}
    image = folder_disk("cfgdata", files)
    assert read(image, "rr") == files
    assert read(image, "joliet") == {"n" * 64: b"64"}


@pytest.fixture
def _zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("_zone")
def test_equal_files_give_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any time, in any zone, in any order. The long names have their times in an area beside the folder."""
    files = {f"f/{'n' * 60}{number}": b"x" * number for number in range(60)} | {"m" * 240: b"", "a/b/c/d": b"y"}
    one = folder_disk("cidata", files)
    later = time.time() + 400 * 86400 + 3723
    monkeypatch.setattr(time, "time", lambda: later)
    os.environ["TZ"] = "Asia/Kolkata"
    time.tzset()
    assert folder_disk("cidata", dict(reversed(files.items()))) == one
    assert folder_disk("cidata", {**files, "a/b/c/d": b"z"}) != one
    assert read(one, "rr") == files


def test_written_for_root_only(tmp_path: Path) -> None:
    write_disk(tmp_path / "seed.iso", "cidata", {"user-data": b"secret"})
    assert (tmp_path / "seed.iso").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["seed.iso"]
    assert (tmp_path / "seed.iso").stat().st_size % 2048 == 0


@pytest.mark.parametrize("label", ["", "x" * 17, "zwölf", "a\nb"])
def test_labels_that_cannot_be(label: str) -> None:
    with pytest.raises(UserError, match="label"):
        folder_disk(label, {})


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\0b", "n" * 300, "1/2/3/4/5/6/7/8/9", "f" * 65 + "/a"], ids=repr
)
def test_files_that_cannot_be(path: str) -> None:
    with pytest.raises(UserError):
        folder_disk("cidata", {path: b""})


def test_too_much() -> None:
    with pytest.raises(UserError, match="67108865 bytes are too many"):
        folder_disk("cidata", {"a": bytes(64 << 20), "b": b"x"})


def test_what_looks_for_labels_may_read_beyond_the_end() -> None:
    """BusyBox finds no label on a disk that ends where another file system's superblock could be, 64 KiB after its beginning."""
    assert len(folder_disk("cidata", {"user-data": b""})) > 300 << 10
