"""Verifying a library: every vector against its checksum, every row of the catalog against its digest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, inspect

from clipsearch.store import catalog, full_text, item_metadata, metadata_index, record_contents, schema
from clipsearch.store.checksums import COVERED, count_unsound
from clipsearch.store.dialect import is_postgres
from clipsearch.store.library import Library
from clipsearch.store.names import VECTORS
from clipsearch.store.row_checks import COMPLETE_KEY, find_damaged
from clipsearch.store.vectors import VectorStore
from clipsearch.types import Modality

MESSAGES = 5
"""How many messages of one kind are shown."""

Advance = Callable[[int], None]
"""Called with the number of rows that were checked since the last call."""

Stage = Callable[[str, int], Advance | None]
"""Called with the name of a stage and its number of rows; returns the callback that advances it."""


def has_checksums(connection: Connection) -> bool:
    """Tell whether every vector has a checksum; in a library of an earlier format none has."""
    return catalog.get_setting(connection, COMPLETE_KEY) is not None


def integrity_problems(connection: Connection, *, quick: bool = False) -> list[str]:
    """Run the integrity check of SQLite, and return up to MESSAGES lines about what is wrong.

    PostgreSQL checks what it reads; its own tool for the rest is pg_amcheck.
    """
    if is_postgres(connection):
        return []
    check = "quick_check" if quick else "integrity_check"
    said = connection.exec_driver_sql(f"PRAGMA {check}({MESSAGES})").scalars().all()
    if said == ["ok"]:
        return []
    return [line for message in said for line in str(message).splitlines()][:MESSAGES]


def count_damaged(connection: Connection) -> dict[str, tuple[int, list[int]]]:
    """Return for each table with digests how many rows are damaged, and which, by id where it has ids.

    Metadata and contents of records that cannot be read are damaged too, if they match their digests.
    """
    if not has_checksums(connection):
        return {table.name: (0, []) for table in COVERED}
    found = {table.name: count_unsound(connection, table) for table in COVERED}
    for table, unreadable in ((schema.item_metadata, item_metadata), (schema.record_contents, record_contents)):
        ids = sorted({*found[table.name][1], *unreadable.find_unreadable(connection)})
        found[table.name] = len(ids), ids
    return found


def damaged_rows(library: Library, modality: Modality, advance: Advance = lambda rows: None) -> NDArray[np.int64]:
    """Return the rows of a modality that fail their checksums: int64, ascending."""
    while True:
        with library.query() as connection:
            segments = catalog.get_segments(connection, modality)
            store = VectorStore(library.folder / VECTORS, catalog.get_number(connection, "dim"))
            found = [np.empty(0, np.int64)]
            for checked in find_damaged(connection, store, modality):
                advance(checked.rows)
                found.append(checked.damaged)
        damaged = np.concatenate(found)
        if not len(damaged) or {segment.name for segment in segments} <= _names_now(library, modality):
            return damaged  # else a compaction has replaced the files during the check


def differs_from_texts(connection: Connection) -> bool:
    """Tell whether the full-text index differs from that of the stored captions and passages."""
    if not inspect(connection).has_table(full_text.NAME):
        return False
    return full_text.differs(connection)


def differs_from_metadata(connection: Connection) -> bool:
    """Tell whether the index of metadata differs from that of the stored metadata."""
    if not inspect(connection).has_table(schema.metadata_values.name):
        return False
    return metadata_index.differs(connection)


def _names_now(library: Library, modality: Modality) -> set[str]:
    with library.query() as connection:
        return {segment.name for segment in catalog.get_segments(connection, modality)}
