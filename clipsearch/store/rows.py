"""Adding and hiding rows. Rows are appended to the segments durably first, and then counted by the catalog.

Appended rows do not count before `advance`, which is called inside the transaction of a commit. The next writer removes
rows whose transaction was never committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, Table, delete, insert, select, update

from clipsearch.store import catalog
from clipsearch.store.database import transaction
from clipsearch.store.schema import segments, tombstones, vectors
from clipsearch.store.vectors import SEGMENT_ROWS, Segment, VectorStore, new_segment
from clipsearch.types import Modality


@dataclass(slots=True)
class Appended:
    """Rows that were appended. grown: the segments as they will be after the commit. next_row: the next to allocate."""

    grown: list[Segment] = field(default_factory=list)
    next_row: dict[Modality, int] = field(default_factory=dict)

    def take(self, modality: Modality, count: int) -> int:
        """Allocate the next rows of a modality, in the order they were appended; return the first."""
        first = self.next_row[modality]
        self.next_row[modality] = first + count
        return first


def append(
    connection: Connection,
    store: VectorStore,
    rows: Mapping[Modality, NDArray[np.float16]],
    get_segments: Callable[[Connection, Modality], Sequence[Segment]] = catalog.get_segments,
) -> Appended:
    """Write rows (n, dim) of each modality to disk, durably. Raises LibraryError when the disk refuses.

    get_segments: lists the present segments of a modality.
    """
    appended = Appended()
    for modality, block in rows.items():
        with transaction(connection):
            present = get_segments(connection, modality)
        last = present[-1] if present else _next_segment(modality, None)
        appended.next_row[modality] = last.first_row + last.committed_rows
        appended.grown += _append_rows(store, last, block)
    return appended


def advance(connection: Connection, appended: Appended, table: Table = segments) -> None:
    """Commit appended rows as part of the current transaction. table: of their segments."""
    for segment in appended.grown:
        if segment.id:
            statement = update(table).where(table.c.id == segment.id)
            connection.execute(statement.values(committed_rows=segment.committed_rows))
        else:
            values = {"modality": segment.modality, "name": segment.name, "first_row": segment.first_row}
            connection.execute(insert(table).values(**values, committed_rows=segment.committed_rows))


def _next_segment(modality: Modality, last: Segment | None) -> Segment:
    """Return the segment that follows another one, or the first."""
    first_row = last.first_row + last.committed_rows if last else 0
    return new_segment(modality, first_row)


def hide(
    connection: Connection,
    ids: Select[tuple[int]] | Sequence[int],
    modality: Modality | None = None,
    which: ColumnElement[bool] | None = None,
) -> None:
    """Add the rows of items to the tombstones, of one modality or of all; which: a condition that they meet."""
    rows = select(vectors.c.modality, vectors.c.row).where(vectors.c.item_id.in_(ids))
    if modality is not None:
        rows = rows.where(vectors.c.modality == modality)
    if which is not None:
        rows = rows.where(which)
    connection.execute(insert(tombstones).prefix_with("OR IGNORE").from_select(["modality", "row"], rows))


def remove_rows(
    connection: Connection, ids: Sequence[int], modality: Modality, which: ColumnElement[bool] | None = None
) -> None:
    """Hide the rows of items in one modality, and take them from the items; which: a condition that they meet."""
    hide(connection, ids, modality, which)
    own = delete(vectors).where(vectors.c.item_id.in_(ids), vectors.c.modality == modality)
    connection.execute(own if which is None else own.where(which))


def _append_rows(store: VectorStore, last: Segment, rows: NDArray[np.float16]) -> list[Segment]:
    grown = []
    while len(rows):
        if last.committed_rows >= SEGMENT_ROWS:
            last = _next_segment(last.modality, last)
        taken = rows[: SEGMENT_ROWS - last.committed_rows]
        store.append(last, taken)
        last = replace(last, committed_rows=last.committed_rows + len(taken))
        grown.append(last)
        rows = rows[len(taken) :]
    return grown
