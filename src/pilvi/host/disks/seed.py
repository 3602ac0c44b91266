"""What a guest's cloud-init reads at its first boot, as the label and the files of a disk (`iso.write_disk`). Pure.

Names and shapes are KubeVirt's: metadata with numbered public keys, nothing that is empty. A guest that has seen this `instance-id` does
not go through its first boot again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["config_drive", "no_cloud"]


def no_cloud(
    user_data: bytes,
    meta_data: Mapping[str, str],
    network_data: bytes = b"",
    public_keys: Sequence[str] = (),
    vendor_data: bytes = b"",
) -> tuple[str, dict[str, bytes]]:
    """Label and files of a NoCloud disk (cloud-init, datasources/nocloud). `meta_data`: instance-id, local-hostname, instance-type."""
    described: dict[str, Any] = {name: value for name, value in meta_data.items() if value}
    if public_keys:
        described["public-keys"] = _numbered(public_keys)
    files = {"user-data": user_data, "meta-data": _json(described)}
    if network_data:
        files["network-config"] = network_data
    if vendor_data:
        files["vendor-data"] = vendor_data
    return "cidata", files


def config_drive(
    user_data: bytes,
    meta_data: Mapping[str, str],
    network_data: bytes = b"",
    public_keys: Sequence[str] = (),
    vendor_data: bytes = b"",
) -> tuple[str, dict[str, bytes]]:
    """Label and files of a config drive (OpenStack's, datasources/configdrive). `meta_data` is as in `no_cloud`."""
    described: dict[str, Any] = {name.replace("-", "_"): value for name, value in meta_data.items() if value}
    if id := described.get("instance_id"):
        described["uuid"] = id
    if hostname := described.get("local_hostname"):
        described["hostname"] = hostname
    if public_keys:
        described["public_keys"] = _numbered(public_keys)
    files = {"openstack/latest/user_data": user_data, "openstack/latest/meta_data.json": _json(described)}
    if network_data:
        files["openstack/latest/network_data.json"] = network_data
    if vendor_data:
        files["openstack/latest/vendor_data.json"] = vendor_data
    return "config-2", files


def _numbered(public_keys: Sequence[str]) -> dict[str, str]:
    return {str(number): key for number, key in enumerate(public_keys)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"
