"""Which Kubernetes version a control plane may be asked for, given the one it runs and those that are built here."""

import re
from collections.abc import Sequence

import msgspec

__all__ = ["VersionProblem", "find_version_problem", "normalize"]

_VERSION = re.compile(r"^v?(\d+)\.(\d+)\.(\d+)$")


class VersionProblem(msgspec.Struct, frozen=True):
    """Why a version is refused: `reason` for a condition, `message` with the next step."""

    reason: str
    message: str


def normalize(version: str) -> str:
    """The version with its `v`: manifests write both forms side by side."""
    return version if version.startswith("v") else f"v{version}"


def find_version_problem(wanted: str, installed: str | None, known: Sequence[str]) -> VersionProblem | None:
    """What is wrong with going from `installed` (None: nothing runs yet) to `wanted`; None when it may be done.

    The rules are kubeadm's: no way back, one minor at a time.
    """
    choices = f"this cloud has {', '.join(known)}" if known else "this cloud has none; run `pilvi kit build`"
    target = _parse(wanted)
    if target is None:
        return VersionProblem("UnknownVersion", f"spec version {wanted!r} is not a Kubernetes version such as v1.37.2; {choices}")
    current = _parse(installed) if installed else None
    if current is not None and target < current:
        return VersionProblem(
            "DowngradeNotSupported",
            f"the control plane runs {installed} and cannot go back to {normalize(wanted)}; set the version to {installed} or newer",
        )
    if current is not None and target[:2] > (current[0], current[1] + 1):
        first = f"upgrade to v{current[0]}.{current[1] + 1} first"
        return VersionProblem("MinorSkipped", f"the control plane runs {installed} and cannot skip a minor to {normalize(wanted)}; {first}")
    if normalize(wanted) not in known:
        return VersionProblem("UnknownVersion", f"Kubernetes {normalize(wanted)} is not built here; {choices}")
    return None


def _parse(version: str) -> tuple[int, int, int] | None:
    match = _VERSION.match(version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
