"""Pairs of rows of a library that are near each other, block by block: never a matrix of all rows by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from clipsearch.query.candidates import QueryBatch, Retriever
from clipsearch.ranking import are_unit, exact_scores
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import Rows
from clipsearch.types import Modality

MAX_EXACT_ROWS = 200_000
"""Up to here all rows are compared with all, which takes as long as the square of them; beyond, the index is asked."""

NEIGHBORS = 32
"""So many of each row are looked at by the index; larger groups hang together by several of their members."""

_MIN_COSINE = 1e-6
"""What is damaged has a cosine of 0 with everything."""

_LEFT, _RIGHT, _AT_ONCE = 4096, 2048, 64

Near = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Two rows of each pair, as places among those that were compared: int64 (pairs,), the first less than the second."""


def near_pairs(
    library: Library, snapshot: Snapshot, chosen: NDArray[np.int64], least: float, advance: Callable[[int], None]
) -> Iterator[Near]:
    """Yield the pairs of pictures whose cosine is at least so much, some at a time; a pair may come twice.

    chosen: rows to compare, int64, ascending. advance: called with how many of them are done.
    """
    rows, least = snapshot.rows(Modality.IMAGE), max(least, _MIN_COSINE)
    exact = len(chosen) <= MAX_EXACT_ROWS or snapshot.generation(Modality.IMAGE) is None
    found = _exact(rows, chosen, least) if exact else _by_index(library, snapshot, chosen, least)
    for done, pairs in found:
        yield pairs
        advance(done)


def _exact(rows: Rows, chosen: NDArray[np.int64], least: float) -> Iterator[tuple[int, Near]]:
    for start in range(0, len(chosen), _LEFT):
        left = _unit(rows.gather(chosen[start : start + _LEFT]))
        for begin in range(start, len(chosen), _RIGHT):
            right = _unit(rows.gather(chosen[begin : begin + _RIGHT]))
            i, j = np.nonzero(left @ right.T >= least)
            i, j = i + start, j + begin
            yield 0, (i[i < j], j[i < j])
        yield len(left), (np.empty(0, np.int64), np.empty(0, np.int64))


def _by_index(
    library: Library, snapshot: Snapshot, chosen: NDArray[np.int64], least: float
) -> Iterator[tuple[int, Near]]:
    rows, retriever = snapshot.rows(Modality.IMAGE), Retriever(library)
    for start in range(0, len(chosen), _AT_ONCE):
        queries = _unit(rows.gather(chosen[start : start + _AT_ONCE]))
        ids, _ = retriever.nearest_rows(QueryBatch(snapshot, queries, "image"), Modality.IMAGE, NEIGHBORS)
        pairs = []
        for i, (query, near) in enumerate(zip(queries, ids, strict=True), start):
            near = near[near >= 0]
            near = near[exact_scores(query, rows.gather(near)) >= least]
            places = np.searchsorted(chosen, near)
            there = chosen[np.minimum(places, len(chosen) - 1)] == near  # of copies only one is compared
            pairs += [(min(i, j), max(i, j)) for j in places[there].tolist() if i != j]
        table = np.array(pairs, np.int64).reshape(-1, 2)
        yield len(queries), (table[:, 0], table[:, 1])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return unit rows; zeros for those that are damaged, which are near to nothing."""
    unit = np.zeros_like(rows)
    sound = are_unit(rows)
    unit[sound] = rows[sound] / np.linalg.norm(rows[sound], axis=1, keepdims=True)
    return unit


class Groups:
    """Which of n things belong together, by pairs that do: union-find, many pairs at a time."""

    def __init__(self, count: int) -> None:
        self._label = np.arange(count)

    def join(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        """Put the two of each pair into one group."""
        while True:
            a, b = self._label[one], self._label[other]
            apart = a != b
            if not apart.any():
                return
            one, other, a, b = one[apart], other[apart], a[apart], b[apart]
            np.minimum.at(self._label, np.maximum(a, b), np.minimum(a, b))
            while not np.array_equal(self._label, shorter := self._label[self._label]):
                self._label = shorter

    def several(self) -> Iterator[NDArray[np.int64]]:
        """Yield the members of each group of two or more, ascending."""
        order = np.argsort(self._label, kind="stable")
        _, starts, counts = np.unique(self._label[order], return_index=True, return_counts=True)
        for start, count in zip(starts[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
            yield order[start : start + count]
