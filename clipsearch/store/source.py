"""One state of a library as open files, which stay readable whatever a writer does meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog
from clipsearch.store.folder import open_folder
from clipsearch.store.library import VECTORS, Library
from clipsearch.store.vectors import ROW_DTYPE, Segment
from clipsearch.store.writer import REVISION_KEY

REPAIR = "Repair it first: clipsearch repair. The previous backup is unchanged."


@dataclass(slots=True)
class Source:
    """One state of a library: an open transaction, and its segments as open files."""

    connection: Connection
    revision: int
    row_bytes: int
    segments: dict[Segment, int] = field(default_factory=dict)

    def size(self, segment: Segment) -> int:
        """Return the committed bytes of a segment."""
        return segment.committed_rows * self.row_bytes


@contextmanager
def open_source(library: Library) -> Iterator[Source]:
    """Open one state; a state whose files a compaction has deleted meanwhile is passed over for the newest one."""
    while True:
        with library.query() as connection, ExitStack() as stack:
            revision = get_revision(connection)
            row_bytes = int(catalog.get_setting(connection, "dim") or 0) * ROW_DTYPE.itemsize
            source = Source(connection, revision, row_bytes)
            if _open_segments(library, source, stack):
                yield source
                return
        with library.query() as connection:
            is_newest = get_revision(connection) == revision
        if is_newest:
            raise StoreCorruptError(f"The library in {library.folder} lacks vectors that its catalog names. {REPAIR}")


def _open_segments(library: Library, source: Source, stack: ExitStack) -> bool:
    """Open all segments of a state; False if one is missing or too short."""
    segments = catalog.get_segments(source.connection)
    if not segments:
        return True
    try:
        with open_folder(library.folder) as folder, folder.child(VECTORS) as inside:
            for segment in segments:
                descriptor = inside.open(segment.name, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                if os.fstat(descriptor).st_size < source.size(segment):
                    return False
                source.segments[segment] = descriptor
    except FileNotFoundError:
        return False
    return True


def get_revision(connection: Connection) -> int:
    """Return the number that every change of a library counts up."""
    return int(catalog.get_setting(connection, REVISION_KEY) or 0)
