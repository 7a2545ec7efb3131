"""The index of a modality as it is: whether it can be used, what it takes, and whether it still fits its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import registry
from clipsearch.ann.base import AnnIndex
from clipsearch.ann.calibrate import Calibrated, Calibration
from clipsearch.ann.faiss_ivfpq import IvfPqIndex
from clipsearch.ann.milvus import MilvusIndex
from clipsearch.ann.stand_ins import SOURCE as STAND_INS
from clipsearch.errors import AnnIndexError, StoreCorruptError
from clipsearch.query.candidates import open_generation
from clipsearch.store.catalog import Generation
from clipsearch.store.compaction import MAX_DEAD_SHARE, MIN_DEAD_ROWS
from clipsearch.store.findings import BUILD, INDEX, Finding, Severity, counted, guarded
from clipsearch.store.generations import generation_path
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import ROW_DTYPE, Rows
from clipsearch.types import Modality

WORDS = {"text": "words", "image": "picture"}

MAX_TAIL_ROWS, MAX_TAIL_SHARE = 10_000, 0.01
"""More rows than both outside an index cost time, and are due to be added to it."""

STALE_GROWTH = 2.0
"""A calibration is old once the index holds so many times the rows it was made for."""

MAX_IMBALANCE = 3.0
"""Lists of equal length have an imbalance of 1; what a search scans grows in proportion to it."""

_INDEX_FILE = "index.faiss"


@dataclass(frozen=True, slots=True)
class IndexGoal:
    """What a library wants of its index: the kind, and the recall that queries are to reach.

    command: what builds that index again.
    """

    kind: str
    target: float
    command: str

    @property
    def better(self) -> str:
        """Say what to do for more recall."""
        larger = "a larger --memory-budget or " if "--memory-budget" in self.command else ""
        return f"{self.command}; if that is not enough, with {larger}--index flat"


@dataclass(frozen=True, slots=True)
class IndexState:
    """The search of one modality, at one state of the library.

    index: None where search is exact. trouble: why the index that there is cannot be used.
    """

    library: Library
    wanted: IndexGoal
    snapshot: Snapshot
    modality: Modality
    rows: Rows
    generation: Generation | None
    index: AnnIndex | None
    calibration: Calibration
    trouble: str = ""


def open_index(library: Library, wanted: IndexGoal, snapshot: Snapshot, modality: Modality) -> IndexState:
    """Open what a search uses. Raises StoreCorruptError if the rows cannot be read."""
    rows, generation = snapshot.rows(modality), snapshot.generation(modality)
    exact = IndexState(library, wanted, snapshot, modality, rows, generation, None, Calibration(0, {}))
    if generation is None or generation.kind not in registry.CALIBRATED:
        return exact
    try:
        opened = open_generation(library.folder, generation, rows)
        if isinstance(opened.index, MilvusIndex):
            opened.index.check()
        return replace(exact, index=opened.index, calibration=opened.calibration)
    except (AnnIndexError, StoreCorruptError) as error:
        return replace(exact, trouble=str(error))


def is_replaced(state: IndexState) -> bool:
    """Tell whether a build has ended meanwhile, which deletes the index before."""
    with state.library.read() as now:
        return now.generation(state.modality) != state.generation


def examine_index(state: IndexState) -> Iterator[Finding]:
    """Examine the rows, the index and its calibration."""
    yield from guarded("vectors", partial(_vectors, state), state.modality)
    yield from guarded("index", partial(_index, state), state.modality)
    if state.index is not None:
        yield from guarded("calibration", partial(_calibrated, state), state.modality)


def _vectors(state: IndexState) -> Iterator[Finding]:
    """Count what may be found and what is dead."""
    live = state.snapshot.live(state.modality)
    dead = 0 if live is None else int(np.count_nonzero(~live))
    share, row_bytes = dead / len(state.rows), ROW_DTYPE.itemsize * state.rows.dim
    vectors = len(state.rows) - dead
    found = f"{counted(vectors, 'vector')}, {row_bytes:,} bytes each on disk; {share:.1%} of all rows are deleted."
    values = {"vectors": vectors, "tombstones": dead, "dead_share": round(share, 4), "row_bytes": row_bytes}
    too_many = share > MAX_DEAD_SHARE and dead >= MIN_DEAD_ROWS
    todo = f"The next run removes them: {INDEX}" if too_many else ""
    yield Finding("vectors", Severity.NOTE if too_many else Severity.OK, found, todo, state.modality, values)


def _index(state: IndexState) -> Iterator[Finding]:
    """See that the index can be used, is of the kind that pays, and holds nearly all rows in lists of like length."""
    kind = "flat" if state.generation is None else state.generation.kind
    due, best = (registry.choose(each, len(state.rows), state.rows.dim).kind for each in (state.wanted.kind, "auto"))
    memory = _index_bytes(state)
    found = f"{kind}, {memory:,.1f} bytes of memory per vector." if memory else f"{kind}: a search scans every vector."
    if isinstance(state.index, MilvusIndex):
        found = f"{kind}: the collection {state.index.collection} on the server {state.index.params['uri']}."
    severity, todo = Severity.OK, ""
    if state.trouble:
        found = f"{kind} cannot be used, so every search is exact and slower: {state.trouble}"
        severity, todo = Severity.WARNING, state.wanted.command
    elif kind != due:
        found = f"{found} For this many vectors, {due} is preferred."
        severity, todo = Severity.WARNING, state.wanted.command
    elif kind == "flat" != best:
        found = f"{found} For this many vectors, {best} would answer faster."
        severity, todo = Severity.NOTE, f"{BUILD} --index auto"
    yield Finding("index", severity, found, todo, state.modality, {"kind": kind, "bytes_per_vector": memory})
    if isinstance(state.index, IvfPqIndex) and state.index.nlist > 1:
        yield _lists(state.index.list_sizes(), state)
    if state.generation is not None:
        yield _tail(state.generation.watermark, state)


def _index_bytes(state: IndexState) -> float | None:
    """Return the bytes that an index takes a vector; None for one that has no file of its own."""
    if state.generation is None:
        return None
    path = generation_path(state.library.folder, state.generation.name) / _INDEX_FILE
    return round(path.stat().st_size / max(state.generation.watermark, 1), 1) if path.is_file() else None


def _lists(sizes: NDArray[np.int64], state: IndexState) -> Finding:
    """Compare the lengths of the lists. The factor is that of FAISS: what is scanned, against lists of one length."""
    factor = len(sizes) * float((sizes.astype(np.float64) ** 2).sum()) / max(float(sizes.sum()) ** 2, 1.0)
    largest, empty = int(sizes.max()), int(np.count_nonzero(sizes == 0))
    values = {"lists": len(sizes), "imbalance": round(factor, 3), "largest": largest, "empty": empty}
    found = f"{len(sizes):,} lists, imbalance {factor:.2f}; the largest has {largest:,} vectors, {empty:,} are empty."
    if factor > MAX_IMBALANCE:
        return Finding(
            "lists", Severity.NOTE, found, f"Build the lists again: {state.wanted.command}", state.modality, values
        )
    return Finding("lists", Severity.OK, found, "", state.modality, values)


def _tail(watermark: int, state: IndexState) -> Finding:
    """Count the rows that came after the index was filled."""
    tail = len(state.rows) - watermark
    if not tail:
        return Finding("tail", Severity.OK, "All vectors are in the index.", "", state.modality, {"tail": 0})
    many = tail > max(MAX_TAIL_ROWS, MAX_TAIL_SHARE * len(state.rows))
    severity, todo = (Severity.NOTE, f"The next run adds them: {INDEX}") if many else (Severity.OK, "")
    found = f"{tail:,} vectors are not in the index yet; each search scans all of them."
    return Finding("tail", severity, found, todo, state.modality, {"tail": tail})


def _calibrated(state: IndexState) -> Iterator[Finding]:
    """See whether the calibration is there, still fits, and has met its target."""
    calibration, now = state.calibration, len(state.rows)
    kinds = {kind: asdict(found) | {"met": found.met} for kind, found in calibration.kinds.items()}
    values = {"rows": calibration.rows, "rows_now": now, "kinds": kinds}
    wrong = list(_what_is_wrong(calibration, now, state.wanted))
    for what, todo, severity in wrong:
        yield Finding("calibration", severity, what, todo, state.modality, values)
    if not wrong:
        looks = " and ".join(
            f"{_what_is_scanned(found)} for queries by {WORDS[kind]}{_remark(found)}"
            for kind, found in calibration.kinds.items()
        )
        found = f"Calibrated for {calibration.rows:,} vectors: a search scans {looks}."
        yield Finding("calibration", Severity.OK, found, "", state.modality, values)


def _what_is_scanned(found: Calibrated) -> str:
    if found.is_exact:
        return "all vectors"
    return f"{counted(found.probe.nprobe, 'list')} and {found.probe.candidates:,} candidates"


def _remark(found: Calibrated) -> str:
    is_guessed = found.source == STAND_INS
    return f" (measured with stand-ins; with yours: {BUILD} --queries FILE)" if is_guessed else ""


def _what_is_wrong(calibration: Calibration, now: int, wanted: IndexGoal) -> Iterator[tuple[str, str, Severity]]:
    """Yield what is wrong with a calibration where there are `now` rows, what to do about it, and how bad it is."""
    if not calibration.kinds:
        yield "The index was never calibrated.", wanted.command, Severity.WARNING
        return
    if "text" not in calibration.kinds:
        what = "Not calibrated for queries by words, so each scans all vectors."
        yield what, wanted.command, Severity.NOTE
    if now >= STALE_GROWTH * calibration.rows:
        what = f"Calibrated for {calibration.rows:,} vectors, but there are now {now:,}."
        yield what, wanted.command, Severity.WARNING
    for kind, found in calibration.kinds.items():
        if not found.met:
            best = f"the best one, with {found.recall:.3f}, is used"
            what = f"No setting reached {found.target:.3f} for queries by {WORDS[kind]}; {best}."
            yield what, wanted.better, Severity.WARNING
