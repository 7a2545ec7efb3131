"""The flip: the two sets of vectors change places, in one transaction.

A reader that is at work ends with the set that it began with; the next one sees the other, and the revision tells it.
In SQLite the large tables change their names, which takes no longer for many rows than for few. In PostgreSQL their
rows change places: a reader there looks a name up when it first reads the table, and would find the other set.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, Table, and_, delete, exists, insert, not_, select, update

from clipsearch.copy_distance import COPY_DISTANCE_KEY
from clipsearch.errors import LibraryError
from clipsearch.store import catalog, full_text, searches, second_set
from clipsearch.store.dialect import is_postgres
from clipsearch.store.records import RootKind
from clipsearch.store.revision import change
from clipsearch.store.schema import (
    generations,
    items,
    roots,
    second_generations,
    second_items,
    second_segments,
    second_tombstones,
    second_vectors,
    segments,
    tombstones,
    vectors,
)
from clipsearch.store.second_items import is_complete
from clipsearch.store.second_set import ROLE_KEY, Role
from clipsearch.store.second_writer import SecondWriter, set_setting
from clipsearch.store.spreads import SPREADS_KEY
from clipsearch.store.sql_values import chunks
from clipsearch.types import EncoderPin, Modality

KEYS = ("encoder", "fingerprint", "dim", SPREADS_KEY, COPY_DISTANCE_KEY, catalog.QUERIES_KEY)
"""The settings that belong to an encoder: each set has its own."""

_TEXTS_AT_ONCE = 1000
_LARGE = ((vectors, second_vectors), (tombstones, second_tombstones))
_SMALL = ((segments, second_segments), (generations, second_generations))


def flip(writer: SecondWriter, pin: EncoderPin) -> None:
    """Let the second set answer, and keep the first one in its place.

    Items without vectors in the set that answers from then on keep all else, and the next run reads their files again.
    Raises EncoderMismatchError if the second set is not of that encoder, LibraryError if items were added or changed
    that it lacks, or when the disk refuses; all is as before then.
    """
    writer.require(pin)
    with change(writer.connection) as connection:
        if not is_complete(connection):
            raise LibraryError(
                "The library was changed before the flip. Nothing is lost. Run again: clipsearch reindex"
            )
        hide_deleted(connection)
        changed = searches.note_changes(connection)
        differing = list(_differing_words(connection))
        for chunk in chunks(differing):
            full_text.remove(connection, chunk)
        for one, other in _LARGE:
            (_swap_all_rows if is_postgres(connection) else _swap_names)(connection, one, other)
        for one, other in _SMALL:
            _swap_rows(connection, one, other)
        _swap_settings(connection)
        for chunk in chunks(differing):
            full_text.add_again(connection, chunk)
        searches.restart(connection, changed)
        _keep(connection)
        _read_again(connection)


def hide_deleted(connection: Connection) -> None:
    """Give the second set the tombstones of what is deleted now, and only these: files may have come back."""
    owner = and_(
        second_vectors.c.modality == second_tombstones.c.modality, second_vectors.c.row == second_tombstones.c.row
    )
    connection.execute(delete(second_tombstones).where(exists().where(owner)))
    second_set.hide(connection, select(items.c.id).where(items.c.deleted))


def _differing_words(connection: Connection) -> Iterator[int]:
    """Yield the ids of items of whose passages the two sets have other words: an encoder may cut a text elsewhere."""
    texts = [_words(connection, table) for table in (vectors, second_vectors)]
    one, other = (next(each, None) for each in texts)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            yield one[0] if one else 0
            one = next(texts[0], None)
        elif one is None or other[0] < one[0]:
            yield other[0]
            other = next(texts[1], None)
        else:
            if one[1] != other[1]:
                yield one[0]
            one, other = next(texts[0], None), next(texts[1], None)


def _words(connection: Connection, table: Table) -> Iterator[tuple[int, list[str]]]:
    """Yield the words of the passages of each item that has any, in order of id."""
    query = select(table.c.item_id, table.c.text).where(table.c.modality == Modality.TEXT, table.c.text.is_not(None))
    ordered = query.order_by(table.c.item_id, table.c.part).execution_options(yield_per=_TEXTS_AT_ONCE)
    found = connection.execute(ordered)
    for item_id, parts in groupby(found, itemgetter(0)):
        yield item_id, full_text.join_passages(part.text for part in parts).split()


def _swap_names(connection: Connection, one: Table, other: Table) -> None:
    for before, after in ((one.name, "swapped"), (other.name, one.name), ("swapped", other.name)):
        connection.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")


def _swap_all_rows(connection: Connection, one: Table, other: Table) -> None:
    """Exchange the rows of two large tables, on the server."""
    names = ", ".join(f'"{column.name}"' for column in one.c)
    for statement in (
        f"CREATE TEMPORARY TABLE swapped ON COMMIT DROP AS SELECT {names} FROM {one.name}",
        f"DELETE FROM {one.name}",
        f"INSERT INTO {one.name} ({names}) SELECT {names} FROM {other.name}",
        f"DELETE FROM {other.name}",
        f"INSERT INTO {other.name} ({names}) SELECT {names} FROM swapped",
        "DROP TABLE swapped",
    ):
        connection.exec_driver_sql(statement)


def _swap_rows(connection: Connection, one: Table, other: Table) -> None:
    """Exchange the rows of two tables of a few rows each; they get new ids."""
    columns = [column.name for column in one.c if column.name not in ("id", "digest")]
    found = [
        [dict(row) for row in connection.execute(select(*(table.c[name] for name in columns))).mappings()]
        for table in (one, other)
    ]
    for table, rows in zip((other, one), found, strict=True):
        connection.execute(delete(table))
        if rows:
            connection.execute(insert(table), rows)


def _swap_settings(connection: Connection) -> None:
    for key in KEYS:
        first, second = catalog.get_setting(connection, key), second_set.get_setting(connection, key)
        catalog.set_setting(connection, key, second)
        set_setting(connection, key, first)


def _keep(connection: Connection) -> None:
    """Note what the set that answered until now has: all that it had vectors of, as these items are now."""
    own = and_(second_vectors.c.item_id == items.c.id, second_vectors.c.modality == items.c.modality)
    has_vectors = select(items.c.id).where(exists().where(own))
    connection.execute(delete(second_items).where(second_items.c.item_id.not_in(has_vectors)))
    connection.execute(update(second_items).values(reason=None))
    set_setting(connection, ROLE_KEY, Role.KEPT)


def _read_again(connection: Connection) -> None:
    """Let the next run read the files that have no vectors now: their times seem to have changed."""
    is_file = items.c.root_id.in_(select(roots.c.id).where(roots.c.kind == RootKind.FOLDER))
    lacking = (is_file, ~items.c.deleted, not_(catalog.IS_ENCODED))
    connection.execute(update(items).where(*lacking).values(mtime_ns=items.c.mtime_ns - 1))
