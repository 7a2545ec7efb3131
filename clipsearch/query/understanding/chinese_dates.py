"""Dates in Chinese words, which have no spaces between them. The text is in simplified characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from clipsearch.dates import Period
from clipsearch.query.understanding.relative_dates import counted_ago, unit_before, until_today

_SEASONS = {"春": "spring", "夏": "summer", "秋": "autumn", "冬": "winter"}
_YEARS = {"今": 0, "去": 1, "前": 2, "大前": 3}
_DAYS = {"今天": 0, "昨天": 1, "昨晚": 1, "前天": 2, "大前天": 3}
_UNITS = {"周": "week", "星期": "week", "礼拜": "week", "周末": "weekend", "月": "month", "年": "year", "天": "day"}
_WEEKDAYS = {name: number for number, name in enumerate("一二三四五六日")} | {"天": 6}
_DIGITS = {name: number for number, name in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}

_NUMBERS = "0123456789"
_FORMS = {"個": "个", "週": "周", "禮": "礼", "號": "号", "這": "这", "兩": "两", "後": "后", "與": "与", "間": "间"}
_FORMS |= {"過": "过", "裡": "里", "裏": "里", "內": "内", "來": "来", "從": "从", "於": "于", "紀": "纪", "終": "终"}
_SIMPLE = str.maketrans(_FORMS)
_SPELLED_YEAR = re.compile("[一二][九〇零][〇零一二三四五六七八九]{2}(?=年)")


def simplify(text: str) -> str:
    """Return a text of the same length, with simplified characters of dates and the digits of years as numbers."""
    return _SPELLED_YEAR.sub(lambda year: "".join(str(_DIGITS[c]) for c in year[0]), text.translate(_SIMPLE))


Read = Callable[[re.Match[str], datetime], str | Period | None]


def chinese_readers(text: str) -> Iterator[tuple[re.Pattern[str], Read]]:
    """Yield the forms of dates in Chinese of which a text has a sign: to compile all takes milliseconds."""
    before = r"(?:^|(?<=[\s，,、。在于是的])|(?<=[A-Za-z]))(?:在)?"
    after = r"(?=$|[\s，,、。的拍在和跟与我去吃玩爬滑游])"
    year = r"(?P<year>(?:19|20)\d\d)年"
    beyond = rf"(?P<beyond>以前|之前|前{after}|以来|以后|之后)?"
    season = r"(?P<season>[春夏秋冬])(?:天|季|(?=$|[\s，,的在]))"
    month = r"(?P<month>\d{1,2}|十[一二]?|[一二三四五六七八九])月"
    day = r"(?P<day>\d{1,2}|[二三]?十[一二三四五六七八九]?|[一二三四五六七八九])[日号]"
    count, span = r"(?P<count>\d{1,3}|[一二两三四五六七八九十]{1,3})", r"(?P<span>年|个月|周|个?星期|个?礼拜|天)"
    half = "(?![代底初末中终尾后级款版度轻])"
    first, last = r"[在从]?(?P<first>(?:19|20)\d\d)年?", r"(?P<bare>(?:19|20)\d\d)年"
    forms: tuple[tuple[str, str, Read], ...] = (
        ("到至~–-", rf"{first}\s*[到至~–-]\s*{last}(?:之间|期间|间)?", _years),
        ("到至~–-", rf"在?{year}{month}[到至~–-](?P<until>\d{{1,2}}|十[一二]?|[二三四五六七八九])月", _months),
        ("月", rf"在?{year}{month}(?:份|{day})?{beyond}", _day),
        ("春夏秋冬", rf"在?{year}的?{season}{beyond}", lambda m, now: f"{_SEASONS[m['season']]} {m['year']}"),
        (_NUMBERS, rf"在?{year}{half}(?!前(?!{after})){beyond}", lambda m, now: m["year"]),
        ("年", rf"{before}(?P<which>[今去]|大?前)年的?(?:{season}|{month}(?:份|{day})?)?{half}", _year),
        ("天晚", rf"{before}(?P<today>今天|昨天|昨晚|大?前天){after}", _today),
        ("上这本", rf"{before}(?P<which>上|这|本)个?(?P<unit>周末|周|星期|礼拜|月){after}", _unit),
        ("上", rf"{before}上个?(?:周|星期|礼拜)(?P<weekday>[一二三四五六日天]){after}", _weekday),
        ("前", rf"{before}{count}{span}(?:之前|以前|前){after}", _ago),
        ("近过", rf"{before}(?:最近|过去|近)的?{count}{span}(?:里|内|间|以来|来)?{after}", _recent),
        ("代", rf"{before}(?:(?:上|20|二十)世纪)?(?P<bare>(?:19|20)?\d0)年代(?=的(?:老|旧)?照片)", _decade),
        ("代", rf"(?:^|(?<=[\s，,]))在(?:(?:上|20|二十)世纪)?(?P<bare>(?:19|20)?\d0)年代{half}", _decade),
    )
    glued = r"(?<=[\u4e00-\u9fff])(?<![年月日号到至第间室楼层路版款型])(?P<bare>(?:19|20)\d\d)(?=\s*$)"
    for signs, form, read in (*forms, (_NUMBERS, glued, _glued_year)):
        if any(sign in text for sign in signs):
            yield re.compile(form), read


def _glued_year(match: re.Match[str], now: datetime) -> str | None:
    return match["bare"] if int(match["bare"]) <= now.year else None


def _years(match: re.Match[str], now: datetime) -> Period | None:
    first, last = int(match["first"]), int(match["bare"])
    return Period(datetime(first, 1, 1), datetime(last + 1, 1, 1)) if first < last <= now.year else None


def _months(match: re.Match[str], now: datetime) -> Period | None:
    year, first, last = int(match["year"]), _number(match["month"]), _number(match["until"])
    return Period(datetime(year, first, 1), datetime(year + last // 12, last % 12 + 1, 1)) if first < last else None


def _day(match: re.Match[str], now: datetime) -> str:
    return "-".join([match["year"], *(f"{_number(match[name]):02}" for name in ("month", "day") if match[name])])


def _year(match: re.Match[str], now: datetime) -> str:
    year = now.year - _YEARS[match["which"]]
    if match["season"]:
        return f"{_SEASONS[match['season']]} {year}"
    return "-".join([f"{year:04}", *(f"{_number(match[name]):02}" for name in ("month", "day") if match[name])])


def _today(match: re.Match[str], now: datetime) -> str:
    return f"{now - timedelta(days=_DAYS[match['today']]):%Y-%m-%d}"


def _unit(match: re.Match[str], now: datetime) -> Period | str | None:
    return unit_before(_UNITS[match["unit"]], int(match["which"] == "上"), now)


def _weekday(match: re.Match[str], now: datetime) -> str:
    monday = now - timedelta(days=now.weekday() + 7)
    return f"{monday + timedelta(days=_WEEKDAYS[match['weekday']]):%Y-%m-%d}"


def _ago(match: re.Match[str], now: datetime) -> Period | str | None:
    return counted_ago(_number(match["count"]), _UNITS[match["span"].removeprefix("个")], now)


def _recent(match: re.Match[str], now: datetime) -> Period:
    return until_today(_number(match["count"]), _UNITS[match["span"].removeprefix("个")], now)


def _decade(match: re.Match[str], now: datetime) -> Period | None:
    year = int(match["bare"])
    year += 0 if year > 100 else 1900 if year > 20 else 2000
    return Period(datetime(year, 1, 1), datetime(year + 10, 1, 1)) if year <= now.year else None


def _number(text: str) -> int:
    """Return a number of digits, or of characters up to 99."""
    if text.isdecimal():
        return int(text)
    tens, ten, ones = text.rpartition("十")
    return (_DIGITS[tens] if tens else 1) * 10 * bool(ten) + (_DIGITS[ones] if ones else 0)
