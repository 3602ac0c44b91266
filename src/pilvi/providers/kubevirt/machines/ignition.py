"""The Ignition configuration that an instance gives its guest, as an annotation. Pure."""

from __future__ import annotations

import msgspec

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError

__all__ = ["IGNITION", "check_ignition", "find_ignition"]

IGNITION = "kubevirt.io/ignitiondata"
"""Annotation on a VirtualMachineInstance: the configuration, in JSON."""

_MOST_BYTES = 1 << 20
_HINT = "write what `butane --strict` prints"


def find_ignition(vmi: JsonObject) -> str:
    """The configuration as it was written; empty without one."""
    return (vmi["metadata"].get("annotations") or {}).get(IGNITION) or ""


def check_ignition(text: str) -> None:
    """Raises UserError, naming the annotation, for what Ignition would not even begin to read. The rest is for the guest to judge."""
    if len(text.encode()) > _MOST_BYTES:
        raise UserError(
            f"annotation {IGNITION} is larger than {_MOST_BYTES >> 20} MiB",
            hint="have the configuration fetch the rest: ignition.config.merge with a source",
        )
    try:
        config = msgspec.json.decode(text)
    except msgspec.DecodeError as e:
        raise UserError(f"annotation {IGNITION} is not JSON ({e})", hint=_HINT) from None
    found = config.get("ignition") if isinstance(config, dict) else None
    version = found.get("version") if isinstance(found, dict) else None
    if not (isinstance(version, str) and version):
        raise UserError(
            f"annotation {IGNITION} has no ignition.version", hint=f'{_HINT}; the least is {{"ignition": {{"version": "3.4.0"}}}}'
        )
