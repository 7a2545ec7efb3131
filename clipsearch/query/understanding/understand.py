"""Read the words of a query: lift out what is certainly a filter, and leave all else as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import reduce
from itertools import pairwise
from operator import or_

from clipsearch.dates import parse_period
from clipsearch.filtering import Filter
from clipsearch.query.negation import split_negation
from clipsearch.query.understanding.bounds import describe, limit
from clipsearch.query.understanding.cameras import find_cameras
from clipsearch.query.understanding.east_asian import find_east_asian
from clipsearch.query.understanding.gate import may_hold_filter
from clipsearch.query.understanding.names import Known, Named, find_names
from clipsearch.query.understanding.periods import Dated, find_periods
from clipsearch.query.understanding.runs import find_runs
from clipsearch.query.understanding.tokens import Token, tokenize
from clipsearch.query.understanding.understood import Understood
from clipsearch.query.understanding.vocabulary import EAST_ASIAN_TURNS, GENERIC, MONTHS, PREPOSITIONS, TURNS

_NOT_A_YEAR = frozenset(
    "number no nr page room flat windows office class model version channel highway route calendar diary planner bmw "
    "peugeot fifa pes expo volume chapter edition area agenda resolution gate bus line platform flight apollo "
    "iso".split()
)
_MADE = frozenset("born built founded invented painted written released published died".split())
"""Before a year, those of _MADE with "in" and the like too: it is not that of the picture."""

_NOT_ALL = frozenset(
    "early mid late half over almost nearly about roughly around circa anfang ende mitte début fin mi principios "
    "finales mediados".split()
)
_PARTS = frozenset("end ends beginning start middle week weekend day days month quarter rest first last second".split())
"""Before a date, those of _PARTS with "of": a part of it is meant, or what is near it."""

_TO = frozenset(("to", "through"))
"""Beside a date they make a period of which the other date was not read."""
_ANY = "a photo"
"""What is searched for if only negated things are left of the words."""

_REACH = 3
"""Words before a filter that may turn it."""
_JOINS = frozenset("and or und oder et ou y o &".split())
_STOPS = frozenset(",;，；。")
_ALTERNATIVES = frozenset("or oder ou nor".split())
_MOST = 8
"""The most names that are lifted; a text with more names is taken as a list."""

_AND = re.compile(r"^(?:and|und|et|y|e|&)\s+", re.IGNORECASE)
_OR = re.compile(r"\b(?:or|oder|ou|o)\b", re.IGNORECASE)
_JOINED = re.compile(r"\b(?:and|und|et|y|e|or|oder|ou|o)\b|[&和与]", re.IGNORECASE)
_LISTED = re.compile(r"\s*[,，、]?\s*(?:(?:and|und|et|y|e|or|oder|ou|o)\b|[,，、&和与])\s*", re.IGNORECASE)
_KINDS = (("place", "places", "in"), ("tag", "tags", "with"), ("camera", "cameras", "taken with"))
"""For each kind of name: the field of the filter, and how the filter is described."""

_EAST_ASIAN_EDGES = "的在和跟与于里是拍去，、,。 "
_EAST_ASIAN_GENERIC = re.compile(r"[的在和跟与于里是拍我们所有一些张\s]*(?:照片|相片|图片|图像|照)?[的\s]*")


def understand_words(text: str, known: Known, now: datetime) -> Understood:
    """Return what the words of a query mean.

    Args:
        text: The words.
        known: The names of the library.
        now: Local time, for what is relative.

    Returns:
        The words that remain, the filter, and what is not there; all of the words where nothing is certain.
    """
    kept, without = _split_negation(text, now)
    found = _lift(kept, known, now) if may_hold_filter(kept) else Understood(kept)
    text = found.text or (_ANY if without else "")
    return replace(found, text=text, without=without)


def _split_negation(text: str, now: datetime) -> tuple[str, tuple[str, ...]]:
    """Split a text as `split_negation` does; a date after the negated things applies to the whole text."""
    kept, things = split_negation(text)
    without = []
    for thing in things:
        dates = find_periods(thing, now)
        start = dates[0].start if dates else len(thing)
        if not start or (dates and dates[-1].end < len(thing)):
            return text, ()
        kept += f", {thing[start:]}" * bool(dates)
        without.append(thing[:start].rstrip(" ,"))
    return kept, tuple(without)


def _lift(text: str, known: Known, now: datetime) -> Understood:
    tokens = tokenize(text)
    periods = find_periods(text, now)
    if any(_is_joined(text, each) for each in periods):
        return Understood(text)
    dates = [each for each in periods if _is_date(each, text, tokens, known)]
    lifted = [(each.start, each.end) for each in dates]
    runs = find_runs(tokens, lifted, text)
    cameras = find_cameras(runs, tokens, text, known)
    if cameras:
        runs = find_runs(tokens, lifted + [each[:2] for each in cameras], text)
    names = find_names(runs, tokens, known)
    if any(token.is_east_asian for token in tokens):
        around = lifted + [each[:2] for each in (*cameras, *names)]
        names += find_east_asian(find_runs(tokens, around, text), known, text)
    found = sorted([*names, *cameras])
    if not dates:
        dates = [each for each in _year_before(text, found, now) if _is_date(each, text, tokens, known)]
        lifted = [(each.start, each.end) for each in dates]
    kept = " ".join(text[start:end] for start, end in _between(text, lifted))
    if any(_is_half(each, found, text) for each in found):
        return Understood(text)
    spans = [*lifted, *(each[:2] for each in found)]
    joined = [(a.end, b.start) for a, b in pairwise(found) if a.kind == b.kind and _is_listed(text, a, b)]
    if any(each in kept for each in EAST_ASIAN_TURNS) or _is_turned(spans, tokens, [*lifted, *joined]):
        return Understood(text)
    return _combine(text, dates, found)


def _between(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the parts of a text before, between and after others."""
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _is_turned(spans: Sequence[tuple[int, int]], tokens: Sequence[Token], clear: Sequence[tuple[int, int]]) -> bool:
    """Tell whether a word before, at the beginning of, or after one of these says that not just this is meant.

    clear: the spans that are dates, and what stands between names of a list; a word in them is part of what they mean.
    """
    turning = {token.start for token in tokens if not any(left <= token.start < right for left, right in clear)}
    for start, end in spans:
        inside = [number for number, token in enumerate(tokens) if start <= token.start < end]
        if not inside:
            continue
        first, last = inside[0], inside[-1]
        near = [tokens[first]]
        while first and len(near) <= _REACH and not _STOPS & {*tokens[first].gap}:
            first -= 1
            near.append(tokens[first])
        if any(token.lower in TURNS and token.start in turning for token in near):
            return True
        after = tokens[last + 1] if last + 1 < len(tokens) else None
        if after and after.lower in _ALTERNATIVES and after.start in turning and not _STOPS & {*after.gap}:
            return True
    return False


def likely_words(text: str, now: datetime) -> str | None:
    """Predict the words that will remain, without a library; None if none will.

    What embeds the words beforehand guesses by it: a name counts where a word leads to it, as in "with Anna".
    """
    tokens, dates = tokenize(text), find_periods(text, now)
    runs = find_runs(tokens, [(each.start, each.end) for each in dates], text)
    known = _AnyName(text)
    found = [*find_cameras(runs, tokens, text, known), *find_names(runs, tokens, known)]
    led = [each for each in found if text[each.start : each.end] != each.name]
    return _combine(text, dates, sorted(led)).text or None


class _AnyName:
    """The names of a library that has every name of a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def tags(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of one word, written as names are."""
        return {name: name.title() for name in names if name.isalpha()}

    def places(self, name: str) -> Sequence[_AnyName]:
        """Return one place for each name."""
        return (self,)

    def cameras(self) -> Sequence[str]:
        """Return one for each word."""
        return self._text.split()

    def has_taken(self, start: datetime, end: datetime) -> bool:
        """Return True."""
        return True

    is_main, field = False, "city"


def _is_date(dated: Dated, text: str, tokens: Sequence[Token], known: Known) -> bool:
    """Tell whether a period is meant: years alone must occur in the library, and not be a number as in "room 2021"."""
    before = [token for token in tokens if token.end <= dated.start]
    after = next((token for token in tokens if token.start >= dated.end), None)
    last = before[-1].lower if before else ""
    is_part = last in _PARTS and text[dated.start : dated.end].lower().startswith("of ")
    if last in _TO | _NOT_ALL or is_part or (after and after.lower in _TO):
        return False
    if not dated.is_bare:
        return True
    is_of = last == "of" and not (len(before) > 1 and before[-2].lower in GENERIC)
    is_number = text[dated.start].isdigit() and last in _NOT_A_YEAR
    if is_number or last in _MADE or last in MONTHS or is_of or re.fullmatch(r"\d+(?:st|nd|rd|th)", last):
        return False
    wanted = limit(dated.period, dated.bound)
    return known.has_taken(wanted.taken_from or datetime.min, wanted.taken_until or datetime.max)


def _is_joined(text: str, dated: Dated) -> bool:
    """Tell whether a word, or another date, is joined to a date, as in "spring/summer 2021" and "2019 and 2021"."""
    words = text[: dated.start].split()
    if text[: dated.start][-1:] in {*"/-–"} or text[dated.end :].lstrip()[:1] in {*"到至"}:
        return True
    return len(words) > 1 and words[-1].lower() in _JOINS and (words[-2].isdecimal() or words[-2].lower() in MONTHS)


def _year_before(text: str, names: Sequence[Named], now: datetime) -> list[Dated]:
    """Return the year that stands before a name, as in "beach 2022 in Spain"."""
    for each in names:
        words = text[: each.start].rstrip(" ,").split()
        if words and re.fullmatch(r"(?:19|20)\d\d", words[-1]) and int(words[-1]) <= now.year:
            start = text.rindex(words[-1], 0, each.start)
            return [Dated(start, start + 4, parse_period(words[-1], now), is_bare=True)]
    return []


def _combine(text: str, dates: Sequence[Dated], names: Sequence[Named]) -> Understood:
    if not (dates or names) or len(names) > _MOST or len(dates) > 1:
        return Understood(text)
    wanted = Filter()
    parts = []
    for each in dates:
        wanted = wanted & limit(each.period, each.bound)
        parts.append(describe(each.period, each.bound))
    for kind, field, lead in _KINDS:
        for alternatives in _alternatives(text, [each for each in names if each.kind == kind]):
            wanted = wanted & reduce(or_, (Filter(**{field: (name,)}) for name in alternatives))  # type: ignore[arg-type]
            parts.append(f"{lead} {' or '.join(alternatives)}")
    joins = [(a.end, b.start) for a, b in pairwise(names) if a.kind == b.kind and _is_listed(text, a, b)]
    left = _remaining(
        text, sorted([*((each.start, each.end) for each in dates), *(each[:2] for each in names), *joins])
    )
    return Understood(left, wanted if len(parts) > 1 else wanted.all_of[0] if wanted.all_of else wanted, tuple(parts))


def _alternatives(text: str, names: Sequence[Named]) -> list[tuple[str, ...]]:
    """Return the names of one kind that must all hold, each as its alternatives.

    Of places, "and" means any of them, and of cameras all do.
    """
    lists: list[list[Named]] = []
    for each in names:
        is_next = lists and (each.kind == "camera" or _is_listed(text, lists[-1][-1], each))
        lists = [*lists[:-1], [*lists[-1], each]] if is_next else [*lists, [each]]
    found: list[tuple[str, ...]] = []
    for listed in lists:
        joins = _JOINED if listed[0].kind == "place" else _OR
        is_any = listed[0].kind == "camera" or any(joins.search(text[a.end : b.start]) for a, b in pairwise(listed))
        found += [tuple(dict.fromkeys(each.name for each in listed))] if is_any else [(each.name,) for each in listed]
    return list(dict.fromkeys(found))


def _is_half(name: Named, names: Sequence[Named], text: str) -> bool:
    """Tell whether Chinese words join a place to a word that was not found as a name."""
    link = text[name.end :].lstrip()
    beyond = len(text) - len(link) + 1
    if name.kind != "place" or not link or link[0] not in "和与或、":
        return False
    return not any(each.start <= beyond < each.end for each in names)


def _is_listed(text: str, first: Named, second: Named) -> bool:
    return _LISTED.fullmatch(text[first.end : second.start]) is not None


def _remaining(text: str, lifted: Sequence[tuple[int, int]]) -> str:
    """Return the words that are left, tidied at their edges; empty where they ask for nothing more."""
    pieces = [_tidy(text[start:end]) for start, end in _between(text, lifted)]
    if pieces[0] and len(pieces) > 1 and all(token.lower in GENERIC for token in tokenize(pieces[0])):
        pieces[0] = ""
    if not pieces[0]:
        pieces = [_AND.sub("", piece) for piece in pieces]
    words = " ".join(piece for piece in pieces if re.search(r"\w", piece)).strip(" :|/@–—").removesuffix(" -")
    for left, right in ("()", "[]"):
        words = words if words.count(left) == words.count(right) else words.strip(f" {left}{right}")
    tokens = tokenize(words)
    while tokens and tokens[-1].lower in PREPOSITIONS and len(tokens) > 1:
        words = words[: tokens.pop().start].rstrip(" ,;")
    is_generic = all(token.lower in GENERIC for token in tokens if not token.is_east_asian)
    east_asian = "".join(token.text for token in tokens if token.is_east_asian)
    return "" if is_generic and _EAST_ASIAN_GENERIC.fullmatch(east_asian) else words


def _tidy(piece: str) -> str:
    """Return a part of the words without what led to a filter."""
    piece = " ".join(piece.split()).strip(" ,;，、。").removesuffix(" .").removeprefix("' ").removeprefix("’ ")
    return piece.strip(_EAST_ASIAN_EDGES) if any(token.is_east_asian for token in tokenize(piece)) else piece
