"""Dates that are counted from today: "last Friday", "two weeks ago", "in the last 3 months", and decades by number."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from clipsearch.dates import Period
from clipsearch.query.understanding.vocabulary import (
    DECADES,
    DOUBTFUL_MONTHS,
    GENERIC,
    MONTHS,
    NUMBERS,
    SEASONS,
    SPANS,
    TODAY,
    UNITS,
    WEEKDAYS,
)


def season(match: re.Match[str], now: datetime) -> str | None:
    """Read "last winter" or, where it says so, "this winter" if that has begun."""
    name = SEASONS[match["season"].lower()]
    if not match.groupdict().get("this"):
        return f"last {name}"
    if name == "winter" and now.month < 3:
        return f"winter {now.year - 1}"
    has_begun = now.month >= {"spring": 3, "summer": 6, "autumn": 9, "winter": 12}[name]
    return f"{name} {now.year}" if has_begun else None


def last(match: re.Match[str], now: datetime) -> Period | str | None:
    """Read "last week", and "the past week", which goes on until today."""
    if match.groupdict().get("last", "").lower() == "past" and UNITS[match["unit"].lower()] in SPANS.values():
        return until_today(1, UNITS[match["unit"].lower()], now)
    return unit_before(UNITS[match["unit"].lower()], 1, now)


def this(match: re.Match[str], now: datetime) -> Period | str | None:
    """Read "this week"."""
    return unit_before(UNITS[match["unit"].lower()], 0, now)


def before_last(match: re.Match[str], now: datetime) -> Period | str | None:
    """Read "the year before last"."""
    return unit_before(UNITS[match["unit"].lower()], 2, now)


def unit_before(unit: str, count: int, now: datetime) -> Period | str | None:
    """Return the week (Monday to Sunday), weekend, month or year `count` units before the current one."""
    if unit == "year":
        return f"{now.year - count:04}"
    if unit == "month":
        months = now.year * 12 + now.month - 1 - count
        return f"{months // 12:04}-{months % 12 + 1:02}"
    if unit not in ("week", "weekend"):
        return _days(now, 0) if unit == "part of a day" and not count else None
    monday = _midnight(now) - timedelta(days=now.weekday() + 7 * count)
    return Period(monday + timedelta(days=5 if unit == "weekend" else 0), monday + timedelta(days=7))


def month(match: re.Match[str], now: datetime) -> str | None:
    """Read "last July" as the latest that is over, and "this July" as that of this year if it has begun."""
    number = MONTHS[match["month"].lower()]
    is_last = "this" not in match.re.groupindex
    if match["month"] in (("march", "mars", "mar") if is_last else DOUBTFUL_MONTHS):
        return None
    return f"{now.year - (is_last and number >= now.month):04}-{number:02}" if is_last or number <= now.month else None


def weekday(match: re.Match[str], now: datetime) -> Period:
    """Read "last Friday" as the latest that is over."""
    return _days(now, (now.weekday() - WEEKDAYS[match["weekday"].lower()] - 1) % 7 + 1)


def today(match: re.Match[str], now: datetime) -> Period:
    """Read "yesterday" and its like."""
    return _days(now, TODAY[match["today"].lower()])


def day_before_yesterday(match: re.Match[str], now: datetime) -> Period:
    """Read "the day before yesterday"."""
    return _days(now, 2)


def ago(match: re.Match[str], now: datetime) -> Period | str | None:
    """Read "two weeks ago", a day, and "two months ago" or "two years ago", a month or a year."""
    return counted_ago(_count(match), UNITS[match["span"].lower()], now)


def counted_ago(count: int, unit: str, now: datetime) -> Period | str | None:
    """Return the day that many days or weeks ago, or the month or the year that many months or years ago."""
    if unit in ("day", "week"):
        return _days(now, count * (7 if unit == "week" else 1))
    return unit_before(unit, count, now)


def recent(match: re.Match[str], now: datetime) -> Period:
    """Read "the last 3 months"."""
    return until_today(_count(match), UNITS[match["span"].lower()], now)


def until_today(count: int, unit: str, now: datetime) -> Period:
    """Return the last `count` days, weeks, months or years, including today."""
    if unit in ("day", "week"):
        start = _midnight(now) - timedelta(days=count * (7 if unit == "week" else 1))
    else:
        months = now.year * 12 + now.month - 1 - count * (12 if unit == "year" else 1)
        first = _midnight(now).replace(year=months // 12, month=months % 12 + 1, day=1)
        following = (first + timedelta(days=31)).replace(day=1)
        start = min(first + timedelta(days=now.day - 1), following - timedelta(days=1))
    return Period(start, _midnight(now) + timedelta(days=1))


def decade(match: re.Match[str], now: datetime) -> Period | None:
    """Read "in the 1990s", "in the 90s" and, of photographs, "from the 90s": others may say how something looks."""
    words = match.string[: match.start()].lower().split()
    if match.groupdict().get("origin") and words and words[-1] not in GENERIC:
        return None
    year = DECADES.get(match["bare"].lower()) or int(match["bare"])
    if year < 100:
        year += 1900 if year > 20 else 2000
    return Period(datetime(year, 1, 1), datetime(year + 10, 1, 1)) if year <= now.year and year != 1900 else None


def _count(match: re.Match[str]) -> int:
    return NUMBERS.get(match["count"].lower()) or int(match["count"])


def _days(now: datetime, back: int) -> Period:
    day = _midnight(now) - timedelta(days=back)
    return Period(day, day + timedelta(days=1))


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
