"""Fusion: how well rows match a query of several terms, from how they score on each term. Pure functions.

`decision`: each term judges by itself, in standard deviations above what unrelated rows score on it, and the judgements
are added; a negative term only hurts rows that match it more than chance explains. `feature`: the vectors of the terms
are added and subtracted, and rows are compared with the sum. `rank`: reciprocal rank fusion (Cormack, Clarke, Büttcher,
SIGIR 2009), negative terms subtracted. benchmarks/fusion.py compares them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.ranking import NullModel

TOLERATED = 1.0
"""Standard deviations up to which matching a negative term costs next to nothing."""

SATURATED = 5.0
"""Standard deviations beyond which a picture term adds no more: its own copies must not drown the other terms."""

RRF_RANKS = 60.0


def choose(weights: NDArray[np.float64], pictures: Sequence[bool]) -> str:
    """Choose the fusion that finds most for a kind of query: decision, but feature for one text without another.

    weights (terms,): below 0 for a negative term. pictures: which terms are pictures. One term has nothing to fuse.
    """
    one_without_another = len(weights) == 2 and (weights > 0).sum() == 1 and not any(pictures)
    return "feature" if one_without_another or len(weights) == 1 else "decision"


def compose(vectors: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Add term vectors (terms, dim) by weights (terms,), negative ones subtracted: a unit vector (dim,).

    Raises InvalidInputError if nothing is left.
    """
    total = weights @ vectors.astype(np.float64)
    length = np.linalg.norm(total)
    if length < 1e-6 * np.abs(weights).sum():
        raise InvalidInputError("The terms of the query cancel each other out. Leave one out, or change a weight.")
    unit: NDArray[np.float32] = (total / length).astype(np.float32)
    return unit


def decide(
    scores: NDArray[np.floating],
    weights: NDArray[np.float64],
    seen: Sequence[NullModel],
    saturates: Sequence[bool],
) -> NDArray[np.float64]:
    """Fuse by decisions: float64 (rows,), in standard deviations of an unrelated row.

    scores (terms, rows): cosines. weights (terms,): below 0 for a negative term. seen: how each term scores on the
    library at large. saturates: which terms are pictures. Several negative terms share their say, as the root of their
    number: each alone would rule out too much.
    """
    z = standardize(scores, seen, saturates)
    negative = weights < 0
    against = np.logaddexp(0.0, z[negative] - TOLERATED)  # softplus
    share = 1.0 / max(1.0, float(np.sqrt(negative.sum())))
    fused: NDArray[np.float64] = weights[~negative] @ z[~negative] + share * (weights[negative] @ against)
    return fused


def standardize(
    scores: NDArray[np.floating], seen: Sequence[NullModel], saturates: Sequence[bool]
) -> NDArray[np.floating]:
    """Return how far scores (terms, rows) stand out, (terms, rows), in standard deviations of an unrelated row.

    seen, saturates: as in `decide`.
    """
    centres, spreads = (np.array([getattr(each, name) for each in seen])[:, None] for name in ("centre", "spread"))
    z = (scores - centres) / spreads
    stands_out: NDArray[np.floating] = np.where(np.array(saturates)[:, None], np.minimum(z, SATURATED), z)
    return stands_out


def fuse_ranks(scores: NDArray[np.floating], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fuse by the ranks of rows among each other: float64 (rows,). scores (terms, rows); equal scores share a rank."""
    ranks = np.array([np.searchsorted(np.sort(-row), -row) for row in scores])
    fused: NDArray[np.float64] = weights @ (1.0 / (RRF_RANKS + 1.0 + ranks))
    return fused
