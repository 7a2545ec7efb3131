"""Records from Python, checked one by one as they come, in blocks of bounded size.

What a record holds is copied when it is taken, so that a caller may use its buffers again for the next one.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError, MediaError
from clipsearch.metadata import NONE, check_metadata
from clipsearch.paths import is_url, quote_source
from clipsearch.records import Record, as_record, field_of, name_of
from clipsearch.types import Modality
from indexer.captioning import MAX_CAPTIONS, clean
from indexer.sources.base import BadRow

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger("clipsearch")

MAX_ID = 500
"""Characters of an id."""

BLOCK_RECORDS = 8192
"""Records that are looked at together, and committed together unless they have to be encoded."""

BLOCK_BYTES = 64 << 20
"""Bytes of pictures and texts that a block holds; one larger record may be a block."""

_LEAST, _MOST = 1e-20, 1e20
"""Between these, the length of a vector and its numbers are far from the limits of float32."""


@dataclass(frozen=True, slots=True)
class CheckedRecord:
    """A record whose fields were checked.

    image: the bytes of a file, an upright RGB picture, or None; source: the absolute path or the URL of the picture,
    which is not read yet; is_apart: it is not read at all. metadata: JSON, None for none. vector: its row in the
    block's vectors, None for none; stands_for: what that was made from.
    """

    name: str
    image: bytes | Image | None = None
    source: str | None = None
    text: str | None = None
    caption: str | None = None
    metadata: str | None = None
    vector: int | None = None
    stands_for: Modality = Modality.IMAGE
    is_apart: bool = False

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture, given or named."""
        return self.image is not None or (self.source is not None and not self.is_apart)


@dataclass(slots=True)
class Block:
    """Records by id; of two of one id the last. vectors: float16 (n, dim), unit rows. failed: ids and reasons.

    superseded: how many were left out for a later one of the same id. taken: how many records were taken in all.
    """

    records: dict[str, CheckedRecord] = field(default_factory=dict)
    vectors: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), np.float16))
    failed: list[tuple[str, str]] = field(default_factory=list)
    superseded: int = 0
    taken: int = 0


class RecordSource:
    """Takes records from a caller."""

    def __init__(self, dim: int, settings: Settings, size: int = BLOCK_RECORDS, *, fetch_urls: bool = True) -> None:
        """Prepare; dim: length of the vectors. size: records of a block at most.

        fetch_urls: whether pictures are read that have URLs; else a record with one is what its texts make it.
        """
        self._fetch_urls = fetch_urls
        self.unfetched = 0
        self._dim = dim
        self._settings = settings
        self._size = size

    def blocks(self, records: Iterable[Record | Mapping[str, object] | BadRow]) -> Iterator[Block]:
        """Yield records in blocks, in their order. What the caller's own iterable raises goes through."""
        taken = _Taken(self._dim)
        for given in records:
            # A picture may still fail, and then the record before it counts.
            is_repeated = field_of(given, "id") in taken.names and field_of(given, "image") is not None
            if taken.count >= self._size or taken.held >= BLOCK_BYTES or is_repeated:
                yield taken.block()
                taken = _Taken(self._dim)
            taken.count += 1
            try:
                taken.append(self._check(given, taken.rows))
            except (InvalidInputError, MediaError) as error:
                taken.failed.append((given.name if isinstance(given, BadRow) else name_of(given), str(error)))
            except Exception as error:  # of an object of the caller's own
                logger.debug("a record cannot be read", exc_info=error)
                taken.failed.append((name_of(given), f"it cannot be read: {type(error).__name__}"))
        if taken.count:
            yield taken.block()

    def _check(self, given: Record | Mapping[str, object] | BadRow, rows: _Rows) -> CheckedRecord:
        if isinstance(given, BadRow):
            raise InvalidInputError(given.reason)
        record = as_record(given)
        name = check_id(record.id)
        image, source = (None, None) if record.image is None else self._image(record.image)
        text = _text("text", record.text, self._settings.max_text_bytes)
        caption = _text("caption", record.caption, MAX_CAPTIONS)
        caption = None if caption is None else clean(caption) or None
        metadata = None if record.metadata is None else check_metadata(record.metadata)
        is_apart = not self._fetch_urls and is_url(source)
        self.unfetched += is_apart
        has_picture = image is not None or (source is not None and not is_apart)
        stands_for = Modality.TEXT if text is not None and not has_picture else Modality.IMAGE
        if record.modality is not None:
            stands_for = _modality(record.modality)
        vector = None if record.vector is None else rows.add(record.vector)
        if vector is None and not has_picture and not (text and text.strip()) and not caption:
            if is_apart:
                raise InvalidInputError("it has only the URL of a picture, which was not fetched")
            raise InvalidInputError("there is nothing to find it by; give an image, a text, a caption or a vector")
        return CheckedRecord(
            name, image, source, text, caption, None if metadata == NONE else metadata, vector, stands_for,
            is_apart,
        )  # fmt: skip

    def _image(self, image: object) -> tuple[bytes | Image | None, str | None]:
        """Return a picture that was given, or where it is."""
        if isinstance(image, str | os.PathLike):
            return None, _location(image)
        if isinstance(image, bytes | bytearray | memoryview):
            data, most = bytes(image), self._settings.max_picture_bytes
            if not 0 < len(data) <= most:
                raise InvalidInputError(f"the picture has {len(data)} bytes, but must have 1 to {most}")
            return data, None
        return self._pixels(image), None

    def _pixels(self, image: object) -> Image:
        from PIL import Image as images

        from clipsearch.media.decode import upright_rgb
        from clipsearch.media.pixels import check_size, from_array

        most = self._settings.max_pixels
        if isinstance(image, np.ndarray):
            return from_array(image, most)
        if isinstance(image, images.Image):
            check_size(image.width, image.height, most)
            upright = upright_rgb(image)
            return upright.copy() if upright is image else upright
        raise InvalidInputError(
            f"the image is of type {type(image).__name__}, but must be a path, a URL, bytes, a Pillow image or an array"
        )


class _Taken:
    """The records of a block as they come. held: about how many bytes they hold."""

    def __init__(self, dim: int) -> None:
        self.rows = _Rows(dim)
        self.count = 0
        self.held = 0
        self.names: set[str] = set()
        self.failed: list[tuple[str, str]] = []
        self._records: list[CheckedRecord] = []

    def append(self, record: CheckedRecord) -> None:
        """Take one more."""
        self.names.add(record.name)
        self._records.append(record)
        self.held += _size_of(record)

    def block(self) -> Block:
        """Return the block; a record whose vector has no direction fails."""
        vectors, bad = self.rows.unit()
        block = Block(vectors=vectors, failed=self.failed, taken=self.count)
        for record in self._records:
            if record.vector is not None and record.vector in bad:
                block.failed.append((record.name, bad[record.vector]))
                continue
            block.superseded += block.records.pop(record.name, None) is not None
            block.records[record.name] = record
        return block


class _Rows:
    """The vectors of a block as they come, as bytes: NumPy would give up the interpreter lock to copy each."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._rows: list[bytes] = []

    def add(self, vector: object) -> int:
        """Copy a vector; return its row. Raises InvalidInputError unless it is (dim,) numbers."""
        try:
            row = np.asarray(vector)
        except Exception:  # of a sequence of the caller's own
            row = np.empty(0, np.object_)
        if row.dtype.kind not in "fiu":
            raise InvalidInputError(f"the vector must be {self._dim} numbers")
        if row.shape != (self._dim,):
            raise InvalidInputError(f"the vector has the shape {row.shape}, but must have ({self._dim},)")
        self._rows.append((row if row.dtype == np.float32 else _narrow(row)).tobytes())
        return len(self._rows) - 1

    def unit(self) -> tuple[NDArray[np.float16], dict[int, str]]:
        """Return the vectors at unit length, float16 (n, dim), and why some have none, by row."""
        rows = np.frombuffer(b"".join(self._rows), np.float32).reshape(-1, self._dim)
        with np.errstate(all="ignore"):
            norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
            unit = (rows / norms.astype(np.float32)[:, None]).astype(np.float16)
            for row in np.flatnonzero((norms < _LEAST) | (norms > _MOST)):  # float32 would lose digits
                unit[row] = (rows[row].astype(np.float64) / norms[row]).astype(np.float32)
        bad = {int(row): "the vector holds NaN or infinity" for row in np.flatnonzero(~np.isfinite(norms))}
        return unit, bad | {int(row): "the vector is zero" for row in np.flatnonzero(norms == 0)}


def _narrow(row: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers of any type as float32; a vector that float32 cannot hold is made shorter or longer first."""
    with np.errstate(over="ignore"):  # what it cannot hold is refused with the block
        wide = row.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0.0))
    if 0 < largest < math.inf and not _LEAST < largest < _MOST:
        wide /= largest
    return wide.astype(np.float32)


def check_id(name: object) -> str:
    """Return the id of a record. Raises InvalidInputError for one that cannot be used."""
    if not isinstance(name, str):
        raise InvalidInputError(f"the id must be a str, not {type(name).__name__}")
    if not 0 < len(name) <= MAX_ID:
        raise InvalidInputError(f"the id has {len(name)} characters, but must have 1 to {MAX_ID}")
    if "\0" in name or (not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name)):
        raise InvalidInputError(f"the id {name!r:.80} has a character that no text can have")
    return str.__str__(name)


def _text(what: str, value: object, most: int) -> str | None:
    """Return a text that any database holds. most: characters."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInputError(f"the {what} must be a str, not {type(value).__name__}")
    if len(value) > most:
        raise InvalidInputError(f"the {what} has {len(value)} characters, over the limit of {most}")
    return str.__str__(value).replace("\0", " ").encode("utf-8", "replace").decode()


def _modality(value: object) -> Modality:
    try:
        return Modality(str(value))
    except ValueError:
        raise InvalidInputError(f"the modality is {value!r:.80}, but must be image or text") from None


def _location(image: str | os.PathLike[str]) -> str:
    path = os.fspath(image)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not path or "\0" in path or not _is_text(quote_source(path)):
        raise InvalidInputError(f"the path of the picture, {path!r:.80}, names no file")
    if is_url(path):
        return path
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise InvalidInputError(f"the current folder no longer exists, so {path!r:.80} names no file") from error


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size_of(checked: CheckedRecord) -> int:
    """Return about how many bytes a record holds."""
    image = checked.image
    held = len(checked.text or "") + len(checked.caption or "") + len(checked.metadata or "")
    if isinstance(image, bytes):
        return held + len(image)
    return held if image is None else held + 3 * math.prod(image.size)
