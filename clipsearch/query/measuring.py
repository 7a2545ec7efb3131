"""Recall and time of a library's own search."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.calibrate import DEPTH, Queries
from clipsearch.ann.flat import exact_search
from clipsearch.encoders.base import Encoder
from clipsearch.query.blocks import MAX_QUERIES
from clipsearch.query.candidates import DEEPER, QueryBatch, Retriever
from clipsearch.query.engine import SearchEngine
from clipsearch.query.retrieval import retrieve
from clipsearch.query.scoring import first_of_items
from clipsearch.ranking import are_unit, exact_scores
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

    Calibration counts rows among the candidates of an index, and benchmarks/ann rows of other programs; this counts
    items, as in an answer, each by its best row. A query that is a row itself is asked like any
    other, but its item counts neither as found nor as missed. A hit that scores no less than the last of the exact ones
    is as right as that: copies of a picture are alike.
    """
    true = _scores_true(snapshot, modality, queries)
    found = _scores_found(retriever, snapshot, modality, kind, queries)
    return np.array(
        [
            min(int(np.count_nonzero(scores >= exact.min() - _TIE)), len(exact)) / len(exact)
            for exact, scores in zip(true, found, strict=True)
            if len(exact)
        ],
        np.float64,
    )


def _scores_true(snapshot: Snapshot, modality: Modality, queries: Queries) -> list[NDArray[np.float32]]:
    """Return the scores of the exact first ten items of each query, without the one that it is itself.

    Items of many rows, as texts of many passages are, take an exact search for more rows.
    """
    rows, live = snapshot.rows(modality), snapshot.live(modality)
    own = [-1] * len(queries.vectors) if queries.own is None else queries.own.tolist()
    themselves = snapshot.item_ids_of_rows(modality, [row for row in own if row >= 0])
    wanted = DEPTH - (queries.own is not None)
    true = [np.empty(0, np.float32)] * len(own)
    pending, depth = list(range(len(own))), DEPTH + 1
    while pending:
        ids = exact_search(rows, queries.vectors[pending], min(depth, len(rows)), allowed=live).ids
        item_ids = snapshot.item_ids_of_rows(modality, np.unique(ids[ids >= 0]).tolist())
        for i, near in zip(pending, ids, strict=True):
            near = near[near >= 0]
            near = near[are_unit(rows.gather(near))]
            owners = np.array([item_ids.get(row, -1) for row in near.tolist()], np.int64)
            places = first_of_items(owners, np.arange(len(near)))
            places = places[owners[places] != themselves.get(own[i], -1)]
            true[i] = exact_scores(queries.vectors[i], rows.gather(near[places[:wanted]]))
        pending = [i for i in pending if len(true[i]) < wanted] if depth < len(rows) else []
        depth *= DEEPER
    return true


def _scores_found(
    retriever: Retriever, snapshot: Snapshot, modality: Modality, kind: str, queries: Queries
) -> Iterator[NDArray[np.float32]]:
    """Yield the scores of the first ten hits of each query, without the row that it is itself."""
    own = [] if queries.own is None else queries.own.tolist()
    items = {row: match.item.id for row, match in snapshot.matches(modality, own).items()}
    for start in range(0, len(queries.vectors), MAX_QUERIES):
        vectors, themselves = queries.vectors[start : start + MAX_QUERIES], own[start : start + MAX_QUERIES]
        answers = retrieve(retriever, QueryBatch(snapshot, vectors, kind), DEPTH, [modality])
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
