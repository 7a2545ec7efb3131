"""Hybrid search: the ranking by vectors, and the items that have all telling words of a text, in one ranking.

The two are added up by reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009). Alone it would bury what has no
words: a photograph without a caption, first by meaning, stands behind everything that two rankings name. So the
demotion is limited: what is r-th by vectors never stands below place 2r. benchmarks/hybrid.py compares the ways.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from clipsearch.query.fusion import RRF_RANKS
from clipsearch.ranking import limit_demotion
from clipsearch.types import Hit

WORDS_DEPTH = 200
"""How many items words propose at most, and vectors at least where words propose any."""


def fuse_words(hits: Sequence[Hit], keyword_ids: Sequence[int], doubtful: Set[int]) -> list[Hit]:
    """Fuse a ranking by vectors with the ids of items that words name, best first, all of which are in it.

    doubtful: ids of items that must not come first where the first by vectors is not one of them.
    """
    by_id = {hit.item.id: hit for hit in hits}
    fused = fuse(list(by_id), [item for item in keyword_ids if item in by_id])
    if fused and fused[0] in doubtful and hits[0].item.id not in doubtful:
        fused = list(dict.fromkeys([hits[0].item.id, *fused]))
    return [replace(by_id[item], rank=rank) for rank, item in enumerate(fused, 1)]


def fuse(by_vectors: Sequence[int], by_keywords: Sequence[int]) -> list[int]:
    """Fuse two rankings of ids, of which the first has all that the second has; ties as by vectors.

    What is r-th by vectors is at place 2r or before.
    """
    merit = {item: 1.0 / (RRF_RANKS + rank) for rank, item in enumerate(by_vectors, 1)}
    for rank, item in enumerate(by_keywords, 1):
        merit[item] += 1.0 / (RRF_RANKS + rank)
    return limit_demotion(sorted(by_vectors, key=lambda item: -merit[item]), by_vectors)
