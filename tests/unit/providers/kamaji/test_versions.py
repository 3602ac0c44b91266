"""Version rules."""

import pytest

from pilvi.providers.kamaji.versions import describe_outdated, find_version_problem

KNOWN = ["v1.36.3", "v1.37.2"]


@pytest.mark.parametrize(
    ("wanted", "installed"),
    [("v1.37.2", None), ("1.37.2", None), ("v1.37.2", "v1.37.2"), ("v1.37.2", "v1.36.3"), ("1.37.2", "v1.36.3"), ("v1.37.2", "v1.37.0")],
)
def test_what_may_be_had(wanted: str, installed: str | None) -> None:
    assert find_version_problem(wanted, installed, KNOWN) is None


@pytest.mark.parametrize(
    ("wanted", "installed", "reason", "text"),
    [
        ("v1.35.0", None, "UnknownVersion", "v1.36.3, v1.37.2"),
        ("v1.37.1", None, "UnknownVersion", "v1.36.3, v1.37.2"),
        ("latest", None, "UnknownVersion", "v1.36.3, v1.37.2"),
        ("v1.37", "v1.36.3", "UnknownVersion", "v1.37.2"),
        ("v1.36.3", "v1.37.2", "DowngradeNotSupported", "v1.37.2 or newer"),
        ("v1.37.0", "v1.37.2", "DowngradeNotSupported", "v1.37.2 or newer"),
        ("v1.37.2", "v1.35.9", "MinorSkipped", "v1.36 first"),
        ("v2.0.0", "v1.37.2", "MinorSkipped", "v1.38 first"),
    ],
)
def test_what_is_refused_names_the_next_step(wanted: str, installed: str | None, reason: str, text: str) -> None:
    problem = find_version_problem(wanted, installed, KNOWN)
    assert problem is not None
    assert problem.reason == reason
    assert text in problem.message


def test_an_empty_kit_says_how_to_fill_it() -> None:
    problem = find_version_problem("v1.37.2", None, [])
    assert problem is not None
    assert "pilvi kit build" in problem.message


def test_to_stay_with_a_version_that_is_gone_is_no_problem() -> None:
    assert find_version_problem("1.36.1", "v1.36.1", KNOWN) is None


@pytest.mark.parametrize(
    ("installed", "is_present", "text"),
    [
        ("v1.36.1", True, "it runs on; upgrade it to v1.37.2"),
        ("v1.36.1", False, "cannot be started again: the programs of its version are gone; upgrade it to v1.37.2"),
        ("v1.35.1", True, "upgrade it to v1.36.3"),
        ("v1.38.0", True, "nothing here can follow it"),
    ],
)
def test_an_outdated_version_is_told_what_follows(installed: str, is_present: bool, text: str) -> None:
    assert text in (describe_outdated(installed, KNOWN, is_present=is_present) or "")


def test_a_version_that_may_be_had_is_not_outdated() -> None:
    assert describe_outdated("v1.36.3", KNOWN, is_present=True) is None
