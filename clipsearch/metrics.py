"""How good a search is, in numbers; numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def knn_recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return which share of its true neighbours each query found: float64 (n,).

    found: row numbers int64 (n, any). true: those of an exact search, int64 (n, k), -1 where there are fewer than k.
    """
    present = (found[:, :, None] == true[:, None, :]).any(axis=1) & (true >= 0)
    shares: NDArray[np.float64] = present.sum(axis=1) / np.maximum((true >= 0).sum(axis=1), 1)
    return shares
