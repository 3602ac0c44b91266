from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import UserError
from pilvi.lib.schedule import parse_schedule

NOW = datetime(2026, 11, 27, 4, 5, 6, tzinfo=UTC)  # a Friday


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("* * * * *", "2026-11-27 04:06"),
        ("5 4 * * *", "2026-11-28 04:05"),
        ("*/15 * * * *", "2026-11-27 04:15"),
        ("7-59/20 4 * * *", "2026-11-27 04:07"),
        ("30/10 * * * *", "2026-11-27 04:30"),
        ("0 3,12 * * *", "2026-11-27 12:00"),
        ("0 0 1 * *", "2026-12-01 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 * * sun", "2026-11-29 00:00"),
        ("0 0 * * 7", "2026-11-29 00:00"),
        ("0 0 * * MON-WED", "2026-11-30 00:00"),
        ("0 0 1 jan *", "2027-01-01 00:00"),
        ("0 0 13 * 5", "2026-12-04 00:00"),  # either day
        ("0 0 */2 * 6", "2026-12-05 00:00"),  # a star restricts nothing, so both
        ("@hourly", "2026-11-27 05:00"),
        ("@weekly", "2026-11-29 00:00"),
        ("@yearly", "2027-01-01 00:00"),
    ],
)
def test_when_it_is_due(text: str, due: str) -> None:
    found = parse_schedule(text).next(NOW)
    assert f"{found:%Y-%m-%d %H:%M}" == due


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no schedule"),
        ("* * * *", "is no schedule"),
        ("@never", "is no schedule"),
        ("60 * * * *", "'60' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "no day of the month"),
        ("* * * 13 *", "no month"),
        ("* * * * 8", "no day of the week"),
        ("5-1 * * * *", "'5-1' is no minute"),
        ("*/0 * * * *", "no minute"),
        ("*-5 * * * *", "no minute"),
        ("x * * * *", "no minute"),
        ("* * * foo *", "no month"),
        ("0 0 30 2 *", "never comes"),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_schedule(text)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)), st.integers(0, 59), st.integers(0, 23), st.integers(1, 28))
def test_it_is_the_first_one(after: datetime, minute: int, hour: int, day: int) -> None:
    found = parse_schedule(f"{minute} {hour} {day} * *").next(after)
    assert found > after
    assert (found.minute, found.hour, found.day) == (minute, hour, day)
    assert found - after <= timedelta(days=31)
