"""The text in the pictures of a library: recognised once for each content, encoded, and committed batch by batch.

It is a step of its own after the files are indexed, so it needs no vector of a picture again: a library that was
indexed without it catches up, and a run that was stopped goes on. What was read is in the library, also where there was
no text; what fails for want of memory, or in the encoder, is left for the next run. Where worker processes decode
pictures, they do here too; this process reads only the bounded pixels that they return, because a worker has neither
the memory nor the file system for the models.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, repeat

import numpy as np
from PIL import Image

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, Pixels, check_unit_rows
from clipsearch.errors import ClipSearchError, DeviceError, DocumentError, InvalidInputError, MediaError, PictureError
from clipsearch.media import ocr
from clipsearch.media.content_hash import hash_content
from clipsearch.media.decode import HEAD, read_regular
from clipsearch.media.documents.opening import is_document
from clipsearch.media.extras import DOCUMENT_SUFFIXES
from clipsearch.media.text import split_passages
from clipsearch.paths import join, printable, suffix
from clipsearch.store import catalog, recognised
from clipsearch.store.library import Library
from clipsearch.store.recognised import Unread
from clipsearch.store.records import RecognisedText
from clipsearch.store.writer import Writer
from clipsearch.types import PartPosition, Passage, TextLine
from indexer.decode import load_all
from indexer.documents import pages_drawn
from indexer.picture_reader import PictureReader
from indexer.report import Progress

logger = logging.getLogger("clipsearch")

OCR_KEY = "ocr"
"""The setting that says that text in pictures is recognised in every run."""

BATCH = 16
"""Pictures in a commit: a few seconds of work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which pictures are read: those without text of this model; of any model where it is None.

    retry_failed: also those whose text could not be recognised.
    """

    model: str | None
    retry_failed: bool = False


def plan(library: Library, asked: bool | None, *, retry_failed: bool = False) -> Plan | None:
    """Decide whether text is recognised; None for no. asked: what the user says; None for what was said before.

    Raises InvalidInputError if it is asked for and the extra is not installed; warns if it was asked for before.
    """
    if asked:
        return Plan(ocr.recogniser_fingerprint(), retry_failed)
    with library.query() as connection:
        is_kept = catalog.get_setting(connection, OCR_KEY) is not None
    return Plan(None, retry_failed) if asked is None and is_kept else None


class _View:
    """What a PictureReader makes of a picture here: its pixels, no larger than what is looked at."""

    picture_side = ocr.MIN_SIDE

    def preprocess(self, picture: Image.Image) -> Pixels:
        """Return the uint8 (height, width, 3) pixels, alone in a tuple."""
        return (np.asarray(ocr.shrink(picture)),)


@dataclass(frozen=True, slots=True)
class _Read:
    """The lines of a picture; None where none can be recognised. pages: of each line, in a document."""

    picture: Unread
    lines: tuple[TextLine, ...] | None
    pages: tuple[int, ...] = ()


class Recognition:
    """Reads the pictures of one library; called from several threads."""

    def __init__(self, library: Library, settings: Settings, roots: Mapping[int, str], reader: PictureReader) -> None:
        """Load the models. Raises InvalidInputError where the extra is not installed."""
        self.model = ocr.recogniser_fingerprint()
        self._recogniser = ocr.TextRecogniser()
        self._library = library
        self._settings = settings
        self._roots = roots
        self._reader = reader

    def __call__(self, pictures: Iterable[Unread]) -> Iterator[_Read | None]:
        """Read pictures, in their order; None for one that is left for the next run."""
        return map(self._read, pictures)

    def _read(self, picture: Unread) -> _Read | None:
        with self._library.query() as connection:
            known = recognised.known_lines(connection, picture.content_hash, self.model)
        path = join(self._roots[picture.root_id], picture.path)
        if known is not None and suffix(path) not in DOCUMENT_SUFFIXES:
            return _Read(picture, known)
        try:
            data = read_regular(path, self._settings.max_picture_bytes)[0]
            if hash_content(data, path) != picture.content_hash:
                return None  # it has changed since, and is read once it is indexed
            if is_document(data[:HEAD], path):
                return self._read_document(picture, data)
            pixels, _, _ = self._reader.prepare(data, _View(), max_pixels=self._settings.max_pixels)
            return _Read(picture, self._recogniser.read(Image.fromarray(pixels[0])))
        except OSError as error:
            logger.debug("%s", error)
        except (MediaError, MemoryError, RuntimeError, ValueError) as error:
            if isinstance(error, PictureError | DocumentError) and not isinstance(error.__cause__, MemoryError):
                logger.warning("No text is recognised in %s: %s", printable(path), error)
                return _Read(picture, None)
            _leave(path, error)
        return None

    def _read_document(self, picture: Unread, data: bytes) -> _Read:
        """Read the pages of a document that have no text of their own, as scans have none."""
        found: list[tuple[int, TextLine]] = []
        with self._reader.document(data) as document:
            bare = {page for page, text in enumerate(document.texts(), 1) if not text.strip()}
            for page in pages_drawn(document.pages) if document.can_draw else ():
                if page in bare:
                    pixels = document.prepare(page, _View(), max_pixels=self._settings.max_pixels)
                    found += ((page, line) for line in self._recogniser.read(Image.fromarray(pixels[0])))
        return _Read(picture, tuple(line for _, line in found), tuple(page for page, _ in found))


def recognise(
    library: Library,
    writer: Writer,
    settings: Settings,
    todo: Plan,
    *,
    reader: PictureReader,
    load_encoder: Callable[[], Encoder],
    progress: Progress,
    should_stop: Callable[[], bool],
) -> tuple[int, int]:
    """Read the pictures that a plan says, and commit what they say; return how many were read, and how many have text.

    A picture that cannot be read or encoded now is left for the next run. Raises EncoderError, LibraryError.
    """
    total = writer.count_unread(todo.model, retry_failed=todo.retry_failed)
    count = with_text = 0
    if not total or should_stop():
        return count, with_text
    try:
        recognition = Recognition(
            library, settings, {root.id: root.path for root in writer.roots(library.base)}, reader
        )
    except InvalidInputError as error:
        if todo.model is not None:
            raise
        logger.warning("The text of %s pictures is not recognised. %s", f"{total:,}", error)
        return count, with_text
    encoder = load_encoder()
    progress.start(total)
    pictures = writer.unread_pictures(todo.model, retry_failed=todo.retry_failed)
    with closing(load_all(pictures, recognition, settings.cores, BATCH)) as read:
        while not should_stop() and (batch := list(islice(read, BATCH))):
            texts = [_encode(encoder, each, recognition.model) for each in batch]
            found = [text for text in texts if text is not None]
            writer.commit_text(found)
            count += len(found)
            with_text += sum(bool(text.lines) for text in found)
            progress.advance(len(batch))
    return count, with_text


def _encode(encoder: Encoder, read: _Read | None, model: str) -> RecognisedText | None:
    """Encode what a picture says; None for one that was not read, or where the encoder fails for it."""
    if read is None:
        return None
    vectors = np.empty((0, encoder.dim), np.float32)
    try:
        if passages := _passages(encoder, read):
            vectors = encoder.encode_texts([passage.text for passage in passages])
            check_unit_rows(vectors)
    except DeviceError:
        raise
    except (ClipSearchError, MemoryError, RuntimeError, ValueError) as error:
        _leave(read.picture.path, error)
        return None
    return RecognisedText(read.picture.item_id, read.picture.content_hash, model, read.lines, tuple(passages), vectors)


def _leave(path: str, error: Exception) -> None:
    reason = str(error).rstrip(".") or type(error).__name__
    logger.warning("The text of %s is left for the next run: %s", printable(path), reason)


def _passages(encoder: Encoder, read: _Read) -> list[Passage]:
    """Cut the lines of a picture, or those of each page of a document, into passages."""
    texts: dict[int, list[str]] = {}
    for line, page in zip(read.lines or (), read.pages or repeat(0), strict=False):
        texts.setdefault(page, []).append(line.text)
    return [
        replace(passage, position=PartPosition(page=page) if page else None)
        for page, lines in texts.items()
        for passage in split_passages("\n".join(lines), count=encoder.count_tokens, limit=encoder.max_tokens)
    ]
