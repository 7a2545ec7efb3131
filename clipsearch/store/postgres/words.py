"""The words of items in PostgreSQL, which finds and ranks them as SQLite's FTS5 does.

The tokens are those of FTS5. `tokens` has them in order, each between blanks,
so that phrases can be looked for; `words`, a tsvector without places, is what the index is on. A text of more words
than a tsvector holds has none, and is looked through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, TextClause, bindparam, column, select, text
from sqlalchemy import table as lightweight

from clipsearch.store.postgres.copying import copy_rows
from clipsearch.store.postgres.tokens import tokenise, tokens_of
from clipsearch.store.schema import items
from clipsearch.store.sql_values import listed
from clipsearch.words import Phrase

NAME = "full_text"
_CREATE = (
    f'CREATE TABLE {NAME} (item_id BIGINT PRIMARY KEY, length BIGINT NOT NULL, tokens TEXT COLLATE "C" NOT NULL, '
    "words TSVECTOR)",
    f"CREATE INDEX ix_full_text_words ON {NAME} USING gin (words)",
    f"CREATE INDEX ix_full_text_long ON {NAME} (item_id) WHERE words IS NULL",
)
_TOTALS = f"{NAME}_totals"
_CREATE_TOTALS = (
    f"CREATE TABLE {_TOTALS} AS SELECT count(*) AS items, coalesce(sum(length), 0)::bigint AS words FROM {NAME}",
    f"""
    CREATE OR REPLACE FUNCTION clipsearch_count_words() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        sign int := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
    BEGIN
        UPDATE {_TOTALS} SET items = items + sign * (SELECT count(*) FROM changed),
            words = words + sign * (SELECT coalesce(sum(length), 0) FROM changed);
        RETURN NULL;
    END $$
    """,
    f"CREATE TRIGGER {NAME}_added AFTER INSERT ON {NAME} REFERENCING NEW TABLE AS changed "
    "FOR EACH STATEMENT EXECUTE FUNCTION clipsearch_count_words()",
    f"CREATE TRIGGER {NAME}_removed AFTER DELETE ON {NAME} REFERENCING OLD TABLE AS changed "
    "FOR EACH STATEMENT EXECUTE FUNCTION clipsearch_count_words()",
)
_HAS_TOTALS = f"SELECT to_regclass('{_TOTALS}') IS NOT NULL, to_regclass('{NAME}') IS NOT NULL"
_LAST = "(SELECT coalesce(max(id), 0) FROM items)"
_KNOWN = f"SELECT items, words, {_LAST} FROM {_TOTALS}"
_COUNTED = f"SELECT count(*), coalesce(sum(length), 0)::bigint, {_LAST} FROM {NAME}"
TABLES = (NAME, _TOTALS)
_COLUMNS = ("item_id", "length", "tokens", "words")
_table = lightweight(NAME, column("item_id"), column("length"), column("tokens"), column("words"))

_MOST_TOKEN, _MOST_VECTOR = 500, 900_000
"""Bytes of a token in `words`, where longer ones are cut, and of all of them; PostgreSQL takes 2,046 and 1 MiB."""

_SEPARATOR = "  "  # two, so that each token has blanks of its own

_K1, _B, _LEAST_IDF = 1.2, 0.75, 1e-6
"""Parameters of BM25 as SQLite has them: https://sqlite.org/fts5.html#the_bm25_function"""


class Totals(NamedTuple):
    """How many items have words, how many words they have, and the highest id of all items."""

    items: int
    words: int
    last_id: int


def create(connection: Connection) -> None:
    """Create the table, its indexes, and the counts that rank by it."""
    for statement in (f"DROP TABLE IF EXISTS {_TOTALS}", *_CREATE, *_CREATE_TOTALS):
        connection.exec_driver_sql(statement)


def create_totals(connection: Connection) -> None:
    """Create the counts of items and words, which triggers keep, unless they are there."""
    has_totals, has_words = connection.exec_driver_sql(_HAS_TOTALS).one()
    if has_words and not has_totals:
        for statement in _CREATE_TOTALS:
            connection.exec_driver_sql(statement)


def drop(connection: Connection) -> None:
    """Drop the table."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {NAME}, {_TOTALS}")


def add(connection: Connection, block: Sequence[tuple[int, str]]) -> None:
    """Add the words of items (id, text) that the index does not have yet."""
    copy_rows(connection, NAME, _COLUMNS, _rows(block))


def remove(connection: Connection, ids: Select[tuple[int]] | Sequence[int]) -> None:
    """Take the words of items out."""
    connection.execute(_table.delete().where(_table.c.item_id.in_(ids)))


def differs(connection: Connection, blocks: Iterable[Sequence[tuple[int, str]]]) -> bool:
    """Tell whether the table is not what the texts (id, text) of all items would give now."""
    known = 0
    stored = f"SELECT item_id, length, tokens, words::text FROM {NAME} WHERE item_id = ANY (?) ORDER BY item_id"
    for block in blocks:
        fresh = {row[0]: row for row in _rows(block)}
        found = {row[0]: tuple(row) for row in connection.exec_driver_sql(stored, ([*fresh],))}
        known += len(found)
        if {number: row[:3] for number, row in found.items()} != {number: row[:3] for number, row in fresh.items()}:
            return True
        if any(_lexemes(found[number][3]) != _lexemes(row[3]) for number, row in fresh.items()):
            return True
    return totals(connection).items != known


def matching(phrases: Iterable[Sequence[Phrase]]) -> Select[Any]:
    """Build the query for the ids of items that have all of these phrases, each in any of its spellings."""
    return _all(_Parameters(), phrases)


def count(connection: Connection, text: str, most: int) -> int:
    """Count the items that have words one after the other, up to `most`."""
    tokens = tokens_of(text)
    if not tokens:
        return 0
    has = f"strpos(tokens, {_quote(_pattern(tokens))}) > 0"
    indexed = f"words @@ {_quote(_query(tokens))}::tsquery" + ("" if _is_exact(tokens) else f" AND {has}")
    found = f"({indexed}) OR (words IS NULL AND {has})"
    # Written with its values: a plan that the server keeps for any word and any number would read the whole table.
    statement = f"SELECT count(*) FROM (SELECT 1 FROM {NAME} WHERE {found} LIMIT {int(most)}) AS found"
    return int(connection.exec_driver_sql(statement).scalar_one())


def totals(connection: Connection) -> Totals:
    """Return how many items have words, and how many words; a catalog that was written before has them counted."""
    has_totals = connection.info.get(_TOTALS) or connection.exec_driver_sql(_HAS_TOTALS).one()[0]
    connection.info[_TOTALS] = has_totals  # once there, it stays
    return Totals._make(connection.exec_driver_sql(_KNOWN if has_totals else _COUNTED).one())


def ranked(selective: Sequence[Mapping[str, int]], known: Totals) -> tuple[Select[Any], TextClause]:
    """Build the query for the ids of items, joined, that have all of these words, and their order by BM25.

    selective: the spellings of each, and how many items have each of these.
    """
    given = _Parameters()
    average = max(known.words / max(known.items, 1), 1e-9)
    part = f"{_K1}::float8 * ({1 - _B} + {_B}::float8 * length / {given.add(average)})"
    scores = []
    for phrase, hits in (pair for ways in selective for pair in ways.items()):
        idf = max(math.log((known.items - hits + 0.5) / (hits + 0.5)), _LEAST_IDF)
        often = _frequency(given, tokens_of(phrase))
        scores.append(f"{given.add(idf)} * (({often} * {_K1 + 1}::float8) / ({often} + {part}))")
    found = _all(given, ([Phrase(phrase, False) for phrase in ways] for ways in selective))
    return found.join(items, items.c.id == _table.c.item_id), given.fill(f"{' + '.join(scores)} DESC")


def frequencies(
    connection: Connection, ids: Sequence[int], phrases: Sequence[str]
) -> dict[int, tuple[tuple[int, ...], int]]:
    """Return how often each of these items has each phrase, and how many words it has."""
    given = _Parameters()
    often = [given.fill(_frequency(given, tokens_of(phrase))) for phrase in phrases]
    query = select(_table.c.item_id, _table.c.length, *often).where(_table.c.item_id.in_(listed(ids)))
    return {row[0]: (tuple(map(round, row[2:])), row[1]) for row in connection.execute(query)}


def _rows(block: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int, str, str | None]]:
    for item_id, words in block:
        if tokens := tokenise(words):
            yield item_id, len(tokens), f" {_SEPARATOR.join(tokens)} ", _vector(tokens, len(words))


def _vector(tokens: Iterable[str], length: int) -> str | None:
    """Write the words of a text as a tsvector, without quotes, which no token needs; None for more than it holds.

    length: characters of the text.
    """
    written = " ".join({*tokens} if length * 4 <= _MOST_TOKEN else set(map(_cut, tokens)))
    return written if len(written) * 4 <= _MOST_VECTOR or len(written.encode()) <= _MOST_VECTOR else None


def _lexemes(vector: str | None) -> set[str] | None:
    """Return the words of a tsvector as we write it, without quotes, or as the server does."""
    return None if vector is None else {word.strip("'") for word in vector.split(" ")}


def _cut(token: str) -> str:
    return token if len(token) * 4 <= _MOST_TOKEN else token.encode()[:_MOST_TOKEN].decode("utf-8", "ignore")


class _Parameters:
    """The parameters of a statement that is written as text: SQLAlchemy takes a millisecond to build it of elements."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def add(self, value: str | float) -> str:
        """Return how a value is written."""
        name = f"v{len(self._values)}"
        self._values[name] = value
        return f"CAST(:{name} AS {'text' if isinstance(value, str) else 'float8'})"

    def fill(self, written: str) -> TextClause:
        """Return what is written, with the values of its parameters, which have names of their own in a statement."""
        names = [name for name in self._values if f":{name} " in written]
        return text(written).bindparams(*(bindparam(name, self._values[name], unique=True) for name in names))


def _all(given: _Parameters, phrases: Iterable[Sequence[Phrase]]) -> Select[Any]:
    conditions = [" OR ".join(_has(given, phrase) for phrase in ways) for ways in phrases]
    return select(_table.c.item_id).where(*(given.fill(f"({each})") for each in conditions))


def _has(given: _Parameters, phrase: Phrase) -> str:
    """Write the condition "has these words one after the other"."""
    tokens, is_start = tokens_of(phrase.words), phrase.is_start
    if not tokens:
        return "false"
    indexed = f"words @@ {given.add(_query(tokens, is_start))}::tsquery"
    exact = f"strpos(tokens, {given.add(_pattern(tokens, is_start))}) > 0"
    return f"({indexed if _is_exact(tokens) else f'{indexed} AND {exact}'} OR words IS NULL AND {exact})"


def _query(tokens: Sequence[str], is_start: bool = False) -> str:
    """Write the tsquery of these words, all of them; what a token consists of needs no escapes."""
    return " & ".join(f"'{_cut(token)}'" for token in tokens) + (":*" if is_start else "")


def _is_exact(tokens: Sequence[str]) -> bool:
    """Tell whether the index alone says who has these words."""
    return len(tokens) == 1 and _cut(tokens[0]) == tokens[0]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _pattern(tokens: Sequence[str], is_start: bool = False) -> str:
    return f" {_SEPARATOR.join(tokens)}" + ("" if is_start else " ")


def _frequency(given: _Parameters, tokens: tuple[str, ...]) -> str:
    """Write the number of times that a text has these words one after the other, which may overlap."""
    if any(tokens[:size] == tokens[-size:] for size in range(1, len(tokens))):
        return f"regexp_count(tokens, {given.add(f' {tokens[0]} (?= {_SEPARATOR.join(tokens[1:])} )')})::float8"
    pattern = _pattern(tokens)
    return f"((length(tokens) - length(replace(tokens, {given.add(pattern)}, '')))::float8 / {len(pattern)})"
