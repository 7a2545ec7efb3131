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

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, EncoderMismatchError
from clipsearch.ranking import MIN_SAMPLE, PRIOR_SPREAD, log_evalue, lower_spread, null_model
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

_MIN_SHARE = 0.1
"""Scores spread less than this share of what unrelated texts do only where the library repeats itself."""


def refresh_spreads(library: Library, writer: Writer, load_encoder: LoadEncoder) -> None:
    """Measure the spreads if they were not measured yet or the library has grown.

    If the encoder is unavailable, all stays as it is, and the next run tries again.
    """
    with library.query() as connection:
        known = get_spreads(connection)
    with library.read() as snapshot:
        rows = {str(m): len(snapshot.rows(m)) for m in Modality if _is_told(m, len(snapshot.sample(m)))}
        is_of_today = bool(known.score_scales) or not known.values
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
    asked = _queries(snapshot, encoder)
    least = _MIN_SHARE * _typical_spread(asked["text"] @ asked["text"].T)
    for kind, queries in asked.items():
        for modality, sample in samples.items():
            name, scores = f"{kind} {modality}", queries @ sample.T
            spread = max(_typical_spread(scores), least)
            measured.values[name] = round(spread, 5)
            measured.score_scales[name] = round(_score_scale(scores, spread), 3)
            if len(snapshot.sample(Modality(modality))) < MIN_SAMPLE:
                measured.centres[name] = round(float(np.median(scores)), 5)
    return measured


def _typical_spread(scores: NDArray[np.float32]) -> float:
    return float(np.median([lower_spread(row) for row in scores]))


def _sample(snapshot: Snapshot, modality: Modality, encoder: Encoder) -> NDArray[np.float32]:
    """Return rows of a modality, float32 (n, dim), or what stands in for few texts."""
    own = snapshot.sample(modality)
    return own if len(own) >= MIN_SAMPLE else encoder.encode_texts(generic_queries()[:: _QUERIES // 2])


def _queries(snapshot: Snapshot, encoder: Encoder) -> dict[str, NDArray[np.float32]]:
    """Return queries by kind, float32 (at most _QUERIES, dim): generic ones in words, pictures of the library."""
    texts, pictures = generic_queries(), snapshot.sample(Modality.IMAGE)
    found = {"text": encoder.encode_queries(texts[:: -(-len(texts) // _QUERIES)])}
    if len(pictures):
        found["image"] = pictures[:: -(-len(pictures) // _QUERIES)]
    return found


def _score_scale(scores: NDArray[np.float32], spread: float) -> float:
    """Return the typical log E-value of the next best row; the best may be the query itself."""
    seen = [null_model(row, len(row), spread=spread, unit=spread / PRIOR_SPREAD) for row in scores]
    next_best = np.partition(scores, -2, axis=1)[:, -2]
    return max(1.0, float(np.median([log_evalue(float(s), b) for s, b in zip(next_best, seen, strict=True)])))
