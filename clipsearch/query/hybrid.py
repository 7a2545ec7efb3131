"""Hybrid search: the ranking by vectors, and the items that have all telling words of a text, in one ranking.

The two are added up by reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009). Alone it would bury what has no
words: a photograph without a caption, first by meaning, stands behind everything that two rankings name. So the
demotion is limited: what is r-th by vectors never stands below place 2r. benchmarks/hybrid.py compares the ways.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from clipsearch.query.fusion import RRF_RANKS
from clipsearch.query.scoring import ScoredRow
from clipsearch.ranking import limit_demotion

WORDS_DEPTH = 200
"""How many items words propose at most, and vectors at least where words propose any."""


def fuse_words(ranked: Sequence[ScoredRow], keyword_ids: Sequence[int], doubtful: Set[int]) -> list[ScoredRow]:
    """Fuse a ranking by vectors with the ids of items that words name, best first; the rows of an item stay together.

    The items that words name are in the ranking, but for those of which all rows are damaged. doubtful: ids of items
    that must not come first where the first by vectors is not one of them.
    """
    rows: dict[int, list[ScoredRow]] = {}
    for entry in ranked:
        rows.setdefault(entry.item, []).append(entry)
    by_vectors = list(rows)
    fused = fuse(by_vectors, [item for item in keyword_ids if item in rows])
    if fused and fused[0] in doubtful and by_vectors[0] not in doubtful:
        fused = list(dict.fromkeys([by_vectors[0], *fused]))
    return [entry for item in fused for entry in rows[item]]


def fuse(by_vectors: Sequence[int], by_keywords: Sequence[int]) -> list[int]:
    """Fuse two rankings of ids, of which the first has all that the second has; ties as by vectors.

    What is r-th by vectors is at place 2r or before.
    """
    merit = {item: 1.0 / (RRF_RANKS + rank) for rank, item in enumerate(by_vectors, 1)}
    for rank, item in enumerate(by_keywords, 1):
        merit[item] += 1.0 / (RRF_RANKS + rank)
    return limit_demotion(sorted(by_vectors, key=merit.__getitem__, reverse=True), by_vectors)
