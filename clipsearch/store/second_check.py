"""The vectors of the second set against their checksums; what is damaged is taken out, and made again by a reindex."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import StoreCorruptError
from clipsearch.store import second_set
from clipsearch.store.library import Library
from clipsearch.store.names import VECTORS
from clipsearch.store.second_library import SecondLibrary
from clipsearch.store.vectors import VectorStore
from clipsearch.store.verification import damaged_rows
from clipsearch.types import Modality


def find_damaged_seconds(library: Library, *, quick: bool = False) -> Mapping[Modality, NDArray[np.int64]]:
    """Return the rows of the second set that fail their checksums, int64, ascending, where there are any.

    quick: only those whose files are too short. Raises StoreCorruptError for a second set that cannot be read.
    """
    with library.query() as connection:
        pin = second_set.get_pin(connection)
        segments = second_set.get_segments(connection) if pin is not None else []
    if pin is None:
        return {}
    if quick:
        store = VectorStore(library.folder / VECTORS, pin.dim)
        short = {s.modality: s for s in segments if store.readable_rows(s) < s.committed_rows}
        return {modality: np.arange(s.first_row, s.first_row + s.committed_rows) for modality, s in short.items()}
    with closing(SecondLibrary(library.folder)) as second:
        found = {modality: damaged_rows(second, modality) for modality in Modality}
    return {modality: rows for modality, rows in found.items() if len(rows)}


def is_damaged(library: Library) -> bool:
    """Tell whether the second set is damaged, or cannot be read at all."""
    try:
        return bool(find_damaged_seconds(library))
    except StoreCorruptError:
        return True
