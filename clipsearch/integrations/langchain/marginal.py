"""Answers whose documents differ from each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def marginal_relevance(scores: NDArray[np.float64], vectors: NDArray[np.float32], k: int, weight: float) -> list[int]:
    """Return which k to choose by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Args:
        scores: Cosines with the query, float64 (n,).
        vectors: Unit rows, float32 (n, dim).
        k: How many.
        weight: Of the scores, from 0 to 1; the rest is that of the greatest cosine with one that was chosen.
    """
    chosen: list[int] = []
    repeated = np.zeros(len(scores))
    while len(chosen) < min(k, len(scores)):
        gain = weight * scores - (1 - weight) * repeated if chosen else scores.copy()
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        nearest = vectors @ vectors[chosen[-1]]
        repeated = nearest if len(chosen) == 1 else np.maximum(repeated, nearest)
    return chosen
