"""Ranks of right answers, counted and not sorted: how many others score as high, block by block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.query.eval.metrics import Ranks

Blocks = Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Numbers of rows, ascending, and those rows, float32 (n, dim) of unit length."""

_TIE = 1e-6  # cosine: a product of matrices says that much more or less than the same product alone
_QUERIES_AT_ONCE, _PAIRS_AT_ONCE = 512, 256


@dataclass(frozen=True, slots=True)
class Pairs:
    """Queries and the answers that are right for them, by number: int64 (pairs,) each; every query is there."""

    query: NDArray[np.int64]
    answer: NDArray[np.int64]


def rank_right(
    queries: NDArray[np.float32],
    answers: NDArray[np.float32],
    pairs: Pairs,
    row_of_answer: NDArray[np.int64],
    blocks: Blocks,
) -> Ranks:
    """Rank the right answers of queries among all rows.

    queries: unit rows, float32 (n, dim). answers: those that are right for any, unit rows (m, dim). row_of_answer:
    int64 (m,), under which number a block holds it. A row that scores within 1e-6 of a right answer ties with it.
    """
    order = np.argsort(pairs.query, kind="stable")
    query, answer = pairs.query[order], pairs.answer[order]
    scores = np.empty(len(query), np.float32)
    for part in _slices(len(query), _PAIRS_AT_ONCE):
        scores[part] = np.einsum("nd,nd->n", queries[query[part]], answers[answer[part]])
    ahead = np.zeros(len(query), np.int64)
    for numbers, rows in blocks:
        places = _places(row_of_answer[answer], numbers)
        for part in _slices(len(queries), _QUERIES_AT_ONCE):
            mine = slice(*np.searchsorted(query, [part.start, part.stop]))
            ahead[mine] += _ahead(queries[part] @ rows.T, query[mine] - part.start, scores[mine], places[mine])
    return Ranks.of(query, scores, ahead)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _places(wanted: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each wanted number stands among ascending ones, -1 where it does not."""
    places = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    return np.where(numbers[places] == wanted, places, -1)


def _ahead(
    table: NDArray[np.float32], query: NDArray[np.int64], scores: NDArray[np.float32], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the wrong rows that score as high as each right answer, or higher.

    table: scores (queries, rows). For each right answer: its query, its score, and its column, -1 for none.
    """
    here = places >= 0
    table[query[here], places[here]] = -np.inf
    counts = np.empty(len(scores), np.int64)
    for part in _slices(len(scores), _PAIRS_AT_ONCE):
        counts[part] = np.count_nonzero(table[query[part]] >= scores[part, None] - _TIE, axis=1)
    return counts
