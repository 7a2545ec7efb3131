"""The nouns that every layer shares: frozen, small, and free of any heavy import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, overload

from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


PICTURE_SUFFIXES: frozenset[str] = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .jp2 .pnm .pbm .pgm .ppm .avif .heic .heif".split()
)
"""The endings of files that are looked at as pictures."""


class Modality(StrEnum):
    """What a vector was made from."""

    IMAGE = "image"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class PictureInfo:
    """What a picture says of itself.

    width, height: pixels, after the EXIF orientation. taken_at: local time of the camera, no zone.
    latitude, longitude: degrees, north and east positive.
    """

    width: int
    height: int
    taken_at: datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of a text that fits the encoder. `line` and `end_line` count from 1, both included."""

    text: str
    line: int
    end_line: int


@dataclass(frozen=True, slots=True)
class Item:
    """A file in a library, or a record of a collection that was imported.

    path: absolute, as os.fsdecode gives it; of a record maybe a URL. modality: of the file; of a record, that of its
    first vector. size: bytes. mtime_ns: nanoseconds since the epoch; both 0 for a record. content_hash: hexadecimal
    BLAKE2b-160 of the bytes; of a record, a number and BLAKE2b-128. picture: None for a text. caption: what a record
    came with.
    """

    id: int
    path: str
    modality: Modality
    size: int
    mtime_ns: int
    content_hash: str
    picture: PictureInfo | None = None
    caption: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items may be found. Every condition that is given must hold; Filter() allows all.

    ids: of items. folders: absolute, or relative to the current folder; items at or below any of them.
    taken_from, taken_until: local time of the camera, no zone; the second is excluded. cameras: names as PictureInfo
    has them, any of them. min_width, min_height: pixels. What an item does not have, as a text has no camera, meets
    no condition. Records of a collection lie where its source does. Raises InvalidInputError for an empty folder, a
    time with a zone, times in the wrong order, a size that is none, and a single name where a list belongs.
    """

    ids: frozenset[int] | None = None
    folders: tuple[str, ...] = ()
    taken_from: datetime | None = None
    taken_until: datetime | None = None
    cameras: tuple[str, ...] = ()
    min_width: int | None = None
    min_height: int | None = None

    def __post_init__(self) -> None:
        for name, made in (("folders", tuple), ("cameras", tuple), ("ids", frozenset)):
            value = getattr(self, name)
            if isinstance(value, str) or (value is not None and not isinstance(value, Iterable)):
                raise InvalidInputError(f"{name} is a list, even of one; not {value!r}.")
            object.__setattr__(self, name, None if value is None else made(value))
        if "" in self.folders:
            raise InvalidInputError("A folder to search in is empty. Name it; . is the folder you are in.")
        for time in (self.taken_from, self.taken_until):
            if time is not None and not isinstance(time, datetime):
                raise InvalidInputError(f"A time is a datetime, not {time!r}.")
            if time is not None and time.tzinfo is not None:
                raise InvalidInputError(f"Pictures say local times, and {time} has a zone. Leave the zone out.")
        if self.taken_from is not None and self.taken_until is not None and self.taken_from >= self.taken_until:
            raise InvalidInputError(
                f"Nothing was taken from {self.taken_from} until before {self.taken_until}. Swap the times."
            )
        for name in ("min_width", "min_height"):
            size = getattr(self, name)
            if size is not None and (not isinstance(size, int) or not 0 <= size < 2**63):
                raise InvalidInputError(f"{name} is {size!r}; it is a whole number of pixels, and not negative.")


@dataclass(frozen=True, slots=True)
class Hit:
    """One match.

    rank: from 1. score: the exact cosine in [-1, 1]. confidence: in [0, 1], the chance that nothing in this
    library that is unrelated to the query would score as high; None where the library is too small to tell.
    modality: what the matched vector was made from. part: which passage of a text matched, from 0. passage: that
    passage; None for a picture. also: items that repeat this one, where an answer is collapsed; else None.
    """

    rank: int
    item: Item
    score: float
    confidence: float | None
    modality: Modality
    part: int = 0
    passage: Passage | None = None
    also: tuple[Item, ...] | None = None

    @property
    def path(self) -> str:
        """The absolute path of the file; of a record maybe a URL."""
        return self.item.path


@dataclass(frozen=True, slots=True)
class Results(Sequence[Hit]):
    """The ranked answer to one query, best first; a sequence of Hit.

    query: as it is shown. encoder, library: what answered. confident: whether anything stands out.
    warnings: what the user should know (a truncated query, an index that was not used).
    """

    query: str
    encoder: str
    library: str
    hits: tuple[Hit, ...]
    confident: bool
    warnings: tuple[str, ...] = field(default=())

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest rows of a batch of queries, best first.

    ids: int64 (n_queries, k), -1 where there are fewer than k. scores: float32 (n_queries, k), inner
    products, -inf where ids is -1. Equal scores stand in order of id.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
