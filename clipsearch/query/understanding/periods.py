"""Dates in the words of a query: only those that can hardly be anything else.

All are read by clipsearch.dates in forms that it knows itself, so that dateparser is loaded for "two weeks ago" and
"last month" alone. Where a year stands alone, at the end of the words, the caller says whether anything is of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from clipsearch.dates import Period, parse_period
from clipsearch.errors import InvalidInputError
from clipsearch.query.understanding.bounds import BOUNDS
from clipsearch.query.understanding.tokens import is_east_asian
from clipsearch.query.understanding.vocabulary import DOUBTFUL_MONTHS, MONTHS, NUMBERS, SEASONS, TODAY, UNITS


class Dated(NamedTuple):
    """A period, and where it stands in the text: from start to before end.

    is_bare: it is of years and no more. bound: one of the values of BOUNDS; empty where the period itself is meant.
    """

    start: int
    end: int
    period: Period
    is_bare: bool = False
    bound: str = ""


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
                    is_bare = "bare" in match.re.groupindex
                    found.append(Dated(match.start(), match.end(), period, is_bare, _bound(match)))
            except (InvalidInputError, OverflowError, KeyError):  # KeyError: a letter that only looks like another
                continue
    return _join(text, sorted(found))


def _bound(match: re.Match[str]) -> str:
    """Return the bound that a word before or, in Chinese, after a date makes it."""
    groups = match.groupdict()
    word = groups.get("bound") or groups.get("beyond") or ""
    return BOUNDS[" ".join(word.lower().split())] if word else ""


def _join(text: str, found: Sequence[Dated]) -> list[Dated]:
    """Make one period of two dates with "to" or its like between them, or with "and" after "between"."""
    joined: list[Dated] = []
    for each in found:
        last = joined[-1] if joined else None
        if last is not None and last.period.start < each.period.end and _is_range(text, last, each):
            joined[-1] = Dated(last.start, each.end, Period(last.period.start, each.period.end))
        else:
            joined.append(each)
    return [each for each in joined if not _is_half(text, each)]


def _is_half(text: str, dated: Dated) -> bool:
    """Tell whether "between" stands before a date without the other one, as in "between May 2020 and now"."""
    words = text[dated.start : dated.end].lower().split()
    return words[0] in _BETWEEN and not any(each in _AND for each in words)


def _is_range(text: str, first: Dated, second: Dated) -> bool:
    link = text[first.end : second.start].strip().lower()
    if first.bound not in ("", "since") or second.bound not in ("", "until"):
        return False
    if second.bound:
        return not link
    between = text[first.start : first.end].split()[0].lower() in _BETWEEN
    return link in (_AND if between else _TO)


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


def _years(match: re.Match[str], now: datetime) -> Period | None:
    first, last = int(match["first"]), int(match["bare"])
    return Period(datetime(first, 1, 1), datetime(last + 1, 1, 1)) if first < last <= now.year else None


def _months(match: re.Match[str], now: datetime) -> Period | None:
    first, last = (MONTHS[match[name].lower()] for name in ("month", "until"))
    year = int(match["year"])
    start = datetime(year - (first > last), first, 1)
    return Period(start, parse_period(f"{year}-{last:02}", now).end)


def _numbers(match: re.Match[str], now: datetime) -> str | None:
    """Read a day, a month and a year where only one order of them is possible."""
    day, month = int(match["one"]), int(match["two"])
    if day <= 12 and month <= 12 and day != month:
        return None
    return f"{match['year']}-{min(day, month):02}-{max(day, month):02}"


_LAST = "last past letzten letzte letztes letzter vergangenen vergangenes".split()
_THIS = "this diesen dieses diese diesem".split()
_AFTER = "dernier dernière pasado pasada scorso scorsa passado".split()
_BETWEEN, _AND = ("between", "zwischen", "entre"), ("and", "und", "et", "y")
_TO = ("to", "until", "till", "through", "bis", "à", "a", "al", "hasta", "-", "–", "—")
_BOUND = r"<bound>\s+"
_FROM = "from|von|vom|de|du|desde"
_IN = "on|in|from|during|of|im|am|vom|aus|en|au|du|del?|le|el|in the|" + "|".join(_BETWEEN)
_CUE = rf"(?:{_BOUND}(?:the\s+)?|(?:{_IN})\s+)?"
_THE = r"(?:el\s+|la\s+|le\s+|l')?"
_LINK = r"(?:\s+(?:of|de|del)\s+|,?\s+)"
_END = r"(?:'s)?(?![\w'/-])"
_YEAR, _BARE = r"(?P<year>(?:19|20)\d\d)", r"(?P<bare>(?:19|20)\d\d)"
_STOP = r"(?=\s*$|\s*[,;.]{})"
_FIRST = r"(?P<first>(?:19|20)\d\d)"
_LINKS = "(?:" + "|".join(rf"\s+{word}\s+" if word.isalpha() else rf"\s*{word}\s*" for word in _TO) + ")"


def _season(match: re.Match[str], which: str) -> str:
    return f"{which} {SEASONS[match['season'].lower()]}"


def _season_of(match: re.Match[str], now: datetime) -> str | None:
    following = f"{int(match['year']) + 1}"
    if match["next"] not in (None, following, following[2:]):
        return None
    return f"{SEASONS[match['season'].lower()]} {match['year']}"


_FORMS: tuple[tuple[str, Read], ...] = (
    (_CUE + r"(?P<one>\d{1,2})(?P<mark>[./-])(?P<two>\d{1,2})(?P=mark)" + _YEAR + _END, _numbers),
    (f"(?:{'|'.join(_BETWEEN)})\\s+{_FIRST}\\s+(?:{'|'.join(_AND)})\\s+{_BARE}{_END}", _years),
    (rf"(?:{_FROM})\s+" + _FIRST + _LINKS + _BARE + _END, _years),
    (_FIRST + _LINKS + _BARE + _STOP.format(r"|\s+(?:in|at|with|mit|à|en|con|im)\s"), _years),
    (f"(?:{'|'.join(_BETWEEN)})\\s+<month>\\s+(?:{'|'.join(_AND)})\\s+<until>" + _LINK + _YEAR + _END, _months),
    (rf"(?:(?:{_FROM})\s+)?<month>" + _LINKS + "<until>" + _LINK + _YEAR + _END, _months),
    (_CUE + r"(?P<iso>\d{4}[-/]\d{1,2}(?:[-/]\d{1,2})?)" + _END, lambda match, now: match["iso"]),
    (_CUE + r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?\s+(?:of\s+|de\s+)?<month>" + _LINK + _YEAR + _END, _day),
    (_CUE + r"<month>\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+" + _YEAR + _END, _day),
    (
        r"(?<!\d\s)(?<!\d[.,]\s)" + _CUE + r"<month>\.?" + _LINK + _YEAR + _END,
        lambda match, now: f"{match['year']}-{_month(match):02}",
    ),
    (_CUE + "<season>" + _LINK + _YEAR + r"(?:/(?P<next>\d{4}|\d\d))?" + _END, _season_of),
    (_CUE + r"<last>\s+<season>" + _END, lambda match, now: _season(match, "last")),
    (_CUE + _THE + r"<season>\s+<after>" + _END, lambda match, now: _season(match, "last")),
    (_CUE + r"<this>\s+<season>" + _END, lambda match, now: _season(match, "this")),
    (_CUE + r"<last>\s+<unit>" + _END, _last),
    (_CUE + _THE + r"<unit>\s+<after>" + _END, _last),
    (_CUE + r"<this>\s+<unit>" + _END, _this),
    (r"(?P<count>\d{1,3}|" + "|".join(NUMBERS) + r")\s+(?P<span>day|week|month|year)s?\s+<ago>" + _END, _ago),
    (rf"(?:{_BOUND})?<today>" + _STOP.format(r"|\s+(?:in|at|with|on|mit|à|en|con|im)\s"), _today),
    (r"(?:in|from|im|en|vom|(?P<bound>since))\s+<month>" + _STOP.format(r"|\s+(?:in|at|with|on)\s"), _latest),
    (rf"(?:(?:in|from|during|im|en|de|aus)\s+|{_BOUND})" + _BARE + _STOP.format(r"|\s+[^\W\d]"), _year),
    (_BARE + _STOP.format(""), _year),
)
"""Each form of a date with what reads it, the most certain ones first. <month> and its like are words of _WORDS."""

_WORDS: dict[str, Collection[str]] = {
    "month": MONTHS, "until": MONTHS, "season": SEASONS, "unit": UNITS, "today": TODAY, "last": _LAST, "this": _THIS,
    "after": _AFTER, "ago": ("ago",),
}  # fmt: skip
_NEVER = "(?!)"


def _readers(text: str) -> Iterator[tuple[re.Pattern[str], Read]]:
    """Yield the forms of which a text has the words, with these words alone: to compile all takes milliseconds."""
    if any(map(is_east_asian, text)):
        yield from _chinese_readers()
    lower = text.lower()
    words = {*re.split(r"[^\w']+|(?<=\bl)'", lower)}
    present = {kind: "|".join(map(re.escape, sorted(words & {*known}))) for kind, known in _WORDS.items()}
    present["bound"] = "|".join(word for word in BOUNDS if word in lower) or _NEVER
    has_digit = any(c.isdigit() for c in text)
    for form, read in _FORMS:
        kinds = re.findall("<([a-z]+)>", form.replace("(?P<", ""))
        needs_digit = "\\d" in form and kinds != ["ago"]
        if not all(map(present.__getitem__, kinds)) or (needs_digit and not has_digit):
            continue
        for kind in kinds:
            form = form.replace(f"<{kind}>", f"(?P<{kind}>{present[kind]})", 1)
        yield re.compile(rf"(?<![\w'-])(?<!\d[./])(?:{form})", re.IGNORECASE), read


def _chinese_readers() -> Iterator[tuple[re.Pattern[str], Read]]:
    """Return the forms of Chinese."""
    before = r"(?:^|(?<=[\s，,、。在于是的])|(?<=[A-Za-z]))(?:在)?"
    after = r"(?=$|[\s，,、。的拍在和跟与我])"
    year = r"(?P<year>(?:19|20)\d\d)年"
    beyond = rf"(?P<beyond>以前|之前|前{after}|以来)?"
    season = r"(?P<season>[春夏秋冬])(?:天|季)"
    yield re.compile(rf"[在从]?{_FIRST}年?\s*[到至~–-]\s*(?P<bare>(?:19|20)\d\d)年(?:之间|期间|间)?"), _years
    yield re.compile(rf"在?{year}(?P<month>\d{{1,2}})月(?:份|(?P<day>\d{{1,2}})[日号])?{beyond}"), _chinese_day
    yield re.compile(rf"在?{year}的?{season}{beyond}"), lambda m, now: f"{_CHINESE_SEASONS[m['season']]} {m['year']}"
    yield re.compile(rf"在?{year}(?![代底初末中后级款版度])(?!前(?!{after})){beyond}"), lambda m, now: m["year"]
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
