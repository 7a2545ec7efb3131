"""Damage of a library that `clipsearch repair` can do something about, and that a backup must not take over."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, inspect, select

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog
from clipsearch.store.copying import read_blocks
from clipsearch.store.database import mapped_errors
from clipsearch.store.findings import counted
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.generations import verify
from clipsearch.store.library import VECTORS, Library
from clipsearch.store.schema import items, vectors
from clipsearch.store.source import get_revision
from clipsearch.store.vectors import ROW_DTYPE, Segment
from clipsearch.types import Modality

_UNIT_TOLERANCE = 0.01
_MESSAGES = 5
_ALL_WORDS = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.all_words USING fts5vocab(main, full_text, instance)"


@dataclass(frozen=True, slots=True)
class Damage:
    """What is damaged.

    rows: by modality, rows that belong to an item, int64, ascending. items, generations, failures: ids in these tables.
    indexes: the modalities whose approximate index is. words: whether the index of words is. catalog: what SQLite says
    of its file, but for the index of words. other: what no repair can mend, a line each.
    """

    rows: Mapping[Modality, NDArray[np.int64]]
    items: tuple[int, ...] = ()
    generations: tuple[int, ...] = ()
    failures: tuple[int, ...] = ()
    indexes: tuple[Modality, ...] = ()
    words: bool = False
    catalog: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything is damaged."""
        return bool(self.describe())

    def describe(self) -> list[str]:
        """Say what is damaged, a line each."""
        found = [f"{counted(len(rows), 'vector')} of {modality}" for modality, rows in self.rows.items() if len(rows)]
        found += [counted(len(self.items), "item")] if self.items else []
        found += [counted(len(self.generations), "approximate index")] if self.generations else []
        found += [counted(len(self.failures), "failed file")] if self.failures else []
        found += [f"the approximate index of {modality}" for modality in self.indexes]
        found += ["the index of words"] if self.words else []
        return [*found, *(f"the catalog: {line}" for line in self.catalog), *self.other]


@dataclass(frozen=True, slots=True)
class DamagedItem:
    """An item of which something is damaged. path: as stored."""

    id: int
    root_id: int
    path: str
    content_hash: str
    deleted: bool


def damaged_items(library: Library, damage: Damage) -> list[DamagedItem]:
    """Return the items that are damaged or have a damaged row, in order of their ids.

    One that has a row and is lost itself counts as deleted.
    """
    columns = (items.c.id, items.c.root_id, items.c.path, items.c.content_hash, items.c.deleted)
    with library.query() as connection:
        ids = set(damage.items)
        for modality, rows in damage.rows.items():
            ids |= set(catalog.owners(connection, modality, rows=rows.tolist()).values())
        found = connection.execute(select(*columns).where(items.c.id.in_(catalog.listed(ids))).order_by(items.c.id))
        known = [DamagedItem(*row) for row in found]
    return known + [DamagedItem(number, 0, "", "", True) for number in sorted(ids - {item.id for item in known})]


def find_damage(library: Library) -> Damage:
    """Read all that a library has and return what is damaged. Raises LibraryError where the disk refuses."""
    while True:
        revision, damage = _look(library)
        with library.query() as connection:
            # Segments that a compaction has deleted meanwhile are not missing.
            if not damage or get_revision(connection) == revision:
                return damage


def _look(library: Library) -> tuple[int, Damage]:
    with library.query() as connection:
        said = connection.exec_driver_sql(f"PRAGMA integrity_check({_MESSAGES})").scalars().all()
        lines = [line for message in said for line in str(message).splitlines()][:_MESSAGES]
        about_words = [line for line in lines if "full_text" in line or "inverted index" in line]
        whole = [line for line in lines if line != "ok" and line not in about_words]
        words = bool(about_words) or not _are_words_whole(connection)
        rows = {modality: _odd_rows(library, connection, modality) for modality in Modality}
        indexes = tuple(m for m in Modality if not _is_index_whole(library, connection, m))
        return get_revision(connection), Damage(rows, indexes=indexes, words=words, catalog=tuple(whole))


def _is_index_whole(library: Library, connection: Connection, modality: Modality) -> bool:
    try:
        generation = catalog.get_generation(connection, modality)
        if generation is not None:
            verify(library.folder, generation)
    except StoreCorruptError:
        return False
    return True


def _are_words_whole(connection: Connection) -> bool:
    """Tell whether the index of words can be read and has as many words as it says that it has."""
    if not inspect(connection).has_table("full_text"):
        return True  # of a library from before there were words
    try:
        with mapped_errors():
            connection.exec_driver_sql(_ALL_WORDS)
            found = connection.exec_driver_sql("SELECT count(*) FROM temp.all_words").scalar_one()
            connection.exec_driver_sql("DROP TABLE temp.all_words")
            sizes = connection.exec_driver_sql("SELECT sz FROM full_text_docsize").scalars()
            return bool(found == sum(map(_varint, sizes)))
    except StoreCorruptError:
        return False


def _varint(data: bytes) -> int:
    """Read a number as SQLite packs it: seven bits a byte, highest first."""
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value


def _odd_rows(library: Library, connection: Connection, modality: Modality) -> NDArray[np.int64]:
    """Return the rows of items that are not of unit length, or that their segment does not hold."""
    row_bytes = int(catalog.get_setting(connection, "dim") or 0) * ROW_DTYPE.itemsize
    found = [np.empty(0, np.int64)]
    with open_folder(library.folder) as folder:
        for segment in catalog.get_segments(connection, modality):
            found += list(_odd_in(folder, segment, row_bytes))
    odd = np.concatenate(found)
    query = select(vectors.c.row).where(vectors.c.modality == modality, vectors.c.row.in_(catalog.listed(odd.tolist())))
    return np.sort(np.fromiter(connection.execute(query).scalars(), np.int64)) if len(odd) else odd


def _odd_in(folder: Folder, segment: Segment, row_bytes: int) -> Iterator[NDArray[np.int64]]:
    held, first = 0, segment.first_row
    try:
        with folder.child(VECTORS) as inside:
            descriptor = inside.open(segment.name, os.O_RDONLY)
        try:
            held = min(os.fstat(descriptor).st_size // row_bytes, segment.committed_rows)
            rest = b""
            for block in read_blocks(descriptor, 0, held * row_bytes):
                data = rest + block
                whole = len(data) // row_bytes * row_bytes
                rows, rest = (
                    np.frombuffer(data[:whole], ROW_DTYPE).reshape(-1, row_bytes // ROW_DTYPE.itemsize),
                    data[whole:],
                )
                with np.errstate(invalid="ignore", over="ignore"):
                    norms = np.linalg.norm(rows.astype(np.float32), axis=1)
                    yield first + np.flatnonzero(~(np.abs(norms - 1) < _UNIT_TOLERANCE))
                first += len(rows)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        pass
    yield np.arange(segment.first_row + held, segment.first_row + segment.committed_rows)
