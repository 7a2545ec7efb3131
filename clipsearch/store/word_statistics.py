"""What BM25 needs of the words of several libraries to rank their items as if in one index.

An index ranks by its own statistics: how many items there are and have a word, and how long they are. So of each item
that matches, how often it has each word and how long it is, is read back from what SQLite says of it, or counted in
PostgreSQL. The caller has the statistics of all libraries, and ranks by these. The formula is that of SQLite's bm25()
(Robertson, Journal of Documentation 2004), with its constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, func, select

from clipsearch.store import full_text
from clipsearch.store.dialect import is_postgres
from clipsearch.store.full_text import NAME
from clipsearch.store.phrases import SelectiveWords
from clipsearch.store.schema import items
from clipsearch.store.sql_values import to_parameter

_K1, _B = 1.2, 0.75
_LEAST_IDF = 1e-6
_SCORES = (
    "SELECT rowid, -bm25(full_text) FROM full_text WHERE words MATCH ? AND rowid IN (SELECT value FROM json_each(?))"
)
_LENGTHS = f"SELECT id, sz FROM {NAME}_docsize WHERE id IN (SELECT value FROM json_each(?))"
_TOTALS = f"SELECT block FROM {NAME}_data WHERE id = 1"


class WordStatistics(NamedTuple):
    """Of an index of words: how many texts and words it has, and the highest id of an item of the library."""

    texts: int = 0
    words: int = 0
    last_id: int = 0


class WordMatch(NamedTuple):
    """An item that has all words of a query: how often it has each spelling, and how many words it has."""

    item_id: int
    frequencies: tuple[int, ...]
    length: int

    def score(self, counts: Sequence[int], all_words: WordStatistics) -> float:
        """Return its BM25; counts: how many texts have each spelling."""
        mean = all_words.words / max(all_words.texts, 1)
        return sum(
            _idf(count, all_words.texts) * frequency * (_K1 + 1) / (frequency + _length_part(self.length, mean))
            for frequency, count in zip(self.frequencies, counts, strict=True)
        )


def statistics(connection: Connection) -> WordStatistics:
    """Return the statistics of the words of a library; those of no words where it is older than its index."""
    if is_postgres(connection):
        return WordStatistics._make(full_text.totals(connection))
    last = connection.execute(select(func.max(items.c.id))).scalar_one() or 0
    if not full_text.is_there(connection):
        return WordStatistics(last_id=last)
    block = connection.exec_driver_sql(_TOTALS).scalar_one_or_none() or b""
    texts, words = [*_varints(block), 0, 0][:2]
    return WordStatistics(texts, words, last)


def counts_of(connection: Connection, phrases: Sequence[str], most: int) -> list[int]:
    """Return how many texts have each phrase, up to one more than `most`."""
    if not full_text.is_there(connection):
        return [0] * len(phrases)
    return [full_text.count(connection, phrase, most + 1) for phrase in phrases]


def matches(
    connection: Connection, selective: SelectiveWords, allowed: ColumnElement[bool] | None, limit: int
) -> list[WordMatch]:
    """Return the best live items that have all words, and that a condition allows, as this library ranks them.

    selective: how many texts of it have each spelling of each word, exactly.
    """
    if not all(any(ways.values()) for ways in selective):
        return []
    own = statistics(connection)
    ids = full_text.ranked_ids(connection, selective, allowed, limit)
    spelled = [pair for ways in selective for pair in ways.items()]
    if is_postgres(connection):
        read = full_text.frequencies(connection, ids, [phrase for phrase, _ in spelled])
        return [WordMatch(number, often, length) for number in ids for often, length in [read[number]]]
    given = to_parameter(ids)
    lengths = {number: next(_varints(size), 0) for number, size in connection.exec_driver_sql(_LENGTHS, (given,))}
    often: dict[int, list[int]] = {number: [] for number in ids}
    for phrase, count in spelled:
        idf = _idf(count, own.texts)
        scores = {number: score for number, score in connection.exec_driver_sql(_SCORES, (phrase, given))}
        for number, found in often.items():
            share = scores.get(number, 0.0) / idf
            part = _length_part(lengths.get(number, 0), own.words / max(own.texts, 1))
            is_in = number in scores
            found.append(max(1, round(share * part / max(_K1 + 1 - share, 1e-12))) if is_in else 0)
    return [WordMatch(number, tuple(found), lengths.get(number, 0)) for number, found in often.items()]


def _idf(count: int, texts: int) -> float:
    return max(math.log((texts - count + 0.5) / (count + 0.5)) if texts > count else 0.0, _LEAST_IDF)


def _length_part(length: int, mean: float) -> float:
    return _K1 * (1 - _B + _B * length / max(mean, 1e-12))


def _varints(data: object) -> Iterator[int]:
    """Yield the whole numbers of a blob in SQLite's own form: seven bits a byte, the highest first."""
    value = 0
    for byte in data if isinstance(data, bytes) else b"":
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            yield value
            value = 0
