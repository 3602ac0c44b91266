"""Versions of Kubernetes."""

import pytest

from pilvi.lib.versions import find_newest_step, is_step, normalize, parse_version


def test_both_forms_are_one_version() -> None:
    assert normalize("1.37.2") == normalize("v1.37.2") == "v1.37.2"
    assert parse_version("1.37.2") == parse_version("v1.37.2") == (1, 37, 2)


@pytest.mark.parametrize("text", ["latest", "v1.37", "v1.37.2-rc.1", " 1.37.2", ""])
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None
    assert not is_step("v1.37.2", text)


def test_the_newest_step_is_by_number_and_skips_no_minor() -> None:
    known = ["v1.9.1", "v1.10.2", "v1.11.0"]
    assert find_newest_step("v1.9.0", known) == "v1.10.2"
    assert find_newest_step("v1.11.0", known) == "v1.11.0"
    assert find_newest_step("v1.11.1", known) is None
    assert find_newest_step("v1.8.7", ["v1.10.2"]) is None
