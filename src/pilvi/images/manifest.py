"""What a registry says of an image, read without trusting it: index, manifest, the answer of a token server."""

from __future__ import annotations

import platform
from typing import Annotated, TypeVar

import msgspec

from pilvi.errors import UserError

__all__ = ["Blob", "Index", "Manifest", "Token", "choose_manifest", "decode"]

T = TypeVar("T")

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Blob(msgspec.Struct, frozen=True, rename="camel"):
    """A piece of an image: its digest, its size in bytes, its media type."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
    media_type: str = ""


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """One image."""

    layers: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=512)]


class Platform(msgspec.Struct, frozen=True):
    """What an image is for."""

    os: str = "?"
    architecture: str = "?"


class Entry(msgspec.Struct, frozen=True):
    """An image of an index."""

    digest: Digest
    platform: Platform = Platform()


class Index(msgspec.Struct, frozen=True):
    """Images for several platforms; None when the document is no index."""

    manifests: tuple[Entry, ...] | None = None


class Token(msgspec.Struct, frozen=True):
    """What a token server gives, under either name."""

    token: str = ""
    access_token: str = ""


def decode(body: bytes, type_: type[T], what: str) -> T:
    """`body` as that. Raises UserError, naming `what` was asked for, when it is anything else."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, RecursionError) as e:
        raise UserError(f"the registry's answer for {what} is not what images have: {e}", hint="check host, port and name") from e


def choose_manifest(entries: tuple[Entry, ...], what: str) -> str:
    """The digest of the image for this host. Raises UserError when there is none."""
    wanted = _ARCHITECTURES.get(platform.machine(), platform.machine())
    for entry in entries:
        if (entry.platform.os, entry.platform.architecture) == ("linux", wanted):
            return entry.digest
    found = ", ".join(f"{entry.platform.os}/{entry.platform.architecture}" for entry in entries)
    raise UserError(f"{what} has no image for linux/{wanted}, but for {found or 'nothing'}", hint="take another image")
