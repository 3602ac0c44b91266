"""Checksums of files, as `algorithm:hex digits`."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pilvi.errors import Unusable, UserError
from pilvi.lib.disk import finish_on_disk
from pilvi.transfer.meter import Meter

__all__ = ["Checksum", "parse_checksum", "verify"]

_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_STEP_BYTES = 8 << 20


@dataclass(frozen=True)
class Checksum:
    """The digest that a file must have, in lower-case hex digits."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"


def parse_checksum(text: str) -> Checksum:
    """`sha256:...` as a checksum. Raises UserError."""
    algorithm, _, digest = text.partition(":")
    digits = _DIGITS.get(algorithm)
    if digits is None or not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", digest, re.ASCII):
        known = ", ".join(f"{name} with {count}" for name, count in _DIGITS.items())
        raise UserError(f"{text!r} is no checksum", hint=f"write an algorithm, a colon and all hex digits: {known}")
    return Checksum(algorithm, digest.lower())


async def verify(path: Path, checksum: Checksum, meter: Meter) -> None:
    """Raise Unusable unless the file has the checksum. Does not block the loop."""
    # MD5 and SHA-1 are what some sites publish: they tell a damaged file, not a forged one.
    hasher = hashlib.new(checksum.algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        meter.begin("checking", os.fstat(file.fileno()).st_size)

        def step() -> int:
            chunk = file.read(_STEP_BYTES)
            hasher.update(chunk)
            return len(chunk)

        while count := await finish_on_disk(step):
            meter.done += count
    if not hmac.compare_digest(hasher.hexdigest(), checksum.digest):
        raise Unusable(
            f"the checksum is {checksum.algorithm}:{hasher.hexdigest()}, not {checksum}",
            hint="compare it with what the publisher says; a file that was replaced meanwhile needs the new checksum",
        )
