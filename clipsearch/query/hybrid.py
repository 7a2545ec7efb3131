"""Hybrid search: the ranking by vectors, and the items that have all telling words of a text, in one ranking.

The two are added up by reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009). Alone it would bury what has no
words: a photograph without a caption, first by meaning, stands behind everything that two rankings name. So the
demotion is limited: what is r-th by vectors never stands below place 2r. benchmarks/hybrid.py compares the ways.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    by_vectors = list(dict.fromkeys(ranked.items.tolist()))
    known = {*by_vectors}
    fused = fuse(by_vectors, [item for item in keyword_ids if item in known])
    if fused and is_doubtful(ranked, fused[0], words):
        fused = list(dict.fromkeys([by_vectors[0], *fused]))
    return rank_items(ranked, fused)


def fuse(by_vectors: Sequence[int], by_keywords: Sequence[int]) -> list[int]:
    """Fuse two rankings of ids, of which the first has all that the second has; ties as by vectors.

    What is r-th by vectors is at place 2r or before.
    """
    places = {item: place for place, item in enumerate(by_vectors)}
    merit = 1.0 / (RRF_RANKS + 1.0 + np.arange(len(by_vectors)))
    merit[[places[item] for item in by_keywords]] += 1.0 / (RRF_RANKS + 1.0 + np.arange(len(by_keywords)))
    fused = [by_vectors[place] for place in np.argsort(-merit, kind="stable").tolist()]
    return limit_demotion(fused, by_vectors)
