"""Retrieval: query vectors to hits, over one state of a library.

Per modality: candidates from the approximate index and an exact scan of the rows it does not hold yet, or from an
exact scan of all; then their exact cosines, set against how the query scores on the library at large.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import registry
from clipsearch.ann.base import AnnIndex
from clipsearch.ann.flat import FlatIndex, exact_search, merge
from clipsearch.errors import AnnIndexError, StoreCorruptError
from clipsearch.ranking import background, confidence, exact_scores, surprise
from clipsearch.store.catalog import Generation, Match
from clipsearch.store.generations import generation_path, verify
from clipsearch.store.library import Library, Snapshot
from clipsearch.types import Hit, Modality, Neighbors

logger = logging.getLogger("clipsearch")

UNUSABLE_INDEX = "The approximate index cannot be used; this search was exact. Make it anew: clipsearch build"

_SAMPLE_ROWS = 1024
_OVERFETCH, _MIN_CANDIDATES = 10, 200
_SELF_MARGIN = 1


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answer to one query vector."""

    hits: list[Hit]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A row with what its score is worth."""

    modality: Modality
    row: int
    score: float
    surprise: float
    confidence: float | None


class Retriever:
    """Finds hits in one library; safe to use from several threads. Loaded indexes are kept."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._indexes: dict[Modality, tuple[str, AnnIndex | None]] = {}
        self._lock = threading.Lock()

    def retrieve(
        self,
        snapshot: Snapshot,
        queries: NDArray[np.float32],
        k: int,
        modalities: Sequence[Modality],
        excluded: Sequence[str | None],
    ) -> list[Retrieved]:
        """Find the k best hits of each query (n, dim); excluded: for each, the real path of a file to leave out."""
        margin = _SELF_MARGIN if any(excluded) else 0
        warnings: list[str] = []
        found = [self._candidates(snapshot, modality, queries, k + margin, warnings) for modality in modalities]
        answers = []
        for i, query in enumerate(queries):
            lists = [self._score(snapshot, m, query, ids[i]) for m, ids in zip(modalities, found, strict=True)]
            answers.append(Retrieved(_name(snapshot, _merge(lists), k, excluded[i]), tuple(warnings)))
        return answers

    def _candidates(
        self, snapshot: Snapshot, modality: Modality, queries: NDArray[np.float32], k: int, warnings: list[str]
    ) -> NDArray[np.int64]:
        """Return candidate rows, int64 (n_queries, at most k), best first, -1 where there are fewer."""
        rows, live = snapshot.rows(modality), snapshot.live(modality)
        if not len(rows):
            return np.empty((len(queries), 0), np.int64)
        generation = snapshot.generation(modality)
        index = self._index(generation) if generation else None
        if generation is not None and index is None and self._is_current(generation):
            warnings.append(UNUSABLE_INDEX)
        width = max(_MIN_CANDIDATES, _OVERFETCH * k)
        if generation is None or index is None or _count(live, generation.watermark) <= width:
            return FlatIndex.over(rows).search(queries, min(k, len(rows)), allowed=live).ids
        near = index.search(queries, width, allowed=live)
        if (near.ids[:, :k] < 0).any():
            # The lists that were probed hold too few rows that may be found; k must be filled all the same.
            return FlatIndex.over(rows).search(queries, k, allowed=live).ids
        exact = [exact_scores(q, rows.gather(np.maximum(ids, 0))) for q, ids in zip(queries, near.ids, strict=True)]
        rescored = Neighbors(near.ids, np.where(near.ids < 0, -np.inf, np.stack(exact)).astype(np.float32))
        tail = exact_search(rows, queries, k, start=generation.watermark, allowed=live)
        return merge(rescored, tail, k).ids

    def _is_current(self, generation: Generation) -> bool:
        """Tell whether a generation is still the active one: a build that ends meanwhile deletes the one before."""
        with self._library.read() as now:
            active = now.generation(generation.modality)
        return active is not None and active.name == generation.name

    def _index(self, generation: Generation) -> AnnIndex | None:
        """Load a generation once; None if its files are missing or damaged."""
        with self._lock:
            name, index = self._indexes.get(generation.modality, ("", None))
            if name != generation.name:
                index = None
                try:
                    verify(self._library.folder, generation)
                    folder = generation_path(self._library.folder, generation.name)
                    index = registry.load(generation.kind, folder, generation.params)
                except (AnnIndexError, StoreCorruptError) as error:
                    logger.debug("%s", error)
                self._indexes[generation.modality] = (generation.name, index)
            return index

    def _score(
        self, snapshot: Snapshot, modality: Modality, query: NDArray[np.float32], candidates: NDArray[np.int64]
    ) -> list[_Scored]:
        """Score candidates exactly and against the background of this query; best first, ties in order of row."""
        ids = candidates[candidates >= 0]
        if not len(ids):
            return []
        scores = exact_scores(query, snapshot.rows(modality).gather(ids))
        seen = background(self._sample(snapshot, modality) @ query, _live_count(snapshot, modality))
        ranked = []
        for i in np.lexsort((ids, -scores)):
            score = float(scores[i])
            ranked.append(_Scored(modality, int(ids[i]), score, surprise(score, seen), confidence(score, seen)))
        return ranked

    def _sample(self, snapshot: Snapshot, modality: Modality) -> NDArray[np.float32]:
        """Return up to 1,024 live rows spread evenly over the library, the same for every query: float32 (n, dim)."""

        def compute() -> NDArray[np.float32]:
            live, total = snapshot.live(modality), _live_count(snapshot, modality)
            ranks = np.unique(np.linspace(0, max(total - 1, 0), min(total, _SAMPLE_ROWS)).astype(np.int64))
            return snapshot.rows(modality).gather(ranks if live is None else np.flatnonzero(live)[ranks])

        return self._library.cached(snapshot.revision, f"sample {modality}", compute)


def _live_count(snapshot: Snapshot, modality: Modality) -> int:
    return _count(snapshot.live(modality), len(snapshot.rows(modality)))


def _count(live: NDArray[np.bool_] | None, rows: int) -> int:
    """Count the live ones among the first rows."""
    return rows if live is None else int(np.count_nonzero(live[:rows]))


def _merge(lists: Sequence[list[_Scored]]) -> list[_Scored]:
    """Merge the modalities by surprise, which is comparable between them where cosines are not."""
    return sorted((entry for ranked in lists for entry in ranked), key=lambda entry: -entry.surprise)


def _name(snapshot: Snapshot, scored: Sequence[_Scored], k: int, excluded: str | None) -> list[Hit]:
    """Turn rows into hits: the k best that are not of the excluded file."""
    matches: dict[tuple[Modality, int], Match] = {}
    for modality in Modality:
        rows = [entry.row for entry in scored if entry.modality is modality]
        matches |= {(modality, row): match for row, match in snapshot.matches(modality, rows).items()}
    hits: list[Hit] = []
    for entry in scored:
        match = matches.get((entry.modality, entry.row))
        if match is None or (excluded is not None and os.path.realpath(match.item.path) == excluded):
            continue
        hits.append(Hit(len(hits) + 1, match.item, entry.score, entry.confidence, match.part, match.passage))
        if len(hits) == k:
            break
    return hits
