"""Retrieval: query vectors to hits, over one state of a library.

Per modality: candidates from the approximate index and an exact scan of the rows it does not hold yet, or from an
exact scan of all; then their exact cosines, set against how the query scores on the library at large.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import registry
from clipsearch.ann.base import AnnIndex, Probe
from clipsearch.ann.calibrate import DEPTH, Calibration
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.flat import exact_search, merge, search_among
from clipsearch.errors import AnnIndexError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.paths import real_path
from clipsearch.query.hybrid import WORDS_DEPTH, fuse_words
from clipsearch.query.scoring import ScoredRow, count_rows, merge_modalities, score_rows
from clipsearch.store.catalog import Generation, Match
from clipsearch.store.generations import generation_path, verify
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import Rows
from clipsearch.types import Hit, Modality

logger = logging.getLogger("clipsearch")

UNUSABLE_INDEX = "The approximate index cannot be used; this search was exact. Build it again: clipsearch build"

MAX_EXACT_ROWS = 20_000
"""A filter that leaves no more rows than this is answered from these, exactly (benchmarks/ann/filters.py)."""

DEEPER = 4
"""How many times as many candidates are taken where several are of one item, so that k items are not reached."""

_SELF_MARGIN = 1


@dataclass(frozen=True, slots=True)
class Ranking:
    """The answer to one query vector."""

    hits: list[Hit]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """A batch of queries of one kind, over one state of the library."""

    snapshot: Snapshot
    queries: NDArray[np.float32]
    kind: str | None
    filters: Filter | None


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a modality proposes for a batch of queries.

    rows: for each query its candidates, int64 (any,). owners: the id of the item of each row. is_all: whether no query
    has more.
    """

    modality: Modality
    rows: list[NDArray[np.int64]]
    item_ids: dict[int, int]
    is_all: bool


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An index, and how much of it to look at."""

    index: AnnIndex
    calibration: Calibration


class Retriever:
    """Finds hits in one library; safe to use from several threads. Loaded indexes are kept."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._indexes: dict[Modality, tuple[str, _Loaded | None]] = {}
        self._lock = threading.Lock()

    def retrieve(
        self,
        snapshot: Snapshot,
        queries: NDArray[np.float32],
        k: int,
        modalities: Sequence[Modality],
        excluded: Sequence[str | None],
        *,
        kind: str | None = None,
        filters: Filter | None = None,
        words: Sequence[str] | None = None,
    ) -> list[Ranking]:
        """Find the k best hits of each query (n, dim), each an item of its own.

        excluded: for each, the real path of a file to leave out. kind: what the queries were made from, `text` or
        `image`; None if that is not known. filters: which items may be found. words: the texts of the queries, where
        items that have their words are to be found by them, too.
        """
        asked = QueryBatch(snapshot, queries, kind, filters)
        keyword_ids: Sequence[Sequence[int]] = [()] * len(queries)
        if words:
            keyword_ids = [snapshot.keyword_search(text, filters, WORDS_DEPTH) for text in words]
        wanted = k + (_SELF_MARGIN if any(excluded) else 0)
        depth = max(wanted, WORDS_DEPTH if any(keyword_ids) else 0)
        warnings: list[str] = []
        while True:
            found = [
                self.candidates_for(asked, modality, max(depth, wanted), wanted, warnings) for modality in modalities
            ]
            answers = []
            for i, query in enumerate(queries):
                lists = []
                for each in found:
                    own = snapshot.rows_of_items(each.modality, keyword_ids[i]) if keyword_ids[i] else {}
                    rows = np.union1d(each.rows[i], [*own]).astype(np.int64)
                    lists.append(score_rows(snapshot, each.modality, query, rows, each.item_ids | own, kind))
                ranked = merge_modalities(lists)
                hits = build_hits(snapshot, ranked, len(ranked) if keyword_ids[i] else k, excluded[i])
                answers.append(fuse_words(hits, keyword_ids[i])[:k] if keyword_ids[i] else hits)
            if all(each.is_all for each in found) or all(len(hits) == k for hits in answers):
                return [Ranking(hits, tuple(warnings)) for hits in answers]
            wanted *= DEEPER

    def candidates_for(
        self, asked: QueryBatch, modality: Modality, depth: int, wanted: int, warnings: list[str]
    ) -> Candidates:
        """Find candidates, at least `depth` rows and so many that they are of `wanted` items, as far as there are any.

        Fewer items would leave places to another modality that has worse ones. How deep a query goes is its own affair,
        whatever else is in the batch.
        """
        rows = [np.empty(0, np.int64)] * len(asked.queries)
        item_ids: dict[int, int] = {}
        pending = list(range(len(rows)))
        while True:
            found = self.candidates(replace(asked, queries=asked.queries[pending]), modality, depth, warnings)
            item_ids |= asked.snapshot.item_ids_of_rows(modality, np.unique(found[found >= 0]).tolist())
            for i, ids in zip(pending, found, strict=True):
                rows[i] = ids[ids >= 0]
            is_all = is_exhausted(found, depth)
            is_of_all = len(pending) == len(rows)
            pending = [i for i in pending if len({item_ids.get(row) for row in rows[i].tolist()} - {None}) < wanted]
            if is_all or not pending:
                return Candidates(modality, rows, item_ids, is_all and is_of_all)
            depth *= DEEPER

    def candidates(self, asked: QueryBatch, modality: Modality, k: int, warnings: list[str]) -> NDArray[np.int64]:
        """Return candidate rows, int64 (n_queries, at most k), best first, -1 where there are fewer."""
        snapshot, queries = asked.snapshot, asked.queries
        rows, allowed = snapshot.rows(modality), snapshot.live(modality)
        if not len(rows):
            return np.empty((len(queries), 0), np.int64)
        if asked.filters is not None:
            chosen = snapshot.matching(modality, asked.filters)
            if len(chosen) <= MAX_EXACT_ROWS:
                return search_among(rows, queries, min(k, len(chosen)), chosen).ids
            allowed = np.zeros(len(rows), np.bool_)
            allowed[chosen] = True
        generation = snapshot.generation(modality)
        loaded = self._loaded(generation, rows) if generation else None
        if generation is not None and loaded is None and self._is_current(generation):
            _warn(warnings)
        if generation is None or loaded is None:
            return exact_search(rows, queries, min(k, len(rows)), allowed=allowed).ids
        share = count_rows(allowed, generation.watermark) / max(generation.watermark, 1)
        probe = _widened(loaded.calibration.probe(asked.kind), k, share)
        if share * generation.watermark <= probe.candidates:
            return exact_search(rows, queries, min(k, len(rows)), allowed=allowed).ids
        try:
            alike = asked.kind in (None, modality.value)
            near = search_candidates(loaded.index, rows, queries, k, probe, allowed, find_equal=alike)
        except AnnIndexError as error:
            logger.debug("%s", error)
            _warn(warnings)
            return exact_search(rows, queries, min(k, len(rows)), allowed=allowed).ids
        if (near.ids < 0).any():
            # The lists that were probed hold too few rows that may be found; k must be filled all the same.
            return exact_search(rows, queries, k, allowed=allowed).ids
        tail = exact_search(rows, queries, k, start=generation.watermark, allowed=allowed)
        return merge(near, tail, k).ids

    def _is_current(self, generation: Generation) -> bool:
        """Tell whether a generation is still the active one: a build that ends meanwhile deletes the one before."""
        with self._library.read() as now:
            active = now.generation(generation.modality)
        return active is not None and active.name == generation.name

    def _loaded(self, generation: Generation, rows: Rows) -> _Loaded | None:
        """Load a generation once; None if its files are missing or damaged."""
        with self._lock:
            name, loaded = self._indexes.get(generation.modality, ("", None))
            if name != generation.name:
                loaded = None
                try:
                    verify(self._library.folder, generation)
                    folder = generation_path(self._library.folder, generation.name)
                    index = registry.load(generation.kind, folder, generation.params, rows, generation.watermark)
                    loaded = _Loaded(index, Calibration.load(folder))
                except (AnnIndexError, StoreCorruptError) as error:
                    logger.debug("%s", error)
                self._indexes[generation.modality] = (generation.name, loaded)
            return loaded


def _warn(warnings: list[str]) -> None:
    """Say once an answer that the index was not used."""
    if UNUSABLE_INDEX not in warnings:
        warnings.append(UNUSABLE_INDEX)


def _widened(probe: Probe, k: int, share: float) -> Probe:
    """Return what to look at for k answers where only a share of the rows may be returned.

    The first ten of a tenth of the rows lie about where the first hundred of all do: as deep as a search for more.
    """
    deeper = max(k / DEPTH, 1.0)
    wider = deeper / max(share, 1e-6)
    return replace(probe, nprobe=math.ceil(probe.nprobe * wider**0.5), candidates=math.ceil(probe.candidates * deeper))


def is_exhausted(candidates: NDArray[np.int64], depth: int) -> bool:
    """Tell whether no query has more candidates than these, of which so many were asked for."""
    return candidates.shape[1] < depth or bool((candidates[:, -1] < 0).all())


def build_hits(
    snapshot: Snapshot,
    scored: Sequence[ScoredRow],
    k: int,
    excluded: str | None = None,
    excluded_ids: frozenset[int] = frozenset(),
) -> list[Hit]:
    """Turn rows into hits, best first: k items, each by its best row, none of them excluded by its file or id.

    What is damaged is no hit; see `Snapshot.warnings`.
    """
    matches: dict[tuple[Modality, int], Match] = {}
    for modality in Modality:
        rows = [entry.row for entry in scored if entry.modality is modality]
        matches |= {(modality, row): match for row, match in snapshot.matches(modality, rows).items()}
    hits: list[Hit] = []
    seen = {*excluded_ids}
    for entry in scored:
        match = matches.get((entry.modality, entry.row))
        if match is None or match.item_id in seen or not snapshot.is_sound(match):
            continue
        seen.add(match.item_id)
        if excluded is not None and real_path(match.item.path) == excluded:
            continue
        worth = (entry.score, entry.confidence, entry.modality)
        hits.append(Hit(len(hits) + 1, match.item, *worth, match.part, match.passage, log_evalue=entry.log_evalue))
        if len(hits) == k:
            break
    return hits
