"""What a guest's cloud-init would read, out of the volumes of an instance. Pure.

Data is given in the object, in base64, or in a Secret; KubeVirt's keys in it are `userdata` and `networkdata`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import UserError

__all__ = ["CloudInit", "Given", "InSecret", "decode_secret", "find_cloud_init"]

Source: TypeAlias = Literal["NoCloud", "ConfigDrive"]


@dataclass(frozen=True)
class Given:
    """Data that stands in the instance itself; empty when none is given."""

    data: bytes = b""


@dataclass(frozen=True)
class InSecret:
    """Data in a Secret, under one of the keys `names`."""

    secret: Key
    names: tuple[str, ...]


@dataclass(frozen=True)
class CloudInit:
    """One cloud-init volume: its name, how it appears to the guest, and where its data is."""

    volume: str
    source: Source
    user_data: Given | InSecret = Given()
    network_data: Given | InSecret = Given()


_SOURCES: tuple[tuple[str, Source], ...] = (("cloudInitConfigDrive", "ConfigDrive"), ("cloudInitNoCloud", "NoCloud"))
_USER_KEYS = ("userdata", "userData")
_NETWORK_KEYS = ("networkdata", "networkData")


def find_cloud_init(vmi: JsonObject) -> CloudInit | None:
    """The cloud-init volume of `vmi`; None without one.

    Raises UserError naming the field for two such volumes, for data that is given in two ways, and for base64 that is none.
    """
    found = [
        (volume["name"], f"spec.volumes[{volume['name']}].{field}", source, volume[field])
        for volume in vmi["spec"].get("volumes") or []
        for field, source in _SOURCES
        if volume.get(field) is not None
    ]
    if not found:
        return None
    if len(found) > 1:
        raise UserError(f"{found[0][1]} and {found[1][1]} both give user data", hint="keep one of them")
    name, path, source, given = found[0]
    namespace = vmi["metadata"]["namespace"]
    return CloudInit(
        name,
        source,
        _read(namespace, path, given, ("userData", "userDataBase64", "secretRef"), _USER_KEYS),
        _read(namespace, path, given, ("networkData", "networkDataBase64", "networkDataSecretRef"), _NETWORK_KEYS),
    )


def decode_secret(secret: JsonObject, names: tuple[str, ...]) -> bytes:
    """The data of a Secret under the first of these keys that it has. Raises UserError when it has none of them."""
    data = secret.get("data") or {}
    for name in names:
        if name in data:
            return base64.b64decode(data[name])
    metadata = secret["metadata"]
    raise UserError(
        f"Secret {metadata['namespace']}/{metadata['name']} has no key {names[0]}", hint="put what the guest shall read under that key"
    )


def _read(namespace: str, path: str, given: JsonObject, fields: tuple[str, str, str], names: tuple[str, ...]) -> Given | InSecret:
    plain, encoded, reference = fields
    secret = (given.get(reference) or {}).get("name")
    present = [field for field, value in ((plain, given.get(plain)), (encoded, given.get(encoded)), (reference, secret)) if value]
    if len(present) > 1:
        raise UserError(f"{path}: {present[0]} and {present[1]} give the same thing", hint="keep one of them")
    if secret:
        return InSecret(Key(namespace, secret), names)
    if given.get(plain):
        return Given(str(given[plain]).encode())
    if given.get(encoded):
        try:
            return Given(base64.b64decode(given[encoded], validate=True))
        except binascii.Error as e:
            raise UserError(f"{path}.{encoded} is not base64", hint="encode it with base64 -w0") from e
    return Given()
