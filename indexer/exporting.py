"""A library to an export: one state of it, read as a stream, while others write."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError, LibraryNotFoundError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.present import encodable
from clipsearch.store.exporting import (
    count_kept_pictures,
    exported_collections,
    exported_items,
    exported_settings,
    exported_vectors,
)
from clipsearch.store.library import Library
from clipsearch.store.refusals import REPAIR
from clipsearch.store.roots import get_roots
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import EncoderPin, Modality
from indexer.export_files import ExportManifest, ExportWriter, check_target
from indexer.export_tables import WRITERS
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
    if table not in WRITERS:
        raise InvalidInputError(f"There is no format {table!r:.40}. Use one of: {', '.join(WRITERS)}.")
    folder = Path(folder).absolute()
    check_target(folder, overwrite)
    with library.read() as snapshot:
        pin = snapshot.encoder
        if pin is None:
            raise LibraryNotFoundError(f"The library in {library.folder} is empty: there is nothing to export.")
        run = _Export(snapshot, filters or Filter(), progress or Silent())
        counts = {modality: len(rows) for modality, rows in run.rows.items()}
        with ExportWriter(folder, table, pin.dim, counts) as writer:
            run.write(writer)
            size = writer.finish(run.manifest(table, pin, has_filter=filters is not None), overwrite)
    seconds = round(time.monotonic() - started, 3)
    return ExportReport(str(folder), len(run.ids), sum(counts.values()), run.kept, size, seconds)


class _Export:
    """What the steps of one export share. ids, rows: int64, ascending. kept: as of the report."""

    def __init__(self, snapshot: Snapshot, filters: Filter, progress: Progress) -> None:
        self._snapshot = snapshot
        self._connection, self._base = snapshot.storage
        self._progress = progress
        self.ids = snapshot.matching_ids(filters)
        self.rows = {modality: snapshot.matching(modality, filters) for modality in Modality}
        self._collections = exported_collections(self._connection)
        self._roots: set[int] = set()
        self.kept = 0

    def write(self, writer: ExportWriter) -> None:
        """Write all items, then all vectors in the order of their rows."""
        self._progress.start(len(self.ids) + sum(map(len, self.rows.values())))
        for ids in _slices(self.ids):
            writer.write_items(self._items(ids.tolist()))
            self._progress.advance(len(ids))
        for modality, numbers in self.rows.items():
            first = 0
            for some in _slices(numbers):
                rows = self._snapshot.rows(modality).take(some)
                said = exported_vectors(self._connection, modality, some, rows)
                writer.write_vectors(modality, [{**each, "row": first + i} for i, each in enumerate(said)], rows)
                first += len(some)
                self._progress.advance(len(some))

    def _items(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        shown = {item.id: item for item in self._snapshot.items_by_id(ids)}
        said = exported_items(self._connection, ids)
        if len(shown) != len(ids) or len(said) != len(ids):
            lost = min({*ids} - shown.keys())
            raise StoreCorruptError(f"Item {lost} of the library is damaged, so it is not exported. {REPAIR}")
        self.kept += count_kept_pictures(self._connection, ids)
        self._roots |= {each["root"] for each in said}
        return [
            {
                **each,
                "key": encodable(shown[each["id"]].key),
                "path": encodable(shown[each["id"]].path),
                "collections": [[self._collections[number], place] for number, place in each["collections"]],
            }
            for each in said
        ]

    def manifest(self, table: str, pin: EncoderPin, *, has_filter: bool) -> ExportManifest:
        """Return what the export says of itself; with a filter, only the roots that its items have."""
        roots = [root for root in get_roots(self._connection, self._base) if not has_filter or root.id in self._roots]
        vectors: Mapping[str, int] = {str(modality): len(rows) for modality, rows in self.rows.items()}
        settings = exported_settings(self._connection)
        return ExportManifest(table, pin, len(self.ids), vectors, roots, self._collections, settings, self.kept)


def _slices(numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (numbers[start : start + AT_ONCE] for start in range(0, len(numbers), AT_ONCE))
