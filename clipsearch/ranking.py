"""From candidates to an answer: exact scores, what they are worth, and merged lists. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=Hashable)

MIN_BACKGROUND = 8
"""Fewer unrelated scores than this say nothing about how scores are spread."""

CONFIDENT = 0.9
"""A first hit below this confidence is shown as "no confident match"."""


MIN_SPREAD = 0.01
"""Cosine: scores spread less than this only where the library repeats itself, which says nothing of chance."""


@dataclass(frozen=True, slots=True)
class Background:
    """How one query scores against the library at large: centre and spread, and how many rows could be hit."""

    centre: float
    spread: float
    rows: int


def exact_scores(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the cosine of a unit query (dim,) to rows (n, dim) that float16 has left almost of unit length."""
    norms = np.linalg.norm(rows, axis=1)
    scores = np.einsum("nd,d->n", rows, query, dtype=np.float64) / np.maximum(norms, 1e-12)
    clipped: NDArray[np.float32] = np.clip(scores, -1.0, 1.0).astype(np.float32)
    return clipped


def background(scores: NDArray[np.float32], rows: int) -> Background | None:
    """Describe a query's scores (n,) over a sample of the library; None where the sample is too small.

    Median and lower spread (median minus the 16th percentile, one sigma of a normal): the few rows that do match
    pull neither.
    """
    if len(scores) < MIN_BACKGROUND:
        return None
    low, centre = np.percentile(scores, [15.87, 50.0])
    return Background(float(centre), max(float(centre - low), MIN_SPREAD), rows)


def surprise(score: float, seen: Background) -> float:
    """Return -ln of the number of unrelated rows expected to score as high: above 0 is more than chance gives."""
    z = (score - seen.centre) / seen.spread
    return -(math.log(seen.rows) + _log_upper_tail(z))


def confidence(score: float, seen: Background) -> float:
    """Return the chance, in [0, 1], that none of the library's rows would score as high if none were related.

    The distribution of the largest of n draws from a normal: exp(-n Q(z)).
    """
    return math.exp(-math.exp(min(-surprise(score, seen), 700.0)))


def reciprocal_rank_fusion(lists: Sequence[Iterable[T]], *, constant: float = 60.0) -> list[T]:
    """Merge ranked lists by the sum of 1 / (constant + rank); ties keep the order of first sight.

    Cormack, Clarke, Büttcher: Reciprocal rank fusion outperforms Condorcet, SIGIR 2009.
    """
    totals: dict[T, float] = {}
    for ranked in lists:
        for rank, entry in enumerate(ranked, start=1):
            totals[entry] = totals.get(entry, 0.0) + 1.0 / (constant + rank)
    return sorted(totals, key=lambda entry: -totals[entry])


def _log_upper_tail(z: float) -> float:
    """Return ln Q(z) of the standard normal, by its asymptote where Q underflows."""
    if z > 30.0:
        return -0.5 * z * z - math.log(z * math.sqrt(2.0 * math.pi))
    return math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
