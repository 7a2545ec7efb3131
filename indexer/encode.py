"""Batches of decoded files to vectors."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.errors import ClipSearchError, EncoderError
from clipsearch.store.records import Encoded, Failed, Known, Outcome
from clipsearch.types import Modality
from indexer.decode import Decoded

logger = logging.getLogger("clipsearch")


def encode_batch(encoder: Encoder, batch: Sequence[Decoded]) -> list[Outcome]:
    """Encode files, each content once; a file that makes the encoder fail does so alone, and is tried again next time.

    Returns one outcome a file, in order. Raises EncoderError if it fails for every file of several: then the files
    are not to blame.
    """
    first: dict[str, Decoded] = {}
    for decoded in batch:
        first.setdefault(decoded.content_hash, decoded)
    encoded = {outcome.record: outcome for outcome in _encode(encoder, list(first.values()))}
    failed = [outcome for outcome in encoded.values() if isinstance(outcome, Failed)]
    if len(failed) == len(encoded) > 1:
        raise EncoderError(f"The encoder {encoder.name} fails on every file; the first error: {failed[0].reason}.")
    return [encoded.get(decoded.record) or Known(decoded.record, decoded.content_hash) for decoded in batch]


def _encode(encoder: Encoder, batch: Sequence[Decoded]) -> list[Outcome]:
    try:
        pictures = [d for d in batch if d.pixels is not None]
        texts = [d for d in batch if d.pixels is None]
        return [*_encode_pictures(encoder, pictures), *_encode_texts(encoder, texts)]
    except (ClipSearchError, MemoryError, RuntimeError, ValueError) as error:
        if len(batch) == 1:
            logger.debug("encoding failed", exc_info=True)
            return [Failed(batch[0].record, f"could not be encoded: {error}", transient=True)]
        half = len(batch) // 2
        return [*_encode(encoder, batch[:half]), *_encode(encoder, batch[half:])]


def _encode_pictures(encoder: Encoder, batch: Sequence[Decoded]) -> list[Outcome]:
    if not batch:
        return []
    vectors = encoder.encode_pixels([decoded.pixels for decoded in batch if decoded.pixels is not None])
    return [
        Encoded(decoded.record, decoded.content_hash, Modality.IMAGE, vectors[i : i + 1], decoded.picture)
        for i, decoded in enumerate(batch)
    ]


def _encode_texts(encoder: Encoder, batch: Sequence[Decoded]) -> list[Outcome]:
    if not batch:
        return []
    vectors = encoder.encode_texts([passage.text for decoded in batch for passage in decoded.passages])
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
    ]
