"""Which Kubernetes version a control plane may be asked for, given the one it runs and those that are built here."""

from collections.abc import Sequence

import msgspec

from pilvi.lib.versions import find_newest_step, normalize, parse_version

__all__ = ["VersionProblem", "describe_outdated", "find_version_problem"]


class VersionProblem(msgspec.Struct, frozen=True):
    """Why a version is refused: `reason` for a condition, `message` with the next step."""

    reason: str
    message: str


def find_version_problem(wanted: str, installed: str | None, known: Sequence[str]) -> VersionProblem | None:
    """What is wrong with going from `installed` (None: nothing runs yet) to `wanted`; None when it may be done.

    The rules are kubeadm's: no way back, one minor at a time. To stay with what is installed is no problem, built here or not.
    """
    if normalize(wanted) == installed:
        return None
    choices = f"this cloud has {', '.join(known)}" if known else "this cloud has none; run `pilvi kit build`"
    target = parse_version(wanted)
    if target is None:
        return VersionProblem("UnknownVersion", f"spec version {wanted!r} is not a Kubernetes version such as v1.37.2; {choices}")
    current = parse_version(installed) if installed else None
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


def describe_outdated(installed: str, known: Sequence[str], *, is_present: bool) -> str | None:
    """What to say of a control plane that runs a version which clusters may have no more; None when they may.

    `is_present`: its programs are still here.
    """
    if installed in known:
        return None
    end = "it runs on" if is_present else "it runs on, but cannot be started again: the programs of its version are gone"
    step = find_newest_step(installed, known)
    todo = f"upgrade it to {step}" if step else "nothing here can follow it; use a pilvi with a version that may"
    return f"Kubernetes {installed} is no version of this pilvi any more; {end}; {todo}"
