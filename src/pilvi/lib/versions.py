"""Versions of Kubernetes, as `v1.37.2` or `1.37.2`, and which one may follow another.

The rules are kubeadm's: no way back, one minor at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["find_newest_step", "is_step", "normalize", "parse_version"]

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Major, minor and patch; None for what is no such version."""
    match = _VERSION.fullmatch(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def normalize(version: str) -> str:
    """The version with its `v`: manifests write both forms side by side."""
    return version if version.startswith("v") else f"v{version}"


def is_step(current: str, target: str) -> bool:
    """Whether one may go from `current` to `target`, or stay there. False when either is no version."""
    old, new = parse_version(current), parse_version(target)
    return old is not None and new is not None and new >= old and new[:2] <= (old[0], old[1] + 1)


def find_newest_step(current: str, known: Iterable[str]) -> str | None:
    """The newest of `known` that one may go to from `current`; None when there is none."""
    steps = [version for version in known if is_step(current, version)]
    return max(steps, key=lambda version: parse_version(version) or (), default=None)
