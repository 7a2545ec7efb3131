"""Diverse answers: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), over stored vectors.

The next hit is always that of the greatest `SHARE * relevance - (1 - SHARE) * likeness`, where likeness is that to the
most alike of the hits before it. Both are from 0 to 1 with any encoder: relevance is the log E-value in units of the
highest, likeness the cosine between that of unrelated rows of the library and that of a copy. SHARE was chosen by
benchmarks/diverse.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.linalg import unit_rows
from clipsearch.ranking import are_unit
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality

POOL = 100
"""How many of the best hits change places among each other: up to the last of these that is ENOUGH."""

ENOUGH = 0.5
"""What share of the confidence of the best hit another one needs, so that variety brings up nothing that is wrong."""

SHARE = 0.2
"""How much relevance counts against likeness: lambda."""

_PARTS = 64
"""An item of several parts is compared by the mean of at most this many of its vectors, evenly spaced."""

_LEAST = 1e-6


def diversify(snapshot: Snapshot, hits: Sequence[Hit], share: float = SHARE) -> list[Hit]:
    """Put those of the first hits first that are unlike the ones before. The best one stays, and so do those after.

    share: how much relevance counts, from 0 to 1.
    """
    first = [*hits[:POOL]]
    least = ENOUGH * max((hit.confidence or 0.0 for hit in first), default=0.0)
    enough = [place for place, hit in enumerate(first, 1) if hit.confidence is None or hit.confidence >= least]
    pool = first[: max(enough, default=0)]
    order = marginal_relevance(_relevance(pool), likenesses(snapshot, pool), share)
    return [*(pool[place] for place in order), *hits[len(pool) :]]


def marginal_relevance(relevance: NDArray[np.float64], likeness: NDArray[np.float64], share: float) -> list[int]:
    """Return the places of hits, best first, in the order of maximal marginal relevance; of equal ones the first.

    relevance (n,), likeness (n, n): from 0 to 1. The first hit stays first.
    """
    if not len(relevance):
        return []
    order = [0]
    left = np.ones(len(relevance), np.bool_)
    left[0] = False
    nearest = likeness[0].copy()
    while left.any():
        worth = np.where(left, share * relevance - (1 - share) * nearest, -np.inf)
        place = int(worth.argmax())
        order.append(place)
        left[place] = False
        np.maximum(nearest, likeness[place], out=nearest)
    return order


def likenesses(snapshot: Snapshot, hits: Sequence[Hit]) -> NDArray[np.float64]:
    """Return how alike each two hits are, float64 (n, n), from 0 to 1; a picture and words are not."""
    found = np.zeros((len(hits), len(hits)))
    for modality in Modality:
        places = [place for place, hit in enumerate(hits) if hit.modality is modality]
        vectors, is_known = _vectors(snapshot, modality, [hits[place].item.id for place in places])
        if not is_known.any():
            continue
        usual = _usual_cosine(snapshot, modality, vectors[is_known])
        alike = 1.0 if modality is Modality.TEXT else snapshot.copy_distance().near
        scaled = np.clip((vectors @ vectors.T - usual) / max(alike - usual, _LEAST), 0, 1)
        found[np.ix_(places, places)] = scaled * np.outer(is_known, is_known)
    return found


def _relevance(hits: Sequence[Hit]) -> NDArray[np.float64]:
    """Return the relevance of hits, float64 (n,), 0 for one that chance explains.

    That of a hit that words have put higher is at least that of those after it. That of the second hit is 1 already: a
    picture that finds itself is far above all others.
    """
    worth = np.array([hit.log_evalue for hit in hits], np.float64)
    worth = np.maximum.accumulate(worth[::-1])[::-1]
    most = max(worth[1:2].max(initial=0.0), _LEAST)
    share: NDArray[np.float64] = np.clip(worth / most, 0, 1)
    return share


def _usual_cosine(snapshot: Snapshot, modality: Modality, vectors: NDArray[np.float32]) -> float:
    """Return what vectors (n, dim) typically have in common with those of the library."""
    sample = snapshot.sample(modality)
    return float(np.median(vectors @ sample.T)) if len(sample) else 0.0


def _vectors(
    snapshot: Snapshot, modality: Modality, ids: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors of items, float32 (n, dim), and which of them have one, bool (n,)."""
    rows: dict[int, list[int]] = {}
    for row, item in snapshot.rows_of_items(modality, ids).items() if ids else ():
        rows.setdefault(item, []).append(row)
    some = {item: sorted(own)[:: -(-len(own) // _PARTS)] for item, own in rows.items()}
    numbers = np.array(sorted(row for own in some.values() for row in own), np.int64)
    gathered = snapshot.rows(modality).gather(numbers)
    gathered[~are_unit(gathered)] = 0  # a damaged row says nothing
    vectors = np.zeros((len(ids), gathered.shape[1]), np.float32)
    for place, item in enumerate(ids):
        if item in some:
            vectors[place] = gathered[np.searchsorted(numbers, some[item])].mean(axis=0)
    return unit_rows(vectors), (vectors != 0).any(axis=1)
