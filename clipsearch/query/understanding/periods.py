"""Dates in the words of a query: only those that can hardly be anything else.

All are read by clipsearch.dates in forms that it knows itself, so that dateparser is loaded for "two weeks ago" and
"last month" alone. Where a year stands alone, at the end of the words, the caller says whether anything is of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from clipsearch.dates import Period, parse_period
from clipsearch.errors import InvalidInputError
from clipsearch.query.understanding.tokens import is_east_asian
from clipsearch.query.understanding.vocabulary import DOUBTFUL_MONTHS, MONTHS, NUMBERS, SEASONS, TODAY, UNITS


class Dated(NamedTuple):
    """A period, and where it stands in the text: from start to before end. is_bare: it is a year and no more."""

    start: int
    end: int
    period: Period
    is_bare: bool = False


_CHINESE_SEASONS = {"春": "spring", "夏": "summer", "秋": "autumn", "冬": "winter"}
_CHINESE_YEARS = {"今": 0, "去": -1, "前": -2}
_CHINESE_DAYS = {"今天": 0, "昨天": -1, "前天": -2}
_CHINESE_UNITS = {"周": "week", "星期": "week", "礼拜": "week", "月": "month"}


def find_periods(text: str, now: datetime) -> list[Dated]:
    """Return the dates of a text, none of which overlap; now: local time."""
    found: list[Dated] = []
    for pattern, read in _readers(text):
        for match in pattern.finditer(text):
            if any(match.start() < each.end and each.start < match.end() for each in found):
                continue
            try:
                written = read(match, now)
                if written is not None:
                    period = written if isinstance(written, Period) else parse_period(written, now)
                    found.append(Dated(match.start(), match.end(), period, "bare" in match.re.groupindex))
            except (InvalidInputError, OverflowError, KeyError):  # KeyError: a letter that only looks like another
                continue
    return sorted(found)


Read = Callable[[re.Match[str], datetime], "str | Period | None"]


def _month(match: re.Match[str]) -> int:
    return MONTHS[match["month"].lower()]


def _day(match: re.Match[str], now: datetime) -> str:
    return f"{match['year']}-{_month(match):02}-{int(match['day']):02}"


def _last(match: re.Match[str], now: datetime) -> Period | str:
    unit = UNITS[match["unit"].lower()]
    if unit == "year":
        return f"{now.year - 1}"
    return _week(now, 1) if unit == "week" else _month_before(now, 1)


def _this(match: re.Match[str], now: datetime) -> str | Period:
    unit = UNITS[match["unit"].lower()]
    return {"year": f"{now.year:04}", "month": _month_before(now, 0)}.get(unit) or _week(now, 0)


def _month_before(now: datetime, count: int) -> str:
    months = now.year * 12 + now.month - 1 - count
    return f"{months // 12:04}-{months % 12 + 1:02}"


def _week(now: datetime, count: int) -> Period:
    """Return the week, Monday to Sunday, that lies `count` weeks back."""
    monday = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=now.weekday() + 7 * count)
    return Period(monday, monday + timedelta(days=7))


def _ago(match: re.Match[str], now: datetime) -> str:
    count = NUMBERS.get(match["count"].lower()) or int(match["count"])
    return f"{count} {match['span'].lower()}s ago"


def _today(match: re.Match[str], now: datetime) -> str:
    return f"{now - timedelta(days=TODAY[match['today'].lower()] == 'yesterday'):%Y-%m-%d}"


def _latest(match: re.Match[str], now: datetime) -> str | None:
    """Read a month without a year as the latest that has begun."""
    if match["month"].lower() in DOUBTFUL_MONTHS and not match["month"][0].isupper():
        return None
    number = _month(match)
    return f"{now.year - (number > now.month):04}-{number:02}"


def _year(match: re.Match[str], now: datetime) -> str | None:
    return match["bare"] if int(match["bare"]) <= now.year else None


_LAST = "last past letzten letzte letztes letzter vergangenen vergangenes".split()
_THIS = "this diesen dieses diese diesem".split()
_AFTER = "dernier dernière pasado pasada scorso scorsa passado".split()
_CUE = r"(?:(?:on|in|from|since|during|of|im|am|vom|aus|en|au|du|del?|le|el|in the)\s+)?"
_THE = r"(?:el\s+|la\s+|le\s+|l')?"
_LINK = r"(?:\s+(?:of|de|del)\s+|,?\s+)"
_END = r"(?:'s)?(?![\w'-])"
_YEAR, _BARE = r"(?P<year>(?:19|20)\d\d)", r"(?P<bare>(?:19|20)\d\d)"
_STOP = r"(?=\s*$|\s*[,;.]{})"


def _season(match: re.Match[str], which: str) -> str:
    return f"{which} {SEASONS[match['season'].lower()]}"


def _season_of(match: re.Match[str], now: datetime) -> str:
    return f"{SEASONS[match['season'].lower()]} {match['year']}"


_FORMS: tuple[tuple[str, Read], ...] = (
    (_CUE + r"(?P<iso>\d{4}[-/]\d{1,2}(?:[-/]\d{1,2})?)" + _END, lambda match, now: match["iso"]),
    (_CUE + r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?\s+(?:of\s+|de\s+)?<month>" + _LINK + _YEAR + _END, _day),
    (_CUE + r"<month>\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+" + _YEAR + _END, _day),
    (
        r"(?<!\d\s)(?<!\d[.,]\s)" + _CUE + r"<month>\.?" + _LINK + _YEAR + _END,
        lambda match, now: f"{match['year']}-{_month(match):02}",
    ),
    (_CUE + "<season>" + _LINK + _YEAR + _END, _season_of),
    (_CUE + r"<last>\s+<season>" + _END, lambda match, now: _season(match, "last")),
    (_CUE + _THE + r"<season>\s+<after>" + _END, lambda match, now: _season(match, "last")),
    (_CUE + r"<this>\s+<season>" + _END, lambda match, now: _season(match, "this")),
    (_CUE + r"<last>\s+<unit>" + _END, _last),
    (_CUE + _THE + r"<unit>\s+<after>" + _END, _last),
    (_CUE + r"<this>\s+<unit>" + _END, _this),
    (r"(?P<count>\d{1,3}|" + "|".join(NUMBERS) + r")\s+(?P<span>day|week|month|year)s?\s+<ago>" + _END, _ago),
    ("<today>" + _STOP.format(r"|\s+(?:in|at|with|on|mit|à|en|con|im)\s"), _today),
    (r"(?:in|from|since|im|en|vom)\s+<month>" + _STOP.format(r"|\s+(?:in|at|with|on)\s"), _latest),
    (r"(?:in|from|since|during|im|en|de|aus)\s+" + _BARE + _STOP.format(r"|\s+[^\W\d]"), _year),
    (_BARE + _STOP.format(""), _year),
)
"""Each form of a date with what reads it, the most certain ones first. <month> and its like are words of _WORDS."""

_WORDS: dict[str, Collection[str]] = {
    "month": MONTHS, "season": SEASONS, "unit": UNITS, "today": TODAY, "last": _LAST, "this": _THIS, "after": _AFTER,
    "ago": ("ago",),
}  # fmt: skip


def _readers(text: str) -> Iterator[tuple[re.Pattern[str], Read]]:
    """Yield the forms of which a text has the words, with these words alone: to compile all takes milliseconds."""
    if any(map(is_east_asian, text)):
        yield from _chinese_readers()
    words = {*re.split(r"[^\w']+|(?<=\bl)'", text.lower())}
    present = {kind: "|".join(map(re.escape, sorted(words & {*known}))) for kind, known in _WORDS.items()}
    has_digit = any(c.isdigit() for c in text)
    for form, read in _FORMS:
        kinds = re.findall("<([a-z]+)>", form.replace("(?P<", ""))
        needs_digit = "\\d" in form and kinds != ["ago"]
        if not all(map(present.__getitem__, kinds)) or (needs_digit and not has_digit):
            continue
        for kind in kinds:
            form = form.replace(f"<{kind}>", f"(?P<{kind}>{present[kind]})", 1)
        yield re.compile(rf"(?<![\w'-])(?:{form})", re.IGNORECASE), read


def _chinese_readers() -> Iterator[tuple[re.Pattern[str], Read]]:
    """Return the forms of Chinese."""
    before = r"(?:^|(?<=[\s，,、。在于是的])|(?<=[A-Za-z]))(?:在)?"
    after = r"(?=$|[\s，,、。的拍在和跟与我])"
    year = r"(?P<year>(?:19|20)\d\d)年"
    season = r"(?P<season>[春夏秋冬])(?:天|季)"
    yield re.compile(rf"在?{year}(?P<month>\d{{1,2}})月(?:份|(?P<day>\d{{1,2}})[日号])?"), _chinese_day
    yield re.compile(rf"在?{year}的?{season}"), lambda m, now: f"{_CHINESE_SEASONS[m['season']]} {m['year']}"
    yield re.compile(rf"在?{year}(?!代)"), lambda m, now: m["year"]
    yield re.compile(rf"{before}(?P<which>[今去前])年的?(?:{season}|(?P<month>\d{{1,2}})月)?{after}"), _chinese_year
    yield re.compile(rf"{before}(?P<today>今天|昨天|前天){after}"), _chinese_today
    yield re.compile(rf"{before}(?P<which>上|这|本)个?(?P<unit>周|星期|礼拜|月){after}"), _chinese_unit


def _chinese_day(match: re.Match[str], now: datetime) -> str:
    parts = [match["year"], *(f"{int(match[name]):02}" for name in ("month", "day") if match[name])]
    return "-".join(parts)


def _chinese_year(match: re.Match[str], now: datetime) -> str:
    year = now.year + _CHINESE_YEARS[match["which"]]
    if match["season"]:
        return f"{_CHINESE_SEASONS[match['season']]} {year}"
    return f"{year:04}-{int(match['month']):02}" if match["month"] else f"{year:04}"


def _chinese_today(match: re.Match[str], now: datetime) -> str:
    return f"{now + timedelta(days=_CHINESE_DAYS[match['today']]):%Y-%m-%d}"


def _chinese_unit(match: re.Match[str], now: datetime) -> str | Period:
    count = int(match["which"] == "上")
    return _month_before(now, count) if _CHINESE_UNITS[match["unit"]] == "month" else _week(now, count)
