"""Batches of decoded files to vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder
from clipsearch.errors import ClipSearchError, EncoderError
from clipsearch.store.records import Encoded, Failed, Known, Outcome
from clipsearch.types import Modality
from indexer.decode import Decoded

logger = logging.getLogger("clipsearch")

_SLICE = 256
"""Passages of a long text that are encoded before the run may be stopped."""

_TOLERANCE = 1e-2


def encode_batch(
    encoder: Encoder, batch: Sequence[Decoded], should_stop: Callable[[], bool] = lambda: False
) -> list[Outcome]:
    """Encode files, each content once; a file that makes the encoder fail does so alone, and is tried again next time.

    should_stop: asked between slices of a long text; the texts that are not done then are left out.
    Returns one outcome for each other file, in order. Raises EncoderError if the encoder fails for every file of
    several: then the files are not to blame.
    """
    first: dict[str, Decoded] = {}
    for decoded in batch:
        first.setdefault(decoded.content_hash, decoded)
    outcomes = _encode(encoder, list(first.values()), should_stop)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if len(failed) == len(outcomes) > 1:
        raise EncoderError(f"The encoder {encoder.name} fails on every file; the first error: {failed[0].reason}.")
    copies = [decoded for decoded in batch if first[decoded.content_hash] is not decoded]
    return [*outcomes, *(Known(decoded.record, decoded.content_hash) for decoded in copies)]


def _encode(encoder: Encoder, batch: Sequence[Decoded], should_stop: Callable[[], bool]) -> list[Outcome]:
    try:
        pictures = [d for d in batch if d.pixels is not None]
        texts = [d for d in batch if d.pixels is None]
        return [*_encode_pictures(encoder, pictures), *_encode_texts(encoder, texts, should_stop)]
    except (ClipSearchError, MemoryError, RuntimeError, ValueError) as error:
        if len(batch) == 1:
            logger.debug("encoding failed", exc_info=True)
            return [Failed(batch[0].record, f"could not be encoded: {error}", transient=True)]
        half = len(batch) // 2
        return [*_encode(encoder, batch[:half], should_stop), *_encode(encoder, batch[half:], should_stop)]


def _encode_pictures(encoder: Encoder, batch: Sequence[Decoded]) -> list[Outcome]:
    if not batch:
        return []
    vectors = encoder.encode_pixels([decoded.pixels for decoded in batch if decoded.pixels is not None])
    _check(vectors)
    return [
        Encoded(decoded.record, decoded.content_hash, Modality.IMAGE, vectors[i : i + 1], decoded.picture)
        for i, decoded in enumerate(batch)
    ]


def _encode_texts(encoder: Encoder, batch: Sequence[Decoded], should_stop: Callable[[], bool]) -> list[Outcome]:
    texts = [passage.text for decoded in batch for passage in decoded.passages]
    slices: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), _SLICE):
        if slices and should_stop():
            break
        slices.append(encoder.encode_texts(texts[start : start + _SLICE]))
    vectors = np.concatenate([np.empty((0, encoder.dim), np.float32), *slices])
    _check(vectors)
    ends = np.cumsum([decoded.parts for decoded in batch])
    return [
        Encoded(
            decoded.record,
            decoded.content_hash,
            Modality.TEXT,
            vectors[end - decoded.parts : end],
            passages=decoded.passages,
        )
        for decoded, end in zip(batch, ends, strict=True)
        if end <= len(vectors)
    ]


def _check(vectors: NDArray[np.float32]) -> None:
    """Raise EncoderError for a row that is not of unit length, such as one that holds NaN."""
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(lengths - 1) < _TOLERANCE):
        raise EncoderError("the encoder gave a vector that is not of unit length")
