"""Small read-only disks that are made for one machine: cloud-init's data, and folders of files. ISO 9660 with Joliet and Rock Ridge."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilvi.errors import UserError
from pilvi.lib.files import write_atomic

__all__ = ["config_drive", "folder_disk", "no_cloud", "write_disk"]

_LONGEST_LABEL = 16  # of Joliet
_LARGEST_BYTES = 64 << 20


def no_cloud(
    user_data: bytes, meta_data: Mapping[str, str], network_data: bytes = b"", public_keys: Sequence[str] = ()
) -> tuple[str, dict[str, bytes]]:
    """Label and files of a NoCloud disk (cloud-init, datasources/nocloud). `meta_data` are names with hyphens, such as `instance-id`."""
    files = {"user-data": user_data, "meta-data": _json({**meta_data, **({"public-keys": list(public_keys)} if public_keys else {})})}
    if network_data:
        files["network-config"] = network_data
    return "cidata", files


def config_drive(
    user_data: bytes, meta_data: Mapping[str, str], network_data: bytes = b"", public_keys: Sequence[str] = ()
) -> tuple[str, dict[str, bytes]]:
    """Label and files of a config drive (OpenStack's, datasources/configdrive). `meta_data` is as in `no_cloud`."""
    described: dict[str, Any] = {
        "instance_id": meta_data.get("instance-id", ""),
        "uuid": meta_data.get("instance-id", ""),
        "hostname": meta_data.get("local-hostname", ""),
        "local_hostname": meta_data.get("local-hostname", ""),
    }
    if public_keys:
        described["public_keys"] = {str(number): key for number, key in enumerate(public_keys)}
    files = {"openstack/latest/user_data": user_data, "openstack/latest/meta_data.json": _json(described)}
    if network_data:
        files["openstack/latest/network_data.json"] = network_data
    return "config-2", files


def write_disk(path: Path, label: str, files: Mapping[str, bytes]) -> None:
    """Write the disk with these files (paths with `/`) to `path`, for root only. Blocks. Raises UserError, OSError."""
    write_atomic(path, folder_disk(label, files), mode=0o600)


def folder_disk(label: str, files: Mapping[str, bytes]) -> bytes:
    """The disk itself. Raises UserError for a label or a file that does not fit."""
    import pycdlib  # noqa: PLC0415 (only machines with such disks pay for it)

    if not label or len(label) > _LONGEST_LABEL:
        raise UserError(f"{label!r} cannot be the label of a disk", hint=f"write 1 to {_LONGEST_LABEL} characters")
    size = sum(map(len, files.values()))
    if size > _LARGEST_BYTES:
        raise UserError(f"{size} bytes are too many for a disk of files", hint=f"keep it below {_LARGEST_BYTES >> 20} MiB")
    image = io.BytesIO()
    iso = pycdlib.PyCdlib()
    iso.new(vol_ident=label, joliet=3, rock_ridge="1.09", interchange_level=3)
    known: dict[str, str] = {"": ""}  # folder -> its name in plain ISO 9660
    for number, path in enumerate(sorted(files)):
        *folders, name = path.split("/")
        if not name or any(part in ("", ".", "..") for part in folders):
            raise UserError(f"{path!r} cannot be a file of a disk", hint="write a relative path without empty parts")
        parent = _make_folders(iso, folders, known)
        data = files[path]
        iso.add_fp(
            io.BytesIO(data),
            len(data),
            f"{known[parent]}/F{number:07}.;1",
            rr_name=name,
            joliet_path=f"{parent}/{name}",
            file_mode=0o100444,
        )
    iso.write_fp(image)
    iso.close()
    return image.getvalue()


def _make_folders(iso: Any, folders: list[str], known: dict[str, str]) -> str:
    """The path of the innermost one, with all above it made."""
    path = ""
    for folder in folders:
        parent, path = path, f"{path}/{folder}"
        if path not in known:
            known[path] = f"{known[parent]}/D{len(known):07}"
            iso.add_directory(known[path], rr_name=folder, joliet_path=path, file_mode=0o040555)
    return path


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"
