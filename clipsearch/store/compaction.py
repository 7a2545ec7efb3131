"""Compaction: the rows that may be found, in new segments without the dead ones between them.

A row is dead when it is a tombstone: its file was deleted, forgotten, or has other content now. Compaction has two
steps, between which an approximate index can be built over the new rows. `prepare` only writes files that no catalog
names; `commit` is one transaction. Whatever instant a process dies at, the library is as it was before or as it is
after; the files that do not count go when the next writer opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, Connection, Integer, MetaData, Table, and_, delete, exists, func, insert, select, update

from clipsearch.errors import LibraryError
from clipsearch.filtering import Filter
from clipsearch.store import (
    catalog,
    collections,
    full_text,
    generations,
    recognised,
    searches,
    second_set,
    shards,
    tags,
)
from clipsearch.store.database import transaction
from clipsearch.store.dialect import is_postgres
from clipsearch.store.filters import matching_rows
from clipsearch.store.revision import change
from clipsearch.store.row_checks import require_sound
from clipsearch.store.rows import Appended, advance
from clipsearch.store.schema import items, segments, tombstones, vectors
from clipsearch.store.vectors import SEGMENT_ROWS, Rows, Segment, VectorStore, new_segment
from clipsearch.store.writer import Writer
from clipsearch.types import Modality

MAX_DEAD_SHARE = 0.25
"""With more of its rows dead than that, a modality should be compacted."""

MIN_DEAD_ROWS = 256
"""Fewer dead rows than that are not worth the work: a deleted file of a small library comes back at no cost."""

_BLOCK_ROWS = 1 << 14
_CACHE_KIB = 1 << 17

_moves = Table(
    "compaction_moves",
    MetaData(),
    Column("row", Integer, primary_key=True),
    Column("new", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)


@dataclass(frozen=True, slots=True)
class Compacted:
    """New segments of a modality, on disk but not in the catalog yet.

    rows: a view of them. old_rows: int64 (rows,), ascending; the row that each of them has until the commit.
    """

    modality: Modality
    segments: tuple[Segment, ...]
    rows: Rows
    old_rows: NDArray[np.int64]


def dead_share(connection: Connection, modality: Modality) -> float:
    """Return which share of a modality's rows is dead, from 0 to 1."""
    count = select(func.count()).select_from(tombstones).where(tombstones.c.modality == modality)
    dead: int = connection.execute(count).scalar_one()
    return dead / max(catalog.count_rows(connection, modality), 1)


def is_due(connection: Connection, modality: Modality) -> bool:
    """Tell whether so many rows of a modality are dead that a compaction pays."""
    rows = catalog.count_rows(connection, modality)
    share = dead_share(connection, modality)
    return share > MAX_DEAD_SHARE and share * rows >= MIN_DEAD_ROWS


def prepare(writer: Writer, modality: Modality) -> Compacted:
    """Write the live rows of a modality to new segments, in order and durably; nothing changes for a reader.

    Raises StoreCorruptError if a row is damaged, LibraryError when the disk refuses; what was written is deleted then.
    """
    connection, store = writer.storage
    with transaction(connection):
        live = _live_rows(connection, modality)
        old = store.view(catalog.get_segments(connection, modality))
        require_sound(connection, old, modality)
    written = tuple(_write(store, modality, old, live))
    return Compacted(modality, written, store.view(written), live)


def commit(writer: Writer, compacted: Compacted, generation: catalog.Generation | None) -> None:
    """Make the new segments those of the modality, and erase its deleted items, in one transaction.

    generation: the approximate index over the new rows that becomes the active one; None for exact search. Every item
    that can be found keeps its id. Raises LibraryError if there were other changes since `prepare`, or when the disk
    refuses; the library is as before then.
    """
    connection, _ = writer.storage
    modality = compacted.modality
    with change(connection):
        if not is_postgres(connection):
            connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")  # most pages change, many of them often
        if not np.array_equal(_live_rows(connection, modality), compacted.old_rows):
            raise LibraryError("The library was changed while it was compacted. Nothing is lost. Run again.")
        _erase_deleted(connection, modality)
        _renumber(connection, modality)
        searches.renumber(connection, modality, compacted.old_rows)
        for table in (tombstones, segments):
            connection.execute(delete(table).where(table.c.modality == modality))
        advance(connection, Appended(list(compacted.segments)))
        if generation is None:
            generations.deactivate(connection, modality)
        else:
            generations.activate(connection, generation)


def _live_rows(connection: Connection, modality: Modality) -> NDArray[np.int64]:
    return matching_rows(connection, modality, Filter(), "")


def _write(store: VectorStore, modality: Modality, old: Rows, live: NDArray[np.int64]) -> list[Segment]:
    written: list[Segment] = []
    try:
        for first in range(0, len(live), SEGMENT_ROWS):
            written.append(new_segment(modality, first))
            for block in _blocks(live[first : first + SEGMENT_ROWS]):
                store.append(written[-1], old.take(block))
                written[-1] = replace(written[-1], committed_rows=written[-1].committed_rows + len(block))
    except BaseException:
        store.discard(written)
        raise
    return written


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS))


def _erase_deleted(connection: Connection, modality: Modality) -> None:
    """Erase deleted items that have rows of this modality, with all their vectors: half an item must not come back."""
    with_rows = select(vectors.c.item_id).where(vectors.c.modality == modality)
    gone = select(items.c.id).where(items.c.deleted, items.c.id.in_(with_rows))
    full_text.remove(connection, gone)
    connection.execute(delete(vectors).where(vectors.c.item_id.in_(gone)))
    is_bare = and_(items.c.deleted, ~exists().where(vectors.c.item_id == items.c.id))
    tags.remove(connection, select(items.c.id).where(is_bare))
    collections.remove(connection, select(items.c.id).where(is_bare))
    shards.remove_items(connection, select(items.c.id).where(is_bare))
    recognised.remove(connection, select(items.c.id).where(is_bare))
    second_set.forget(connection, select(items.c.id).where(is_bare))
    connection.execute(delete(items).where(is_bare))


def _renumber(connection: Connection, modality: Modality) -> None:
    """Give the rows of a modality the numbers from 0 on, in their order.

    Both tables are read in order of row, lowest first: by the time a row moves down, the number it takes is free.
    """
    rank = func.row_number().over(order_by=vectors.c.row) - 1
    ranked = select(vectors.c.row, rank).where(vectors.c.modality == modality).order_by(vectors.c.row)
    _moves.create(connection)
    connection.execute(insert(_moves).from_select(["row", "new"], ranked))
    moving = (vectors.c.modality == modality, vectors.c.row == _moves.c.row, _moves.c.new != _moves.c.row)
    if is_postgres(connection):  # which reads in any order: by way of numbers that no row has
        connection.execute(update(vectors).where(*moving).values(row=-1 - _moves.c.new))
        moved = (vectors.c.modality == modality, vectors.c.row < 0)
        connection.execute(update(vectors).where(*moved).values(row=-1 - vectors.c.row))
    else:
        connection.execute(update(vectors).where(*moving).values(row=_moves.c.new))
    _moves.drop(connection)
