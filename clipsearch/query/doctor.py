"""How well a library's own search does: measured on its own vectors, against exact search.

Nothing is changed. Recall is measured through the same retrieval that answers a query, apart for queries by words and
by picture, because they need different probes; time is measured through the public engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.calibrate import DEPTH, Queries
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, EncoderMismatchError, StoreCorruptError
from clipsearch.query.candidates import Retriever
from clipsearch.query.engine import SearchEngine
from clipsearch.query.index_state import WORDS, IndexGoal, IndexState, examine_index, is_replaced, open_index
from clipsearch.query.measuring import recall, search_ms, text_ms
from clipsearch.store.findings import INDEX, VERIFY, Finding, Severity, counted, guarded
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Modality

Draw = Callable[[Snapshot, Modality, NDArray[np.bool_] | None], Mapping[str, Queries]]
"""Gives queries by kind, `text` and `image`, to ask of a modality; those that are its own rows are among these."""

_SEED = 7


def examine_encoder(library: Library, load: Callable[[], Encoder]) -> tuple[Finding, Encoder | None]:
    """See whether the library's encoder can be had, and how long it takes for a text; return it where it can."""
    pin = library.encoder
    if pin is None:
        return Finding("encoder", Severity.NOTE, "The library has no encoder yet.", f"{INDEX} FOLDER"), None
    values: dict[str, Any] = {"name": pin.name, "dim": pin.dim, "text_ms": None}
    try:
        encoder = load()
        values["text_ms"] = text_ms(encoder)
    except (EncoderError, EncoderMismatchError) as error:
        severity = Severity.WARNING if isinstance(error, EncoderMismatchError) else Severity.NOTE
        found = f"{pin.name} cannot be used here, so only searches by vector work, not by words or by picture: {error}"
        return Finding("encoder", severity, found, "List the encoders: clipsearch models", None, values), None
    known = "known by name only" if pin.is_imported else "the encoder of these vectors"
    found = f"{pin.name}, {known}, can be used; one text takes {values['text_ms']:,.1f} ms."
    return Finding("encoder", Severity.OK, found, "", None, values), encoder


def examine(library: Library, modality: Modality, draw: Draw, wanted: IndexGoal, count: int) -> Iterator[Finding]:
    """Examine the search of one modality with at most `count` queries of each kind."""
    yield from guarded("search", partial(_search, library, modality, draw, wanted, count), modality)


def _search(library: Library, modality: Modality, draw: Draw, wanted: IndexGoal, count: int) -> Iterator[Finding]:
    with library.read() as snapshot:
        try:
            state = open_index(library, wanted, snapshot, modality)
        except StoreCorruptError:
            yield Finding("search", Severity.NOTE, "Not measured: the rows cannot be read.", "", modality)
            return
        if not len(state.rows):
            return
        if state.trouble and is_replaced(state):
            yield from _search(library, modality, draw, wanted, count)
            return
        yield from examine_index(state)
        sets: dict[str, Queries] = {}
        yield from guarded("recall", partial(_draw, state, draw, count, sets), modality)
        yield from _recalls(state, sets)
        if sets:
            yield from guarded("latency", partial(_latency, state, next(iter(sets.values()))), modality)


def _draw(state: IndexState, draw: Draw, count: int, into: dict[str, Queries]) -> Iterator[Finding]:
    """Draw at most `count` queries of each kind, evenly spread; report which kind is unavailable."""
    try:
        sets = draw(state.snapshot, state.modality, _half(state, count))
    except (StoreCorruptError, LookupError) as error:  # damage of the other modality, from which queries are drawn
        yield Finding(
            "recall", Severity.NOTE, f"Not measured, because no queries can be drawn: {error}", "", state.modality
        )
        return
    into.update({kind: _spread(queries, count) for kind, queries in sets.items()})
    for kind, word in WORDS.items():
        if kind not in sets and state.index is not None:
            found = f"Not measured: there are no queries by {word}."
            yield Finding(f"recall_{kind}", Severity.NOTE, found, "", state.modality)


def _half(state: IndexState, count: int) -> NDArray[np.bool_] | None:
    """Return a random half of the live rows, bool (rows,), so that others are drawn than to calibrate; all if few."""
    live = state.snapshot.live(state.modality)
    half = np.random.default_rng(_SEED).random(len(state.rows)) < 0.5
    if live is not None:
        half &= live
    return half if np.count_nonzero(half) >= count else live


def _recalls(state: IndexState, sets: Mapping[str, Queries]) -> Iterator[Finding]:
    retriever = Retriever(state.library)
    for kind, queries in sets.items():
        measure = partial(_recall, state, retriever, kind, queries)
        yield from guarded(f"recall_{kind}", measure, state.modality)


def _recall(state: IndexState, retriever: Retriever, kind: str, queries: Queries) -> Iterator[Finding]:
    """Measure recall against exact search, beside what the index was calibrated for."""
    shares = recall(retriever, state.snapshot, state.modality, kind, queries)
    if not len(shares):
        return  # the only vector there is
    calibrated = state.calibration.kinds.get(kind)
    target = calibrated.target if calibrated else state.wanted.target
    value, error = float(shares.mean()), float(shares.std() / len(shares) ** 0.5)
    fresh = queries.own is not None
    values = {
        "recall": round(value, 4),
        "error": round(error, 4),
        "target": target,
        "queries": len(shares),
        "source": queries.source,
        "fresh": fresh,
        "calibrated": calibrated and round(calibrated.recall, 4),
    }
    before = f", {calibrated.recall:.3f} when calibrated" if calibrated else ""
    drawn = ", drawn as then" if calibrated and not fresh else ""
    found = (
        f"By {WORDS[kind]}: {value:.3f} ± {error:.3f} of the exact first {DEPTH} are found; the target is {target:.3f}"
        f"{before} ({len(shares):,} {queries.source}{drawn})."
    )
    better = VERIFY if state.index is None else state.wanted.better  # of an exact scan no build makes more
    severity, todo = (Severity.WARNING, better) if value + 2 * error < target else (Severity.OK, "")
    yield Finding(f"recall_{kind}", severity, found, todo, state.modality, values)


def _latency(state: IndexState, queries: Queries) -> Iterator[Finding]:
    """Time single searches, after a first one that loads the index and tells whether it could be used."""
    engine = SearchEngine(state.library)
    warnings = engine.search(vector=queries.vectors[0], k=DEPTH, modality=state.modality).warnings
    times = search_ms(engine, state.modality, queries.vectors)
    middle, slow = np.percentile(times, [50, 95]).tolist()
    values = {"p50_ms": round(middle, 2), "p95_ms": round(slow, 2), "queries": len(times)}
    found = (
        f"One search by vector takes {middle:,.1f} ms (median; 95th percentile {slow:,.1f} ms; "
        f"{counted(len(times), 'measurement')}). Embedding the text or picture is extra."
    )
    severity, todo = (Severity.WARNING, state.wanted.command) if warnings else (Severity.OK, "")
    yield Finding("latency", severity, " ".join([found, *warnings]), todo, state.modality, values)


def _spread(queries: Queries, count: int) -> Queries:
    """Return at most `count` of the queries, evenly spread."""
    size = len(queries.vectors)
    chosen = np.unique(np.linspace(0, size - 1, min(size, count)).astype(np.int64))
    own = None if queries.own is None else queries.own[chosen]
    return replace(queries, vectors=queries.vectors[chosen], own=own)
