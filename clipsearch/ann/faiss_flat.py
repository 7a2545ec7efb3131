"""Exact search by FAISS, on a GPU if there is one: all rows in its memory as float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.base import Probe, RowSource
from clipsearch.ann.faiss_runtime import (
    GPU_LOCK,
    GPU_QUERIES,
    has_gpu,
    import_faiss,
    mapped_errors,
    nearest_on_gpu,
)
from clipsearch.ann.flat import FlatIndex, exact_search, no_neighbors
from clipsearch.float16 import widen
from clipsearch.types import Neighbors

MAX_GPU_K = 2048
"""The most neighbors that FAISS returns from a GPU."""

_BLOCK = 1 << 16


class FaissFlatIndex(FlatIndex):
    """The exact index of one modality. FAISS scores a copy of the rows; it takes no mask on a GPU.

    There, under a mask, the best MAX_GPU_K rows are asked for, and the rows themselves are scanned for the queries
    that have too few allowed ones among them. On a GPU, threads take turns, GPU_QUERIES queries
    each; on the processor FAISS serves any number of threads at once.
    """

    kind = "faiss_flat"

    def __init__(self, dim: int, *, place: Callable[[Any], Any] | None = None) -> None:
        """Make an empty index. place: moves a flat FAISS index to a device; None for the first GPU if there is one.

        Raises AnnIndexError if the device refuses.
        """
        super().__init__(dim)
        place = place or (nearest_on_gpu if has_gpu() else None)
        self._masks = place is None
        self._device_lock: AbstractContextManager[Any] = nullcontext() if place is None else GPU_LOCK
        with mapped_errors(self.kind, "set up"), self._device_lock:
            flat = import_faiss().IndexFlatIP(dim)
            self._scores = flat if place is None else place(flat)

    @classmethod
    def over(cls, rows: RowSource, stop: int | None = None) -> Self:
        """Copy rows, such as those of a library, up to `stop`. Raises AnnIndexError if they do not fit."""
        index = cls(rows.dim)
        for _, block in rows.blocks(0, stop, size=_BLOCK):
            index._copy(block)
        index._rows = rows
        return index

    def __len__(self) -> int:
        return int(self._scores.ntotal)

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows (n, dim). Raises AnnIndexError if they do not fit."""
        self._copy(rows)
        super().add(rows)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        probe: Probe | None = None,
    ) -> Neighbors:
        """Find the k best rows of each query; always all of them where there are k."""
        k = max(0, min(k, len(self)))
        if not k or not len(queries):
            return no_neighbors(len(queries), k)
        if self._masks:
            return self._masked(queries, k, allowed)
        if k > MAX_GPU_K:
            return self._scan(queries, k, allowed)
        return self._ask(queries, k) if allowed is None else self._sieved(queries, k, allowed)

    def _copy(self, rows: NDArray[np.float16]) -> None:
        with mapped_errors(self.kind, f"filled with {len(self) + len(rows):,} rows"), self._device_lock:
            self._scores.add(widen(rows))

    def _ask(self, queries: NDArray[np.float32], k: int, options: Any = None) -> Neighbors:  # noqa: ANN401
        size = len(queries) if self._masks else GPU_QUERIES
        with mapped_errors(self.kind, "searched"):
            parts = [self._ask_once(queries[i : i + size], k, options) for i in range(0, len(queries), size)]
        scores, ids = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Neighbors(ids, np.where(ids < 0, np.float32(-np.inf), scores))

    def _ask_once(self, queries: NDArray[np.float32], k: int, options: Any) -> Any:  # noqa: ANN401
        with self._device_lock:
            return self._scores.search(np.ascontiguousarray(queries), k, params=options)

    def _masked(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Neighbors:
        if allowed is None:
            return self._ask(queries, k)
        faiss = import_faiss()
        # FAISS keeps bare pointers: bits and selector must live until the search is over.
        bits = np.packbits(allowed[: len(self)], bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        return self._ask(queries, k, faiss.SearchParameters(sel=selector))

    def _sieved(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_]) -> Neighbors:
        found = self._ask(queries, min(len(self), MAX_GPU_K))
        passes = allowed[np.maximum(found.ids, 0)] & (found.ids >= 0)
        # a stable sort by "does not pass" brings those that do to the front, best first
        order = np.argsort(~passes, axis=1, kind="stable")[:, :k]
        passes = np.take_along_axis(passes, order, 1)
        ids = np.where(passes, np.take_along_axis(found.ids, order, 1), -1)
        scores = np.where(passes, np.take_along_axis(found.scores, order, 1), np.float32(-np.inf))
        if found.ids.shape[1] < len(self) and (short := ~passes.all(axis=1)).any():
            rest = self._scan(queries[short], k, allowed)
            ids[short], scores[short] = rest.ids, rest.scores
        return Neighbors(ids, scores)

    def _scan(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> Neighbors:
        return exact_search(self._rows, queries, k, stop=len(self), allowed=allowed)
