"""The nouns that every layer shares: frozen, small, and free of any heavy import."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, overload

from clipsearch.errors import InvalidInputError
from clipsearch.words import fold_tag, parse_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


PICTURE_SUFFIXES: frozenset[str] = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .jp2 .pnm .pbm .pgm .ppm .avif .heic .heif".split()
)
"""The endings of files that are looked at as pictures."""

TEXT_SUFFIXES: frozenset[str] = frozenset({".txt", ".md", ".rst"})
"""The endings of files that are looked at as texts."""

ORIENTATIONS = ("landscape", "portrait", "square")

_ONE_FORMAT = (frozenset({".jpg", ".jpeg", ".jfif"}), frozenset({".tif", ".tiff"}), frozenset({".heic", ".heif"}))
"""Endings that mean the same."""


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
    taken_from, taken_until: local time of the camera, no zone; the second is excluded. cameras: parts of names as
    PictureInfo has them, any of them, upper and lower case of ASCII alike. min_width, min_height: pixels.
    types: `image`, `text` or the endings of files (`jpeg` stands for .jpg too), any of them. orientation: one of
    ORIENTATIONS, by width and height. near: latitude and longitude in degrees and a radius in km, along the great
    circle. caption: words that the caption, or a text, has, as `clipsearch.words.parse_words` reads them. tags: any of
    them, whole, as `clipsearch.words.fold_tag` compares them.

    `a & b` allows what both allow, `~a` what a does not; all_of and none_of hold such parts. What an item does not
    have, as a text has no camera, meets no condition, and so meets the opposite of any. Records of a collection lie
    where its source does. Raises InvalidInputError for a value that none of these can be.
    """

    ids: frozenset[int] | None = None
    folders: tuple[str, ...] = ()
    taken_from: datetime | None = None
    taken_until: datetime | None = None
    cameras: tuple[str, ...] = ()
    min_width: int | None = None
    min_height: int | None = None
    types: tuple[str, ...] = ()
    orientation: str | None = None
    near: tuple[float, float, float] | None = None
    caption: str | None = None
    tags: tuple[str, ...] = ()
    all_of: tuple[Filter, ...] = ()
    none_of: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        for name, made in (("ids", frozenset), *((name, tuple) for name in _LISTS)):
            value = getattr(self, name)
            if isinstance(value, str) or (value is not None and not isinstance(value, Iterable)):
                raise InvalidInputError(f"{name} must be a list, even for one value, not {value!r}.")
            object.__setattr__(self, name, None if value is None else made(value))
        if self.near is not None:
            object.__setattr__(self, "near", _checked_place(self.near))
        if "" in self.folders:
            raise InvalidInputError("The name of a folder to search in is empty. Name a folder; . is the current one.")
        _check_times(self.taken_from, self.taken_until)
        self._check_pictures()
        if self.caption is not None:
            parse_words(self.caption)
        for tag in self.tags:
            if not isinstance(tag, str) or not fold_tag(tag):
                raise InvalidInputError(f"A tag is one or more words, not {tag!r}.")
        for part in (*self.all_of, *self.none_of):
            if not isinstance(part, Filter):
                raise InvalidInputError(f"A filter is combined from filters, not from {part!r}.")

    def _check_pictures(self) -> None:
        for name in ("min_width", "min_height"):
            size = getattr(self, name)
            if size is not None and (not isinstance(size, int) or not 0 <= size < 2**63):
                raise InvalidInputError(f"{name} is {size!r}, but it must be a whole number of pixels of at least 0.")
        if "" in self.cameras:
            raise InvalidInputError("The name of a camera is empty. Write at least part of it.")
        for kind in self.types:
            file_endings(kind)
        if self.orientation is not None and self.orientation not in ORIENTATIONS:
            raise InvalidInputError(f"There is no orientation {self.orientation!r}. Use {_listed(ORIENTATIONS)}.")

    def __and__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        return Filter(all_of=(*self._parts(), *other._parts()))

    def __invert__(self) -> Filter:
        is_opposite = len(self.none_of) == 1 and self == Filter(none_of=self.none_of)
        return self.none_of[0] if is_opposite else Filter(none_of=(self,))

    def _parts(self) -> tuple[Filter, ...]:
        return self.all_of if self == Filter(all_of=self.all_of) else (self,)


_LISTS = ("folders", "cameras", "types", "tags", "all_of", "none_of")


def file_endings(kind: str) -> frozenset[str]:
    """Return the endings of files that a type of a filter stands for; none for a modality.

    Raises InvalidInputError for what is no type.
    """
    if kind in set(Modality):
        return frozenset()
    known = PICTURE_SUFFIXES | TEXT_SUFFIXES
    ending = f".{kind}".lower() if isinstance(kind, str) else ""
    if ending not in known:
        names = _listed([*Modality, *sorted(each[1:] for each in known)])
        raise InvalidInputError(f"There is no type {kind!r}. Use {names}.")
    return next((same for same in _ONE_FORMAT if ending in same), frozenset({ending}))


def _check_times(start: object, end: object) -> None:
    for time in (start, end):
        if time is not None and not isinstance(time, datetime):
            raise InvalidInputError(f"A time is a datetime, not {time!r}.")
        if time is not None and time.tzinfo is not None:
            raise InvalidInputError(f"Pictures have local times, but {time} has a time zone. Leave out the zone.")
    if isinstance(start, datetime) and isinstance(end, datetime) and start >= end:
        raise InvalidInputError(f"No time is from {start} until before {end}. Swap the times.")


def _checked_place(place: object) -> tuple[float, float, float]:
    try:
        latitude, longitude, radius = map(float, place)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise InvalidInputError(f"A place is a latitude, a longitude and kilometres, not {place!r}.") from None
    for name, degrees, most in (("latitude", latitude, 90), ("longitude", longitude, 180)):
        if not abs(degrees) <= most:
            raise InvalidInputError(f"The {name} is {degrees:g}, but it must be from -{most} to {most} degrees.")
    if not 0 < radius < math.inf:
        raise InvalidInputError(f"The radius is {radius:g} km, but it must be above 0.")
    return latitude, longitude, radius


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


@dataclass(frozen=True, slots=True)
class Hit:
    """One match.

    rank: from 1. score: the exact cosine in [-1, 1]. confidence: in [0, 1], the chance that nothing in this
    library that is unrelated to the query would score as high; None where the library is too small to tell.
    modality: what the matched vector was made from. part: which passage of a text matched, from 0. passage: that
    passage; None for a picture. also: items that repeat this one, where an answer is collapsed; else None.
    log_evalue: -ln of the E-value, the number of unrelated rows of its modality expected to score as high: `confidence`
    without its limits.
    """

    rank: int
    item: Item
    score: float
    confidence: float | None
    modality: Modality
    part: int = 0
    passage: Passage | None = None
    also: tuple[Item, ...] | None = None
    log_evalue: float = 0.0

    @property
    def path(self) -> str:
        """The absolute path of the file; of a record maybe a URL."""
        return self.item.path

    @property
    def surprise(self) -> float:
        """The former name of `log_evalue`; it goes with the next release."""
        return self.log_evalue


@dataclass(frozen=True, slots=True)
class Results(Sequence[Hit]):
    """The ranked answer to one query, best first; a sequence of Hit.

    query: as it is shown. encoder, library: what answered. confident: whether anything stands out.
    warnings: what the user should know (a truncated query, an index that was not used). left_out: how many hits were
    left out because they had too little confidence or score, or came after the scores fell off.
    """

    query: str
    encoder: str
    library: str
    hits: tuple[Hit, ...]
    confident: bool
    warnings: tuple[str, ...] = field(default=())
    left_out: int = 0

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
class Listing(Sequence[Item]):
    """What filters alone allow, newest first; a sequence of Item.

    library: its folder. items: the first of them. total: how many there are. tags: those of each item that has any, by
    its id. warnings: what else the user should know.
    """

    library: str
    items: tuple[Item, ...]
    total: int
    tags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest rows of a batch of queries, best first.

    ids: int64 (n_queries, k), -1 where there are fewer than k. scores: float32 (n_queries, k), inner
    products, -inf where ids is -1. Equal scores stand in order of id.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
