"""Schedules as cron has them: five fields, or a word such as `@daily`. Times are UTC.

Fields are minute, hour, day of the month, month, day of the week (0 and 7 are Sunday), each `*`, numbers, ranges, steps and lists of these,
months and days also by their English names. Where both days are restricted one of them is enough, as everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from pilvi.errors import UserError

__all__ = ["Schedule", "parse_schedule"]

_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_PART = re.compile(r"(?P<first>\*|[0-9]+|[a-z]{3})(?:-(?P<last>[0-9]+|[a-z]{3}))?(?:/(?P<step>[0-9]+))?", re.ASCII)
# Leap days come every 8 years at most (1896 to 1904); a day that never comes is refused when the schedule is read.
_LONGEST = timedelta(days=8 * 366)


@dataclass(frozen=True)
class Schedule:
    """When something is due. `any_day`: one of the two kinds of days is not restricted, so both have to hold."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    def next(self, after: datetime) -> datetime:
        """The first moment after `after`, to the minute."""
        moment = after.replace(second=0, microsecond=0) + timedelta(minutes=1)
        end = moment + _LONGEST
        while moment < end:
            if moment.month not in self.months or not self._is_day(moment):
                moment = moment.replace(hour=0, minute=0) + timedelta(days=1)
            elif moment.hour not in self.hours:
                moment = moment.replace(minute=0) + timedelta(hours=1)
            elif moment.minute not in self.minutes:
                moment += timedelta(minutes=1)
            else:
                return moment
        raise UserError("the schedule names a day that never comes", hint="look at its day of the month and its month")

    def _is_day(self, moment: datetime) -> bool:
        by_month, by_week = moment.day in self.days, moment.isoweekday() % 7 in self.weekdays
        return by_month and by_week if self.any_day else by_month or by_week


def parse_schedule(text: str) -> Schedule:
    """`0 3 * * 1-5` as a schedule. Raises UserError that says what is wrong."""
    fields = _WORDS.get(text.strip(), text).lower().split()
    if len(fields) != len(_FIELDS):
        raise UserError(f"{text!r} is no schedule", hint="write five fields, such as 0 3 * * *, or one of " + ", ".join(_WORDS))
    minutes, hours, days, months, weekdays = (_read(text, field, *about) for field, about in zip(fields, _FIELDS, strict=True))
    any_day = fields[2].startswith("*") or fields[4].startswith("*")
    schedule = Schedule(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), any_day)
    schedule.next(datetime(2000, 1, 1))
    return schedule


def _read(text: str, field: str, name: str, lowest: int, highest: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        numbers = [_number(word, names) for word in (match["first"], match["last"]) if word not in (None, "*")] if match else [None]
        if match is None or None in numbers or (match["first"] == "*" and match["last"]):
            raise UserError(
                f"{part!r} is no {name} in the schedule {text!r}", hint=f"write *, numbers from {lowest} to {highest}, ranges or steps"
            )
        first = lowest if match["first"] == "*" else numbers[0] or 0
        last = highest if match["first"] == "*" or (match["step"] and not match["last"]) else numbers[-1] or 0
        step = int(match["step"] or 1)
        if not lowest <= first <= last <= highest or step < 1:
            raise UserError(
                f"{part!r} is no {name} in the schedule {text!r}", hint=f"it is from {lowest} to {highest}, the smaller one first"
            )
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(word: str, names: dict[str, int]) -> int | None:
    return int(word) if word.isdecimal() else names.get(word)
