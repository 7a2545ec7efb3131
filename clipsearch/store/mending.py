"""What a repair changes in a library past its ordinary commits."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sqlalchemy import delete, select, text

from clipsearch.errors import LibraryError
from clipsearch.store import catalog, files, full_text, tags
from clipsearch.store.damage import Damage
from clipsearch.store.database import transaction
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.library import VECTORS, Library, locked
from clipsearch.store.schema import failures, generations, items, vectors
from clipsearch.store.vectors import ROW_DTYPE, Segment
from clipsearch.store.writer import Writer, bump_revision


def extend_segments(library: Library) -> list[str]:
    """Make segments that are missing or cut as long as the catalog says, and return their names.

    What they lacked is zeros then, which are no vectors: those rows stay damaged until their items are encoded again.
    Raises LibraryError when the disk refuses, LibraryLockedError.
    """
    with locked(library.folder):
        with library.query() as connection:
            segments = catalog.get_segments(connection)
            row_bytes = int(catalog.get_setting(connection, "dim") or 0) * ROW_DTYPE.itemsize
        try:
            with open_folder(library.folder) as folder:
                folder.make(VECTORS)
                with folder.child(VECTORS) as inside:
                    found = [segment.name for segment in segments if _extend(inside, segment, row_bytes)]
                    inside.sync()
        except OSError as error:
            raise LibraryError(
                f"The vectors in {library.folder / VECTORS} cannot be written: {error.strerror}. Free some space or "
                "mend the disk and run again; nothing committed is lost."
            ) from error
    return found


def _extend(folder: Folder, segment: Segment, row_bytes: int) -> bool:
    descriptor = folder.open(segment.name, os.O_RDWR | os.O_CREAT, own=True)
    try:
        size = segment.committed_rows * row_bytes
        if os.fstat(descriptor).st_size >= size:
            return False
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)


def erase(writer: Writer, ids: Sequence[int]) -> None:
    """Take items out of a library, with all that belongs to them."""
    connection, _ = writer.storage
    for chunk in catalog.chunks(ids):
        with transaction(connection):
            files.tombstone(connection, select(items.c.id).where(items.c.id.in_(chunk)))
            full_text.remove(connection, chunk)
            tags.remove(connection, chunk)
            connection.execute(delete(vectors).where(vectors.c.item_id.in_(chunk)))
            connection.execute(delete(items).where(items.c.id.in_(chunk)))
            bump_revision(connection)


def drop_notes(writer: Writer, damage: Damage) -> None:
    """Forget approximate indexes and failures whose entries are damaged: a run makes or finds them again."""
    connection, _ = writer.storage
    with transaction(connection):
        for table, ids in ((generations, damage.generations), (failures, damage.failures)):
            for chunk in catalog.chunks(ids):
                connection.execute(delete(table).where(table.c.id.in_(chunk)))
        bump_revision(connection)


def rebuild_words(writer: Writer) -> None:
    """Make the index of words again from captions and passages."""
    connection, _ = writer.storage
    with transaction(connection):
        connection.execute(text("DROP TABLE IF EXISTS full_text"))
        connection.execute(text(full_text.CREATE))
        full_text.fill(connection)
        bump_revision(connection)


def rebuild_indexes(writer: Writer) -> None:
    """Make SQLite's own indexes again from their tables."""
    connection, _ = writer.storage
    with transaction(connection):
        connection.execute(text("REINDEX"))
