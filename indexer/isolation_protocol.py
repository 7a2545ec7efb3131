"""The protocol between the indexer and a worker that decodes pictures: one socket, and shared memory.

    worker   READY                                   once, when it has imported and limited itself
    indexer  REQUEST, then the transforms as JSON    the bytes of the file lie in the shared memory, from FILE_AT on
    worker   ANSWER, then the facts as JSON, then
             the pixels of a whole picture as RGB, row by row; prepared ones lie at the start of the shared memory

All numbers are little-endian. The worker trusts the indexer. The indexer trusts nothing: a decoder that a file has
taken over may send anything, and may write to the shared memory, or cut it off, at any time. So an answer is bounded
before it is read, prepared pixels are copied before they are used, facts are checked one by one, and nothing in any of
it is an object, a name or code. Any bytes are pixels.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import datetime
from struct import Struct
from typing import Any, NamedTuple

from clipsearch.media.decode import REDUCED_OVER_CAP
from clipsearch.media.documents.base import MAX_PAGES, MAX_TEXT, clean_text
from clipsearch.media.facts import MAX_CAMERA, MAX_LABEL, read_rating
from clipsearch.media.films.live import MAX_IDENTIFIER
from clipsearch.media.image_metadata import MAX_CAPTION, MAX_CAPTIONS, MAX_KEYWORD, MAX_KEYWORDS, NO_TEXT, Embedded
from clipsearch.types import PictureInfo
from clipsearch.words import normalize

READY = b"clipsearch worker 3\n"

CAREFUL = "careful"
"""An argument of a worker that loads the packages of extras before it gives up opening files."""

FILE_AT = 4 << 20
"""Where a file begins in the shared memory, in bytes; before it there is room for prepared pixels."""

WORDS, PICTURE, PREPARED, TEXTS = 0, 1, 2, 3
"""What is asked for: words alone; the picture too; the picture as the transforms leave it; texts of a document."""

REQUEST = Struct("<QBQQQIQ")
"""The fields of a Request."""


class Request(NamedTuple):
    """A request; `wants` is one of the four above, and lengths are in bytes.

    file_length: 0 for the document of the request before. page: of a document, from 1, that is drawn, or from which on
    texts are wanted; 0 for a picture.
    """

    number: int
    wants: int
    min_side: int
    max_pixels: int
    file_length: int
    transforms_length: int
    page: int = 0


ANSWER = Struct("<QBIII")
"""Number of the request, status, bytes of the facts, width and height of the pixels that follow; 0 x 0 without any."""

DONE, REFUSED, NO_MEMORY = 0, 1, 2
"""Status of an answer; the facts of REFUSED are the reason."""

MAX_FACTS = 1 << 20
MAX_TEXTS = 1 << 27
"""Bytes of the facts of TEXTS: those of a document without pages have all its words, up to six bytes for each."""

MAX_REASON = 500
MAX_NOTE = 200


class BadAnswerError(ValueError):
    """An answer that no sound worker gives."""


def pack_facts(info: PictureInfo | None, words: Embedded) -> bytes:
    """Write the facts of a picture; info: None where only its words were asked for."""
    facts = asdict(info) if info is not None else {}
    if info is not None and info.taken_at is not None:
        facts["taken_at"] = info.taken_at.isoformat()
    taken_at = words.taken_at and words.taken_at.isoformat()
    facts |= {"captions": words.captions, "keywords": words.keywords, "said_at": taken_at, "said_place": words.place}
    facts |= {"identifier": words.identifier, "rating": words.rating, "label": words.label}
    return json.dumps(facts, ensure_ascii=False).encode()


def check_answer(head: bytes | bytearray, request: Request) -> tuple[int, int, tuple[int, int]]:
    """Return status, bytes of the facts, and size of the pixels that follow. Raises BadAnswerError."""
    answered, status, facts, width, height = ANSWER.unpack(head)
    if answered != request.number:
        raise BadAnswerError("the number of another request")
    if status not in {DONE, REFUSED, NO_MEMORY} or facts > (MAX_TEXTS if request.wants == TEXTS else MAX_FACTS):
        raise BadAnswerError(f"status {status}, {facts} bytes of facts")
    if (width > 0 and height > 0) != (status == DONE and request.wants == PICTURE) or (width == 0) != (height == 0):
        raise BadAnswerError(f"{width} x {height} pixels with status {status} where {request.wants} was asked for")
    if width * height > request.max_pixels:
        raise BadAnswerError(f"{width} x {height} pixels where at most {request.max_pixels} were asked for")
    return status, facts, (width, height)


def read_facts(data: bytes | bytearray, max_pixels: int) -> tuple[PictureInfo | None, Embedded]:
    """Read facts, each checked for type, length and range. Raises BadAnswerError."""
    try:
        facts = json.loads(data.decode("utf-8"))
        if not isinstance(facts, dict):
            raise BadAnswerError("facts that are not an object")
        words = Embedded(
            _texts(facts.pop("captions", None), MAX_CAPTIONS, MAX_CAPTION),
            _texts(facts.pop("keywords", None), MAX_KEYWORDS, MAX_KEYWORD),
            _time(facts.pop("said_at", None)),
            _place(facts.pop("said_place", None)),
            _text(facts.pop("identifier", ""), MAX_IDENTIFIER),
            _rating(facts.pop("rating", None)),
            None if (label := facts.pop("label", None)) is None else _text(label, MAX_LABEL),
        )
        return (_info(facts, max_pixels) if facts else None), words
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(f"facts that make no sense: {str(error)[:100]}") from error


class Texts(NamedTuple):
    """Texts of a document: those of some of its pages or sections, in order; the rest as of `Document`."""

    pages: int
    has_pages: bool
    can_draw: bool
    texts: list[str]


def pack_texts(texts: Texts) -> bytes:
    """Write texts of a document."""
    return json.dumps(texts._asdict(), ensure_ascii=False).encode("utf-8", "replace")


def read_texts(data: bytes | bytearray, request: Request) -> Texts:
    """Read texts, at least one, cleaned again. Raises BadAnswerError."""
    try:
        facts = json.loads(data.decode("utf-8"))
        pages, has_pages, can_draw, texts = (facts[name] for name in Texts._fields)
        if type(pages) is not int or not 0 < pages <= MAX_PAGES or {type(has_pages), type(can_draw)} != {bool}:
            raise ValueError("not a number of pages")
        if not isinstance(texts, list) or not 0 < len(texts) <= pages + 1 - request.page:
            raise ValueError("no texts, or too many")
        if not all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts):
            raise ValueError("texts that are none, or too long")
        return Texts(pages, has_pages, can_draw, [normalize(clean_text(text)) for text in texts])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadAnswerError(f"texts that make no sense: {str(error)[:100]}") from error


def read_reason(data: bytes | bytearray) -> str:
    """Read why a picture was refused, on one line of at most MAX_REASON characters."""
    return " ".join(data.decode("utf-8", "replace").split())[:MAX_REASON] or "no reason was given"


def _info(facts: dict[str, Any], max_pixels: int) -> PictureInfo:
    if facts.keys() | {"note"} != set(PictureInfo.__slots__):
        raise ValueError("other facts than those of a picture")
    width, height = facts["width"], facts["height"]
    if not (type(width) is int and type(height) is int and 0 < width and 0 < height):
        raise ValueError("not a size")
    if width * height > max_pixels * REDUCED_OVER_CAP:
        raise ValueError("a size over the limit")
    time, camera = _time(facts["taken_at"]), facts["camera"]
    latitude, longitude = _degrees(facts["latitude"], 90), _degrees(facts["longitude"], 180)
    if (latitude is None) != (longitude is None):
        raise ValueError("a latitude or a longitude alone")
    maker = None if camera is None else _text(camera, MAX_CAMERA)
    return PictureInfo(width, height, time, maker, latitude, longitude, _text(facts.get("note", ""), MAX_NOTE))


def _time(value: object) -> datetime | None:
    time = None if value is None else datetime.fromisoformat(_text(value, 32))
    if time is not None and time.tzinfo is not None:
        raise ValueError("a time with a zone")
    return time


def _rating(value: object) -> int | None:
    if value is not None and (type(value) is not int or read_rating(value) is None):
        raise ValueError("not a rating")
    return value


def _place(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("not a place")
    latitude, longitude = _degrees(value[0], 90), _degrees(value[1], 180)
    if latitude is None or longitude is None:
        raise ValueError("a latitude or a longitude alone")
    return latitude, longitude


def _degrees(value: object, most: float) -> float | None:
    if value is None:
        return None
    if not isinstance(value, float) or not math.isfinite(value) or abs(value) > most:
        raise ValueError("not degrees")
    return value


def _texts(value: object, count: int, length: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > count:
        raise ValueError("texts that are no list, or too many")
    return tuple(_text(text, length) for text in value)


def _text(value: object, length: int) -> str:
    if not isinstance(value, str) or len(value) > length:
        raise ValueError("not a text, or too long")
    # Lone surrogates too, which JSON can name and a catalog cannot hold.
    if NO_TEXT.search(value):
        raise ValueError("a text with characters that are no text")
    return value
