"""Exact search: a scan of all rows in blocks, numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.base import Probe, RowSource
from clipsearch.errors import AnnIndexError
from clipsearch.float16 import widen
from clipsearch.types import Neighbors

_FILE = "rows.npy"
_GATHERED = 4096
_GATHERED_TOGETHER = 1024
"""Rows of several queries that are read at once: few enough for a core's cache."""

_MERGED = 1 << 24
"""Scores that wait to be merged at most."""


def exact_search(
    rows: RowSource,
    queries: NDArray[np.float32],
    k: int,
    *,
    start: int = 0,
    stop: int | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Neighbors:
    """Scan rows start to stop for the k best of each query (n_queries, dim); memory is bounded by a block.

    allowed: bool (len(rows),), which rows may be returned; None for all.
    """
    best = no_neighbors(len(queries), 0)
    pending: list[NDArray[np.float32]] = []
    begin = end = start
    for first, block in rows.blocks(start, stop, _block_rows(len(queries), rows.dim)):
        scores = queries @ widen(block).T
        if allowed is not None:
            scores[:, ~allowed[first : first + len(block)]] = -np.inf
        pending.append(scores)
        end = first + len(block)
        if end - begin >= min(k, _MERGED // max(1, len(queries))):  # else each block sorts again as many as are wanted
            best = _better(best, _joined(pending), begin, k)
            pending, begin = [], end
    return _better(best, _joined(pending), begin, k) if pending else best


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.hstack(parts)


def _block_rows(queries: int, dim: int) -> int:
    """Choose how many rows to scan together: many for many queries, few enough to stay in a core's cache for one."""
    return max(256, min(16384, 400_000 * max(1, queries) // dim, 2**24 // max(1, queries)))


def _better(best: Neighbors, scores: NDArray[np.float32], first: int, k: int) -> Neighbors:
    """Merge the k best so far with the scores (n_queries, rows) of the rows from number `first` on."""
    if best.ids.shape[1] == k > 0:
        hopeful = (scores >= best.scores[:, -1:]).any(axis=0)
        if not hopeful.any():
            return best
        columns = np.flatnonzero(hopeful)
        scores = scores[:, columns]
    else:
        columns = np.arange(scores.shape[1])
    ids = np.broadcast_to(first + columns, scores.shape)
    return merge(best, top_k(Neighbors(ids, scores), k), k)


def exact_scores_of(
    rows: RowSource, queries: NDArray[np.float32], candidates: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Score each query's candidates (n_queries, any) from the rows: float32 of that shape, -inf for an id of -1."""
    scores = np.full(candidates.shape, -np.inf, np.float32)
    count = candidates.shape[1]
    at_once = max(1, _GATHERED_TOGETHER // max(1, count))
    for start in range(0, len(queries), at_once):
        part = slice(start, start + at_once)
        ids, asked = candidates[part], queries[part]
        if len(asked) > 1 and count and (ids >= 0).all():
            gathered = rows.gather(ids.ravel()).reshape(len(asked), count, -1)
            scores[part] = np.matmul(gathered, asked[:, :, None])[:, :, 0]
        else:
            for own, each, query in zip(scores[part], ids, asked, strict=True):
                _score_valid(rows, query, each, own)
    return scores


def _score_valid(
    rows: RowSource, query: NDArray[np.float32], ids: NDArray[np.int64], scores: NDArray[np.float32]
) -> None:
    """Fill in the scores of the ids of one query, int64 (any,), that are not -1."""
    places = np.flatnonzero(ids >= 0)
    if len(places) > _GATHERED:
        places = places[np.argsort(ids[places], kind="stable")]  # rows that lie together are read together
    for start in range(0, len(places), _GATHERED):
        part = places[start : start + _GATHERED]
        scores[part] = rows.gather(ids[part]) @ query


def search_among(rows: RowSource, queries: NDArray[np.float32], k: int, ids: NDArray[np.int64]) -> Neighbors:
    """Find the k best of the rows named, int64 (n,) ascending, for each query, by their exact scores."""
    best = no_neighbors(len(queries), 0)
    size = _block_rows(len(queries), rows.dim)
    for start in range(0, len(ids), size):
        block = ids[start : start + size]
        scores = queries @ rows.gather(block).T
        best = merge(best, top_k(Neighbors(np.broadcast_to(block, scores.shape), scores), k), k)
    return best


def merge(left: Neighbors, right: Neighbors, k: int) -> Neighbors:
    """Return the k best of two answers to the same queries, with no row in both."""
    both = Neighbors(np.hstack([left.ids, right.ids]), np.hstack([left.scores, right.scores]))
    return top_k(both, k)


def top_k(neighbors: Neighbors, k: int) -> Neighbors:
    """Return the k best of each query, equal scores in order of id; entries of -inf become id -1 and stand last."""
    ids, scores = neighbors.ids, neighbors.scores
    if scores.shape[1] > k > 0:
        # all that ties with the k-th must stay, so that the order of ids decides
        kth = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
        widest = max(int((scores >= kth).sum(axis=1).max(initial=0)), k)
        if widest < scores.shape[1]:
            keep = np.argpartition(-scores, widest - 1, axis=1)[:, :widest]
            ids, scores = np.take_along_axis(ids, keep, 1), np.take_along_axis(scores, keep, 1)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    ids, scores = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)
    return Neighbors(np.where(np.isneginf(scores), -1, ids).astype(np.int64), scores.astype(np.float32, copy=False))


def no_neighbors(queries: int, k: int) -> Neighbors:
    """Return an answer of k empty places for each query."""
    return Neighbors(np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32))


class FlatIndex:
    """The exact index: it scans the float16 rows as they are."""

    kind = "flat"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._rows: RowSource = ArrayRows(np.empty((0, dim), np.float16))

    @classmethod
    def over(cls, rows: RowSource) -> Self:
        """Search rows where they lie, such as those of a library, without a copy."""
        index = cls(rows.dim)
        index._rows = rows
        return index

    @property
    def params(self) -> Mapping[str, Any]:
        """The dimension is all there is."""
        return {"dim": self.dim}

    def __len__(self) -> int:
        return len(self._rows)

    def train(self, sample: NDArray[np.float32]) -> None:
        """Learn nothing: an exact index has nothing to learn."""

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows (n, dim)."""
        self._rows = ArrayRows(np.concatenate([_all(self._rows), rows.astype(np.float16, copy=False)]))

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        probe: Probe | None = None,
    ) -> Neighbors:
        """Find the k best rows of each query; always all of them where there are k."""
        return exact_search(self._rows, queries, k, allowed=allowed)

    def own_scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of a row equal to each query (n, dim): float32 (n,)."""
        return squared_norms(queries)

    def save(self, folder: Path) -> None:
        """Write the rows as one .npy file."""
        save_rows(folder, _all(self._rows))

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Self:
        """Map the rows. Raises AnnIndexError if the file is not what `save` wrote."""
        return cls.over(load_rows(folder, int(params["dim"])))


def squared_norms(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inner product of each row (n, dim) with itself: float32 (n,)."""
    norms: NDArray[np.float32] = np.einsum("nd,nd->n", rows, rows)
    return norms


def save_rows(folder: Path, rows: NDArray[np.float16]) -> None:
    """Write rows (n, dim) as one .npy file into a folder."""
    np.save(folder / _FILE, rows)


def load_rows(folder: Path, dim: int) -> ArrayRows:
    """Map the rows that `save_rows` wrote. Raises AnnIndexError if the file is not theirs."""
    path = folder / _FILE
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AnnIndexError(f"{path} cannot be read: {error}. Build the index again: clipsearch build") from error
    if rows.dtype != np.float16 or rows.ndim != 2 or rows.shape[1] != dim:
        raise AnnIndexError(
            f"{path} does not hold float16 rows of {dim} dimensions. Build the index again: clipsearch build"
        )
    return ArrayRows(rows)


def _all(rows: RowSource) -> NDArray[np.float16]:
    return np.concatenate([np.empty((0, rows.dim), np.float16), *(block.copy() for _, block in rows.blocks())])


class ArrayRows:
    """An array (n, dim) as a RowSource."""

    def __init__(self, rows: NDArray[np.float16]) -> None:
        self._rows = rows
        self.dim = int(rows.shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows by number: float32 (n, dim)."""
        return widen(self._rows[rows])

    def blocks(
        self, start: int = 0, stop: int | None = None, size: int = 16384
    ) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield (number of the first row, float16 rows)."""
        end = len(self) if stop is None else min(stop, len(self))
        for begin in range(start, end, size):
            yield begin, self._rows[begin : min(begin + size, end)]
