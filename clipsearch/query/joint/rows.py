"""The rows of one modality of several libraries, one library after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import StoreCorruptError
from clipsearch.store.vectors import Rows


class JointRows(Rows):
    """Rows of several libraries; row 0 of the second has the number after the last of the first."""

    def __init__(self, parts: Sequence[Rows], dim: int) -> None:
        """Take the rows of each library, in order."""
        super().__init__([], [], dim)
        self._parts = list(parts)
        self.firsts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        self._count = int(self.firsts[-1])

    def split(self, rows: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the number of the library of each row: intp (n,)."""
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise StoreCorruptError(f"There is no row {int(rows.max()):,} among {len(self):,}.")
        return np.searchsorted(self.firsts, rows, side="right") - 1

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows by number: float32 (n, dim), in the order asked for."""
        found = np.empty((len(rows), self.dim), np.float32)
        which = self.split(rows)
        for part in np.unique(which).tolist():
            chosen = which == part
            found[chosen] = self._parts[part].gather(rows[chosen] - self.firsts[part])
        return found
