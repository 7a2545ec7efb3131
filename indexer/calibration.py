"""Queries to calibrate an index with: the library's own captions and pictures, else a list of generic queries."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.calibrate import Queries
from clipsearch.config import Settings
from clipsearch.encoders import registry
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, EncoderMismatchError, EncoderUnavailableError
from clipsearch.linalg import unit_rows
from clipsearch.store.captions import caption_rows
from clipsearch.store.captions import captions as captions_of
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import Rows
from clipsearch.types import Modality

logger = logging.getLogger("clipsearch")

COUNT = 500
"""Queries of a kind: enough for a standard error of the recall of about half a percent."""

MIN_COUNT = 50
"""With fewer captions than this the generic list tells more."""

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

    Text queries are captions of the library, whose vectors it may hold; else generic queries. Picture queries are
    pictures of the library, which do not count as their own answers. rows, live: those of the index, which may be
    other ones than the snapshot has.
    """

    def stored(kind: Modality) -> Queries | None:
        source = "texts of the library" if kind is Modality.TEXT else "pictures of the library"
        if kind is modality:
            return _stored(rows, live, source, own=True)
        return _stored(snapshot.rows(kind), snapshot.live(kind), source, own=False)

    texts = stored(Modality.TEXT)
    found = {
        "text": texts
        if texts and modality is Modality.TEXT
        else _text_queries(library, snapshot, load_encoder) or texts,
        "image": stored(Modality.IMAGE),
    }
    return {kind: queries for kind, queries in found.items() if queries is not None}


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
