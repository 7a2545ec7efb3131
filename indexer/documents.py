"""A document to encoder input: pictures of its pages, and the passages of its texts with their pages or lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, Pixels
from clipsearch.errors import DocumentError, PictureError
from clipsearch.media.documents.tiff import has_directories
from clipsearch.media.extras import DOCUMENT_SUFFIXES, FILM_SUFFIXES
from clipsearch.media.text import split_passages
from clipsearch.paths import suffix
from clipsearch.types import Media, MediaInfo, PartPosition, Passage
from indexer.picture_reader import DocumentPages, PictureReader

logger = logging.getLogger("clipsearch")

MAX_PICTURES = 100
"""Pages of a document that get a picture; of more pages, as many at even distances."""

_WEIGHT, _FILM_WEIGHT = 24, 96


@dataclass(frozen=True, slots=True)
class DocumentParts:
    """What is encoded of a document. pixels: of the pages that `positions` names."""

    media: MediaInfo
    pixels: tuple[Pixels, ...]
    positions: tuple[PartPosition, ...]
    passages: tuple[Passage, ...]


def read_parts(document: DocumentPages, encoder: Encoder, settings: Settings) -> DocumentParts:
    """Read a document page by page.

    Texts beyond settings.max_text_bytes characters are left out. Raises MediaError, also for one of which nothing
    can be encoded; EncoderError.
    """
    passages = tuple(_passages(document, encoder, settings.max_text_bytes))
    pictures = tuple(_pictures(document, encoder, settings.max_pixels)) if document.can_draw else ()
    if not passages and not pictures:
        raise DocumentError("it contains neither words nor a page that can be drawn")
    pages = document.pages if document.has_pages else None
    positions = tuple(PartPosition(page=page) for page, _ in pictures)
    return DocumentParts(
        MediaInfo(Media.DOCUMENT, pages=pages), tuple(pixels for _, pixels in pictures), positions, passages
    )


def read_pages(reader: PictureReader, data: bytes, encoder: Encoder, settings: Settings) -> DocumentParts | None:
    """Read the pages of a TIFF; None of one that is a single picture. Raises MediaError."""
    if not has_directories(data):
        return None
    with reader.document(data) as document:
        return read_parts(document, encoder, settings) if document.pages > 1 else None


def weigh(path: str) -> int:
    """Return for how many pictures a file counts while it waits to be encoded."""
    return _WEIGHT if suffix(path) in DOCUMENT_SUFFIXES else _FILM_WEIGHT if suffix(path) in FILM_SUFFIXES else 1


def pages_drawn(pages: int) -> list[int]:
    """Return the numbers of the pages that get a picture, from 1: the first and the last one always."""
    if pages <= MAX_PICTURES:
        return list(range(1, pages + 1))
    return [1 + round(number * (pages - 1) / (MAX_PICTURES - 1)) for number in range(MAX_PICTURES)]


def _passages(document: DocumentPages, encoder: Encoder, limit: int) -> Iterator[Passage]:
    """Yield the passages of all pages; lines are those of a page, or of the whole of a document without pages."""
    before = 0
    for page, text in enumerate(_cut(document.texts(), limit), 1):
        position = PartPosition(page=page) if document.has_pages else None
        lines = text.count("\n") + 2
        if text.strip():
            for passage in split_passages(text, count=encoder.count_tokens, limit=encoder.max_tokens):
                yield replace(
                    passage, line=before + passage.line, end_line=before + passage.end_line, position=position
                )
        before += 0 if document.has_pages else lines


def _cut(texts: Iterator[str], limit: int) -> Iterator[str]:
    left = limit
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            logger.info("Only the first %s characters of a document are indexed.", f"{limit:,}")
            return


def _pictures(document: DocumentPages, encoder: Encoder, max_pixels: int) -> Iterator[tuple[int, Pixels]]:
    """Yield pages with their pixels; those that are damaged are left out."""
    for page in pages_drawn(document.pages):
        try:
            yield page, document.prepare(page, encoder, max_pixels=max_pixels)
        except PictureError as error:
            logger.debug("page %s: %s", page, error)
