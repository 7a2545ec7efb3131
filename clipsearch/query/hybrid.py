"""Hybrid search: vectors and the words of captions and texts, in one ranking.

The two rankings are added up by reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009). Alone it would bury
what has no words: a photograph without a caption, first by meaning, stands behind everything that two lists name. So
it comes with a promise: what is r-th by vectors never stands below place 2r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from clipsearch.query.fusion import RRF_RANKS
from clipsearch.query.retrieval import (
    DEEPER,
    Asked,
    Retrieved,
    Retriever,
    is_exhausted,
    merge_modalities,
    name_hits,
)
from clipsearch.store.library import Snapshot
from clipsearch.types import Filter, Hit, Modality

DEPTH = 200
"""How many items each of the two rankings proposes at least; for more than 20 answers ten times as many."""


def retrieve_hybrid(
    retriever: Retriever,
    snapshot: Snapshot,
    text: str,
    vector: NDArray[np.float32],
    k: int,
    modalities: Sequence[Modality],
    filters: Filter | None = None,
) -> Retrieved:
    """Find the k best items for a text and its unit vector (dim,).

    A hit has the score and the confidence of its best part, by vectors; the order is that of both rankings.
    """
    asked = Asked(snapshot, vector[None], "text", filters)
    depth = max(DEPTH, 10 * k)
    warnings: list[str] = []
    while True:
        named = snapshot.by_words(text, filters, depth)
        of_named = Filter(ids=frozenset(named))
        found = [retriever.candidates(asked, modality, depth, warnings) for modality in modalities]
        lists = []
        for modality, candidates in zip(modalities, found, strict=True):
            ids = np.union1d(candidates[0], snapshot.matching(modality, of_named) if named else ())
            lists.append(retriever.score(snapshot, modality, vector, ids.astype(np.int64), "text"))
        hits = name_hits(snapshot, merge_modalities(lists), sum(map(len, lists)))
        if len(hits) >= k or all(map(is_exhausted, found, repeat(depth))):
            return Retrieved(_in_order(hits, named)[:k], tuple(warnings))
        depth *= DEEPER


def _in_order(hits: Sequence[Hit], named: Sequence[int]) -> list[Hit]:
    by_id = {hit.item.id: hit for hit in hits}
    fused = fuse(list(by_id), [item for item in named if item in by_id])
    return [replace(by_id[item], rank=rank) for rank, item in enumerate(fused, 1)]


def fuse(by_vectors: Sequence[int], by_words: Sequence[int]) -> list[int]:
    """Fuse two rankings of ids, of which the first has all that the second has; ties as by vectors.

    What is r-th by vectors is at place 2r or before.
    """
    merit = {item: 1.0 / (RRF_RANKS + rank) for rank, item in enumerate(by_vectors, 1)}
    for rank, item in enumerate(by_words, 1):
        merit[item] += 1.0 / (RRF_RANKS + rank)
    best = iter(sorted(by_vectors, key=lambda item: -merit[item]))
    fused: dict[int, None] = {}
    for place in range(1, len(by_vectors) + 1):
        due = by_vectors[place // 2 - 1]
        is_due = place % 2 == 0 and due not in fused
        fused[due if is_due else next(item for item in best if item not in fused)] = None
    return list(fused)
