"""What an image is called: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, with the defaults that every container tool has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from pilvi.errors import UserError

__all__ = ["Reference", "parse_reference"]

_DEFAULT_HOST, _DEFAULT_FOLDER, _DEFAULT_TAG = "docker.io", "library", "latest"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_LONGEST_PATH = 255


@dataclass(frozen=True)
class Reference:
    """An image of the registry `host`. Either `tag` or `digest` is set, or both: then the digest decides."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.path}{self.tag and ':' + self.tag}{self.digest and '@' + self.digest}"

    @property
    def wanted(self) -> str:
        """What the registry is asked for: the digest, else the tag."""
        return self.digest or self.tag

    @property
    def is_moving(self) -> bool:
        """Whether it is pulled anew by default, as kubelet does it: the tag `latest`, written or not."""
        return not self.digest and self.tag == _DEFAULT_TAG


def parse_reference(text: str) -> Reference:
    """`debian:12` as `docker.io/library/debian:12`. A prefix `docker://` is taken off. Raises UserError that says what is wrong."""

    def refuse(why: str) -> UserError:
        return UserError(f"{text!r} is no image: {why}", hint="write [HOST/]NAME[:TAG] or [HOST/]NAME@sha256:DIGEST")

    rest = text.strip().removeprefix("docker://")
    rest, at, digest = rest.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise refuse(f"{digest!r} is no sha256 digest")
    first, slash, others = rest.partition("/")
    if slash and (first == "localhost" or any(mark in first for mark in ".:[") or first != first.lower()):
        host, name = first, others
    else:
        host, name = _DEFAULT_HOST, rest
    if not _is_host(host):
        raise refuse(f"{host!r} is no host")
    path, colon, tag = name.partition(":")
    if colon and _TAG.fullmatch(tag) is None:
        raise refuse(f"{tag!r} is no tag")
    if path != path.lower():
        raise refuse("its name has capital letters")
    if _PATH.fullmatch(path) is None or len(path) > _LONGEST_PATH:
        raise refuse(f"{path!r} is no name")
    if host == _DEFAULT_HOST and "/" not in path:
        path = f"{_DEFAULT_FOLDER}/{path}"
    return Reference(host, path, tag or ("" if digest else _DEFAULT_TAG), digest)


def _is_host(host: str) -> bool:
    if _HOST.fullmatch(host) is None or host.startswith("-"):
        return False
    try:
        parts = urlsplit(f"//{host}")
        if parts.port == 0:
            return False
        if host.startswith("["):
            IPv6Address(parts.hostname or "")
    except ValueError:  # a port that is none, an address that is none
        return False
    return True
