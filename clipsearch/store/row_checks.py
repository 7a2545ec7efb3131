"""The checksums of vectors: verified against the rows, and made for those of an earlier format."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog
from clipsearch.store.checksums import row_checksum
from clipsearch.store.database import transaction
from clipsearch.store.refusals import REPAIR
from clipsearch.store.vectors import ROW_DTYPE, Rows, VectorStore
from clipsearch.types import Modality

logger = logging.getLogger("clipsearch")

COMPLETE_KEY = "row_checksums"
"""The setting that says that every vector has a checksum, so that one without is damaged."""

Blocks = Iterable[tuple[int, NDArray[np.float16]]]
"""Pairs of the number of a first row, and rows from there on."""

_BLOCK_ROWS = 8192
_UNIT_TOLERANCE = 0.01
_SELECT = (
    "SELECT row, item_id, part, text, line, end_line, checksum, position FROM vectors "
    "WHERE modality = ? AND row >= ? AND row < ? ORDER BY row"
)
_UPDATE = "UPDATE vectors SET checksum = ? WHERE modality = ? AND row = ?"


@dataclass(frozen=True, slots=True)
class Checked:
    """Consecutive rows that were looked at. rows: how many. damaged: int64, the numbers of those that failed."""

    rows: int
    damaged: NDArray[np.int64]


def check_blocks(connection: Connection, blocks: Blocks, modality: Modality) -> Iterator[Checked]:
    """Compare blocks of rows with their checksums. Rows of no item have none and are passed over."""
    is_complete = catalog.get_setting(connection, COMPLETE_KEY) is not None
    for first, block in blocks:
        damaged = [
            row
            for row, stored, computed in _compare(connection, block, modality, first)
            if stored != computed and (stored is not None or is_complete)
        ]
        yield Checked(len(block), np.array(damaged, np.int64))


def require_sound(connection: Connection, rows: Rows, modality: Modality, start: int = 0) -> None:
    """Raise StoreCorruptError if a row from number `start` on is not as it was written."""
    for checked in check_blocks(connection, rows.blocks(start, size=_BLOCK_ROWS), modality):
        if len(checked.damaged):
            first = int(checked.damaged[0])
            raise StoreCorruptError(f"{modality.capitalize()} vectors are damaged, from row {first:,} on. {REPAIR}")


def find_damaged(connection: Connection, store: VectorStore, modality: Modality) -> Iterator[Checked]:
    """Compare every row of a modality with its checksum; where a file is missing or short, its rows are damaged."""
    for segment in catalog.get_segments(connection, modality):
        readable = min(segment.committed_rows, store.readable_rows(segment))
        rows = store.view([replace(segment, first_row=0, committed_rows=readable)])
        blocks = ((segment.first_row + first, block) for first, block in rows.blocks(size=_BLOCK_ROWS))
        yield from check_blocks(connection, blocks, modality)
        lost = np.arange(segment.first_row + readable, segment.first_row + segment.committed_rows)
        if len(lost):
            yield Checked(len(lost), lost)


def fill(connection: Connection, store: VectorStore) -> None:
    """Give the vectors of an earlier format their checksums, a block a transaction; nothing where all have theirs.

    A row that is no unit vector gets one that it fails: it was damaged before.
    """
    with transaction(connection):
        if catalog.get_setting(connection, COMPLETE_KEY) is not None:
            return
        segments = {modality: catalog.get_segments(connection, modality) for modality in Modality}
    total = sum(segment.committed_rows for each in segments.values() for segment in each)
    if total:
        logger.info("Adding checksums to %s vectors; this is done once.", f"{total:,}")
    for modality, each in segments.items():
        for first, block in store.view(each).blocks(size=_BLOCK_ROWS):
            _fill(connection, block, modality, first)
    with transaction(connection):
        catalog.set_setting(connection, COMPLETE_KEY, "1")


def _fill(connection: Connection, block: NDArray[np.float16], modality: Modality, first: int) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        is_unit = np.abs(np.linalg.norm(block.astype(np.float32), axis=1) - 1) < _UNIT_TOLERANCE
    with transaction(connection):
        values = [
            (computed if is_unit[row - first] else ~computed, modality, row)
            for row, stored, computed in _compare(connection, block, modality, first)
            if stored is None
        ]
        if values:
            connection.exec_driver_sql(_UPDATE, values)


def _compare(
    connection: Connection, block: NDArray[np.float16], modality: Modality, first: int
) -> Iterator[tuple[int, Any, int]]:
    """Yield (number, stored checksum, computed checksum) of each row of a block that belongs to an item."""
    data, size = block.reshape(-1).view(np.uint8).data, block.shape[1] * ROW_DTYPE.itemsize
    found = connection.exec_driver_sql(_SELECT, (str(modality), first, first + len(block))).fetchall()
    for row, item_id, part, text, line, end_line, stored, position in found:
        own = data[(row - first) * size : (row - first + 1) * size]
        yield row, stored, row_checksum(own, modality, item_id, part, (text, line, end_line), position)
