"""From an index's candidates to exact neighbors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.base import AnnIndex, Probe, RowSource
from clipsearch.ann.flat import exact_scores_of, top_k
from clipsearch.types import Neighbors

MAX_CANDIDATES = 5000
"""Where so many rows are as good as alike to the codes, the best of them are the answer."""

_WIDER, _DOUBT = 4, 3.0
_EQUAL = 1 - 5e-5
"""The least score of two rows that differ by their rounding to float16."""


def search_candidates(
    index: AnnIndex,
    rows: RowSource,
    queries: NDArray[np.float32],
    k: int,
    probe: Probe,
    allowed: NDArray[np.bool_] | None = None,
    *,
    find_equal: bool = True,
) -> Neighbors:
    """Find the k best rows of each query (n_queries, dim) by the exact scores of an index's candidates.

    Fewer places are filled where the lists that were probed hold fewer rows. Among rows that are almost alike, such as
    the shots of a burst, codes cannot tell which is best. A query is asked again for four times as many candidates if
    its best row could be another one, by three standard deviations of the error that is seen on its candidates.

    find_equal: also if a row equal to the query could have been cut off. It costs time that queries of another modality
    than the rows', such as texts among pictures, do not need: none of them equals a row.
    """
    near = index.search(queries, probe.candidates, allowed=allowed, probe=probe)
    exact = exact_scores_of(rows, queries, near.ids)
    best = top_k(Neighbors(near.ids, exact), k)
    unsure = _may_hide_better(near, exact)
    if find_equal:
        unsure |= _may_hide_equal(index, queries, near, exact)
    if unsure.any() and probe.candidates < min(MAX_CANDIDATES, len(index)):
        wider = replace(probe, candidates=_WIDER * probe.candidates)
        again = search_candidates(index, rows, queries[unsure], k, wider, allowed, find_equal=find_equal)
        best.ids[unsure], best.scores[unsure] = again.ids, again.scores
    return best


def _may_hide_better(near: Neighbors, exact: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell whose best candidate does not stand out from what was cut off: bool (n_queries,)."""
    full: NDArray[np.bool_] = np.all(near.ids >= 0, axis=1)
    unsure = np.zeros(len(near.ids), np.bool_)
    if near.ids.shape[1]:
        errors = exact[full] - near.scores[full]
        possible = near.scores[full].min(axis=1) + errors.mean(axis=1) + _DOUBT * errors.std(axis=1)
        unsure[full] = exact[full].max(axis=1) < possible
    return unsure


def _may_hide_equal(
    index: AnnIndex, queries: NDArray[np.float32], near: Neighbors, exact: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Tell where a row equal to the query may be among what was cut off: bool (n_queries,)."""
    unsure: NDArray[np.bool_] = np.all(near.ids >= 0, axis=1)
    if near.ids.shape[1]:
        unsure &= exact.max(axis=1) < _EQUAL
    if unsure.any():  # of all queries: an index may still know where it searched for these
        unsure &= near.scores.min(axis=1) >= index.own_scores(queries)
    return unsure
