"""Files to encoder input, in a bounded pool of threads; each is read once, for hash, facts and pixels."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePath

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, Pixels
from clipsearch.errors import MediaError
from clipsearch.media import decode_picture, is_picture
from clipsearch.paths import quote_path
from clipsearch.store.catalog import join
from clipsearch.store.records import Failed, FileRecord, Known
from clipsearch.text import TEXT_SUFFIXES, decode_text, split_passages
from clipsearch.types import Passage, PictureInfo


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file ready to encode: the pixels of a picture, or the passages of a text."""

    record: FileRecord
    content_hash: str
    pixels: Pixels | None = None
    picture: PictureInfo | None = None
    passages: tuple[Passage, ...] = ()

    @property
    def parts(self) -> int:
        """How many vectors it will have."""
        return len(self.passages) or 1


@dataclass(frozen=True, slots=True)
class Vanished:
    """A file that went between the walk and the reading."""

    record: FileRecord


Loaded = Decoded | Known | Failed | Vanished


class Decoder:
    """Reads and decodes one file at a time; called from several threads."""

    def __init__(
        self, encoder: Encoder, settings: Settings, roots: Mapping[int, str], is_known: Callable[[str], bool]
    ) -> None:
        """Prepare; roots: id -> absolute path; is_known: whether the library holds content under a hash."""
        self._encoder = encoder
        self._settings = settings
        self._roots = roots
        self._is_known = is_known

    def __call__(self, record: FileRecord, *, trust_known: bool = True) -> Loaded:
        """Load a file; trust_known: stop at its hash where the library has that content."""
        path = join(self._roots[record.root_id], quote_path(record.path))
        try:
            data, status = self._read(path)
        except FileNotFoundError:
            return Vanished(record)
        except MediaError as error:
            return Failed(record, str(error))
        except OSError as error:
            return Failed(record, f"cannot be read: {error.strerror}", transient=True)
        record = replace(record, size=status.st_size, mtime_ns=status.st_mtime_ns)
        content_hash = hash_content(data)
        if trust_known and self._is_known(content_hash):
            return Known(record, content_hash)
        try:
            return self._decode(record, content_hash, data)
        except MediaError as error:
            return Failed(record, str(error))

    def _read(self, path: str) -> tuple[bytes, os.stat_result]:
        # O_NONBLOCK: a FIFO put where a file was must not hang the run.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise MediaError("not a regular file")
            is_text = PurePath(path).suffix.lower() in TEXT_SUFFIXES
            limit = self._settings.max_text_bytes if is_text else self._settings.max_picture_bytes
            if status.st_size > limit:
                name = "max_text_bytes" if is_text else "max_picture_bytes"
                raise MediaError(f"{status.st_size} bytes, over the limit of {limit} (setting {name})")
            return file.read(limit + 1), status

    def _decode(self, record: FileRecord, content_hash: str, data: bytes) -> Decoded:
        is_text = PurePath(record.path or self._roots[record.root_id]).suffix.lower() in TEXT_SUFFIXES
        if is_text and not is_picture(data[:64]):
            encoder = self._encoder
            passages = split_passages(decode_text(data), count=encoder.count_tokens, limit=encoder.max_tokens)
            return Decoded(record, content_hash, passages=tuple(passages))
        side, cap = self._encoder.picture_side, self._settings.max_pixels
        picture, info = decode_picture(data, min_side=side, max_pixels=cap)
        return Decoded(record, content_hash, self._encoder.preprocess(picture), info)


def hash_content(data: bytes) -> str:
    """Return the hexadecimal BLAKE2b-160 of a file's bytes."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def load_all(
    records: Iterable[FileRecord], load: Callable[[FileRecord], Loaded], threads: int
) -> Generator[Loaded, None, None]:
    """Load files in a pool, at most four a thread under way; yields in the order of the records."""
    pending: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for record in records:
            pending.append(pool.submit(load, record))
            if len(pending) > 4 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
