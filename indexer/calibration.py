"""Calibrate an index with the queries that a library was given, else with its captions and pictures, else others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.calibrate import Calibrated, Calibration, Probed, Queries, calibrate, truth
from clipsearch.ann.stand_ins import SOURCE as STAND_INS
from clipsearch.ann.stand_ins import stand_ins
from clipsearch.config import Settings
from clipsearch.encoders import registry
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, EncoderMismatchError, EncoderUnavailableError
from clipsearch.linalg import unit_rows
from clipsearch.progress import Stages
from clipsearch.store.captions import caption_rows
from clipsearch.store.captions import captions as captions_of
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import Rows
from clipsearch.types import Modality
from indexer.queries import COUNT, MIN_COUNT, GivenQueries

logger = logging.getLogger("clipsearch")

_SAMPLE_ROWS = 4096

GENERIC = "generic_queries.txt"
LoadEncoder = Callable[[], Encoder]


def encoder_loader(library: Library, settings: Settings) -> LoadEncoder:
    """Return what loads the library's encoder, if it is at hand; nothing is downloaded to calibrate an index."""

    def load() -> Encoder:
        pin = library.encoder
        if pin is None:
            raise EncoderUnavailableError("The library has no encoder yet.")
        return registry.load_pinned(pin, model=settings.model, threads=settings.cores, offline=True)

    return load


def generic_queries() -> list[str]:
    """Return the queries that are shipped: what people look for in pictures."""
    text = resources.files("clipsearch.query").joinpath(GENERIC).read_text(encoding="utf-8")
    return text.split("\n")[:-1]


def query_sets(
    library: Library,
    snapshot: Snapshot,
    modality: Modality,
    rows: Rows,
    live: NDArray[np.bool_] | None,
    load_encoder: LoadEncoder | None,
) -> dict[str, Queries]:
    """Return queries by kind, `text` and `image`, for the index of a modality; without those that are unavailable.

    Text queries are those that the library was given; else its captions, whose vectors it may hold; else generic
    queries; else its texts. Picture queries are pictures of the library, which do not count as their own answers.
    rows, live: those of the index, which may be other ones than the snapshot has.
    """

    def stored(kind: Modality) -> Queries | None:
        source = "texts of the library" if kind is Modality.TEXT else "pictures of the library"
        if kind is modality:
            return _stored(rows, live, source, own=True)
        return _stored(snapshot.rows(kind), snapshot.live(kind), source, own=False)

    found = {"text": _given(library), "image": stored(Modality.IMAGE)}
    if found["text"] is None:
        texts = stored(Modality.TEXT)
        if modality is Modality.IMAGE:
            few = texts is None or len(texts.vectors) < MIN_COUNT
            texts = _text_queries(library, snapshot, load_encoder) or (None if few else texts)
        found["text"] = texts
    return {kind: queries for kind, queries in found.items() if queries is not None}


def calibrate_all(
    index: Probed,
    sets: Mapping[str, Queries],
    rows: Rows,
    live: NDArray[np.bool_] | None,
    target: float,
    modality: Modality,
    progress: Stages,
) -> Calibration:
    """Calibrate an index of rows for each kind of query; without queries by words, for what stands in for them.

    sets: queries by kind. target: the recall to reach. Says in a warning where that fails: queries by words that only
    stand-ins were asked for scan all rows then.
    """
    progress.stage(f"{modality}: calibrating", len(sets) + ("text" not in sets))
    found = {}
    for kind, queries in sets.items():
        found[kind] = calibrate(index, queries, truth(rows, queries, len(index), live), target, live)
        progress.advance(1)
        if not found[kind].met:
            logger.warning(
                "No setting of the %s index finds %.0f%% of the true first ten for queries by %s; the best one, with "
                "%.1f%%, is used. Raise `--memory-budget`, or use `--index flat` (in Python: in engine.build).",
                modality, 100 * target, "words" if kind == "text" else "picture", 100 * found[kind].recall,
            )  # fmt: skip
    if "text" not in found:
        found["text"] = _calibrate_without_words(index, rows, live, target, modality)
        progress.advance(1)
    return Calibration(len(index), found)


def _calibrate_without_words(
    index: Probed, rows: Rows, live: NDArray[np.bool_] | None, target: float, modality: Modality
) -> Calibrated:
    """Return what the most demanding family of stand-ins needs; an exact scan where the index does not reach that."""
    families = stand_ins(sample_rows(rows, live, _SAMPLE_ROWS), COUNT)
    needs = [calibrate(index, queries, truth(rows, queries, len(index), live), target, live) for queries in families]
    most = max(needs, key=lambda need: need.cost)
    if all(need.met for need in needs):
        return most
    logger.warning(
        "No setting of the %s index finds %.0f%% of the true first ten of the %s with which it was calibrated, because "
        "there are no captions and the encoder cannot be loaded here. Queries by words are answered by an exact scan. "
        "To calibrate with queries of yours: clipsearch build --queries FILE",
        modality, 100 * target, STAND_INS,
    )  # fmt: skip
    return most.as_exact(len(index))


def sample_rows(rows: Rows, live: NDArray[np.bool_] | None, size: int) -> NDArray[np.float32]:
    """Return rows that may be found, evenly spread: float32 (at most size, dim)."""
    count = len(rows) if live is None else int(np.count_nonzero(live))
    ranks = np.unique(np.linspace(0, max(count - 1, 0), min(count, size)).astype(np.int64))
    return rows.gather(ranks if live is None else np.flatnonzero(live)[ranks])


def _given(library: Library) -> Queries | None:
    """Return the queries that the library was given with `build --queries`."""
    given = GivenQueries.of(library)
    return None if given is None else Queries(given.vectors, given.source)


def _text_queries(library: Library, snapshot: Snapshot, load_encoder: LoadEncoder | None) -> Queries | None:
    with library.query() as connection:
        rows, captions = caption_rows(connection, COUNT), captions_of(connection, COUNT)
    if len(rows) >= MIN_COUNT:
        return Queries(unit_rows(snapshot.rows(Modality.TEXT).gather(rows)), "captions of the library")
    texts, source = generic_queries()[:COUNT], "generic queries"
    if len(captions) >= MIN_COUNT:
        texts, source = captions, "captions of the library"
    try:
        return Queries(load_encoder().encode_queries(texts), source) if load_encoder else None
    except (EncoderError, EncoderMismatchError) as error:
        logger.debug("%s", error)
        return None


def _stored(rows: Rows, live: NDArray[np.bool_] | None, source: str, *, own: bool) -> Queries | None:
    """Take live rows, evenly spread, as queries; own: they are rows of the index itself."""
    numbers = np.arange(len(rows)) if live is None else np.flatnonzero(live)
    if not len(numbers):
        return None
    chosen = numbers[np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), COUNT)).astype(np.int64))]
    return Queries(unit_rows(rows.gather(chosen)), source, chosen if own else None)
