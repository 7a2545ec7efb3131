"""Hybrid search: the ranking by vectors, and the items that have all selective words of a text, in one ranking.

The two are added up by reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009). Alone it would bury what has no
words: a photograph without a caption, first by meaning, stands behind everything that two rankings name. So the
demotion is limited: what is r-th by vectors never stands below place 2r. benchmarks/hybrid.py compares the ways.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.query.fusion import RRF_RANKS
from clipsearch.query.scored import ScoredRows
from clipsearch.query.scoring import is_doubtful, rank_items
from clipsearch.ranking import limit_demotion

WORDS_DEPTH = 200
"""How many items words propose at most, and vectors at least where words propose any."""


def fuse_words(ranked: ScoredRows, keyword_ids: Sequence[int], words: float) -> ScoredRows:
    """Fuse a ranking by vectors with the ids of items that words name, best first; the rows of an item stay together.

    The items that words name are in the ranking, but for those of which all rows are damaged. words: what the words
    are worth, see `scoring.is_doubtful`.
    """
    begins = np.diff(ranked.items, prepend=-1) != 0
    by_vectors = ranked.items[begins].tolist()
    places = {item: place for place, item in enumerate(by_vectors)}
    fused = fuse(len(by_vectors), [places[item] for item in keyword_ids if item in places])
    if len(fused) and is_doubtful(ranked, by_vectors[fused[0]], words):
        fused = np.concatenate([[0], fused[fused != 0]])
    return rank_items(ranked, np.cumsum(begins) - 1, fused)


def fuse(count: int, by_keywords: Sequence[int]) -> NDArray[np.intp]:
    """Fuse two rankings of the numbers from 0 to count - 1: by vectors, which is their order, and some by keywords.

    Ties as by vectors. What is r-th by vectors is at place 2r or before. Returns intp (count,).
    """
    by_vectors = np.arange(count)
    merit = 1.0 / (RRF_RANKS + 1.0 + by_vectors)
    merit[[*by_keywords]] += 1.0 / (RRF_RANKS + 1.0 + np.arange(len(by_keywords)))
    return limit_demotion(np.argsort(-merit, kind="stable"), by_vectors)
