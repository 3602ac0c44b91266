"""Words of a manifest that become words of QEMU: only those that are known, so that none carries another option along. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pilvi.errors import UserError

__all__ = ["choose", "is_on", "plain"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*", re.ASCII)


def choose(value: Any, known: Collection[str], path: str, default: str = "") -> Any:
    """`value`, or `default` without one. Raises UserError for any that is not known."""
    if not value:
        return default
    if value not in known:
        raise UserError(f"{path} is {value!r}", hint=f"write one of {', '.join(known)}")
    return value


def plain(value: str, path: str) -> str:
    """A name of letters, digits and `._+-`. Raises UserError for anything else."""
    if _PLAIN.fullmatch(value) is None:
        raise UserError(f"{path} is {value!r}, which no QEMU knows", hint="write a name of letters, digits, dots and dashes")
    return value


def is_on(switch: Any) -> bool:
    """Whether a feature is asked for: it stands there, and does not say `enabled: false`."""
    return switch is not None and switch.get("enabled") is not False
