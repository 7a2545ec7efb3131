"""A library to an export: one state of it, read as a stream, while others write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from clipsearch.filtering import Filter
from clipsearch.store.library import Library
from indexer.export_files import ExportWriter, check_target
from indexer.export_rows import export_rows
from indexer.export_tables import check_format
from indexer.report import Progress, Silent

AT_ONCE = 2048
"""Items, and vectors, that are read and written together."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export holds.

    Attributes:
        folder: Where it is, absolute.
        items: How many items.
        vectors: How many vectors, of all modalities.
        kept: Of how many of these items the library keeps a picture or a thumbnail, which the export lacks.
        bytes: Of its files.
        seconds: Wall time.
    """

    folder: str
    items: int
    vectors: int
    kept: int
    bytes: int
    seconds: float


def export_library(
    library: Library,
    folder: Path,
    *,
    table: str = "jsonl",
    filters: Filter | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the items that a filter allows, with their vectors and all that is known of them, to a new folder.

    The folder appears when all of it is there. Memory stays flat but for 8 bytes an item and a vector. table: `jsonl`,
    `csv` or `parquet`. overwrite: an export of that name is replaced. Raises InvalidInputError, LibraryNotFoundError
    for an empty library, StoreCorruptError for a damaged one, ClipSearchError where the disk refuses.
    """
    started = time.monotonic()
    check_format(table)
    folder = Path(folder).absolute()
    check_target(folder, overwrite)
    progress = progress or Silent()
    with export_rows(library, filters) as rows:
        with ExportWriter(folder, table, rows.pin.dim, rows.counts) as writer:
            progress.start(rows.count + sum(rows.counts.values()))
            for items in rows.items(AT_ONCE):
                writer.write_items(items)
                progress.advance(len(items))
            for modality, said, vectors in rows.vectors(AT_ONCE):
                writer.write_vectors(modality, said, vectors)
                progress.advance(len(said))
            size = writer.finish(rows.manifest(table), overwrite)
    seconds = round(time.monotonic() - started, 3)
    return ExportReport(str(folder), rows.count, sum(rows.counts.values()), rows.kept, size, seconds)
