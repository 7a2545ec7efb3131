"""The tags of items: short names, compared without case, each with where it comes from.

An item may have the same tag from several sources; it counts once. A deleted item keeps its tags, as it keeps its rows,
until it is erased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, delete, func, insert, literal_column, select

from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.store.dialect import is_postgres
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import items, tags
from clipsearch.store.sql_values import chunks, listed, listed_texts, to_parameter
from clipsearch.words import fold_tag, tidy_tag


class TagSource(StrEnum):
    """Who says a tag: the picture itself, among its keywords; `label`, by a vector; or the user."""

    FILE = "file"
    LABEL = "label"
    USER = "user"


_AT_ONCE = 1000
_NAMES = (
    "SELECT item_id, folded, tag FROM tags WHERE item_id IN (SELECT value FROM json_each(?)) "
    "ORDER BY item_id, folded, source"
)  # every answer asks this, and SQLAlchemy takes longer to build a statement than SQLite to answer it
_IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'tags'"  # always in PostgreSQL


def set_tags(connection: Connection, item_id: int, names: Iterable[str], source: TagSource) -> None:
    """Give an item the tags of a source that it has from now on; those it had from there go, all others stay.

    Of names that differ in case or blanks alone the first is kept; one that is empty is left out.
    """
    remove(connection, [item_id], source)
    add(connection, [(item_id, names)], source)


def add(connection: Connection, named: Iterable[tuple[int, Iterable[str]]], source: TagSource) -> None:
    """Give items, each with its names, tags of a source of which they have none; the names are taken as by set_tags."""
    rows = []
    for item_id, names in named:
        first = {fold_tag(name): name for name in reversed([*names])}
        rows += [_row(item_id, name, source) for folded, name in first.items() if folded]
    _insert(connection, rows)


def set_labels(
    connection: Connection, labels: Sequence[str], ids: Sequence[int], best: Mapping[int, tuple[str, float]]
) -> None:
    """Put what labels say of items in the place of what the same labels said of them before.

    best: for each of these items that gets one, its label and the chance of that, from 0 to 1.
    """
    theirs = tags.c.folded.in_(listed_texts(map(fold_tag, labels)))
    of_items = tags.c.item_id.in_(listed(ids))
    connection.execute(delete(tags).where(of_items, theirs, tags.c.source == TagSource.LABEL))
    _insert(connection, [_row(item_id, label, TagSource.LABEL, chance) for item_id, (label, chance) in best.items()])


def change(connection: Connection, ids: Iterable[int], added: Sequence[str], removed: Sequence[str]) -> None:
    """Give items tags of the user, and take others from them, whoever says these; names are taken as by set_tags.

    A tag that a file says comes back when the library reads its keywords again, once the file has changed.
    """
    gone, own = ({fold_tag(name) for name in names} for names in (removed, added))
    for chunk in chunks(ids, _AT_ONCE):
        of_items = tags.c.item_id.in_(listed(chunk))
        connection.execute(delete(tags).where(of_items, tags.c.folded.in_(listed_texts(gone))))
        is_own = tags.c.folded.in_(listed_texts(own)) & (tags.c.source == TagSource.USER)
        connection.execute(delete(tags).where(of_items, is_own))
        add(connection, ((item_id, added) for item_id in chunk), TagSource.USER)


def remove(connection: Connection, ids: Select[tuple[int]] | Sequence[int], *sources: TagSource) -> None:
    """Take the tags of items away, or those of some sources."""
    gone = delete(tags).where(tags.c.item_id.in_(ids))
    connection.execute(gone.where(tags.c.source.in_(sources)) if sources else gone)


def matching(connection: Connection, names: Iterable[str]) -> Select[tuple[int]]:
    """Build the query for the ids of items that have any of these tags.

    Raises LibraryError where the library is older than its tags.
    """
    _require(connection)
    return select(tags.c.item_id).where(tags.c.folded.in_(listed_texts({fold_tag(name) for name in names})))


def find(connection: Connection, names: Iterable[str]) -> dict[str, str]:
    """Return those of these names that are tags: by the folded name, the tag as one item has it.

    Each name is looked up in the index of tags, so that it does not matter how many there are.
    """
    wanted = listed_texts({fold_tag(name) for name in names}).subquery()
    if not is_there(connection):
        return {}
    first = select(tags.c.tag).where(tags.c.folded == wanted.c.value).limit(1).correlate(wanted).scalar_subquery()
    found = connection.execute(select(wanted.c.value, first))
    return {folded: name for folded, name in found if isinstance(folded, str) and isinstance(name, str)}


def names_of(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Return the tags of each of these items that has any, in order; none where the library is older than tags.

    Anything but a text is of a damaged catalog, and left out.
    """
    if not is_there(connection):
        return {}
    found: dict[int, dict[str, str]] = {}
    for item_id, folded, name in connection.exec_driver_sql(_NAMES, (to_parameter(ids),)):
        if isinstance(name, str):
            found.setdefault(item_id, {}).setdefault(folded, name)
    return {item_id: tuple(names.values()) for item_id, names in found.items()}


def count_tags(connection: Connection) -> list[tuple[str, int]]:
    """Return each tag with the number of items that have it and can be found, most frequent first.

    A tag is shown as it is written most often. Raises LibraryError where the library is older than its tags,
    StoreCorruptError where the catalog disagrees with itself.
    """
    _require(connection)
    found, gone = _counts(connection), _counts(connection, select(items.c.id).where(items.c.deleted))
    for folded, (rows, number) in gone.counts.items():
        if folded not in found.counts:
            raise _differs(folded)
        found.counts[folded] = (found.counts[folded][0] - rows, found.counts[folded][1] - number)
    found.written.subtract(gone.written)
    return found.ranked()


def count_tags_of(connection: Connection, shown: Select[tuple[int]]) -> list[tuple[str, int]]:
    """Return each tag of some items, by a query of their ids, as `count_tags` does of all."""
    return _counts(connection, shown).ranked() if is_there(connection) else []


class _TagCounts(NamedTuple):
    """How often tags are said: by the tag without case, its rows and its items; rows of each other way to write it."""

    counts: dict[str, tuple[int, int]]
    written: Counter[tuple[str, object]]

    def ranked(self) -> list[tuple[str, int]]:
        """Return each tag as it is written most often, with the number of its items, most frequent first."""
        ways: dict[str, list[tuple[int, str, object]]] = {}
        for (folded, name), rows in self.written.items():
            if rows > 0:
                ways.setdefault(folded, []).append((-rows, str(name), name))
        if lost := ways.keys() - self.counts.keys():
            raise _differs(min(lost))
        best: list[tuple[int, str, str]] = []
        for folded, (rows, number) in self.counts.items():
            others = ways.get(folded, [])
            plain = rows + sum(count for count, _, _ in others)
            name = min([*others, (-plain, folded, folded)], key=lambda way: way[:2])[2]
            if number > 0 and isinstance(name, str):  # anything else is of a damaged catalog
                best.append((-number, folded, name))
        return [(name, -number) for number, _, name in sorted(best)]


def _counts(connection: Connection, shown: Select[tuple[int]] | None = None) -> _TagCounts:
    """Count tags in the order of their index, and the few that are not written as folded in the order of items.

    Neither sorts all rows or looks one up by another; shown: the items, all by default.
    """
    rows, names = func.count(), func.count(tags.c.item_id.distinct())
    counted = select(tags.c.folded, rows, names).group_by(tags.c.folded)
    other = select(tags.c.folded, tags.c.tag, rows).where(tags.c.tag != tags.c.folded)
    if is_postgres(connection):
        other = other.group_by(tags.c.folded, tags.c.tag)
    else:  # not in the order of the index
        other = other.group_by(literal_column("+tags.folded"), literal_column("+tags.tag"))
    if shown is not None:
        counted, other = (query.where(tags.c.item_id.in_(shown)) for query in (counted, other))
    counts = {folded: (n, number) for folded, n, number in connection.execute(counted) if isinstance(folded, str)}
    ways = {(folded, name): n for folded, name, n in connection.execute(other) if isinstance(folded, str)}
    return _TagCounts(counts, Counter(ways))


def _differs(folded: str) -> StoreCorruptError:
    """Build the error for a tag that SQLite finds in one place and not in another."""
    return StoreCorruptError(f"The catalog is damaged: its entries for the tag {folded!r} differ. {REPAIR}")


def _row(item_id: int, name: str, source: TagSource, probability: float | None = None) -> dict[str, Any]:
    texts = {"folded": fold_tag(name), "tag": tidy_tag(name)}
    return {"item_id": item_id, **texts, "source": source, "probability": probability}


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(tags), rows)


def _require(connection: Connection) -> None:
    if not is_there(connection):
        raise LibraryError(
            "The library was written by an earlier version of clipsearch, without tags. Run once: clipsearch index"
        )


def is_there(connection: Connection) -> bool:
    """Tell whether a library has tags; older ones have none."""
    return is_postgres(connection) or connection.exec_driver_sql(_IS_THERE).first() is not None
