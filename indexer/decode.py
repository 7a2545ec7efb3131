"""Files to encoder input, in a bounded pool of threads; each is read once, for hash, facts and pixels."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol, TypeVar

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, Pixels
from clipsearch.errors import EncoderError, LibraryError, MediaError, PictureError, TextError, WorkerUnavailableError
from clipsearch.media.content_hash import hash_content, is_named_text
from clipsearch.media.decode import HEAD, is_picture, picture_kind, read_regular
from clipsearch.media.documents.opening import is_document
from clipsearch.media.extras import FILM_SUFFIXES
from clipsearch.media.films.process import open_film
from clipsearch.media.image_metadata import Embedded
from clipsearch.media.text import decode_text, split_passages
from clipsearch.paths import join, quote_path, suffix
from clipsearch.store.records import LIVE_PHOTO, Captions, Failed, FileIdentity, FileRecord, Known, Taken, mtime_ns
from clipsearch.types import MediaInfo, PartPosition, Passage, PictureInfo
from indexer.captioning import read_captions
from indexer.documents import read_pages, read_parts
from indexer.films import hash_film, read_film
from indexer.live_photos import find_still
from indexer.picture_reader import DirectReader, PictureReader

logger = logging.getLogger("clipsearch")

MOST_AHEAD = 1024

_CHUNK_FILES, _CHUNK_BYTES = 32, 4 << 20
"""Limits of a chunk, which is read whole before it is decoded: files, and bytes; one larger file may be a chunk."""

_READERS = 2
"""Threads that read and hash files at the same time, while the storage is fast. More threads are slower then: the
interpreter lock changes hands between short system calls (benchmarks/pipeline_overhead.py, 16 threads)."""

_SLOW_SECONDS = 0.002
"""Seconds per file from which threads wait for the storage, such as a network drive; then all threads may read."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file ready to encode: the pixels of a picture and its captions, the passages of a text, or several parts.

    pixels: of each picture: one, or the frames of a film or the pages of a document, which `media` says, and
    positions where each of them lies. passages: of a text, or of the pages of a document.
    """

    record: FileRecord
    content_hash: str
    pixels: tuple[Pixels, ...] = ()
    picture: PictureInfo | None = None
    passages: tuple[Passage, ...] = ()
    captions: Captions | None = None
    media: MediaInfo | None = None
    positions: tuple[PartPosition, ...] = ()

    @property
    def parts(self) -> int:
        """How many vectors it will have, but for its captions."""
        return len(self.pixels) + len(self.passages)


@dataclass(frozen=True, slots=True)
class Vanished:
    """A file that went between the walk and the reading."""

    record: FileRecord


Loaded = Decoded | Known | Failed | Vanished


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that was read; of a film only the hash."""

    record: FileRecord
    path: str
    data: bytes
    content_hash: str
    is_film: bool = False


class Decoder:
    """Reads and decodes files; called from several threads."""

    def __init__(
        self,
        encoder: Encoder,
        settings: Settings,
        roots: Mapping[int, str],
        find_known: Callable[[Collection[str]], Collection[str]] = lambda hashes: (),
        has_caption: Callable[[str, str], bool] = lambda content_hash, text: False,
        reader: PictureReader | None = None,
    ) -> None:
        """Prepare.

        roots: id -> absolute path. find_known: which content hashes the library holds. has_caption: whether it holds
        the content under a hash with a caption. reader: what decodes pictures; None for this process.
        """
        self._encoder = encoder
        self._settings = settings
        self._roots = roots
        self._find_known = find_known
        self._has_caption = has_caption
        self._reader = reader or DirectReader()
        self._reading = threading.Semaphore(_READERS)
        self._is_slow = False

    def __call__(self, records: Iterable[FileRecord], *, trust_known: bool = True) -> Iterator[Loaded]:
        """Load files, in their order, as they are taken; trust_known: do not decode content that the library has.

        Some are read before the first of them is decoded, so that the library is asked once. Raises EncoderError,
        LibraryError and WorkerUnavailableError; whatever else goes wrong is the fault of one file alone.
        """
        for chunk in _chunks(records, lambda: _CHUNK_FILES):
            entries = self._read_chunk(chunk)
            hashes = {entry.content_hash for entry in entries if isinstance(entry, _Read)}
            known = self._find_known(hashes) if trust_known and hashes else ()
            while entries:  # popleft, so that the bytes of a file are freed once it is loaded
                entry = entries.popleft()
                yield self._load(entry, entry.content_hash in known) if isinstance(entry, _Read) else entry

    def _read_chunk(self, chunk: Sequence[FileRecord]) -> deque[_Read | Vanished | Failed]:
        with nullcontext() if self._is_slow else self._reading:
            started = time.monotonic()
            entries = deque(map(self._read, chunk))
            self._is_slow = time.monotonic() - started > _SLOW_SECONDS * len(chunk)
        return entries

    def _read(self, record: FileRecord) -> _Read | Vanished | Failed:
        path = join(self._roots[record.root_id], quote_path(record.path))
        is_text, is_film = is_named_text(path), suffix(path) in FILM_SUFFIXES
        settings, content_hash = self._settings, None
        try:
            if is_film:
                with open_film(path, settings.max_film_bytes) as (descriptor, status):
                    if (still := self._still_of(descriptor, path, record)) is not None:
                        return Failed(record, LIVE_PHOTO + quote_path(still))
                    data, content_hash = b"", hash_film(descriptor)
            elif is_text:
                data, status = read_regular(path, settings.max_text_bytes, setting="max_text_bytes")
            else:
                data, status = read_regular(path, settings.max_picture_bytes)
        except FileNotFoundError:
            return Vanished(record)
        except OSError as error:
            return Failed(record, f"cannot be read: {error.strerror}", transient=True)
        except Exception as error:
            return _failure(record, error)
        seen = (status.st_size, mtime_ns(status), FileIdentity.of(status))
        if (record.size, record.mtime_ns, record.identity) != seen:
            record = replace(record, size=seen[0], mtime_ns=seen[1], identity=seen[2])
        return _Read(record, path, data, content_hash or hash_content(data, path), is_film)

    def _still_of(self, descriptor: int, path: str, record: FileRecord) -> str | None:
        """Return the name of the picture whose Live Photo an open film belongs to; None for a film of its own."""
        stills, most = record.beside.stills, self._settings.max_picture_bytes
        return find_still(descriptor, os.path.dirname(path), stills, self._reader, most) if stills else None

    def _load(self, read: _Read, is_known: bool) -> Loaded:
        record, data = read.record, read.data
        try:
            if read.is_film:
                return self._load_film(read, is_known)
            if not is_known:
                return self._decode(record, read.path, read.content_hash, data)
            if is_document(data[:HEAD], read.path) or not (
                is_picture(data[:HEAD]) or (picture_kind(data[:HEAD]) and not is_named_text(read.path))
            ):
                return Known(record, read.content_hash)
            words = self._reader.words(data)
            return Known(record, read.content_hash, self._captions(record, read.content_hash, words))
        except Exception as error:
            return _failure(record, error)

    def _decode(self, record: FileRecord, path: str, content_hash: str, data: bytes) -> Decoded:
        if is_document(data[:HEAD], path):
            return self._decode_document(record, content_hash, data)
        is_text = is_named_text(path)
        if is_text and not is_picture(data[:HEAD]):
            return self._decode_text(record, content_hash, data)
        try:
            return self._decode_picture(record, content_hash, data)
        except PictureError:
            if not is_text:
                raise
            # A text, too, may begin with `P1 # notes` or `GIF89a`.
            try:
                return self._decode_text(record, content_hash, data)
            except TextError:
                pass
            raise

    def _decode_picture(self, record: FileRecord, content_hash: str, data: bytes) -> Decoded:
        pixels, info, words = self._reader.prepare(data, self._encoder, max_pixels=self._settings.max_pixels)
        captions = self._captions(record, None, words)
        if record.beside.described and captions.taken is not None:
            latitude, longitude = captions.taken.place or (None, None)
            info = replace(info, taken_at=captions.taken.at, latitude=latitude, longitude=longitude)
        parts = None
        with suppress(MediaError):  # what shows its first page is a picture, whatever is wrong with the others
            parts = read_pages(self._reader, data, self._encoder, self._settings)
        if parts is None:
            return Decoded(record, content_hash, (pixels,), info, captions=captions)
        return Decoded(
            record, content_hash, parts.pixels, info, captions=captions, media=parts.media, positions=parts.positions
        )

    def _decode_document(self, record: FileRecord, content_hash: str, data: bytes) -> Decoded:
        with self._reader.document(data) as document:
            parts = read_parts(document, self._encoder, self._settings)
        return Decoded(
            record, content_hash, parts.pixels, passages=parts.passages, media=parts.media, positions=parts.positions
        )

    def _load_film(self, read: _Read, is_known: bool) -> Loaded:
        record, content_hash = read.record, read.content_hash
        captions = self._captions(record, content_hash if is_known else None, Embedded((), ()))
        if captions.taken == Taken():
            captions = replace(captions, taken=None)  # nothing beside it says more than the film
        if is_known:
            return Known(record, content_hash, captions)
        with open_film(read.path, self._settings.max_film_bytes) as (descriptor, status):
            if (status.st_size, mtime_ns(status)) != (record.size, record.mtime_ns):
                return Failed(record, "it changed while it was read", transient=True)
            parts = read_film(descriptor, self._encoder, self._settings)
        return Decoded(
            record, content_hash, parts.pixels, parts.picture,
            captions=captions, media=parts.media, positions=parts.positions,
        )  # fmt: skip

    def _captions(self, record: FileRecord, known: str | None, words: Embedded) -> Captions:
        """Gather the captions of a picture; without passages if the library has them of one with the known hash."""
        captions = read_captions(record.beside, words, record.path, self._encoder)
        if captions.text and known and self._has_caption(known, captions.text):
            return replace(captions, passages=())
        return captions

    def _decode_text(self, record: FileRecord, content_hash: str, data: bytes) -> Decoded:
        encoder = self._encoder
        passages = split_passages(decode_text(data), count=encoder.count_tokens, limit=encoder.max_tokens)
        if not passages:
            raise TextError("it contains no words")
        return Decoded(record, content_hash, passages=tuple(passages))


def count_vectors(entry: Loaded) -> int:
    """Count the vectors that are to be computed of a file."""
    if not isinstance(entry, Decoded | Known):
        return 0
    of_captions = len(entry.captions.passages) if entry.captions else 0
    return of_captions + (entry.parts if isinstance(entry, Decoded) else 0)


def batches(loaded: Iterator[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Cut the stream so that a batch has about `size` vectors to compute, or four times as many files without any."""
    batch: list[Loaded] = []
    parts = 0
    for entry in loaded:
        batch.append(entry)
        parts += count_vectors(entry)
        if parts >= size or len(batch) >= 4 * size:
            yield batch
            batch, parts = [], 0
    if batch:
        yield batch


def _failure(record: FileRecord, error: Exception) -> Failed:
    """Turn an error into the failure of one file; one that concerns the whole run is raised again."""
    if isinstance(error, EncoderError | LibraryError | WorkerUnavailableError):
        raise error
    if isinstance(error, MediaError):
        # Next time there may be memory enough.
        return Failed(record, str(error), transient=isinstance(error.__cause__, MemoryError))
    logger.debug("decoding failed", exc_info=error)
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return Failed(record, f"could not be decoded: {reason}", transient=True)


class Sized(Protocol):
    """A file of a size in bytes."""

    @property
    def size(self) -> int:
        """Bytes."""


File = TypeVar("File", bound=Sized)
Result = TypeVar("Result")


def load_all(
    records: Iterable[File],
    load: Callable[[list[File]], Iterable[Result]],
    threads: int,
    ahead: int = 0,
    weigh: Callable[[File], int] = lambda file: 1,
) -> Generator[Result, None, None]:
    """Load files in a pool of threads, several by each call; yields in the order of the records.

    The first calls take one file, so that a few files are spread over the threads. What is not loaded yet when the
    generator is closed is left, but for one file a thread. ahead: how many may be under way or wait to be taken, such
    as those of a batch. More than MOST_AHEAD count as that; 4 for each thread are always allowed.
    """
    ahead = max(min(ahead, MOST_AHEAD), 4 * threads)
    pending: deque[tuple[int, Future[list[Result]]]] = deque()
    under_way = 0
    stopped = threading.Event()

    def load_chunk(chunk: list[File]) -> list[Result]:
        return [*takewhile(lambda _: not stopped.is_set(), load(chunk))]

    def most() -> int:
        return min(_CHUNK_FILES, max(1, under_way // threads))

    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for chunk in _chunks(records, most, weigh):
            weight = sum(map(weigh, chunk))
            pending.append((weight, pool.submit(load_chunk, chunk)))
            under_way += weight
            while under_way > ahead + ahead // 2:
                count, future = pending.popleft()
                under_way -= count
                yield from future.result()
        while pending:
            yield from pending.popleft()[1].result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _chunks(
    records: Iterable[File], most: Callable[[], int], weigh: Callable[[File], int] = lambda file: 1
) -> Iterator[list[File]]:
    """Cut records into lists of at most most() records, asked as each list grows, and at most _CHUNK_BYTES."""
    chunk: list[File] = []
    size = weight = 0
    for record in records:
        if chunk and (weight >= most() or size + record.size > _CHUNK_BYTES):
            yield chunk
            chunk, size, weight = [], 0, 0
        chunk.append(record)
        size += record.size
        weight += weigh(record)
    if chunk:
        yield chunk
