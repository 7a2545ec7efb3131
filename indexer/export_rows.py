"""What an export holds of a library: rows of items and of vectors, read from one state of it as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import LibraryNotFoundError, StoreCorruptError
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
from indexer.export_files import ExportManifest


@contextmanager
def export_rows(library: Library, filters: Filter | None) -> Iterator[ExportRows]:
    """Open what an export holds of the items that a filter allows; None for all.

    Raises LibraryNotFoundError for an empty library, InvalidInputError, StoreCorruptError for a damaged one.
    """
    with library.read() as snapshot:
        pin = snapshot.encoder
        if pin is None:
            raise LibraryNotFoundError(f"The library in {library.folder} is empty: there is nothing to export.")
        yield ExportRows(snapshot, pin, filters)


class ExportRows:
    """The rows of an export, of one state of a library. In memory are 8 bytes an item and a vector.

    Attributes:
        pin: The encoder of the vectors.
        count: How many items there are.
        counts: How many vectors of each modality.
        kept: Of how many of the items so far the library keeps a picture or a thumbnail.
    """

    def __init__(self, snapshot: Snapshot, pin: EncoderPin, filters: Filter | None) -> None:
        """Choose them; None for all items. Raises as `Snapshot.matching_ids` does."""
        wanted = filters or Filter()
        self._snapshot = snapshot
        self._connection, self._base = snapshot.storage
        self._is_filtered = filters is not None
        self._ids = snapshot.matching_ids(wanted)
        self._rows = {modality: snapshot.matching(modality, wanted) for modality in Modality}
        self._roots: set[int] = set()
        self.pin = pin
        self.count = len(self._ids)
        self.counts: Mapping[Modality, int] = {modality: len(rows) for modality, rows in self._rows.items()}
        self.collections = exported_collections(self._connection)
        self.kept = 0

    def items(self, at_once: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of the items, in order of their ids. Raises StoreCorruptError for a damaged one."""
        for ids in _slices(self._ids, at_once):
            yield self._items(ids.tolist())

    def vectors(self, at_once: int) -> Iterator[tuple[Modality, list[dict[str, Any]], NDArray[np.float16]]]:
        """Yield what vectors of one modality belong to, and these, float16 (n, dim), in the order of an export.

        Raises StoreCorruptError for a damaged one.
        """
        for modality, numbers in self._rows.items():
            first = 0
            for some in _slices(numbers, at_once):
                rows = self._snapshot.rows(modality).take(some)
                said = exported_vectors(self._connection, modality, some, rows)
                yield modality, [{**each, "row": first + i} for i, each in enumerate(said)], rows
                first += len(some)

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
                "collections": [[self.collections[number], place] for number, place in each["collections"]],
            }
            for each in said
        ]

    def manifest(self, table: str) -> ExportManifest:
        """Return what the export says of itself, once all items were read; with a filter, only roots that these have.

        table: the format of its tables.
        """
        found = get_roots(self._connection, self._base)
        roots = [root for root in found if not self._is_filtered or root.id in self._roots]
        vectors: Mapping[str, int] = {str(modality): count for modality, count in self.counts.items()}
        settings = exported_settings(self._connection)
        return ExportManifest(table, self.pin, self.count, vectors, roots, self.collections, settings, self.kept)


def _slices(numbers: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
