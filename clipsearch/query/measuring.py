"""Recall and time of a library's own search."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.calibrate import DEPTH, Queries, truth
from clipsearch.encoders.base import Encoder
from clipsearch.query.engine import MAX_QUERIES, SearchEngine
from clipsearch.query.retrieval import Retriever
from clipsearch.ranking import exact_scores
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Modality

MAX_SECONDS = 2.0
"""Searches are timed for no longer than this, once there are a few."""

_TIE = 1e-6
_REPEATS = 5
_TEXT = "a cat on a sofa"


def recall(
    retriever: Retriever, snapshot: Snapshot, modality: Modality, kind: str, queries: Queries
) -> NDArray[np.float64]:
    """Return the share of the exact first ten that each query finds: float64 (n,), without those that have none.

    A query that is a row itself is asked like any other, but that row counts neither as found nor as missed. A hit that
    scores no less than the last of the exact ones is as right as that: copies of a picture are alike.
    """
    rows, live = snapshot.rows(modality), snapshot.live(modality)
    true = truth(rows, queries, len(rows), live, DEPTH - (queries.own is not None))
    if queries.own is not None:
        true[true == queries.own[:, None]] = -1  # there where all the other rows are fewer
    found = _scores_found(retriever, snapshot, modality, kind, queries)
    shares = []
    for query, ids, scores in zip(queries.vectors, true, found, strict=True):
        exact = exact_scores(query, rows.gather(ids[ids >= 0]))
        if len(exact):
            shares.append(min(int(np.count_nonzero(scores >= exact.min() - _TIE)), len(exact)) / len(exact))
    return np.array(shares, np.float64)


def _scores_found(
    retriever: Retriever, snapshot: Snapshot, modality: Modality, kind: str, queries: Queries
) -> Iterator[NDArray[np.float32]]:
    """Yield the scores of the first ten hits of each query, without the row that it is itself."""
    own = [] if queries.own is None else queries.own.tolist()
    items = {row: match.item.id for row, match in snapshot.matches(modality, own).items()}
    for start in range(0, len(queries.vectors), MAX_QUERIES):
        vectors, themselves = queries.vectors[start : start + MAX_QUERIES], own[start : start + MAX_QUERIES]
        answers = retriever.retrieve(snapshot, vectors, DEPTH, [modality], [None] * len(vectors), kind=kind)
        for i, answer in enumerate(answers):
            itself = items.get(themselves[i]) if own else None
            yield np.array([hit.score for hit in answer.hits if hit.item.id != itself], np.float32)


def search_ms(engine: SearchEngine, modality: Modality, vectors: NDArray[np.float32]) -> list[float]:
    """Return how long searches by these vectors (n, dim) take one by one, in milliseconds."""
    times: list[float] = []
    for vector in vectors:
        started = time.perf_counter()
        engine.search(vector=vector, k=DEPTH, modality=modality)
        times.append(1000 * (time.perf_counter() - started))
        if sum(times) > 1000 * MAX_SECONDS and len(times) >= _REPEATS:
            break
    return times


def text_ms(encoder: Encoder) -> float:
    """Return the median time that one text takes, in milliseconds, once the text tower is loaded."""
    encoder.encode_queries([_TEXT])
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        encoder.encode_queries([_TEXT])
        times.append(1000 * (time.perf_counter() - started))
    return round(float(np.median(times)), 2)
