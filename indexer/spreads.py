"""Measure how queries at large score over a library: how wide, and how far their best rows stand out.

What an encoder gives to unrelated rows is spread about alike for all queries, and a single query cannot tell: one of
words that mean nothing scores low and narrow, so its best row seems to stand out. benchmarks/confidence.py shows
what that does to confidences. And what is surprising among pictures is not among texts: a caption that says nearly
the same as a query stands out far more than any picture does, and would push all pictures without a caption down.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import EncoderError, EncoderMismatchError
from clipsearch.ranking import MIN_SAMPLE, background, lower_spread, surprise
from clipsearch.store.library import Library, Snapshot
from clipsearch.store.spreads import SPREADS_KEY, Spreads, get_spreads
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from indexer.calibration import LoadEncoder, generic_queries

logger = logging.getLogger("clipsearch")

GROWTH = 2
"""Spreads are measured again once a modality has so many times the rows."""

_QUERIES = 32


def refresh_spreads(library: Library, writer: Writer, load_encoder: LoadEncoder) -> None:
    """Measure the spreads if they were not measured yet or the library has grown; words need its encoder."""
    with library.query() as connection:
        known = get_spreads(connection)
    with library.read() as snapshot:
        rows = {str(m): len(snapshot.rows(m)) for m in Modality if len(snapshot.sample(m)) >= MIN_SAMPLE}
        is_of_today = bool(known.reach) or not known.values
        if is_of_today and all(count < GROWTH * known.rows.get(modality, 0) for modality, count in rows.items()):
            return
        values, reach = {}, {}
        for kind, queries in _queries(snapshot, load_encoder).items():
            for modality in rows:
                scores = queries @ snapshot.sample(Modality(modality)).T
                spread = float(np.median([lower_spread(row) for row in scores]))
                values[f"{kind} {modality}"] = round(spread, 5)
                reach[f"{kind} {modality}"] = round(_reach(scores, spread), 3)
    writer.set_setting(SPREADS_KEY, Spreads(rows, values, reach).dump())


def _queries(snapshot: Snapshot, load_encoder: LoadEncoder) -> dict[str, NDArray[np.float32]]:
    """Return queries by kind, float32 (at most _QUERIES, dim): generic ones in words, pictures of the library."""
    found = {}
    pictures = snapshot.sample(Modality.IMAGE)
    if len(pictures):
        found["image"] = pictures[:: -(-len(pictures) // _QUERIES)]
    texts = generic_queries()
    try:
        found["text"] = load_encoder().encode_queries(texts[:: -(-len(texts) // _QUERIES)])
    except (EncoderError, EncoderMismatchError) as error:
        logger.debug("%s", error)
    return found


def _reach(scores: NDArray[np.float32], spread: float) -> float:
    """Return the typical surprise of the next best row; the best may be the query itself. scores: (queries, rows)."""
    seen = [background(row, len(row), spread=spread) for row in scores]
    next_best = np.partition(scores, -2, axis=1)[:, -2]
    return max(1.0, float(np.median([surprise(float(s), b) for s, b in zip(next_best, seen, strict=True)])))
