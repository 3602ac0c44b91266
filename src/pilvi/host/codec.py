"""JSON for the structs of this package: msgspec, plus the two types that it does not know, paths and IPv4 networks."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import msgspec

__all__ = ["decode", "encode"]

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """`value` as JSON with sorted keys: equal values give equal bytes."""
    return msgspec.json.encode(value, enc_hook=_encode_other, order="deterministic")


def decode(data: bytes | str, type_: type[T]) -> T:
    """The inverse of `encode`. Raises msgspec.DecodeError (with the path of the field) when `data` is not a `type_`."""
    return msgspec.json.decode(data, type=type_, dec_hook=_decode_other)


def _encode_other(value: Any) -> Any:
    if isinstance(value, (Path, IPv4Network)):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def _decode_other(type_: type, value: Any) -> Any:
    if issubclass(type_, Path):
        return Path(value)
    if issubclass(type_, IPv4Network):
        return IPv4Network(value)
    raise NotImplementedError(f"{type_.__name__} has no JSON form")
