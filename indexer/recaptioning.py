"""A caption from a caller, for items that are there: cut into passages and encoded; no picture is read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.errors import InvalidInputError
from clipsearch.media.text import split_passages
from clipsearch.store.item_changes import NewCaption
from clipsearch.types import Item
from indexer.captioning import MAX_CAPTIONS, clean, encode_passages


def make_caption(given: str, items: Iterable[Item], encoder: Encoder | None) -> NewCaption:
    """Encode a caption for items. encoder: None for a library whose vectors are made elsewhere.

    Raises InvalidInputError for a caption that is not a str, or is too long, EncoderError.
    """
    if not isinstance(given, str):
        raise InvalidInputError(f"The caption must be a str, not {given!r:.80}.")
    if len(given) > MAX_CAPTIONS:
        raise InvalidInputError(f"The caption has {len(given):,} characters, over the limit of {MAX_CAPTIONS:,}.")
    text = clean(given)
    if encoder is None:
        return NewCaption(text or None)
    count, limit = encoder.count_tokens, encoder.max_tokens
    passages = split_passages(text, count=count, limit=limit) if text else []
    vectors = encode_passages(encoder, [passage.text for passage in passages])
    kept = {
        item.id: {item.text, *(each.text for each in split_passages(clean(item.text), count=count, limit=limit))}
        for item in items
        if item.text
    }
    return NewCaption(text or None, passages, np.asarray(vectors, np.float32), kept)
