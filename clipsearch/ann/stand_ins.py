"""Stand-ins for queries by words, to calibrate an index where there are no words to calibrate with.

Texts lie far from the pictures they look for, and nothing but texts says how far. These queries are harder: an index
that serves both families finds what real texts look for, and more. benchmarks/ann/without_queries.py measures it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.calibrate import Queries
from clipsearch.linalg import unit_rows

SOURCE = "stand-ins for words"
_SEED = 14


def stand_ins(sample: NDArray[np.float32], count: int) -> list[Queries]:
    """Return families of queries, each of at most `count`, for rows of which (n, dim) are a sample.

    Random directions belong to no row, so what they look for is spread over more lists than what texts look for. Their
    standard deviation along a principal axis of the rows is the square root of what the rows have: between rows, which
    are too easy, and noise of the same size in every dimension, which is harder than texts are.

    Opposites of rows, seen from the mean, score lower and closer together than texts do, so it takes more candidates to
    have the best of them. Every index must be good enough for each of the families.
    """
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = sample - mean
    variances, axes = np.linalg.eigh(np.cov(centred.T, bias=True).reshape(sample.shape[1], -1))
    noise = np.random.default_rng(_SEED).standard_normal((count, len(variances)))
    directions = (noise * np.maximum(variances, 0.0) ** 0.25) @ axes.T
    opposites = -centred[np.unique(np.linspace(0, len(centred) - 1, min(len(centred), count)).astype(np.int64))]
    return [Queries(unit_rows(family.astype(np.float32)), SOURCE) for family in (directions, opposites)]
