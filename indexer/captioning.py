"""Captions of pictures: gathered from inside the file and beside it, cut into passages, encoded."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder, check_unit_rows
from clipsearch.errors import ClipSearchError, DeviceError, MediaError
from clipsearch.media.decode import read_regular
from clipsearch.media.image_metadata import Embedded
from clipsearch.media.sidecars import read_sidecars
from clipsearch.media.text import decode_text, split_passages
from clipsearch.metadata import LABEL, RATING
from clipsearch.paths import printable
from clipsearch.store.records import Captions, CaptionSource, Encoded, FileRecord, Known, Outcome, Taken
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.types import MetadataValue, Passage
from clipsearch.words import normalize
from indexer.sources.captions import MAX_SIDECAR

logger = logging.getLogger("clipsearch")

_BLANK = b"\0\t\n\v\f\r \xef\xbb\xbf\xfe\xff"
"""Bytes of blanks and byte order marks: a sidecar of nothing else says nothing."""

MAX_CAPTIONS = 1 << 16
"""Characters: so much of what is said of one picture is encoded."""

_SLICE = 256
"""Passages that are encoded by one call."""


def read_captions(beside: CaptionSource, inside: Embedded, path: str, encoder: Encoder) -> Captions:
    """Gather what is said of a picture. inside: the words of its file. path: of it.

    Without a stamp, after a warning, where what lies beside it cannot be read now.
    """
    stamp, texts = beside.stamp, list(map(clean, beside.texts))
    try:
        texts = [*([_read_sidecar(beside.sidecar)] if beside.sidecar else []), *texts]
    except (OSError, MediaError) as error:
        stamp = None
        _report(beside.sidecar, "the caption", error)
    try:
        inside = read_sidecars(beside.described, inside, _report_damage) if beside.described else inside
    except (OSError, MediaError) as error:
        stamp = None
        _report(beside.described[0], "the metadata", error)
    texts = _distinct([*texts, *inside.captions, ", ".join(inside.keywords)])
    if sum(map(len, texts)) > MAX_CAPTIONS:
        logger.warning(
            "%s has captions of more than %s characters; the rest is ignored.", printable(path), MAX_CAPTIONS
        )
        texts = _first(texts, MAX_CAPTIONS)
    passages: list[Passage] = []
    kept: list[str] = []
    lines = 0
    for text in texts:
        found = split_passages(text, count=encoder.count_tokens, limit=encoder.max_tokens)
        if found:
            passages += [replace(each, line=each.line + lines, end_line=each.end_line + lines) for each in found]
            kept.append(text)
            lines += text.count("\n") + 1
    taken, facts = Taken(inside.taken_at, inside.place), None if stamp is None else _facts(inside)
    return Captions(stamp, "\n".join(kept) or None, inside.keywords, tuple(passages), None, taken, facts)


def _facts(inside: Embedded) -> dict[str, MetadataValue]:
    """Return what becomes metadata; 0 stars are what a picture without a rating has (XMP part 1, section 8.2.2.1)."""
    found: dict[str, MetadataValue] = {RATING: inside.rating or None, LABEL: inside.label}
    return {name: value for name, value in found.items() if value is not None}


def _report(path: str, what: str, error: OSError | MediaError) -> None:
    """Report what lies beside a picture and cannot be read."""
    reason = getattr(error, "strerror", None) or error
    logger.warning("%s holds %s of a picture, but cannot be read: %s", printable(path), what, reason)


def _report_damage(path: str) -> None:
    logger.warning("%s is damaged: what it says of a picture before the damage is used.", printable(path))


def _first(texts: Iterable[str], most: int) -> list[str]:
    """Return texts as far as so many characters reach."""
    ends = accumulate(map(len, texts := list(texts)))
    return [text[: max(0, most - end + len(text))] for text, end in zip(texts, ends, strict=True)]


def encode_captions(
    encoder: Encoder, spoken: Sequence[tuple[FileRecord, Captions]]
) -> dict[FileRecord, Captions | None]:
    """Encode the passages of captions; None for captions that make the encoder fail, which is reported.

    Raises DeviceError, which is no fault of the captions.
    """
    try:
        texts = [passage.text for _, captions in spoken for passage in captions.passages]
        vectors = encode_passages(encoder, texts).astype(ROW_DTYPE)  # together: NumPy leaves the interpreter each time
    except DeviceError:
        raise
    except (ClipSearchError, MemoryError, RuntimeError, ValueError) as error:
        if len(spoken) == 1:
            logger.warning("The captions of %s cannot be encoded: %s", printable(spoken[0][0].path), error)
            return {spoken[0][0]: None}
        half = len(spoken) // 2
        return encode_captions(encoder, spoken[:half]) | encode_captions(encoder, spoken[half:])
    done: dict[FileRecord, Captions | None] = {}
    start = 0
    for record, captions in spoken:
        end = start + len(captions.passages)
        done[record] = replace(captions, vectors=vectors[start:end])
        start = end
    return done


def attach(outcomes: Iterable[Outcome], encoded: Mapping[FileRecord, Captions | None]) -> list[Outcome]:
    """Give outcomes their encoded captions; those whose captions were not come to are left out."""
    done: list[Outcome] = []
    for outcome in outcomes:
        if not isinstance(outcome, Encoded | Known) or outcome.captions is None or not outcome.captions.passages:
            done.append(outcome)
        elif outcome.record in encoded:
            done.append(replace(outcome, captions=encoded[outcome.record]))
    return done


def encode_passages(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Encode passages: float32 (n, dim), unit rows. Raises EncoderError."""
    slices = [encoder.encode_texts(texts[start : start + _SLICE]) for start in range(0, len(texts), _SLICE)]
    vectors = np.concatenate([np.empty((0, encoder.dim), np.float32), *slices])
    check_unit_rows(vectors)
    return vectors


def _read_sidecar(path: str) -> str:
    """Read a text beside a picture; nothing of one without a letter, such as boxes to train a detector with."""
    data = read_regular(path, MAX_SIDECAR)[0]
    text = clean(decode_text(data)) if data.strip(_BLANK) else ""
    return text if any(map(str.isalpha, text)) else ""


def clean(text: str) -> str:
    """Return a text in NFC that any database holds, its lines ended by line feeds."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")
    return normalize(plain.encode("utf-8", "replace").decode()).strip()


def _distinct(texts: Iterable[str]) -> list[str]:
    """Drop what was said before, however it is spaced or capitalised."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(" ".join(text.casefold().split()), text)
    found.pop("", None)
    return list(found.values())
