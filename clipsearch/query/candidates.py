"""Candidates of a query: the rows of one modality that may be among its best.

They come from the approximate index and an exact scan of the rows that it does not hold yet, or from an exact scan of
all.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import registry
from clipsearch.ann.base import Probe
from clipsearch.ann.calibrate import DEPTH
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.flat import exact_search, merge, search_among
from clipsearch.ann.registry import OpenIndex
from clipsearch.errors import AnnIndexError, IndexServerError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.store.catalog import Generation
from clipsearch.store.generations import generation_path, verify
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import Rows
from clipsearch.types import Modality

logger = logging.getLogger("clipsearch")

UNUSABLE_INDEX = "The approximate index cannot be used; this search was exact. Build it again: clipsearch build"

MAX_EXACT_ROWS = 20_000
"""A filter that leaves no more rows than this is answered from these, exactly (benchmarks/ann/filters.py)."""

DEEPER = 4
"""How many times as many candidates are taken if several are of one item, so that there are fewer than k items."""


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """A batch of queries of one kind, over one state of a library.

    queries: unit rows, float32 (n, dim). kind: what they were made from, `text` or `image`; None if that is unknown.
    filters: which items may be found; None for all. words: how many content words each query has, where that is known.
    """

    snapshot: Snapshot
    queries: NDArray[np.float32]
    kind: str | None = None
    filters: Filter | None = None
    words: tuple[float, ...] = ()

    def take(self, chosen: Sequence[int]) -> QueryBatch:
        """Return a batch of some of the queries."""
        words = tuple(self.words[i] for i in chosen) if self.words else ()
        return replace(self, queries=self.queries[list(chosen)], words=words)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one modality for a batch of queries.

    rows: for each query, int64 (any,). item_ids: the id of the item of each row. is_all: whether no query has more.
    warnings: what the user should know about how they were found.
    """

    modality: Modality
    rows: list[NDArray[np.int64]]
    item_ids: dict[int, int]
    is_all: bool
    warnings: frozenset[str] = frozenset()


class Retriever:
    """Finds candidates in one library; safe to use from several threads. Indexes stay loaded."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._indexes: dict[Modality, tuple[str, OpenIndex | None]] = {}
        self._lock = threading.Lock()

    def candidates(self, batch: QueryBatch, modality: Modality, depth: int, wanted: int) -> Candidates:
        """Find at least `depth` rows for each query, and so many that they are of `wanted` items, if there are any.

        Fewer items would leave places to another modality that has worse ones. How deep a query goes does not depend on
        what else is in the batch.
        """
        rows = [np.empty(0, np.int64)] * len(batch.queries)
        item_ids: dict[int, int] = {}
        warnings: frozenset[str] = frozenset()
        pending = list(range(len(rows)))
        while True:
            found, warned = self.nearest_rows(batch.take(pending), modality, depth)
            warnings |= warned
            for i, ids in zip(pending, found, strict=True):
                rows[i] = ids[ids >= 0]
            new = rows[pending[0]] if len(pending) == 1 else np.unique(found[found >= 0])
            item_ids |= batch.snapshot.item_ids_of_rows(modality, new.tolist())
            if _is_exhausted(found, depth):
                return Candidates(modality, rows, item_ids, len(pending) == len(rows), warnings)
            pending = [i for i in pending if not _has_items(rows[i], item_ids, wanted)]
            if not pending:
                return Candidates(modality, rows, item_ids, False, warnings)
            depth *= DEEPER

    def nearest_rows(self, batch: QueryBatch, modality: Modality, k: int) -> tuple[NDArray[np.int64], frozenset[str]]:
        """Return about the k nearest rows, int64 (n_queries, at most k), -1 for none; and warnings.

        The best come first. If there are at most k rows, all are returned, in order of their numbers.
        """
        snapshot, queries = batch.snapshot, batch.queries
        rows, allowed = snapshot.rows(modality), snapshot.live(modality)
        if not len(rows):
            return np.empty((len(queries), 0), np.int64), frozenset()
        if batch.filters is not None:
            chosen = snapshot.matching(modality, batch.filters)
            if len(chosen) <= MAX_EXACT_ROWS:
                return search_among(rows, queries, min(k, len(chosen)), chosen).ids, frozenset()
            allowed = np.zeros(len(rows), np.bool_)
            allowed[chosen] = True
        ids, trouble = None, ""
        generation = snapshot.generation(modality)
        if generation is not None:
            opened = self._opened(generation, rows)
            trouble = UNUSABLE_INDEX if opened is None and self._is_current(generation) else ""
            if opened is not None:
                try:
                    ids = _ask(opened, batch, generation, allowed, k)
                except AnnIndexError as error:
                    logger.debug("%s", error)
                    trouble = self._trouble(error, generation)
        if ids is None and k >= len(rows):  # all are candidates, whatever their scores
            every = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed)
            ids = np.broadcast_to(every.astype(np.int64), (len(queries), len(every)))
        elif ids is None:
            ids = exact_search(rows, queries, k, allowed=allowed).ids
        return ids, frozenset((trouble,) if trouble else ())

    def _trouble(self, error: AnnIndexError, generation: Generation) -> str:
        """Say why an index could not be asked; nothing of one that a build has replaced meanwhile, with its server."""
        if not isinstance(error, IndexServerError):
            return UNUSABLE_INDEX
        return f"{error} This search was exact." if self._is_current(generation) else ""

    def _is_current(self, generation: Generation) -> bool:
        """Tell whether a generation is still the active one: a build that ends meanwhile deletes the one before."""
        with self._library.read() as now:
            active = now.generation(generation.modality)
        return active is not None and active.name == generation.name

    def _opened(self, generation: Generation, rows: Rows) -> OpenIndex | None:
        """Open a generation once; None if its files are missing or damaged."""
        with self._lock:
            name, opened = self._indexes.get(generation.modality, ("", None))
            if name != generation.name:
                opened = None
                try:
                    opened = open_generation(self._library.folder, generation, rows)
                except (AnnIndexError, StoreCorruptError) as error:
                    logger.debug("%s", error)
                self._indexes[generation.modality] = (generation.name, opened)
            return opened


def open_generation(library: Path, generation: Generation, rows: Rows) -> OpenIndex:
    """Open a generation whose files are those that the catalog describes.

    Raises StoreCorruptError for a missing, changed or linked file, AnnIndexError for an index that cannot be read.
    """
    verify(library, generation, once=True)
    folder = generation_path(library, generation.name)
    return registry.open_generation(generation.kind, folder, generation.params, rows, generation.watermark)


def _ask(
    opened: OpenIndex, batch: QueryBatch, generation: Generation, allowed: NDArray[np.bool_] | None, k: int
) -> NDArray[np.int64] | None:
    """Ask the index, and scan the rows that it does not hold; all rows for a query whose k places that does not fill.

    None if that may be so for every query.
    """
    modality, watermark = generation.modality, generation.watermark
    rows, queries = batch.snapshot.rows(modality), batch.queries
    allowed_rows = watermark if allowed is None else int(np.count_nonzero(allowed[:watermark]))
    share = allowed_rows / max(watermark, 1)
    probe = _widened(opened.calibration.probe(batch.kind), k, share)
    if share * watermark <= probe.candidates:
        return None
    find_equal = batch.kind in (None, modality.value)
    near = search_candidates(opened.index, rows, queries, k, probe, allowed, find_equal=find_equal)
    short = (near.ids < 0).any(axis=1)  # the lists that were probed hold too few rows that may be found
    if short.all():
        return None
    tail = exact_search(rows, queries, k, start=watermark, allowed=allowed)
    ids = merge(near, tail, k).ids
    if short.any():
        ids[short] = exact_search(rows, queries[short], ids.shape[1], allowed=allowed).ids
    return ids


def _widened(probe: Probe, k: int, share: float) -> Probe:
    """Return what to look at for k answers where only a share of the rows may be returned.

    The first ten of a tenth of the rows lie about where the first hundred of all do: as deep as a search for more.
    """
    deeper = max(k / DEPTH, 1.0)
    wider = deeper / max(share, 1e-6)
    return replace(probe, nprobe=math.ceil(probe.nprobe * wider**0.5), candidates=math.ceil(probe.candidates * deeper))


def _has_items(rows: NDArray[np.int64], item_ids: Mapping[int, int], wanted: int) -> bool:
    """Tell whether rows are of at least so many items."""
    seen: set[int | None] = set()
    for start in range(0, len(rows), max(wanted, 1)):
        seen.update(map(item_ids.get, rows[start : start + wanted].tolist()))
        seen.discard(None)
        if len(seen) >= wanted:
            return True
    return wanted <= 0


def _is_exhausted(candidates: NDArray[np.int64], depth: int) -> bool:
    """Tell whether no query has more candidates than these, of which so many were asked for."""
    return candidates.shape[1] < depth or bool((candidates[:, -1] < 0).all())
