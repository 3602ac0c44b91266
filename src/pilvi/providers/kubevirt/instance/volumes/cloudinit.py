"""What a guest's cloud-init would read, out of the volumes of an instance. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import UserError

__all__ = ["UserData", "decode_secret", "find_user_data"]

_SOURCES = ("cloudInitConfigDrive", "cloudInitNoCloud")
_NETWORK_FIELDS = ("networkData", "networkDataBase64", "networkDataSecretRef")
_KEYS = ("userdata", "userData")


@dataclass(frozen=True)
class UserData:
    """Either the data itself, or the Secret that holds it."""

    data: bytes = b""
    secret: Key | None = None


def find_user_data(vmi: JsonObject) -> UserData:
    """The user data of `vmi`; empty when no volume gives any.

    Raises UserError naming the field for network data (the machine's address comes from its IP object), for two volumes that give
    user data, and for base64 that is none.
    """
    found = [
        (f"spec.volumes[{volume['name']}].{source}", volume[source])
        for volume in vmi["spec"].get("volumes") or []
        for source in _SOURCES
        if volume.get(source) is not None
    ]
    if not found:
        return UserData()
    if len(found) > 1:
        raise UserError(f"{found[0][0]} and {found[1][0]} both give user data", hint="keep one of them")
    path, source = found[0]
    for name in _NETWORK_FIELDS:
        if source.get(name):
            raise UserError(
                f"{path}.{name} is not supported: address, gateway and resolver of a machine come from its Subnet",
                hint="remove the field; ask for a fixed address with annotation ovn.kubernetes.io/ip_address",
            )
    return _read_source(vmi, path, source)


def decode_secret(secret: JsonObject) -> bytes:
    """The user data in a Secret's key `userdata` (or `userData`). Raises UserError when it has neither."""
    data = secret.get("data") or {}
    for name in _KEYS:
        if name in data:
            return base64.b64decode(data[name])
    metadata = secret["metadata"]
    raise UserError(f"Secret {metadata['namespace']}/{metadata['name']} has no key userdata", hint="put the cloud-config under that key")


def _read_source(vmi: JsonObject, path: str, source: JsonObject) -> UserData:
    if (source.get("secretRef") or {}).get("name"):
        return UserData(secret=Key(vmi["metadata"]["namespace"], source["secretRef"]["name"]))
    if source.get("userData"):
        return UserData(data=str(source["userData"]).encode())
    if source.get("userDataBase64"):
        try:
            return UserData(data=base64.b64decode(source["userDataBase64"], validate=True))
        except binascii.Error as e:
            raise UserError(f"{path}.userDataBase64 is not base64", hint="encode it with base64 -w0") from e
    return UserData()
