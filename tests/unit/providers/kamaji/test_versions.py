"""Version rules."""

import pytest

from pilvi.providers.kamaji.versions import find_version_problem, normalize

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


def test_normalize() -> None:
    assert normalize("1.37.2") == normalize("v1.37.2") == "v1.37.2"
