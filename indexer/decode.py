"""Files to encoder input, in a bounded pool of threads; each is read once, for hash, facts and pixels."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePath

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, Pixels
from clipsearch.errors import EncoderError, LibraryError, MediaError, PictureError, TextError
from clipsearch.media.decode import is_picture, read_regular
from clipsearch.media.image_metadata import Embedded
from clipsearch.media.text import decode_text, split_passages
from clipsearch.paths import join, quote_path
from clipsearch.store.records import Captions, Failed, FileRecord, Known, mtime_ns
from clipsearch.types import TEXT_SUFFIXES, Passage, PictureInfo
from indexer.captioning import read_captions
from indexer.picture_reader import DirectReader, PictureReader
from indexer.worker_process import WorkerUnavailableError

logger = logging.getLogger("clipsearch")

MOST_AHEAD = 1024


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file ready to encode: the pixels of a picture and its captions, or the passages of a text."""

    record: FileRecord
    content_hash: str
    pixels: Pixels | None = None
    picture: PictureInfo | None = None
    passages: tuple[Passage, ...] = ()
    captions: Captions | None = None

    @property
    def parts(self) -> int:
        """How many vectors it will have, but for its captions."""
        return len(self.passages) or 1


@dataclass(frozen=True, slots=True)
class Vanished:
    """A file that went between the walk and the reading."""

    record: FileRecord


Loaded = Decoded | Known | Failed | Vanished


class Decoder:
    """Reads and decodes one file at a time; called from several threads."""

    def __init__(
        self,
        encoder: Encoder,
        settings: Settings,
        roots: Mapping[int, str],
        is_known: Callable[[str], bool],
        has_caption: Callable[[str, str], bool] = lambda content_hash, text: False,
        reader: PictureReader | None = None,
    ) -> None:
        """Prepare.

        roots: id -> absolute path. is_known: whether the library holds content under a hash. has_caption: whether it
        holds such content with a caption. reader: what decodes pictures; None for this process.
        """
        self._encoder = encoder
        self._settings = settings
        self._roots = roots
        self._is_known = is_known
        self._has_caption = has_caption
        self._reader = reader or DirectReader()

    def __call__(self, record: FileRecord, *, trust_known: bool = True) -> Loaded:
        """Load a file; trust_known: stop at its hash where the library has that content.

        Raises EncoderError, LibraryError and WorkerUnavailableError; whatever else goes wrong is the fault of this
        file alone.
        """
        path = join(self._roots[record.root_id], quote_path(record.path))
        try:
            data, status = self._read(path)
        except FileNotFoundError:
            return Vanished(record)
        except OSError as error:
            return Failed(record, f"cannot be read: {error.strerror}", transient=True)
        except Exception as error:
            return _failure(record, error)
        record = replace(record, size=status.st_size, mtime_ns=mtime_ns(status))
        content_hash = hash_content(data, path)
        try:
            if trust_known and self._is_known(content_hash):
                if not is_picture(data[:64]):
                    return Known(record, content_hash)
                words = self._reader.words(data)
                return Known(record, content_hash, self._captions(record, content_hash, words))
            return self._decode(record, path, content_hash, data)
        except Exception as error:
            return _failure(record, error)

    def _read(self, path: str) -> tuple[bytes, os.stat_result]:
        if _is_named_text(path):
            return read_regular(path, self._settings.max_text_bytes, setting="max_text_bytes")
        return read_regular(path, self._settings.max_picture_bytes)

    def _decode(self, record: FileRecord, path: str, content_hash: str, data: bytes) -> Decoded:
        is_text = _is_named_text(path)
        if is_text and not is_picture(data[:64]):
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
        return Decoded(record, content_hash, pixels, info, captions=self._captions(record, None, words))

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


def hash_content(data: bytes, path: str) -> str:
    """Return the hexadecimal BLAKE2b-160 of a file's bytes and of the kind that its name announces.

    The same bytes named as a text and as a picture are two contents: what comes of them depends on the name.
    """
    kind = b"text" if _is_named_text(path) else b"picture"
    return hashlib.blake2b(data, digest_size=20, person=kind).hexdigest()


def _is_named_text(path: str) -> bool:
    return PurePath(path).suffix.lower() in TEXT_SUFFIXES


def count_vectors(entry: Loaded) -> int:
    """Count the vectors that are to be computed of a file."""
    if not isinstance(entry, Decoded | Known):
        return 0
    of_captions = len(entry.captions.passages) if entry.captions else 0
    return of_captions + (entry.parts if isinstance(entry, Decoded) else 0)


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


def load_all(
    records: Iterable[FileRecord], load: Callable[[FileRecord], Loaded], threads: int, ahead: int = 0
) -> Generator[Loaded, None, None]:
    """Load files in a pool; yields in the order of the records.

    ahead: how many may be under way or wait to be taken, such as those of a batch; at least four a thread, and at most
    MOST_AHEAD.
    """
    pending: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for record in records:
            pending.append(pool.submit(load, record))
            if len(pending) > max(min(ahead, MOST_AHEAD), 4 * threads):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
