"""How good a search is, in numbers; numpy only.

The metrics of retrieval take ranks, and say one number a query. A rank is made from scores so that ties cannot flatter:
what is wrong and scores the same as a right answer stands before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def knn_recall(found: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return which share of its true neighbors each query found: float64 (n,).

    found: row numbers int64 (n, any). true: those of an exact search, int64 (n, k), -1 where there are fewer than k.
    """
    present = (found[:, :, None] == true[:, None, :]).any(axis=1) & (true >= 0)
    shares: NDArray[np.float64] = present.sum(axis=1) / np.maximum((true >= 0).sum(axis=1), 1)
    return shares


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where the right answers of queries stand.

    queries: int64 (right answers,), whose each is; queries are numbered from 0, and each has one at least. ranks: int64
    (right answers,), from 1. Both are in order of query, then of rank.
    """

    queries: NDArray[np.int64]
    ranks: NDArray[np.int64]

    @classmethod
    def of(cls, queries: NDArray[np.int64], scores: NDArray[np.floating], ahead: NDArray[np.int64]) -> Ranks:
        """Rank right answers by their scores, both (right answers,), in any order.

        ahead: how many wrong answers score as high or higher, int64 (right answers,).
        """
        order = np.lexsort((-scores, queries))
        queries, ahead = queries[order], ahead[order]
        among_right = np.arange(len(queries)) - np.searchsorted(queries, queries)
        return cls(queries, 1 + ahead + among_right)

    @property
    def right(self) -> NDArray[np.int64]:
        """How many right answers each query has: int64 (queries,)."""
        return np.bincount(self.queries).astype(np.int64)

    @property
    def first(self) -> NDArray[np.int64]:
        """The rank of the best right answer of each query: int64 (queries,)."""
        return self.ranks[np.searchsorted(self.queries, np.arange(len(self.right)))]


def recall_at_k(ranks: Ranks, k: int) -> Floats:
    """Return which share of its right answers each query has among the first k: float64 (queries,)."""
    shares: Floats = np.bincount(ranks.queries, ranks.ranks <= k) / ranks.right
    return shares


def hit_rate_at_k(ranks: Ranks, k: int) -> Floats:
    """Return 1 for each query that has a right answer among the first k, else 0: float64 (queries,).

    This is what papers on pictures and captions call R@k.
    """
    return (ranks.first <= k).astype(np.float64)


def reciprocal_rank(ranks: Ranks) -> Floats:
    """Return 1 / the rank of the best right answer of each query: float64 (queries,)."""
    inverse: Floats = 1.0 / ranks.first
    return inverse


def ndcg_at_k(ranks: Ranks, k: int) -> Floats:
    """Return the normalised discounted cumulative gain of the first k of each query: float64 (queries,).

    Järvelin and Kekäläinen, TOIS 2002, with a gain of 1 for each right answer and 1 / log2(rank + 1) as discount.
    """
    found = np.where(ranks.ranks <= k, 1.0 / np.log2(ranks.ranks + 1.0), 0.0)
    ideal = np.cumsum(1.0 / np.log2(np.arange(2.0, k + 2.0)))
    shares: Floats = np.bincount(ranks.queries, found) / ideal[np.minimum(ranks.right, k) - 1]
    return shares


def weighted_median(values: NDArray[np.int64], weights: Floats) -> Floats:
    """Return the lower weighted median of values (n,) for each row of weights (any, n), none of them below 0."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2 - 1e-9
    medians: Floats = values[order][(reached >= half).argmax(axis=1)].astype(np.float64)
    return medians


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which queries were drawn together, and so must be resampled together.

    queries, clusters: int64 (memberships,), numbers from 0, in order of query. A query that is in several clusters
    counts for an equal share in each.
    """

    queries: NDArray[np.int64]
    clusters: NDArray[np.int64]

    def resample(self, times: int, seed: int = 0) -> Iterator[Floats]:
        """Yield weights of the queries, float64 (some, queries), `times` rows in all: the bootstrap of whole clusters.

        Clusters are drawn with replacement, as many as there are (Field and Welsh, JRSS B 2007).
        """
        rng = np.random.default_rng(seed)
        count = int(self.clusters.max()) + 1
        starts = np.searchsorted(self.queries, np.arange(int(self.queries.max()) + 1))
        share = 1.0 / np.bincount(self.queries)[self.queries]
        at_once = max(1, 2_000_000 // max(len(self.queries), count))
        for start in range(0, times, at_once):
            drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=min(at_once, times - start))
            yield np.add.reduceat(drawn[:, self.clusters] * share, starts, axis=1)


METRICS: dict[str, Callable[[Ranks], Floats]] = {
    **{f"recall@{k}": lambda ranks, k=k: recall_at_k(ranks, k) for k in (1, 5, 10)},  # type: ignore[misc]
    **{f"hit_rate@{k}": lambda ranks, k=k: hit_rate_at_k(ranks, k) for k in (1, 5, 10)},  # type: ignore[misc]
    "mrr": reciprocal_rank,
    "ndcg@10": lambda ranks: ndcg_at_k(ranks, 10),
}
"""Metrics that are means over queries, by name."""

MEDIAN_RANK = "median_rank"


def summarise(ranks: Ranks, weights: Floats) -> dict[str, Floats]:
    """Return each of METRICS, and the median rank, for each row of weights of the queries (any, queries): (any,)."""
    values = np.stack([metric(ranks) for metric in METRICS.values()], axis=1)
    means = weights @ values / weights.sum(axis=1, keepdims=True)
    found = {name: means[:, i] for i, name in enumerate(METRICS)}
    return found | {MEDIAN_RANK: weighted_median(ranks.first, weights)}
