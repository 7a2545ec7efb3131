"""Measure how queries at large score over a library: how wide, and how high over texts that they do not ask for.

What an encoder gives to unrelated rows is spread about alike for all queries, and a single query cannot tell: one of
words that mean nothing scores low and narrow, so its best row seems to stand out. benchmarks/confidence.py shows
what that does to confidences. Scores of words over texts have a longer tail than a normal distribution: set against
one, the best of some unrelated texts would stand above the right picture. benchmarks/mixed.py shows that. The queries
at large ask for pictures, so what they get from texts is what an unrelated text gets.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, EncoderMismatchError
from clipsearch.ranking import MIN_SAMPLE, lower_spread, upper_tail
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
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

    If the encoder is unavailable, all stays as it is, and the next run tries again.
    """
    with library.query() as connection:
        known = get_spreads(connection)
    with library.read() as snapshot:
        rows = {str(m): len(snapshot.rows(m)) for m in Modality if _is_told(m, len(snapshot.sample(m)))}
        is_of_today = bool(known.tails) or str(Modality.TEXT) not in known.rows
        if is_of_today and all(count < GROWTH * known.rows.get(modality, 0) for modality, count in rows.items()):
            return
        try:
            measured = _measure_all(snapshot, rows, load_encoder())
        except (EncoderError, EncoderMismatchError) as error:
            logger.debug("%s", error)
            return
    writer.set_setting(SPREADS_KEY, measured.dump())


def _is_told(modality: Modality, count: int) -> bool:
    """Tell whether so many rows of a sample say how scores are spread; generic texts stand in for a few texts."""
    return count >= MIN_SAMPLE or (modality is Modality.TEXT and count > 0)


def _measure_all(snapshot: Snapshot, rows: dict[str, int], encoder: Encoder) -> Spreads:
    measured = Spreads(rows, {}, {}, {})
    samples = {modality: _sample(snapshot, Modality(modality), encoder) for modality in rows}
    for kind, queries in _queries(snapshot, encoder).items():
        for modality, sample in samples.items():
            name, scores = f"{kind} {modality}", queries @ sample.T
            measured.values[name] = round(float(np.median([lower_spread(row) for row in scores])), 5)
            if modality == Modality.TEXT:
                centre = float(np.median(scores))
                tails = upper_tail(scores - centre), upper_tail(scores - np.median(scores, axis=1, keepdims=True))
                measured.centres[name] = round(centre, 5)
                measured.tails[name] = [round(value, 5) for tail in tails for value in (tail.start, tail.scale)]
    return measured


def _sample(snapshot: Snapshot, modality: Modality, encoder: Encoder) -> NDArray[np.float32]:
    """Return rows of a modality, float32 (n, dim); generic texts beside them if these are few texts."""
    own = snapshot.sample(modality)
    if len(own) >= MIN_SAMPLE:
        return own
    return np.vstack([own, encoder.encode_texts(generic_queries()[:: _QUERIES // 2])])


def _queries(snapshot: Snapshot, encoder: Encoder) -> dict[str, NDArray[np.float32]]:
    """Return queries by kind, float32 (at most _QUERIES, dim): generic ones in words, pictures of the library."""
    texts, pictures = generic_queries(), snapshot.sample(Modality.IMAGE)
    found = {"text": encoder.encode_queries(texts[:: -(-len(texts) // _QUERIES)])}
    if len(pictures):
        found["image"] = pictures[:: -(-len(pictures) // _QUERIES)]
    return found
