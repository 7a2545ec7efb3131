"""Why a hit stands above the next one, in a sentence that names the fact that decides."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from clipsearch.explanation import Explanation, TermScore
from clipsearch.metadata import RATING
from clipsearch.query.diversity import likenesses
from clipsearch.query.options import SearchOptions
from clipsearch.sorting import newest_first
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality


class Reasons:
    """Gives reasons for the order of the hits of one answer."""

    def __init__(
        self, snapshot: Snapshot, options: SearchOptions, known: Mapping[int, Explanation], hits: Sequence[Hit]
    ) -> None:
        """Prepare. known: the explanations of the hits, by item. hits: those that are shown, and maybe the next."""
        self._options = options
        self._known = known
        self._hits = hits
        self._alike = likenesses(snapshot, hits) if options.diverse else None

    def above_next(self, place: int) -> str:
        """Say why the hit at a place ranks above the next one; empty for the last hit."""
        if place + 1 >= len(self._hits):
            return ""
        one, other = self._hits[place], self._hits[place + 1]
        if self._options.sort != "relevance":
            return _by_value(self._options.sort, one, other)
        mine, theirs = self._known[one.item.id], self._known[other.item.id]
        if self._alike is not None and mine.place > theirs.place:
            return self._by_likeness(place)
        return _by_ranking(one, mine, other, theirs)

    def _by_likeness(self, place: int) -> str:
        assert self._alike is not None
        mine, theirs = (float(self._alike[each, :place].max(initial=0.0)) for each in (place, place + 1))
        return (
            f"adds more that is new: it is like the most alike of the hits before to {mine:.2f}, the next one to "
            f"{theirs:.2f}"
        )


def _by_value(sort: str, one: Hit, other: Hit) -> str:
    if sort == "taken":
        mine, theirs = ((newest_first(hit.item)[0] or "without a date").replace("T", " ") for hit in (one, other))
        return f"was taken or changed later: {mine} against {theirs}" if mine != theirs else _EQUAL
    if sort == "name":
        mine, theirs = (os.path.basename(hit.path) for hit in (one, other))
        return f"its name comes first: {mine} before {theirs}"
    if sort == "size":
        return _pair("is larger", one.item.size, other.item.size, " bytes")
    stars = [hit.item.metadata.get(RATING, "not rated") for hit in (one, other)]
    return _pair("is rated higher", stars[0], stars[1])


_EQUAL = "equals the next one by all that counts, and was found first"


def _pair(what: str, mine: object, theirs: object, unit: str = "") -> str:
    if mine == theirs:
        return f"is equal in that, {mine}{unit}, and newer, or came to the library later"
    return f"{what}: {mine}{unit} against {theirs}{unit}"


def _by_ranking(one: Hit, mine: Explanation, other: Hit, theirs: Explanation) -> str:
    if mine.step != theirs.step and not _is_higher(mine, theirs):
        return "was found by an earlier look at fewer candidates, whose hits come before those of deeper ones"
    if mine.step == theirs.step and mine.meaning_place > theirs.meaning_place:
        return _by_words(one, mine, theirs)
    if mine.order is None:
        return "is what was searched by, or equals it"
    if theirs.words_place == 1 and mine.words_place is None and mine.step == theirs.step:
        if mine.meaning_place == 1:
            worth = f"{theirs.words_worth:.1f} against {mine.order:.1f}"
            return f"stays first, as the words of the next one are worth less than how far it stands out: {worth}"
    if mine.words_place is not None and theirs.words_place is None:
        return f"has all words of the query in its {_words_of(one)}, and fits by meaning as well"
    if not _is_higher(mine, theirs):
        return _by_guarantee(mine, theirs)
    return _by_meaning(one, mine, other, theirs)


def _is_higher(mine: Explanation, theirs: Explanation) -> bool:
    return mine.order is None or (theirs.order is not None and mine.order >= theirs.order)


def _by_words(one: Hit, mine: Explanation, theirs: Explanation) -> str:
    if mine.words_place is None:
        return (
            f"is {_ordinal(mine.meaning_place)} by meaning, which words of others never push below place "
            f"{2 * mine.meaning_place}"
        )
    if theirs.words_place is None:
        return f"has all words of the query in its {_words_of(one)}"
    return (
        f"has the words of the query where they weigh more: {_ordinal(mine.words_place)} by words, the next one "
        f"{_ordinal(theirs.words_place)}"
    )


def _by_guarantee(mine: Explanation, theirs: Explanation) -> str:
    values = f"{mine.order:.1f} against {_value(theirs)}"
    rule = "is one of the pictures that stand out, of which the r-th stands at place 2r or before"
    return f"{rule}, though by less: {values}"


def _by_meaning(one: Hit, mine: Explanation, other: Hit, theirs: Explanation) -> str:
    assert mine.order is not None
    values = f"{mine.order:.1f} against {_value(theirs)}"
    if values.split()[0] == values.split()[-1]:
        values = f"{mine.order:.4g} against {_value(theirs, '.4g')}"
    if mine.order == theirs.order:
        return _EQUAL
    terms, others = _best_terms(mine), _best_terms(theirs)
    if len(terms) > 1:
        return _by_terms(terms, others, values)
    if len({term.modality for term in mine.terms if (term.log_evalue or 0) > 0}) > 1:
        return f"its picture and its caption together stand out more: {values}"
    verb = "fits better" if one.modality is Modality.TEXT else "stands out more"
    return f"its {_part_of(one)} {verb}{_than(one, other)}: {values}"


def _by_terms(mine: Sequence[TermScore], theirs: Sequence[TermScore], values: str) -> str:
    """Name the term that speaks most for a hit; each counts as a positive one by more, as a negative one by less."""
    gains = [
        ((one.log_evalue or 0.0) - (other.log_evalue or 0.0)) * one.weight
        for one, other in zip(mine, theirs, strict=True)
    ]
    best = max(range(len(gains)), key=gains.__getitem__)
    one, other = mine[best], theirs[best]
    together = f"by all terms it stands out more: {values}"
    if gains[best] <= 0 or one.log_evalue is None or other.log_evalue is None:
        return together
    fits = "fits" if one.weight > 0 else "is less like"
    numbers = f"{one.log_evalue:.1f} against {other.log_evalue:.1f}"
    return f"{fits} {one.term}{' better' if one.weight > 0 else ''}, {numbers}; {together}"


def _best_terms(known: Explanation) -> list[TermScore]:
    """Return the terms for the part that matched."""
    return [term for term in known.terms if term.modality is known.terms[0].modality]


def _value(known: Explanation, form: str = ".1f") -> str:
    return "what is searched by" if known.order is None else f"{known.order:{form}}"


def _than(one: Hit, other: Hit) -> str:
    mine, theirs = _part_of(one), _part_of(other)
    return "" if mine == theirs else f" than the {theirs} of the next one"


def _part_of(hit: Hit) -> str:
    if hit.modality is Modality.TEXT:
        return _words_of(hit)
    if hit.position is not None:
        return "page" if hit.position.page is not None else "frame"
    return "picture"


def _words_of(hit: Hit) -> str:
    return "caption" if hit.item.modality is Modality.IMAGE else "text"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
