"""Measure how wide queries at large score over a library.

What an encoder gives to unrelated rows is spread about alike for all queries, and a single query cannot tell: one of
words that mean nothing scores low and narrow, so its best row seems to stand out. benchmarks/confidence.py shows
what that does to confidences.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import EncoderError, EncoderMismatchError
from clipsearch.ranking import MIN_SAMPLE, lower_spread
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
    """Measure the spreads if they were not measured yet or the library has grown.

    Where the encoder cannot be had all stays as it is, and the next run tries again.
    """
    with library.query() as connection:
        known = get_spreads(connection)
    with library.read() as snapshot:
        rows = {str(m): len(snapshot.rows(m)) for m in Modality if len(snapshot.sample(m)) >= MIN_SAMPLE}
        if all(count < GROWTH * known.rows.get(modality, 0) for modality, count in rows.items()):
            return
        try:
            queries = _queries(snapshot, load_encoder)
        except (EncoderError, EncoderMismatchError) as error:
            logger.debug("%s", error)
            return
        values = {
            f"{kind} {modality}": round(_typical(found, snapshot, Modality(modality)), 5)
            for kind, found in queries.items()
            for modality in rows
        }
    writer.set_setting(SPREADS_KEY, Spreads(rows, values).dump())


def _queries(snapshot: Snapshot, load_encoder: LoadEncoder) -> dict[str, NDArray[np.float32]]:
    """Return queries by kind, float32 (at most _QUERIES, dim): generic ones in words, pictures of the library."""
    texts, pictures = generic_queries(), snapshot.sample(Modality.IMAGE)
    found = {"text": load_encoder().encode_queries(texts[:: -(-len(texts) // _QUERIES)])}
    if len(pictures):
        found["image"] = pictures[:: -(-len(pictures) // _QUERIES)]
    return found


def _typical(queries: NDArray[np.float32], snapshot: Snapshot, modality: Modality) -> float:
    return float(np.median([lower_spread(row) for row in queries @ snapshot.sample(modality).T]))
