"""The words and tags of a library that are spelled much like a word that it does not have.

Nothing scans the words of a library, which may be millions: the spellings near a word are written down and looked up
(Norvig, "How to write a spelling corrector", 2007), and where none of them is there, the words of a few texts that have
a word of the same beginning are compared (Damerau, CACM 1964). So the work depends on the length of the word alone.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select

from clipsearch.store import full_text
from clipsearch.store import tags as tag_store
from clipsearch.store.schema import items, tags, vectors
from clipsearch.store.sql_values import listed, listed_texts
from clipsearch.words import Phrase, fold_tag

SHORTEST, LONGEST = 4, 24
"""Letters of a word that is looked for in other spellings."""

_ALPHABETS = ("abcdefghijklmnopqrstuvwxyz", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя", "αβγδεζηθικλμνξοπρστυφχψω")
_VOWELS = frozenset("aeiouyаеёиоуыэюяαεηιουω")
_AT_ONCE = 100
_COUNTED = 1000
_TEXTS, _TEXT_LENGTH, _MOST_READ = 200, 2000, 1 << 18
_MOST_COMPARED, _MOST_EDITS = 2000, 2
_BEGINNING = 4
_FAR_COST, _BEGUN_COST = 3.0, 0.5

COSTS: Mapping[str, float] = {
    "swap": 0.0,
    "double": 0.0,
    "vowel": 0.0,
    "missing": 1.0,
    "added": 1.0,
    "far swap": 1.0,
    "other": 3.0,
    "first": 3.0,
    "split": 3.0,
}
"""What each way to misspell costs, set against the logarithm of how many items have the word: the best of a grid on
half of the words of benchmarks/suggestions.py. `first` is added where the first letter is another."""


class NearWord(NamedTuple):
    """A word of a library, and its score, the higher the nearer."""

    word: str
    score: float


def fold(word: str) -> str:
    """Return a word as full text search compares it: without case and accents."""
    plain = unicodedata.normalize("NFD", word.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in plain if not unicodedata.combining(c)))


def is_spelled(word: str) -> bool:
    """Tell whether a folded word is one that is looked for in other spellings."""
    return SHORTEST <= len(word) <= LONGEST and any({*word} <= {*letters} for letters in _ALPHABETS)


def spellings_near(word: str) -> dict[str, float]:
    """Return the words that a folded word may misspell, each with its edit cost; none unless `is_spelled`."""
    if not is_spelled(word):
        return {}
    alphabet = next(letters for letters in _ALPHABETS if {*word} <= {*letters})
    found: dict[str, float] = {}
    for spelling, way, place in _edits(word, alphabet):
        cost = COSTS[way] + (COSTS["first"] if place == 0 and way != "swap" else 0.0)
        if spelling != word and cost < found.get(spelling, math.inf):
            found[spelling] = cost
    return found


def _edits(word: str, alphabet: str) -> Iterator[tuple[str, str, int]]:
    """Yield each spelling, the way in which the word misspells it, and where."""
    for i, letter in enumerate(word):
        before, after = word[:i], word[i + 1 :]
        is_double = letter in word[max(i - 1, 0) : i] + after[:1]
        yield before + after, "double" if is_double else "added", i
        for other in alphabet:
            yield before + other + after, "vowel" if {letter, other} <= _VOWELS else "other", i
        for j in range(i + 1, len(word)):
            way = "swap" if j == i + 1 else "far swap"
            yield before + word[j] + word[i + 1 : j] + letter + word[j + 1 :], way, i
    for i in range(len(word) + 1):
        before, after = word[:i], word[i:]
        for letter in alphabet:
            is_double = letter in before[-1:] + after[:1]
            yield before + letter + after, "double" if is_double else "missing", i
        if 2 < i < len(word) - 2:
            yield f"{before} {after}", "split", i


def near_words(
    connection: Connection, word: str, allowed: ColumnElement[bool] | None, most: int
) -> tuple[NearWord, ...] | None:
    """Return words of live items that a condition allows, the most similar to a folded word first.

    None if an item has the word itself; empty for a library without an index of words.
    """
    near = spellings_near(word)
    if not near or not full_text.is_there(connection):
        return ()
    if _count(connection, [word], allowed, 1):
        return None
    spellings = list(near)
    parts = (spellings[start : start + _AT_ONCE] for start in range(0, len(spellings), _AT_ONCE))
    present = [each for part in parts for each in _present(connection, part, allowed)]
    found = [_scored(each, _count(connection, [each], allowed, _COUNTED), near[each]) for each in present]
    found = found or _of_texts(connection, word, allowed)
    return tuple(sorted(found, key=lambda each: (-each.score, each.word))[:most])


def _present(connection: Connection, words: Sequence[str], allowed: ColumnElement[bool] | None) -> list[str]:
    """Return those words that a live item has: half of them at a time are asked for, as most are in none."""
    if not words or not _count(connection, words, allowed, 1):
        return []
    if len(words) == 1:
        return list(words)
    half = len(words) // 2
    return [*_present(connection, words[:half], allowed), *_present(connection, words[half:], allowed)]


def tags_like(connection: Connection, texts: Sequence[str], allowed: ColumnElement[bool] | None) -> list[str]:
    """Return the tags that are one of some texts, then those that are spelled much like one, as they are written.

    Each is one of a live item that the condition allows.
    """
    if not tag_store.is_there(connection):
        return []
    near = [spelling for text in texts for spelling in _by_cost(spellings_near(fold(text)))]
    names = [*dict.fromkeys([*filter(None, map(fold_tag, texts)), *near])]
    wanted = listed_texts(names).subquery()
    holds = (tags.c.folded == wanted.c.value) & ~items.c.deleted
    holds = holds if allowed is None else holds & allowed
    has = select(tags.c.item_id).select_from(tags.join(items, items.c.id == tags.c.item_id)).where(holds)
    found = {*connection.execute(select(wanted.c.value).where(has.correlate(wanted).exists())).scalars()}
    return [_written(connection, name) for name in names if name in found]


def _by_cost(spellings: Mapping[str, float]) -> list[str]:
    return sorted(spellings, key=lambda each: (spellings[each], each))


def _written(connection: Connection, folded: str) -> str:
    query = select(tags.c.tag).where(tags.c.folded == folded).limit(1)
    return str(connection.execute(query).scalar_one_or_none() or folded)


def tag_counts(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Count the items that have each of these folded tags, up to a thousand."""
    counts: dict[str, int] = {}
    for name in names:
        some = select(tags.c.item_id).where(tags.c.folded == name).limit(_COUNTED).subquery()
        counts[name] = int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    return counts


def _scored(word: str, count: int, cost: float) -> NearWord:
    return NearWord(word, math.log(count) - cost)


def _count(connection: Connection, words: Sequence[str], allowed: ColumnElement[bool] | None, most: int) -> int:
    """Count the live items that have any of these words, up to `most`."""
    found = full_text.having_any(connection, [Phrase(word, False) for word in words], allowed).limit(most)
    return int(connection.execute(select(func.count()).select_from(found.subquery())).scalar_one())


def _of_texts(connection: Connection, word: str, allowed: ColumnElement[bool] | None) -> list[NearWord]:
    """Return words near one from the texts of some items that have a word which begins like it."""
    for beginning in dict.fromkeys((word, word[:_BEGINNING])):
        begun = full_text.having_any(connection, [Phrase(beginning, True)], allowed).limit(_TEXTS)
        ids: list[int] = list(connection.execute(begun).scalars())
        written: Counter[str] = Counter()
        for text in _texts(connection, ids):
            written.update({*re.findall(r"[^\W\d_]+", text)})
        counted: Counter[str] = Counter()
        for each, count in written.items():
            if abs(len(word) - len(each)) <= _MOST_EDITS or len(each) > len(word):
                counted[fold(each)] += count
        near = {each: cost for each in _likely(word, counted) if (cost := _far_cost(word, each)) is not None}
        if near:
            return [_scored(each, counted[each], cost) for each, cost in near.items()]
    return []


def _likely(word: str, counted: Counter[str]) -> list[str]:
    """Return the most frequent words that go on from one, or are about as long: as many as are compared."""
    likely = (each for each, _ in counted.most_common() if _is_about_as_long(word, each) or each.startswith(word))
    return list(islice(likely, _MOST_COMPARED))


def _is_about_as_long(word: str, other: str) -> bool:
    return abs(len(word) - len(other)) <= _MOST_EDITS and len(other) >= SHORTEST


def _far_cost(word: str, other: str) -> float | None:
    """Return what it costs to take a word for another that is two edits away, or goes on; None for any other."""
    if other.startswith(word):
        return _BEGUN_COST * (len(other) - len(word))
    if not _is_about_as_long(word, other):
        return None
    return _FAR_COST if _distance(word, other) <= _MOST_EDITS else None


def _distance(one: str, other: str) -> int:
    """Return the optimal string alignment distance: edits and swaps of neighbours, none of them edited again.

    Beyond _MOST_EDITS it is any number above that.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, row = row, [i]
        for j, second in enumerate(other, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != second)))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == second:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(*last, *row) > _MOST_EDITS:
            return _MOST_EDITS + 1
        before = last
    return row[-1]


def _texts(connection: Connection, ids: Sequence[int]) -> Iterator[str]:
    """Yield the beginnings of the captions and passages of items, up to _MOST_READ characters of them all."""
    left = _MOST_READ
    caption = select(func.substr(items.c.caption, 1, _TEXT_LENGTH)).where(items.c.id.in_(listed(ids)))
    passages = select(func.substr(vectors.c.text, 1, _TEXT_LENGTH)).where(vectors.c.item_id.in_(listed(ids)))
    for query in (caption, passages.limit(5 * _TEXTS)):
        for text in connection.execute(query).scalars():
            if isinstance(text, str) and left > 0:
                yield text[:left]
                left -= len(text)
