"""Dates as people write them, as periods: `2024`, `2024-06`, `last summer`, `3 weeks ago`.

Times are local and have no zone, as those of cameras. ISO forms and seasons are read here; all else by dateparser,
which takes longer to load than most searches do, and is loaded then only.
"""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from clipsearch.errors import InvalidInputError

LANGUAGES = ("en", "zh", "ja", "ko", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "tr")
"""Languages of dates that are written out; each that is tried takes time."""

_ISO = re.compile(r"(\d{4})(?:([-/])(\d{1,2})(?:\2(\d{1,2})(?:[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2}))?)?)?)?")
_ISO_PARTS = (("year", 1), ("month", 3), ("day", 4), ("hour", 5), ("minute", 6), ("second", 7))
_MIXED = re.compile(r"(\d{1,2})[-/. ](\d{1,2})[-/. ](?:\d{2}|\d{4})(?!\d).*")
_SEASON = re.compile(r"(?:(last|this) )?(spring|summer|autumn|fall|winter)(?: (\d{4}))?")
_FIRST_MONTH = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_MAX_LENGTH = 80
"""Characters; dateparser takes a second for each few thousand."""

_EXAMPLES = "Write it as 2024, 2024-06, 2024-06-01, 'last summer' or '3 weeks ago'."


class Period(NamedTuple):
    """From the start on, until before the end."""

    start: datetime
    end: datetime


class WrittenMoment(datetime):
    """A bound of a period that depends on the day on which its words are read, such as `last summer`.

    It is a datetime like any other; a saved search keeps the words, and reads them again when it runs.

    Attributes:
        written: The words.
        is_end: Whether it is the end of their period, not its start.
    """

    written: str = ""
    is_end: bool = False

    @classmethod
    def of(cls, moment: datetime, written: str, *, is_end: bool) -> Self:
        """Say of a moment which words it comes from."""
        made = cls.combine(moment.date(), moment.time())
        made.written, made.is_end = written, is_end
        return made

    def __repr__(self) -> str:
        return repr(datetime.combine(self.date(), self.time()))


def parse_period(text: str, now: datetime) -> Period:
    """Read a date as the whole period that it names; now: local time, for what is relative.

    Seasons are those of meteorologists in the northern hemisphere: summer is June to August, winter 2023 begins in
    December 2023; `last summer` is the latest that is over. `last week` begins on a Monday; what is so many days,
    weeks, months or years ago is a day. The bounds of what is not in an ISO form are WrittenMoment.
    Raises InvalidInputError for anything else, or a date that does not exist.
    """
    words = " ".join(text.split())
    if len(words) > _MAX_LENGTH:
        raise InvalidInputError(f"{words[:_MAX_LENGTH]!r}... cannot be read as a date: it is too long. {_EXAMPLES}")
    if iso := _ISO.fullmatch(words):
        return _from_iso(words, iso)
    season = _SEASON.fullmatch(words.lower())
    start, end = _season(words, season, now) if season else _written_out(words, now)
    return Period(WrittenMoment.of(start, words, is_end=False), WrittenMoment.of(end, words, is_end=True))


def _from_iso(words: str, iso: re.Match[str]) -> Period:
    limits = [(1, 9999), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59)]
    numbers: list[int] = []
    for i, (name, group) in enumerate(_ISO_PARTS):
        if iso[group] is None:
            break
        numbers.append(int(iso[group]))
        least, most = limits[i]
        if not least <= numbers[i] <= most:
            raise InvalidInputError(
                f"There is no {words}: the {name} at column {iso.start(group) + 1} is {iso[group]}, but must be from "
                f"{least} to {most}."
            )
        if name == "month":
            limits[2] = (1, calendar.monthrange(*numbers)[1])
    year, month, day, hour, minute, second = [*numbers, *(1, 1, 1, 0, 0, 0)[len(numbers) :]]
    start = datetime(year, month, day, hour, minute, second)
    if len(numbers) < 3:
        return _months(start, 12 if len(numbers) == 1 else 1)
    steps = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
    return Period(start, _later(start, steps[len(numbers)]))


def _season(words: str, season: re.Match[str], now: datetime) -> Period:
    which, name, year = season.groups()
    if (which is None) == (year is None) or year == "0000":
        raise InvalidInputError(f"{words!r} does not say which {name}. Write 'last {name}' or '{name} 2023'.")
    found = _months(datetime(int(year or now.year), _FIRST_MONTH[name], 1), 3)
    while which == "last" and found.end > now:
        found = _months(found.start.replace(year=found.start.year - 1), 3)
    return found


def _written_out(words: str, now: datetime) -> Period:
    """Read a date in one of LANGUAGES."""
    mixed = _MIXED.fullmatch(words)
    if mixed and int(mixed[1]) <= 12 and int(mixed[2]) <= 12 and mixed[1] != mixed[2]:
        raise InvalidInputError(f"{words!r} may mean two different days. Write the year first, as in 2024-06-01.")
    found = None
    if mixed or not words.isascii() or len(re.findall("[A-Za-z]", words)) > 2:  # dateparser takes "a" for January
        found = _relative(words, now) or _absolute(words, now)
    if found is None:
        raise InvalidInputError(f"{words!r} cannot be read as a date. {_EXAMPLES}")
    return found


def _relative(words: str, now: datetime) -> Period | None:
    moment, unit = _ask_library(words, now, "relative-time", "current")
    if moment is None or moment.tzinfo is not None:
        return None
    is_counted = any(c.isdigit() for c in words) or words.lower().endswith("ago")
    return _within(moment, "day" if is_counted and unit != "time" else unit)


def _absolute(words: str, now: datetime) -> Period | None:
    moment, unit = _ask_library(words, now, "absolute-time", "first")
    if moment is None or moment.tzinfo is not None or (unit == "time" and not any(c.isdigit() for c in words)):
        return None
    return _within(moment, unit)


def _ask_library(words: str, now: datetime, parser: str, missing: str) -> tuple[datetime | None, str]:
    """Return a moment and the length of its period. missing: the day of a text without a day, `current` or `first`."""
    from dateparser.date import DateDataParser

    settings = {
        "PARSERS": [parser],
        "RELATIVE_BASE": now,
        "PREFER_DATES_FROM": "past",
        "RETURN_TIME_AS_PERIOD": True,
        "PREFER_DAY_OF_MONTH": missing,
        "PREFER_MONTH_OF_YEAR": missing,
    }
    found = DateDataParser(languages=list(LANGUAGES), settings=settings).get_date_data(words)
    return found.date_obj, found.period


def _within(moment: datetime, unit: str) -> Period:
    """Return the minute, day, week, month or year that a moment lies in."""
    if unit == "time":
        return Period(moment, _later(moment, timedelta(minutes=1)))
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        day -= timedelta(min(day.weekday(), day.toordinal() - 1))
        return Period(day, _later(day, timedelta(days=7)))
    if unit == "day":
        return Period(day, _later(day, timedelta(days=1)))
    return _months(day.replace(day=1), 1) if unit == "month" else _months(day.replace(month=1, day=1), 12)


def _months(start: datetime, count: int) -> Period:
    months = start.year * 12 + start.month - 1 + count
    return Period(start, datetime.max if months >= 120_000 else datetime(months // 12, months % 12 + 1, 1))


def _later(start: datetime, step: timedelta) -> datetime:
    return datetime.max if datetime.max - start < step else start + step
