"""Dates in the words of a query: only those that can hardly be anything else.

All are read here, or by clipsearch.dates in forms that it knows itself, so that dateparser is never loaded. Where a
year stands alone, at the end of the words, the caller says whether anything is of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from clipsearch.dates import Period, parse_period
from clipsearch.errors import InvalidInputError
from clipsearch.query.understanding import relative_dates
from clipsearch.query.understanding.bounds import BOUNDS
from clipsearch.query.understanding.tokens import is_east_asian
from clipsearch.query.understanding.vocabulary import (
    AFTER,
    DECADES,
    DOUBTFUL_MONTHS,
    LAST,
    MONTHS,
    NUMBERS,
    SEASONS,
    SPANS,
    THIS,
    TODAY,
    TWICE,
    UNITS,
    WEEKDAYS,
)


class Dated(NamedTuple):
    """A period, and where it stands in the text: from start to before end.

    is_bare: it is of years and no more. bound: one of the values of BOUNDS; empty where the period itself is meant.
    """

    start: int
    end: int
    period: Period
    is_bare: bool = False
    bound: str = ""


def find_periods(text: str, now: datetime) -> list[Dated]:
    """Return the dates of a text, none of which overlap; now: local time."""
    text = _simplify(text)
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
            except (
                InvalidInputError,
                ValueError,
                OverflowError,
                KeyError,
            ):  # KeyError: a letter that looks like another
                continue
    return _join(text, sorted(found))


def _simplify(text: str) -> str:
    """Return a text of the same length with digits, apostrophes and characters of one kind."""
    if text.isascii():
        return text
    text = text.translate(_SAME)
    if not any(map(is_east_asian, text)):
        return text
    from clipsearch.query.understanding.chinese_dates import simplify

    return simplify(text)


def _bound(match: re.Match[str]) -> str:
    """Return the bound that a word before or, in Chinese, after a date makes it."""
    groups = match.groupdict()
    if groups.get("onwards"):
        return "since"
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
    return [_with_weekday(text, each) for each in joined if not _is_half(text, each)]


def _is_half(text: str, dated: Dated) -> bool:
    """Tell whether "between" stands before a date without the other one, as in "between May 2020 and now"."""
    words = text[dated.start : dated.end].lower().split()
    return words[0] in _BETWEEN and not any(each in _AND for each in words)


def _with_weekday(text: str, dated: Dated) -> Dated:
    """Take the weekday before a day as part of the date, as in "on Sunday, 11 August 2024"."""
    words = text[: dated.start].rstrip(" ,").split()
    if dated.period.end - dated.period.start != timedelta(days=1) or not words or words[-1].lower() not in WEEKDAYS:
        return dated
    words = words[-2:] if len(words) > 1 and words[-2].lower() in ("on", "am") else words[-1:]
    return dated._replace(start=text.rindex(words[0], 0, dated.start))


def _is_range(text: str, first: Dated, second: Dated) -> bool:
    link = text[first.end : second.start].strip().lower()
    if first.bound not in ("", "since") or second.bound not in ("", "until"):
        return False
    if second.bound:
        return not link
    between = text[first.start : first.end].split()[0].lower() in _BETWEEN
    return link in (_AND if between else _TO)


_SAME = {ord("’"): "'"} | {code: chr(code - 0xFEE0) for code in range(0xFF10, 0xFF1A)}
"""Apostrophes and full-width digits, as the forms have them."""

Read = Callable[[re.Match[str], datetime], "str | Period | None"]


def _month(match: re.Match[str]) -> int:
    return MONTHS[match["month"].lower()]


def _day(match: re.Match[str], now: datetime) -> str:
    return f"{match['year']}-{_month(match):02}-{int(match['day']):02}"


def _latest(match: re.Match[str], now: datetime) -> str | None:
    """Read a month without a year as the latest that has begun."""
    name, cue = match["month"], match[0].split()[0].lower()
    is_month = name[0].isupper() or (cue != "from" and name not in ("march", "mars", "mar"))
    if name.lower() in DOUBTFUL_MONTHS and not is_month:
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


def _days(match: re.Match[str], now: datetime) -> Period | None:
    """Read "15 to 20 July 2021" and "15 July to 2 August 2021"."""
    last = MONTHS[match.groupdict().get("until", match["month"]).lower()]
    year = int(match["year"])
    start = datetime(year, _month(match), int(match["day"]))
    end = datetime(year, last, int(match["to"])) + timedelta(days=1)
    return Period(start, end) if start < end else None


def _next_months(match: re.Match[str], now: datetime) -> Period | None:
    """Read "July and August 2023": months that follow each other, not two apart."""
    first, last = (MONTHS[match[name].lower()] for name in ("month", "until"))
    return _months(match, now) if last == first + 1 else None


def _next_years(match: re.Match[str], now: datetime) -> Period | None:
    return _years(match, now) if int(match["bare"]) == int(match["first"]) + 1 else None


def _quarter(match: re.Match[str], now: datetime) -> Period:
    first = 3 * int(match["quarter"]) - 2
    year = int(match["year"])
    return Period(datetime(year, first, 1), datetime(year + (first == 10), (first + 3) % 12, 1))


def _numbers(match: re.Match[str], now: datetime) -> str | None:
    """Read a day, a month and a year where only one order of them is possible."""
    day, month = int(match["one"]), int(match["two"])
    if day <= 12 and month <= 12 and day != month:
        return None
    return f"{match['year']}-{min(day, month):02}-{max(day, month):02}"


_BETWEEN, _AND = ("between", "zwischen", "entre"), ("and", "und", "et", "y")
_TO = ("to", "until", "till", "through", "bis", "à", "a", "al", "hasta", "-", "–", "—", "到", "至")
_BOUND = r"<bound>\s+"
_FROM = "from|von|vom|de|du|desde"
_IN = "on|in|from|during|pendant|of|im|am|vom|aus|en|au|du|del?|le|el|in the|" + "|".join(_BETWEEN)
_CUE = rf"(?:{_BOUND}(?:the\s+)?|(?:{_IN})\s+)?"
_THE = r"(?:el\s+|la\s+|le\s+|l')?"
_LINK = r"(?:\s+(?:of|de|del)\s+|,?\s+)"
_END = r"(?:'s)?(?![\w'/-])"
_YEAR, _BARE = r"(?P<year>(?:19|20)\d\d)", r"(?P<bare>(?:19|20)\d\d)"
_STOP = r"(?=\s*$|\s*[,;.)?!]{})"
_FIRST = r"(?P<first>(?:19|20)\d\d)"
_THEN = r"|\s+(?:in|at|with|on|mit|à|en|con|im)\s"
_HOURS = r"|\s+(?:morning|afternoon|evening|abend|nachmittag|soir|matin)\b"
_ENDED = _STOP.format(_THEN)
_OVER = r"(?:(?:in|from|over|during|within|pendant|durant|dans|en|der|aus)\s+)?(?:(?:the|den|les|los|las|ces)\s+)?"
_DAY, _UNTIL = r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?", r"(?P<to>\d{1,2})(?:st|nd|rd|th|\.)?,?\s+"
_BOTH = r"(?:\s+(?:and|or|und|oder|et|ou|y|o|&)\s+|\s*/\s*)"
_WITHIN = r"(?:in|during|(?P<origin>from|aus))\s+"
_TENS = r"(?P<bare>(?:19|20)?\d0)"
_LINKS = "(?:" + "|".join(rf"\s+{word}\s+" if word.isalpha() else rf"\s*{word}\s*" for word in _TO) + ")"


def _season_of(match: re.Match[str], now: datetime) -> str | None:
    following = f"{int(match['year']) + 1}"
    if match["next"] not in (None, following, following[2:]):
        return None
    return f"{SEASONS[match['season'].lower()]} {match['year']}"


_FORMS: tuple[tuple[str, Read], ...] = (
    (_CUE + r"(?P<one>\d{1,2})(?P<mark>[./-])(?P<two>\d{1,2})(?P=mark)" + _YEAR + _END, _numbers),
    (f"(?:{'|'.join(_BETWEEN)})\\s+{_FIRST}\\s+(?:{'|'.join(_AND)})\\s+{_BARE}{_END}", _years),
    (rf"(?:{_FROM})\s+" + _FIRST + _LINKS + _BARE + _END, _years),
    (_CUE + _THE + "<season>" + _LINK + _YEAR + r"(?:[/–-](?P<next>\d{4}|\d\d))?" + _END, _season_of),
    (_FIRST + _LINKS + _BARE + _STOP.format(r"|\s+(?:in|at|with|mit|à|en|con|im)\s"), _years),
    (f"(?:{'|'.join(_BETWEEN)})\\s+<month>\\s+(?:{'|'.join(_AND)})\\s+<until>" + _LINK + _YEAR + _END, _months),
    (rf"(?:(?:{_FROM})\s+)?<month>" + _LINKS + "<until>" + _LINK + _YEAR + _END, _months),
    (rf"(?:(?:{_FROM}|in)\s+)?<month>{_BOTH}<until>" + _LINK + _YEAR + _END, _next_months),
    (rf"(?:(?:{_FROM}|in)\s+)?{_FIRST}{_BOTH}{_BARE}" + _STOP.format(""), _next_years),
    (rf"(?:(?:{_FROM})\s+)?(?:the\s+)?{_DAY}{_LINKS}{_UNTIL}(?:of\s+|de\s+)?<month>" + _LINK + _YEAR + _END, _days),
    (rf"(?:(?:{_FROM})\s+)?<month>\s+{_DAY}{_LINKS}{_UNTIL}" + _YEAR + _END, _days),
    (rf"(?:(?:{_FROM})\s+)?{_DAY}\s*<month>{_LINKS}{_UNTIL}<until>" + _LINK + _YEAR + _END, _days),
    (r"(?:in\s+)?Q(?P<quarter>[1-4])[\s,/-]*" + _YEAR + _END, _quarter),
    (rf"from\s+{_BARE}\s+(?P<onwards>onwards?|on)" + _STOP.format(_THEN), _year),
    (_CUE + r"(?P<iso>\d{4}[-/]\d{1,2}(?:[-/]\d{1,2})?)" + _END, lambda match, now: match["iso"]),
    (_CUE + r"(?:the\s+)?(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?\s+(?:of\s+|de\s+)?<month>" + _LINK + _YEAR + _END, _day),
    (_CUE + r"<month>\.?\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+" + _YEAR + _END, _day),
    (
        r"(?<!\d\s)(?<!\d[.,]\s)" + _CUE + r"<month>\.?" + _LINK + _YEAR + _END,
        lambda match, now: f"{match['year']}-{_month(match):02}",
    ),
    (_CUE + r"(?:the\s+)?<last>\s+<season>" + _END, relative_dates.season),
    (_CUE + _THE + r"<season>\s+<after>" + _END, relative_dates.season),
    (_CUE + r"<this>\s+<season>" + _END, relative_dates.season),
    (_CUE + r"(?:the\s+)?<unit>\s+<prior>\s+last" + _END, relative_dates.before_last),
    (_CUE + _THE + r"(?:<twice>\s+<unit>|<unit>\s+antepasado)" + _END, relative_dates.before_last),
    (_CUE + r"<last>\s+<unit>" + _END, relative_dates.last),
    (_CUE + _THE + r"<unit>\s+<after>" + _END, relative_dates.last),
    (_CUE + r"<this>\s+<unit>" + _END, relative_dates.this),
    (_CUE + r"<last>\s+<weekday>" + _END, relative_dates.weekday),
    (_CUE + _THE + r"<weekday>\s+<after>" + _END, relative_dates.weekday),
    (_CUE + r"<last>\s+<month>" + _END, relative_dates.month),
    (_CUE + r"<this>\s+<month>" + _END, relative_dates.month),
    (_CUE + _THE + r"<month>\s+<after>" + _END, relative_dates.month),
    (r"<count>\s+<span>\s+<ago>" + _END, relative_dates.ago),
    (r"<since>(?:\s+y\s+a)?\s+<count>\s+<span>" + _END, relative_dates.ago),
    (_OVER + r"<last>\s+<count>\s+<span>" + _END + r"(?!\s+of\b)", relative_dates.recent),
    (_OVER + r"<count>\s+<after>\s+<span>" + _END, relative_dates.recent),
    (rf"{_WITHIN}(?:the|den)\s+'?{_TENS}(?:'?s|er[n]?(?:\s+Jahren)?)" + _ENDED, relative_dates.decade),
    (_WITHIN + r"the\s+(?P<bare><decade>)" + _ENDED, relative_dates.decade),
    (rf"(?:(?:dans|pendant)\s+les\s+années|en\s+los(?:\s+años)?)\s+{_TENS}" + _ENDED, relative_dates.decade),
    (rf"(?<=,\s){_TENS}s(?=\s*$)", relative_dates.decade),
    (r"(?:the\s+)?day\s+<prior>\s+yesterday" + _ENDED, relative_dates.day_before_yesterday),
    (rf"(?:{_BOUND})?<today>" + _STOP.format(_THEN + _HOURS), relative_dates.today),
    (r"<today>'s(?=\s+(?!news|paper|special|menu|world|youth))", relative_dates.today),
    (r"(?:in|from|im|en|vom|(?P<bound>since))\s+<month>" + _STOP.format(r"|\s+(?:in|at|with|on)\s"), _latest),
    (rf"(?:(?:in|from|during|im|en|de|aus)\s+|{_BOUND})" + _BARE + _STOP.format(r"|\s+[^\W\d]"), _year),
    (_BARE + _STOP.format(""), _year),
)
"""Each form of a date with what reads it, the most certain ones first. <month> and its like are words of _WORDS."""

_WORDS: dict[str, Collection[str]] = {
    "month": MONTHS, "until": MONTHS, "season": SEASONS, "unit": UNITS, "span": SPANS, "today": TODAY, "last": LAST,
    "this": THIS, "after": AFTER, "weekday": WEEKDAYS, "twice": TWICE, "count": NUMBERS, "decade": DECADES,
    "ago": ("ago",), "prior": ("before",), "since": ("vor", "hace", "il"),
}  # fmt: skip
_NEVER = "(?!)"


def _readers(text: str) -> Iterator[tuple[re.Pattern[str], Read]]:
    """Yield the forms of which a text has the words, with these words alone: to compile all takes milliseconds."""
    if any(map(is_east_asian, text)):
        from clipsearch.query.understanding.chinese_dates import chinese_readers

        yield from chinese_readers(text)
    lower = text.lower()
    words = {word.removesuffix("'s") for word in re.split(r"[^\w']+|(?<=\bl)'", lower)}
    present = {kind: "|".join(map(re.escape, sorted(words & {*known}))) for kind, known in _WORDS.items()}
    present["bound"] = "|".join(word for word in BOUNDS if word in lower) or _NEVER
    numbers = re.findall(r"\d+", text)
    present["count"] += r"|\d{1,3}" * bool(numbers)
    present["until"] *= sum(word in MONTHS for word in re.split(r"[^\w']+", lower)) > 1
    years = sum(len(number) == 4 for number in numbers)
    possible = {
        "first": years > 1, "year": years, "iso": years and len(numbers) > 1, "to": len(numbers) > 2,
        "one": len(numbers) > 2, "day": len(numbers) > 1, "quarter": "q" in lower, "onwards": " on" in lower,
        "bare": numbers or present["decade"],
    }  # fmt: skip
    for form, read in _FORMS:
        kinds = re.findall("<([a-z]+)>", form.replace("(?P<", ""))
        named = [name for name in possible if f"(?P<{name}>" in form]
        if not (all(map(present.__getitem__, kinds)) and all(map(possible.__getitem__, named))):
            continue
        for kind in kinds:
            form = form.replace(f"<{kind}>", f"(?P<{kind}>{present[kind]})", 1)
        yield re.compile(rf"(?<![\w'-])(?<!\d[./])(?:{form})", re.IGNORECASE), read
