"""Images told by their first bytes; whatever would make QEMU open a second file is refused."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.errors import Unusable
from pilvi.host.disks import ImageInfo, find_compression, find_format, read_image

SIZE = 8 << 20
REUSE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def qemu_img(*words: str | Path) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


def patched(path: Path, at: int, data: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return path


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-f", "qcow2", path, str(SIZE))
    return path


OPTIONS = (
    ["compat=0.10"],
    ["compat=1.1"],
    ["cluster_size=512"],
    ["cluster_size=2M"],
    ["compression_type=zstd"],
    ["extended_l2=on,cluster_size=128k"],
    ["lazy_refcounts=on"],
    ["refcount_bits=1"],
    ["preallocation=metadata"],
)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [512, 5 << 20, 3 << 40])
def test_each_kind_of_qcow2_is_read_as_qemu_reads_it(tmp_path: Path, options: list[str], size: int) -> None:
    if size > SIZE and options in (["cluster_size=512"], ["preallocation=metadata"]):
        size = 1 << 30  # QEMU cannot either, or takes long
    path = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", "-o", *options, path, str(size))
    assert read_image(path) == ImageInfo(format="qcow2", virtual_size_bytes=size)
    assert json.loads(qemu_img("info", "-f", "qcow2", "--output=json", path))["virtual-size"] == size


@settings(REUSE, max_examples=100)
@given(at=st.integers(0, 111), data=st.binary(min_size=1, max_size=8))
def test_what_is_accepted_qemu_accepts_with_the_same_size(tmp_path: Path, at: int, data: bytes) -> None:
    path = tmp_path / "image"
    if not path.exists():
        qemu_img("create", "-f", "qcow2", path, str(SIZE))
    good = path.read_bytes()
    try:
        patched(path, at, data)
        try:
            info = read_image(path)
        except Unusable:
            return
        if info.format == "qcow2":
            assert json.loads(qemu_img("info", "-f", "qcow2", "--output=json", path))["virtual-size"] == info.virtual_size_bytes
    finally:
        path.write_bytes(good)


@settings(REUSE, max_examples=300)
@given(
    head=st.sampled_from([b"QFI\xfb\0\0\0\3", b"QFI\xfb\0\0\0\2", b"KDMV", b"vhdxfile", b"conectix", b"QED\0", b"\x1f\x8b", b""]),
    tail=st.binary(max_size=1200),
)
def test_no_bytes_break_it(tmp_path: Path, head: bytes, tail: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(head + tail)
    try:
        info = read_image(path)
    except Unusable:
        return
    assert info.virtual_size_bytes >= 512
    assert info.virtual_size_bytes % 512 == 0


def test_a_backing_file_is_never_opened(tmp_path: Path, qcow2: Path) -> None:
    path = tmp_path / "over"
    qemu_img("create", "-f", "qcow2", "-b", qcow2, "-F", "qcow2", path)
    with pytest.raises(Unusable, match="the image over is a qcow2 file that needs another file"):
        read_image(path)


def test_an_external_data_file_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", path, str(SIZE))
    with pytest.raises(Unusable, match="another file"):
        read_image(path)


@pytest.mark.parametrize(
    ("at", "data", "why"),
    [
        (4, struct.pack(">I", 1), "version 1"),
        (20, struct.pack(">I", 22), "size of clusters"),
        (24, struct.pack(">Q", 0), "claims to hold 0 bytes"),
        (24, struct.pack(">Q", 1 << 62), "claims to hold"),
        (24, struct.pack(">Q", 1 << 45), "tables"),
        (32, struct.pack(">I", 2), "encrypted"),
        (36, struct.pack(">I", 1 << 30), "tables"),
        (40, struct.pack(">Q", 1 << 40), "cut off"),
        (40, struct.pack(">Q", 513), "out of place"),
        (40, struct.pack(">Q", 0), "out of place"),
        (56, struct.pack(">I", 0), "refcounts"),
        (72, struct.pack(">Q", 1 << 1), "marked as damaged"),
        (72, struct.pack(">Q", 1 << 40), "not known here"),
        (96, struct.pack(">I", 7), "version 3"),
        (100, struct.pack(">I", 103), "version 3"),
        (104, b"\1", "said in two ways"),
    ],
)
def test_headers_that_cannot_be(qcow2: Path, at: int, data: bytes, why: str) -> None:
    read_image(qcow2)
    with pytest.raises(Unusable, match=why):
        read_image(patched(qcow2, at, data), "the disk of mine")


def test_a_cut_off_qcow2(qcow2: Path) -> None:
    os.truncate(qcow2, 70)
    with pytest.raises(Unusable, match="cut off"):
        read_image(qcow2)


def test_a_raw_disk_is_raw_whatever_lies_behind_its_beginning(tmp_path: Path, qcow2: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(512) + qcow2.read_bytes() + b"x")
    assert read_image(path) == ImageInfo(format="raw", virtual_size_bytes=-(-path.stat().st_size // 512) * 512)


@pytest.mark.parametrize(("format", "options"), [("vmdk", []), ("vdi", []), ("vhdx", []), ("vpc", []), ("vpc", ["-o", "subformat=fixed"])])
def test_others_are_told_and_have_to_be_converted(tmp_path: Path, format: str, options: list[str]) -> None:
    path = tmp_path / "image"
    qemu_img("create", "-f", format, *options, path, str(SIZE))
    content = path.read_bytes()
    assert find_format(content[:512], content[-512:], "it") == format
    with pytest.raises(Unusable, match=f"is a {format} file"):
        read_image(path)


def test_a_raw_disk_that_only_ends_like_a_fixed_vhd_is_raw(tmp_path: Path) -> None:
    footer = b"conectix" + bytes(52) + b"\0\0\0\2" + b"\1\2\3\4" + bytes(444)
    path = tmp_path / "disk"
    path.write_bytes(bytes(512) + footer)
    assert read_image(path).format == "raw"


@pytest.mark.parametrize("head", [b"# Disk DescriptorFile\nversion=1", b"KDMV" + bytes(60), b"COWD", b"QED\0", b"WithoutFreeSpace"])
def test_what_nothing_reads(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(head + bytes(1024))
    with pytest.raises(Unusable, match="not read here"):
        read_image(path)


@pytest.mark.parametrize(("program", "name"), [("gzip", "gzip"), ("xz", "xz"), ("bzip2", "bzip2")])
def test_compressed_files(tmp_path: Path, qcow2: Path, program: str, name: str) -> None:
    packed = subprocess.run([program, "-c", qcow2], check=True, capture_output=True).stdout
    assert find_compression(packed) == name
    path = tmp_path / "packed"
    path.write_bytes(packed)
    with pytest.raises(Unusable, match=f"compressed with {name}"):
        read_image(path)


def test_zstd_is_known() -> None:
    assert find_compression(b"\x28\xb5\x2f\xfd\x24") == "zstd"
    assert find_compression(b"QFI\xfb") is None


def test_what_is_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(bytes(511))
    with pytest.raises(Unusable, match="511 bytes"):
        read_image(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Unusable, match="no regular file"):
        read_image(pipe)
