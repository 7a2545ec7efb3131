"""Build the approximate indexes of a library: learn, fill, calibrate, publish; and see when that is due again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import registry, server_trust
from clipsearch.ann.calibrate import Calibration, Probed
from clipsearch.ann.coarse import TRAINING_ROWS_PER_LIST
from clipsearch.ann.faiss_ivfpq import MAX_CODEBOOK_ROWS, IvfPqIndex, IvfPqParams
from clipsearch.ann.registry import Choice
from clipsearch.config import Settings
from clipsearch.errors import AnnIndexError, IndexServerError, InvalidInputError, StoreCorruptError
from clipsearch.progress import SilentStages, Stages
from clipsearch.store import catalog, compaction, second_set
from clipsearch.store.catalog import Generation
from clipsearch.store.generations import generation_path, publish, sweep, verify
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import Rows
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from indexer.calibration import LoadEncoder, calibrate_all, encoder_loader, query_sets, sample_rows
from indexer.collections import Collections, check_server, is_whole, servers_of, sweep_collections
from indexer.plan import IndexPlan
from indexer.queries import AUTO, Given, GivenQueries, forget_queries, read_queries
from indexer.spreads import refresh_spreads

logger = logging.getLogger("clipsearch")

MERGE_ROWS, MERGE_SHARES = 10_000, (0.01, 0.2)
"""Rows that came after an index was filled are added to it once there are so many and they are the first share of all,
or once they are the second."""

RETRAIN_GROWTH = 4.0
"""An index is trained again once there are so many times the rows that it was made for."""

RETRAIN_DISTORTION = 1.3
"""An index is trained again once coding new rows loses so many times what coding those it learnt from did."""

CALIBRATE_GROWTH = 2.0
"""An index is calibrated again once it has grown by this factor."""

MAX_SAMPLE_BYTES = 1 << 30
"""What an index is trained with takes at most so much, and twice that while it is centred."""

_PROBE_ROWS = 4096
_ADDED_BYTES = 64 << 20
"""Rows that are added at once, in bytes of float32: what a group of lists costs is shared by all that it gets."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a modality has now. calibration: how much of it a search looks at, by kind of query."""

    kind: str
    rows: int
    calibration: Calibration


class Builder:
    """Makes generations from a snapshot of a library; it changes neither the catalog nor what is active."""

    def __init__(
        self,
        library: Library,
        plan: IndexPlan,
        load_encoder: LoadEncoder | None = None,
        progress: Stages | None = None,
    ) -> None:
        """Build after a plan. load_encoder: gives the library's encoder, for text queries to calibrate with."""
        self._library = library
        self._plan = plan
        self._load_encoder = load_encoder
        self._progress = progress or SilentStages()

    def choose(self, snapshot: Snapshot, modality: Modality) -> Choice:
        """Choose the index for the rows that may be found; the memory budget is shared out by rows.

        Raises InvalidInputError if nothing fits the budget.
        """
        rows, total = snapshot.live_count(modality), snapshot.live_count()
        budget = self._plan.memory_budget * rows // max(total, 1)
        return registry.choose(self._plan.kind, rows, snapshot.rows(modality).dim, budget)

    def _fitting(self, snapshot: Snapshot, modality: Modality) -> Choice:
        """Choose as `choose` does; a library that has outgrown its budget is searched exactly, which needs none."""
        try:
            return self.choose(snapshot, modality)
        except InvalidInputError:
            return Choice("flat")

    def is_due(self, snapshot: Snapshot, modality: Modality) -> bool:
        """Tell whether the index of a modality is missing, damaged, or too far behind its rows."""
        rows, generation = len(snapshot.rows(modality)), snapshot.generation(modality)
        wanted = self._fitting(snapshot, modality)
        if wanted.kind == "flat":
            return generation is not None
        if generation is None or generation.kind != wanted.kind or not self._is_whole(generation):
            return True
        if not self._is_calibrated(generation):
            return True
        least, most = MERGE_SHARES
        return rows - generation.watermark >= max(least * rows, min(MERGE_ROWS, most * rows))

    def is_behind(self, snapshot: Snapshot, modality: Modality) -> bool:
        """Tell whether so many rows are not in an index that one should be made while a run goes on."""
        rows, generation = len(snapshot.rows(modality)), snapshot.generation(modality)
        if self._fitting(snapshot, modality).kind == "flat":
            return False
        return rows - (generation.watermark if generation else 0) >= max(MERGE_ROWS, MERGE_SHARES[1] * rows)

    def make(
        self, snapshot: Snapshot, modality: Modality, *, retrain: bool = False, rows: Rows | None = None
    ) -> Generation | None:
        """Make and publish the generation that is due; None where exact search serves best.

        The present one is kept and filled up if it still fits. retrain: train all again. rows: those of a compaction,
        all live, instead of the snapshot's. Raises AnnIndexError, StoreCorruptError if a row is damaged, LibraryError
        when the disk refuses.
        """
        live = snapshot.live(modality) if rows is None else None
        compacted = rows is not None
        rows = snapshot.rows(modality) if rows is None else rows
        choice = self._fitting(snapshot, modality)
        if choice.kind == "flat":
            return None
        if choice.kind not in registry.CALIBRATED:  # it searches the library's rows and has no files of its own
            return self._publish(choice.kind, {"dim": rows.dim}, len(rows), modality, lambda folder: None)
        active = None if retrain else snapshot.generation(modality)
        calibrated = partial(self._calibrated, snapshot, modality, rows, live)
        if choice.kind == registry.REMOTE:
            collections = Collections(self._library, self._plan, self._progress)
            known = collections.reusable(None if compacted else active, rows, choice)
            self._verify(snapshot, modality, len(known) if known else 0, compacted)
            return collections.make(modality, rows, choice, known, calibrated)
        index, calibration = self._reusable(active, choice, rows)
        self._verify(snapshot, modality, len(index) if index else 0, compacted)
        if index is not None and compacted:
            index = index.emptied()
        if index is None:
            params = IvfPqParams(rows.dim, choice.nlist, choice.m, len(rows))
            index, calibration = IvfPqIndex(params), Calibration(0, {})
            self._progress.stage(f"{modality}: learning", 0)
            index.train(sample_rows(rows, live, sample_size(choice, rows.dim)))
        self._fill(index, rows, modality)
        calibration, made = calibrated(index, calibration), index

        def write(folder: Path) -> None:
            made.save(folder)
            calibration.save(folder)

        return self._publish(index.kind, index.params, len(index), modality, write)

    def _verify(self, snapshot: Snapshot, modality: Modality, start: int, compacted: bool) -> None:
        """Check the rows from `start` on; those of a compaction were verified when they were written."""
        if not compacted:
            self._progress.stage(f"{modality}: verifying", 0)
            snapshot.require_all_sound(modality, start=start)

    def _calibrated(
        self,
        snapshot: Snapshot,
        modality: Modality,
        rows: Rows,
        live: NDArray[np.bool_] | None,
        index: Probed,
        known: Calibration,
    ) -> Calibration:
        """Calibrate an index, unless what is known of it still holds."""
        if len(index) < CALIBRATE_GROWTH * known.rows and "text" in known.kinds:
            return known
        sets = query_sets(self._library, snapshot, modality, rows, live, self._load_encoder)
        return calibrate_all(index, sets, rows, live, self._plan.target_recall, modality, self._progress)

    def _reusable(
        self, generation: Generation | None, choice: Choice, rows: Rows
    ) -> tuple[IvfPqIndex | None, Calibration]:
        """Return the index that is there, if new rows can be added to it, and its calibration."""
        nothing = None, Calibration(0, {})
        if generation is None or generation.kind != choice.kind or not self._is_whole(generation):
            return nothing
        folder = generation_path(self._library.folder, generation.name)
        params, watermark = generation.params, generation.watermark
        try:
            opened = registry.open_generation(generation.kind, folder, params, rows, watermark)
        except AnnIndexError as error:
            logger.warning("%s It is built again.", error)
            return nothing
        index, calibration = opened.index, opened.calibration
        if not isinstance(index, IvfPqIndex) or index.params["m"] != choice.m:
            return nothing
        if len(rows) >= RETRAIN_GROWTH * index.params["rows"]:
            return nothing
        first = len(index) if len(index) < len(rows) else 0  # after a compaction: all of them
        some = np.unique(np.linspace(first, len(rows) - 1, _PROBE_ROWS).astype(np.int64))
        if index.distortion(rows.gather(some)) > RETRAIN_DISTORTION:
            return nothing
        return index, calibration

    def _fill(self, index: IvfPqIndex, rows: Rows, modality: Modality) -> None:
        self._progress.stage(f"{modality}: adding", len(rows) - len(index))
        for _, block in rows.blocks(len(index), size=added_rows(rows.dim)):
            index.add(block)
            self._progress.advance(len(block))

    def _publish(
        self, kind: str, params: Mapping[str, Any], rows: int, modality: Modality, write: Callable[[Path], None]
    ) -> Generation:
        name, checksums = publish(self._library.folder, modality, write)
        return Generation(modality, name, kind, params, rows, checksums)

    def _is_calibrated(self, generation: Generation) -> bool:
        """Tell whether an index knows how much queries by words must scan, which earlier versions did not always."""
        if generation.kind not in registry.CALIBRATED:
            return True
        try:
            return "text" in Calibration.load(generation_path(self._library.folder, generation.name)).kinds
        except AnnIndexError:
            return False

    def _is_whole(self, generation: Generation) -> bool:
        if generation.kind in registry.APPROXIMATE and {*generation.params} != {*IvfPqParams.__slots__}:
            return False  # an earlier clipsearch made it, of other parts
        try:
            verify(self._library.folder, generation)
        except StoreCorruptError as error:
            logger.warning("%s It is built again.", error)
            return False
        return generation.kind != registry.REMOTE or is_whole(generation)


def build(
    library: Library,
    writer: Writer,
    plan: IndexPlan,
    load_encoder: LoadEncoder | None = None,
    progress: Stages | None = None,
    queries: GivenQueries | None = None,
) -> dict[Modality, Built]:
    """Rebuild the index of every modality and make it active; the plan is kept as the library's choice.

    queries: to calibrate with, now and later; None for those that the library was given before, if any.
    Returns what each modality with rows has now. Raises InvalidInputError for a memory budget that nothing fits,
    LibraryError when the disk refuses; the generation before stays active then.
    """
    builder = Builder(library, plan, load_encoder, progress)
    with library.read() as snapshot:
        for modality in Modality:
            builder.choose(snapshot, modality)
    if plan.uri:
        check_server(plan)
    with library.read() as snapshot:
        servers = servers_of(_active(snapshot), plan)
    plan.save(writer)
    if queries is not None:
        queries.save(writer)
    for modality in Modality:
        _renew(library, writer, builder, modality, retrain=True)
    sweep_generations(library, servers)
    return describe(library)


def rebuild(
    folder: Path,
    settings: Settings,
    plan: IndexPlan,
    queries: Given | None = None,
    progress: Stages | None = None,
) -> dict[Modality, Built]:
    """Build the indexes of the library in a folder, as `clipsearch build` and `SearchEngine.build` do.

    queries: what `read_queries` takes; `auto` to forget those that were given; None to keep them. Returns and raises
    what `build` and `read_queries` do, and LibraryLockedError while another process writes.
    """
    plan.check()
    if plan.uri:
        server_trust.remember(plan.uri)
    library = Library(folder)
    try:
        load, given = encoder_loader(library, settings), None
        is_forgotten = isinstance(queries, str) and queries == AUTO
        if queries is not None and not is_forgotten:
            if library.encoder is None:
                raise InvalidInputError("The library is empty, so there is nothing to calibrate with queries.")
            given = read_queries(queries, library.encoder.dim, load)
        with library.writer() as writer:
            if is_forgotten:
                forget_queries(writer)
            built = build(library, writer, plan, load, progress, given)
            refresh_spreads(library, writer, load, again=queries is not None)
        return built
    finally:
        library.close()


def refresh(
    library: Library,
    writer: Writer,
    load_encoder: LoadEncoder | None = None,
    progress: Stages | None = None,
) -> None:
    """Do what is due, after the library's own plan: compact, repair, add what came since, or train again."""
    plan = IndexPlan.of(library)
    builder = Builder(library, plan, load_encoder, progress)
    with library.read() as snapshot:
        before = _active(snapshot)
    for modality in Modality:
        try:
            _renew(library, writer, builder, modality, retrain=False)
        except IndexServerError as error:
            logger.warning("%s The index stays as it is; the next run tries again.", error)
    with library.read() as snapshot:
        is_changed = _active(snapshot) != before
    sweep_generations(library, servers_of(before, plan) if is_changed else ())


def describe(library: Library) -> dict[Modality, Built]:
    """Return what index each modality with rows has."""
    found = {}
    with library.read() as snapshot:
        for modality in Modality:
            generation, rows = snapshot.generation(modality), len(snapshot.rows(modality))
            if generation is not None:
                folder = generation_path(library.folder, generation.name)
                found[modality] = Built(generation.kind, generation.watermark, Calibration.load(folder))
            elif rows:
                found[modality] = Built("flat", rows, Calibration(0, {}))
    return found


def _renew(library: Library, writer: Writer, builder: Builder, modality: Modality, *, retrain: bool) -> None:
    """Bring the index of one modality up to date, and compact its rows first where too many are dead."""
    with library.query() as connection:
        is_sparse = compaction.is_due(connection, modality)
    with library.read() as snapshot:
        if is_sparse:
            compacted = compaction.prepare(writer, modality)
            generation = builder.make(snapshot, modality, retrain=retrain, rows=compacted.rows)
            compaction.commit(writer, compacted, generation)
        elif retrain or builder.is_due(snapshot, modality):
            activate(writer, modality, builder.make(snapshot, modality, retrain=retrain))


def activate(writer: Writer, modality: Modality, generation: Generation | None) -> None:
    """Make a generation the one that answers; None goes back to exact search."""
    if generation is None:
        writer.deactivate(modality)
    else:
        writer.activate(generation)


def added_rows(dim: int) -> int:
    """Return how many rows of that many dimensions are added at once."""
    return max(1024, _ADDED_BYTES // (4 * dim))


def sample_size(choice: Choice, dim: int) -> int:
    """Return how many rows an index is trained with; dim: dimensions of a row."""
    wanted = max(TRAINING_ROWS_PER_LIST * choice.nlist, MAX_CODEBOOK_ROWS)
    return min(wanted, max(MAX_SAMPLE_BYTES // (4 * dim), MAX_CODEBOOK_ROWS))


def sweep_generations(library: Library, servers: Collection[str] = ()) -> None:
    """Delete the indexes that neither set of vectors has, on servers too; no other may be in the making."""
    with library.query() as connection:
        each = (get(connection, m) for get in (catalog.get_generation, second_set.get_generation) for m in Modality)
        active = [generation for generation in each if generation is not None]
    sweep(library.folder, {generation.name for generation in active})
    sweep_collections(library, servers, active)


def _active(snapshot: Snapshot) -> list[Generation]:
    return [found for modality in Modality if (found := snapshot.generation(modality)) is not None]
