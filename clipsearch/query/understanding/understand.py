"""Read the words of a query: lift out what is certainly a filter, and leave all else as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from clipsearch.filtering import Filter
from clipsearch.query.negation import split_negation
from clipsearch.query.understanding.cameras import find_cameras
from clipsearch.query.understanding.east_asian import find_east_asian
from clipsearch.query.understanding.gate import may_hold_filter
from clipsearch.query.understanding.names import Known, Named, find_names, find_runs
from clipsearch.query.understanding.periods import Dated, find_periods
from clipsearch.query.understanding.tokens import Token, tokenize
from clipsearch.query.understanding.understood import Understood, describe_period
from clipsearch.query.understanding.vocabulary import EAST_ASIAN_TURNS, GENERIC, PREPOSITIONS, TURNS

_NOT_A_YEAR = frozenset("number no nr page room flat windows office class model version channel highway route".split())
_REACH = 3
"""Words before a filter that may turn it."""
_STOPS = frozenset(",;，；。")
_ALTERNATIVES = frozenset("or oder ou nor".split())
_MOST = 8
"""The most names that are lifted; a text with more names is taken as a list."""

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
    found = _lift(text, known, now) if may_hold_filter(text) else Understood(text)
    kept, without = split_negation(found.text)
    return replace(found, text=kept, without=without)


def _lift(text: str, known: Known, now: datetime) -> Understood:
    tokens = tokenize(text)
    dates = [each for each in find_periods(text, now) if _is_date(each, text, tokens, known)]
    lifted = [(each.start, each.end) for each in dates]
    runs = find_runs(tokens, lifted, text)
    cameras = find_cameras(runs, tokens, text, known)
    if cameras:
        runs = find_runs(tokens, lifted + [each[:2] for each in cameras], text)
    names = find_names(runs, known)
    if any(token.is_east_asian for token in tokens):
        around = lifted + [each[:2] for each in (*cameras, *names)]
        names += find_east_asian(find_runs(tokens, around, text), known)
    found = sorted([*names, *cameras])
    if any(each in text for each in EAST_ASIAN_TURNS) or _is_turned([*lifted, *(each[:2] for each in found)], tokens):
        return Understood(text)
    return _combine(text, dates, found)


def _is_turned(spans: Sequence[tuple[int, int]], tokens: Sequence[Token]) -> bool:
    """Tell whether a word before, at the beginning of, or after one of these says that not just this is meant."""
    for start, end in spans:
        inside = [number for number, token in enumerate(tokens) if start <= token.start < end]
        if not inside:
            continue
        first, last = inside[0], inside[-1]
        near = [tokens[first]]
        while first and len(near) <= _REACH and not _STOPS & {*tokens[first].gap}:
            first -= 1
            near.append(tokens[first])
        if any(token.lower in TURNS for token in near):
            return True
        if last + 1 < len(tokens) and tokens[last + 1].lower in _ALTERNATIVES and not _STOPS & {*tokens[last + 1].gap}:
            return True
    return False


def likely_words(text: str, now: datetime) -> str | None:
    """Predict the words that will remain, without a library; None if none will.

    What embeds the words beforehand guesses by it: a name counts where a word leads to it, as in "with Anna".
    """
    tokens, dates = tokenize(text), find_periods(text, now)
    runs = find_runs(tokens, [(each.start, each.end) for each in dates], text)
    known = _AnyName(text)
    found = [*find_cameras(runs, tokens, text, known), *find_names(runs, known)]
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

    def has_taken(self, year: int) -> bool:
        """Return True."""
        return True

    is_main = False


def _is_date(dated: Dated, text: str, tokens: Sequence[Token], known: Known) -> bool:
    """Tell whether a period is meant: a year alone must occur in the library, and not be a number as in "room 2021"."""
    if not dated.is_bare:
        return True
    before = [token for token in tokens if token.end <= dated.start]
    if before and before[-1].lower in _NOT_A_YEAR:
        return False
    return known.has_taken(dated.period.start.year)


def _combine(text: str, dates: Sequence[Dated], names: Sequence[Named]) -> Understood:
    if not (dates or names) or len(names) > _MOST or len(dates) > 1:
        return Understood(text)
    wanted = Filter()
    parts = []
    for each in dates:
        wanted = wanted & Filter(taken_from=each.period.start, taken_until=each.period.end)
        parts.append(describe_period(each.period.start, each.period.end))
    for kind, field, lead in (("place", "places", "in"), ("tag", "tags", "with"), ("camera", "cameras", "taken with")):
        for name in dict.fromkeys(each.name for each in names if each.kind == kind):
            wanted = wanted & Filter(**{field: (name,)})  # type: ignore[arg-type]
            parts.append(f"{lead} {name}")
    left = _remaining(text, sorted([(each[0], each[1]) for each in (*dates, *names)]))
    return Understood(left, wanted if len(parts) > 1 else wanted.all_of[0] if wanted.all_of else wanted, tuple(parts))


def _remaining(text: str, lifted: Sequence[tuple[int, int]]) -> str:
    """Return the words that are left, tidied at their edges; empty where they ask for nothing more."""
    pieces, at = [], 0
    for start, end in lifted:
        pieces.append(_tidy(text[at:start]))
        at = end
    pieces.append(_tidy(text[at:]))
    words = " ".join(piece for piece in pieces if piece)
    tokens = tokenize(words)
    while tokens and tokens[-1].lower in PREPOSITIONS and len(tokens) > 1:
        words = words[: tokens.pop().start].rstrip(" ,;")
    is_generic = all(token.lower in GENERIC for token in tokens if not token.is_east_asian)
    east_asian = "".join(token.text for token in tokens if token.is_east_asian)
    return "" if is_generic and _EAST_ASIAN_GENERIC.fullmatch(east_asian) else words


def _tidy(piece: str) -> str:
    """Return a part of the words without what led to a filter."""
    piece = " ".join(piece.split()).strip(" ,;，、。").removesuffix(" .")
    return piece.strip(_EAST_ASIAN_EDGES) if any(token.is_east_asian for token in tokenize(piece)) else piece
