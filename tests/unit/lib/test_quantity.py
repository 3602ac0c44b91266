from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import UserError
from pilvi.lib.quantity import format_bytes, format_milli, parse_quantity, quantity_bytes, quantity_milli, whole_mebibytes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", Fraction(1)), ("1.5", Fraction(3, 2)), (".5", Fraction(1, 2)), ("5.", Fraction(5)), ("-2", Fraction(-2)), ("+2", Fraction(2)),
        ("500m", Fraction(1, 2)), ("1Ki", Fraction(1024)), ("1.5Gi", Fraction(3 * 2**29)), ("2k", Fraction(2000)), ("1E", Fraction(10**18)),
        ("1e3", Fraction(1000)), ("1E3", Fraction(1000)), ("1e-3", Fraction(1, 1000)), ("12E", Fraction(12 * 10**18)),
        ("1n", Fraction(1, 10**9)), (2, Fraction(2)), (0.5, Fraction(1, 2)),
    ],
)  # fmt: skip
def test_parse(text: str | float, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GB", "1gi", "one", "1e", "--1", "1.2.3", "0x10", "1K", "1\n", "٣", "1e99999", True])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(UserError, match="is not a quantity"):
        parse_quantity(text)


def test_rounds_up() -> None:
    assert quantity_bytes("1.1") == 2
    assert quantity_bytes("100m") == 1
    assert quantity_milli("0.0001") == 1
    assert quantity_milli("1.5") == 1500
    assert [whole_mebibytes(size) >> 20 for size in (0, 1, 1 << 20, (1 << 20) + 1)] == [0, 1, 1, 2]


@given(st.integers(0, 2**63))
def test_bytes_round_trip(size_bytes: int) -> None:
    assert quantity_bytes(format_bytes(size_bytes)) == size_bytes


@given(st.integers(0, 10**9))
def test_milli_round_trip(cpu_milli: int) -> None:
    assert quantity_milli(format_milli(cpu_milli)) == cpu_milli


@given(st.integers(0, 10**6), st.sampled_from(["Ki", "Mi", "Gi", "Ti"]))
def test_formatted_bytes_are_never_longer_than_what_was_written(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    assert len(format_bytes(quantity_bytes(text))) <= len(text)


def test_format() -> None:
    assert [format_bytes(size) for size in (0, 1000, 1024, 3 * 2**29, 2**31)] == ["0", "1000", "1Ki", "1536Mi", "2Gi"]
    assert [format_milli(cpu) for cpu in (0, 100, 2000, 1500)] == ["0", "100m", "2", "1500m"]
