from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import UserError
from pilvi.images import Reference, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("debian", Reference("docker.io", "library/debian", "latest")),
        ("debian:12", Reference("docker.io", "library/debian", "12")),
        ("kubevirt/cirros", Reference("docker.io", "kubevirt/cirros", "latest")),
        ("quay.io/containerdisks/fedora:41", Reference("quay.io", "containerdisks/fedora", "41")),
        ("docker://quay.io/a/b", Reference("quay.io", "a/b", "latest")),
        ("localhost/a", Reference("localhost", "a", "latest")),
        ("localhost:5000/a:1", Reference("localhost:5000", "a", "1")),
        ("[::1]:5000/a/b:1", Reference("[::1]:5000", "a/b", "1")),
        (f"quay.io/a@{DIGEST}", Reference("quay.io", "a", "", DIGEST)),
        (f"quay.io/a:1@{DIGEST}", Reference("quay.io", "a", "1", DIGEST)),
    ],
)
def test_what_people_write(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no name"),
        ("Debian", "capital letters"),
        ("a:b:c", "no tag"),
        ("a@sha256:12", "no sha256 digest"),
        ("a/../b", "no name"),
        ("quay.io/", "no name"),
        ("a b", "no name"),
        ("ho st.io/a", "no host"),
        ("quay.io:99999/a", "no host"),
        ("quay.io:0/a", "no host"),
        ("[::::]/a", "no host"),
        ("-x.y/a", "no host"),
        ("quay.io/" + "a" * 300, "no name"),
    ],
)
def test_what_is_none(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        parse_reference(text)


@given(st.text(max_size=60))
def test_any_text_is_a_reference_that_reads_back_or_an_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UserError:
        return
    assert parse_reference(str(reference)) == reference


def test_latest_moves() -> None:
    assert parse_reference("a").is_moving
    assert not parse_reference("a:1").is_moving
    assert not parse_reference(f"a:latest@{DIGEST}").is_moving
