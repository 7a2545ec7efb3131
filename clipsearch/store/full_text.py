"""The words of items, in an FTS5 table beside them: captions, texts, and text in pictures.

The table holds no text of its own, only which words stand where in which item: some two thirds of the size of the
text, where a copy of it would double it. So the words of an item are taken out by saying once more what they were,
before they change. A deleted item keeps its words, as it keeps its rows, until it is erased.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    bindparam,
    func,
    inspect,
    literal_column,
    select,
    true,
)

from clipsearch.errors import LibraryError
from clipsearch.store.dialect import is_postgres
from clipsearch.store.phrases import SelectiveWords, either, most_items, phrase_of, phrases_of, selective_words
from clipsearch.store.schema import FIRST_RECOGNISED_PART, items, record_contents, vectors
from clipsearch.words import Phrase, parse_words, separate, spellings

if TYPE_CHECKING:
    from clipsearch.store.postgres.words import Totals

NAME = "full_text"
_DEFINITION = "fts5(words, content='', tokenize=\"unicode61 remove_diacritics 2 categories 'L* N* Co M*'\")"
CREATE = f"CREATE VIRTUAL TABLE {NAME} USING {_DEFINITION}"
_table = Table(NAME, MetaData(), Column("rowid", Integer, primary_key=True), Column("words", Text))
_ADD = "INSERT INTO full_text (rowid, words) VALUES (?, ?)"
_REMOVE = "INSERT INTO full_text (full_text, rowid, words) VALUES ('delete', ?, ?)"
_TOTALS = "SELECT rtrim(hex(block), '0') FROM {}_data WHERE id = 1"  # zeros where all is deleted, else nothing
# Of these a query runs one for each word; SQLAlchemy takes longer to build them than SQLite to answer.
_COUNT = "SELECT count(*) FROM (SELECT rowid FROM full_text WHERE words MATCH ? LIMIT ?)"
_RANKED = (
    "SELECT full_text.rowid FROM full_text JOIN items ON items.id = full_text.rowid "
    "WHERE full_text.words MATCH ? AND NOT items.deleted ORDER BY full_text.rank LIMIT ?"
)
_BLOCK = 4096

_KEPT_COUNTS = 20_000
"""Counts of words that are kept: a megabyte or two."""

RANKED = 10_000
"""Matches that are ranked by BM25 at most; SQLite takes some 4 us for each (benchmarks/slopes.py)."""

Ids = Select[tuple[int]] | Sequence[int]


class Keywords(NamedTuple):
    """What the words of a query found: ids of items, best first, and how many items have each selective word."""

    ids: list[int]
    counts: tuple[int, ...]


NOTHING = Keywords([], ())


def create(connection: Connection) -> None:
    """Create the index, empty."""
    if is_postgres(connection):
        _postgres().create(connection)
    else:
        connection.exec_driver_sql(CREATE)


def add(connection: Connection, texts: Iterable[tuple[int, str | None]]) -> None:
    """Put the words of items (id, text) in, none of which is there yet; it belongs to the transaction of these."""
    _add(connection, ((item_id, text) for item_id, text in texts if text))


def add_again(connection: Connection, ids: Ids) -> None:
    """Put the words of items in, from the captions and passages that they have now; none of them may be there."""
    _add(connection, _texts(connection, items.c.id.in_(ids)))


def remove(connection: Connection, ids: Ids) -> None:
    """Take the words of items out, while captions and passages are still as they were put in."""
    if is_postgres(connection):
        _postgres().remove(connection, ids)
    else:
        _write(connection, _REMOVE, _texts(connection, items.c.id.in_(ids)))


def fill(connection: Connection) -> None:
    """Put the words of all items in."""
    _add(connection, _texts(connection, true()))


def rebuild(connection: Connection) -> None:
    """Make the index again, from the captions and passages that there are."""
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {NAME}")
    create(connection)
    fill(connection)


def differs(connection: Connection) -> bool:
    """Tell whether the index is not what the captions and passages would give now; it is compared word by word."""
    if is_postgres(connection):
        return bool(_postgres().differs(connection, _blocks(_texts(connection, true()))))
    fresh = "temp.fresh_text"
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE {fresh} USING {_DEFINITION}")
    try:
        _write(connection, _ADD.replace(NAME, fresh), _texts(connection, true()))
        connection.exec_driver_sql(f"CREATE VIRTUAL TABLE temp.stored_words USING fts5vocab(main, {NAME}, instance)")
        connection.exec_driver_sql("CREATE VIRTUAL TABLE temp.fresh_words USING fts5vocab(temp, fresh_text, instance)")
        pairs = (
            (
                "SELECT term, doc, col, offset FROM temp.stored_words",
                "SELECT term, doc, col, offset FROM temp.fresh_words",
            ),
            (f"SELECT id, sz FROM main.{NAME}_docsize", f"SELECT id, sz FROM {fresh}_docsize"),
            (_TOTALS.format(f"main.{NAME}"), _TOTALS.format(fresh)),
        )
        return any(_differ(connection, one, other) or _differ(connection, other, one) for one, other in pairs)
    finally:
        for table in ("stored_words", "fresh_words", "fresh_text"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS temp.{table}")


def _differ(connection: Connection, one: str, other: str) -> bool:
    return connection.exec_driver_sql(f"{one} EXCEPT {other} LIMIT 1").first() is not None


def matching(connection: Connection, wanted: str) -> Select[tuple[int]]:
    """Build the query for the ids of items whose text has the words of a Filter's caption.

    Raises LibraryError where the library is older than its index of words.
    """
    if not is_there(connection):
        raise LibraryError(
            "The library was written by an earlier version of clipsearch, which did not "
            "index words. Run once: clipsearch index"
        )
    spelled = [[Phrase(words, phrase.is_start) for words in spellings(phrase.words)] for phrase in parse_words(wanted)]
    if is_postgres(connection):
        ways = ([Phrase(separate(each.words), each.is_start) for each in every] for every in spelled)
        matches: Select[tuple[int]] = _postgres().matching(ways)
        return matches
    phrases = " AND ".join(either([phrase_of(each) for each in every]) for every in spelled)
    return select(_table.c.rowid).where(_table.c.words.op("MATCH")(bindparam(None, phrases)))


class WordCounts:
    """How many items of one state of a library have a word, as far as that was asked. Safe to share by threads.

    is_there: whether there is an index of words; older libraries have none. totals: of PostgreSQL; SQLite keeps its
    own.
    """

    def __init__(self, connection: Connection) -> None:
        """Count the items. is_there: whether there is an index of words; older libraries have none."""
        self.is_there = is_there(connection)
        self.totals = totals(connection) if is_postgres(connection) else None
        last = self.totals.last_id if self.totals else connection.execute(select(func.max(items.c.id))).scalar_one()
        self.most = most_items(last or 0)
        self._counts: dict[str, int] = {}

    def count(self, connection: Connection, phrase: str) -> int:
        """Count the items that have a phrase, up to one more than `most`."""
        if phrase not in self._counts:
            if len(self._counts) >= _KEPT_COUNTS:
                self._counts = {}
            self._counts[phrase] = count(connection, phrase, self.most + 1)
        return self._counts[phrase]


def ranked(
    connection: Connection, wanted: str, allowed: ColumnElement[bool] | None, limit: int, counts: WordCounts
) -> Keywords:
    """Return the live items that a condition allows and that have all selective words of a text, best first by BM25.

    Words that a fifth of all items have tell nothing; a text of no other words finds nothing, nor does one of more
    words than are looked for. At most `limit` ids; nothing where the library is older than its index of words. counts:
    of the state that the connection sees.
    """
    phrases = phrases_of(wanted) if counts.is_there else []
    selective = selective_words(phrases, lambda phrase: counts.count(connection, phrase), counts.most)
    if not selective:
        return NOTHING
    ids = ranked_ids(connection, selective, allowed, limit, counts.totals)
    return Keywords(ids, tuple(sum(ways.values()) for ways in selective))


def ranked_ids(
    connection: Connection,
    selective: SelectiveWords,
    allowed: ColumnElement[bool] | None,
    limit: int,
    known: Totals | None = None,
) -> list[int]:
    """Return the ids of live items that have all these words, and that a condition allows, best first by BM25.

    Every match is scored before they are sorted. So where there may be more than RANKED of them, the newest RANKED are
    ranked: a search takes no longer for a word that many items have. known: the totals of PostgreSQL, where they are
    at hand.
    """
    are_many = min(sum(ways.values()) for ways in selective) > RANKED
    if is_postgres(connection):
        found, best_first = _postgres().ranked(selective, known or totals(connection))
        found = found.where(~items.c.deleted)
        found = found if allowed is None else found.where(allowed)
        if are_many:
            newest = found.order_by(items.c.id.desc()).limit(RANKED).subquery()
            found = found.where(items.c.id >= select(func.min(newest.c.item_id)).scalar_subquery())
        return list(connection.execute(found.order_by(best_first, items.c.id).limit(limit)).scalars())
    has_all, first = " AND ".join(either([*ways]) for ways in selective), 0
    if are_many:
        found = _matching_items(has_all, allowed).order_by(_table.c.rowid.desc()).limit(RANKED)
        first = connection.execute(select(func.min(found.subquery().c.rowid))).scalar_one() or 0
    if allowed is None and not first:
        return list(connection.exec_driver_sql(_RANKED, (has_all, limit)).scalars())
    query = _matching_items(has_all, allowed).where(_table.c.rowid >= first)
    ranked = query.order_by(literal_column("full_text.rank")).limit(limit)
    return list(connection.execute(ranked).scalars())


def _matching_items(phrases: str, allowed: ColumnElement[bool] | None) -> Select[int]:
    query = select(_table.c.rowid).join(items, items.c.id == _table.c.rowid)
    query = query.where(_table.c.words.op("MATCH")(bindparam(None, phrases)), ~items.c.deleted)
    return query if allowed is None else query.where(allowed)


def having_any(connection: Connection, wanted: Sequence[Phrase], allowed: ColumnElement[bool] | None) -> Select[Any]:
    """Build the query for the ids of live items that have any of these phrases, and that a condition allows."""
    if is_postgres(connection):
        ways = [Phrase(separate(each.words), each.is_start) for each in wanted]
        query = select(items.c.id).where(items.c.id.in_(_postgres().matching([ways])), ~items.c.deleted)
        return query if allowed is None else query.where(allowed)
    return _matching_items(either([phrase_of(each) for each in wanted]), allowed)


def is_there(connection: Connection) -> bool:
    """Tell whether a library has an index of words; older ones have none."""
    return is_postgres(connection) or inspect(connection).has_table(_table.name)


def _postgres() -> ModuleType:
    from clipsearch.store.postgres import words

    return words


def totals(connection: Connection) -> Totals:
    """Return how many items have words, and how many words, in PostgreSQL; SQLite keeps both itself."""
    found: Totals = _postgres().totals(connection)
    return found


def frequencies(
    connection: Connection, ids: Sequence[int], phrases: Sequence[str]
) -> dict[int, tuple[tuple[int, ...], int]]:
    """Return how often each of these items has each phrase, and how many words it has, in PostgreSQL."""
    found: dict[int, tuple[tuple[int, ...], int]] = _postgres().frequencies(connection, ids, phrases)
    return found


def count(connection: Connection, phrase: str, most: int) -> int:
    """Count the items that have a phrase, up to `most`."""
    if is_postgres(connection):
        return int(_postgres().count(connection, phrase, most))
    return int(connection.exec_driver_sql(_COUNT, (phrase, most)).scalar_one())


def _add(connection: Connection, texts: Iterable[tuple[int, str]]) -> None:
    if is_postgres(connection):
        for block in _blocks(texts):
            _postgres().add(connection, block)
    else:
        _write(connection, _ADD, texts)


def _write(connection: Connection, statement: str, texts: Iterable[tuple[int, str]]) -> None:
    for block in _blocks(texts):
        connection.exec_driver_sql(statement, block)


def _blocks(texts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Yield (id, text with its words set apart), many at a time."""
    block: list[tuple[int, str]] = []
    for item_id, text in texts:
        block.append((item_id, separate(text)))
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def _texts(connection: Connection, which: ColumnElement[bool]) -> Iterator[tuple[int, str]]:
    """Yield the text of each item that has one.

    It is its caption, or its passages as `join_passages` joins them; then the passages of the text in a picture. Of a
    record that came with a text, which may have no vector, it is its caption and that text.
    """
    rows = connection.execute(
        select(items.c.id, items.c.caption, record_contents.c.text.label("whole"), vectors.c.text, vectors.c.part)
        .outerjoin(vectors, vectors.c.item_id == items.c.id)
        .outerjoin(record_contents, record_contents.c.item_id == items.c.id)
        .where(which)
        .order_by(items.c.id, vectors.c.part)
    )
    for item_id, parts in groupby(rows, itemgetter(0)):
        found = list(parts)
        caption, whole = found[0].caption, found[0].whole
        own = [part.text for part in found if part.part is not None and part.part < FIRST_RECOGNISED_PART]
        recognised = [part.text for part in found if part.part is not None and part.part >= FIRST_RECOGNISED_PART]
        words = caption or join_passages(own) if whole is None else join_passages([caption, whole])
        if text := join_passages([words, *recognised]):
            yield item_id, text


def join_passages(passages: Iterable[str | None]) -> str:
    """Return the text whose words stand for a file's passages, in order; empty for a picture."""
    return "\n".join(passage for passage in passages if passage)
