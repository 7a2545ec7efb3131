"""The centroids of many inverted lists, learnt and looked up on two levels.

k-means of n centroids takes time in proportion to n for each row, to learn and to find the list of a row. On two
levels, rows are clustered into about sqrt(n) groups, and each group into its share of the lists (hierarchical k-means:
Nistér, Stewénius, Scalable recognition with a vocabulary tree, CVPR 2006). A row belongs to the nearest of the
centroids in the groups that are nearest to it, so that borders between groups matter little.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.faiss_runtime import GPU_LOCK, has_gpu, import_faiss, nearest_on_gpu

TRAINING_ROWS_PER_LIST = 40
ITERATIONS = 10

LEARNT_AT_ONCE = 512
"""More lists are learnt on two levels: in a thirtieth of the time at 4,096, and as good (benchmarks/ann/lists.py)."""

LOOKED_UP_AT_ONCE = 8192
"""Among more lists, the one of a row is looked up on two levels."""

GROUPS_LOOKED_AT = 24
"""Of some hundred: 99 of 100 rows get their nearest list, the others one that is nearly as near."""

_ROWS_PER_GROUP = 256
_SMALL, _HEAP_SHARE = 10_000, 8
"""NumPy chooses among at most _SMALL scores, or if more than one column in _HEAP_SHARE is kept."""


def cluster(rows: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cluster rows (n, dim): centroids (count, dim), and those of groups of them (any, dim), none for few lists."""
    if count <= LEARNT_AT_ONCE:
        return _kmeans(rows, count, TRAINING_ROWS_PER_LIST), np.empty((0, rows.shape[1]), np.float32)
    groups = _kmeans(rows, round(count**0.5), _ROWS_PER_GROUP)
    home = nearest(rows, groups)
    shares = _shares(np.bincount(home, minlength=len(groups)), count)
    order = np.argsort(home, kind="stable")
    ends = np.cumsum(np.bincount(home, minlength=len(groups)))
    members = np.split(order, ends[:-1])
    parts = [
        _kmeans(rows[own], share, TRAINING_ROWS_PER_LIST)
        for own, share in zip(members, shares.tolist(), strict=True)
        if share
    ]
    return np.concatenate(parts), groups


class Groups:
    """Finds the list of a row by way of the groups of lists: it is among those of the groups around the row's own.

    centroids (lists, dim), groups (any, dim): float32, which must not change.
    """

    def __init__(self, centroids: NDArray[np.float32], groups: NDArray[np.float32]) -> None:
        self._centroids, self._groups = centroids, np.ascontiguousarray(groups)
        self._halves = 0.5 * (centroids**2).sum(axis=1)
        home = nearest(centroids, groups)
        members = [np.flatnonzero(home == group) for group in range(len(groups))]
        around = flat(groups).search(self._groups, min(GROUPS_LOOKED_AT, len(groups)))[1]
        self._around = [np.concatenate([members[group] for group in near]) for near in around.tolist()]

    def assign(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the list of each row (n, dim): int64 (n,)."""
        found = np.empty(len(rows), np.int64)
        for group, places in self.split(rows):
            lists = self._around[group]
            products = rows[places] @ self._centroids[lists].T
            found[places] = lists[(products - self._halves[lists]).argmax(axis=1)]
        return found

    def best(self, scores: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the list of each row (n, dim): int64 (n,). scores (n, lists): the higher, the nearer is a centroid."""
        around = [self._around[group] for group in nearest(rows, self._groups).tolist()]
        return np.array([lists[own[lists].argmax()] for lists, own in zip(around, scores, strict=True)], np.int64)

    def split(self, rows: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield each group that has any of the rows (n, dim), and their places: int64 (any,)."""
        home = nearest(rows, self._groups)
        order = np.argsort(home, kind="stable")
        groups, starts = np.unique(home[order], return_index=True)
        yield from zip(groups.tolist(), np.split(order, starts[1:]), strict=True)

    def around(self, group: int) -> Any:  # noqa: ANN401
        """Return a FAISS index of the centroids among which the list of a row of a group is, under their numbers."""
        faiss = import_faiss()
        lists = self._around[group]
        found = faiss.IndexIDMap2(faiss.IndexFlatL2(self._centroids.shape[1]))
        found.add_with_ids(np.ascontiguousarray(self._centroids[lists]), lists)
        return found


def best_columns(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the columns of the best scores (n, columns) of each row, in any order: int64 (n, count).

    FAISS keeps the best of each row in a heap, on all cores. NumPy is faster for few scores, or to keep most columns.
    """
    scores = np.ascontiguousarray(scores)
    rows, columns = scores.shape
    if scores.size <= _SMALL or _HEAP_SHARE * count > columns:
        return np.argpartition(scores, columns - count, axis=1)[:, columns - count :]
    faiss = import_faiss()
    kept, found = np.empty((rows, count), np.float32), np.empty((rows, count), np.int64)
    heap = faiss.float_minheap_array_t()
    heap.nh, heap.k, heap.val, heap.ids = rows, count, faiss.swig_ptr(kept), faiss.swig_ptr(found)
    heap.heapify()
    heap.addn(columns, faiss.swig_ptr(scores))
    return found


def flat(centroids: NDArray[np.float32]) -> Any:  # noqa: ANN401
    """Return the FAISS index that compares a row with every centroid (n, dim)."""
    index = import_faiss().IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids))
    return index


def nearest(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest centroid of each row (n, dim): int64 (n,)."""
    found: NDArray[np.int64] = flat(centroids).assign(np.ascontiguousarray(rows), 1)[:, 0]
    return found


def _shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Share `count` lists out to groups by their rows; none gets more lists than it has rows."""
    exact = sizes * (count / max(1, int(sizes.sum())))
    shares = np.minimum(exact.astype(np.int64), sizes)
    while (missing := count - int(shares.sum())) > 0:
        room = np.where(shares < sizes, exact - shares, -np.inf)
        chosen = np.argsort(-room, kind="stable")[:missing]
        shares[chosen[room[chosen] > -np.inf]] += 1
    return shares


def _kmeans(rows: NDArray[np.float32], count: int, rows_each: int) -> NDArray[np.float32]:
    """Return the centroids (count, dim) of k-means over rows (n, dim), on the first GPU if there is one."""
    faiss = import_faiss()
    options = {"min_points_per_centroid": 1, "max_points_per_centroid": rows_each}
    kmeans = faiss.Kmeans(rows.shape[1], count, niter=ITERATIONS, seed=1, **options)
    on_gpu = has_gpu()
    with GPU_LOCK if on_gpu else nullcontext():
        if on_gpu:
            kmeans.index = nearest_on_gpu(kmeans.index)
        kmeans.train(np.ascontiguousarray(rows))
        centroids: NDArray[np.float32] = kmeans.centroids
        return centroids
