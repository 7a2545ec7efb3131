"""The nouns that every layer shares: frozen, small, and free of any heavy import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


PICTURE_SUFFIXES: frozenset[str] = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .jp2 .pnm .pbm .pgm .ppm .avif .heic .heif".split()
)
"""The endings of files that are looked at as pictures."""

TEXT_SUFFIXES: frozenset[str] = frozenset({".txt", ".md", ".rst"})
"""The endings of files that are looked at as texts."""


class Modality(StrEnum):
    """What a vector was made from."""

    IMAGE = "image"
    TEXT = "text"


_IMPORTED = "imported:"


@dataclass(frozen=True, slots=True)
class EncoderPin:
    """The encoder that made a library's vectors.

    name: canonical. fingerprint: of the encoder; of imported vectors, which come with only a name, made of that name.
    dim: length of the vectors.
    """

    name: str
    fingerprint: str
    dim: int

    @classmethod
    def imported(cls, name: str, dim: int) -> EncoderPin:
        """Return the pin of vectors that came with only the name of their encoder."""
        return cls(name, _IMPORTED + name, dim)

    @property
    def is_imported(self) -> bool:
        """Whether the fingerprint says no more than the name."""
        return self.fingerprint.startswith(_IMPORTED)


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
