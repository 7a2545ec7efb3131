"""The nouns that every layer shares: frozen, small, and free of any heavy import."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.explanation import Explanation


PICTURE_SUFFIXES: frozenset[str] = frozenset(
    (
        ".jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .jp2 .j2k .jpf "
        ".jpx .pnm .pbm .pgm .ppm .avif .avifs .heic .heics .heif .heifs .hif .psd"
    ).split()
)
"""The endings of files that are looked at as pictures."""

TEXT_SUFFIXES: frozenset[str] = frozenset({".txt", ".md", ".rst"})
"""The endings of files that are looked at as texts."""


class Modality(StrEnum):
    """What a vector was made from."""

    IMAGE = "image"
    TEXT = "text"


class Media(StrEnum):
    """What an item of several parts is."""

    FILM = "film"
    DOCUMENT = "document"


MetadataValue = str | int | float | bool | None | list[str]
"""A value of the metadata of an item."""

_IMPORTED = "imported:"


@dataclass(frozen=True, slots=True)
class EncoderPin:
    """The encoder that a library is bound to.

    Attributes:
        name: Canonical name.
        fingerprint: Of the encoder's weights; of imported vectors, which come with only a name, made of that name.
        dim: Length of the vectors.
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
    """What the metadata of a picture says.

    Attributes:
        width: Pixels, after the EXIF orientation; None for a record that came without.
        height: Pixels, after the EXIF orientation; None for a record that came without.
        taken_at: Local time of the camera, without a time zone.
        camera: Maker and model.
        latitude: Degrees, north is positive.
        longitude: Degrees, east is positive.
        note: What is missing of a picture that was decoded now, "" for nothing. A library keeps it in the metadata of
            the item, as `incomplete`.
    """

    width: int | None
    height: int | None
    taken_at: datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class PartPosition:
    """Where a part of an item lies: at a time of a film, or on a page of a document.

    Attributes:
        time: Seconds from the start of a film; None in a document.
        page: Page of a document, from 1; None in a film.
    """

    time: float | None = None
    page: int | None = None

    def __str__(self) -> str:
        if self.page is not None:
            return f"p. {self.page}"
        seconds = int(self.time or 0.0)
        minutes = f"{seconds // 60 % 60}:{seconds % 60:02}"
        return minutes if seconds < 3600 else f"{seconds // 3600}:{minutes:0>5}"


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What an item of several parts is, and how long.

    Attributes:
        media: What it is.
        duration: Of a film, in seconds; None where its file does not say.
        pages: Of a document.
    """

    media: Media
    duration: float | None = None
    pages: int | None = None


@dataclass(frozen=True, slots=True)
class PicturePart:
    """One of the pictures of an item that has several: a frame of a film, a page of a document.

    Attributes:
        number: Of the part, from 0.
        position: Where it lies.
    """

    number: int
    position: PartPosition


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a text that fits the encoder.

    Attributes:
        text: The passage.
        line: Its first line, counted from 1.
        end_line: Its last line.
        position: Where it begins in a document.
    """

    text: str
    line: int
    end_line: int
    position: PartPosition | None = None


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text that was recognised in a picture.

    Attributes:
        text: The words.
        box: Its four corners (x, y), from the start of the line clockwise; from 0 to 1 of the upright picture's width
            and height.
        confidence: Of the recognition, from 0 to 1.
    """

    text: str
    box: tuple[tuple[float, float], ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a library, a record of an imported collection, or a record that was added from Python.

    Attributes:
        id: Stays the same as long as the item is in the library.
        path: Absolute path, as os.fsdecode gives it; of a record maybe a URL. Of one that was added from Python the
            path or URL of its picture, else `record:` and its key. Of an imported one that has neither, its id.
        modality: Of the file; of a record, that of its first vector.
        size: Bytes; 0 for a record.
        mtime_ns: Last change, in nanoseconds since the epoch; 0 for a record.
        content_hash: Hexadecimal BLAKE2b-160 of the bytes; of a record, a number and BLAKE2b-128.
        picture: None for a text.
        caption: What a record came with.
        key: The id that the caller gave to a record; of anything else, its path.
        text: The text of a record that was added from Python; None for any other item.
        metadata: What the caller or a table says of it: JSON scalars and lists of str, by name.
        tags: Its tags, in order, whoever says them.
        media: Of an item of several parts, such as a film; None for any other.
    """

    id: int
    path: str
    modality: Modality
    size: int
    mtime_ns: int
    content_hash: str
    picture: PictureInfo | None = None
    caption: str | None = None
    key: str = ""
    text: str | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict, hash=False)
    tags: tuple[str, ...] = ()
    media: MediaInfo | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One match.

    Attributes:
        rank: Place in the answer, from 1.
        item: What matched.
        score: The exact cosine, from -1 to 1.
        confidence: The chance, from 0 to 1, that the hit is right; None if the library is too small to tell. See
            docs/scores.md for how it was measured.
        modality: What the matched vector was made from.
        part: Which passage of a text, frame of a film or page of a document matched, from 0.
        passage: That passage; None for a picture.
        also: Items that repeat this one, if the answer is collapsed; else None.
        recognised: The lines of text in the picture that match, where they do.
        log_evalue: -ln of the E-value, the number of unrelated rows of its modality expected to score as high if scores
            had no bound.
        position: Where in a film or a document the match lies.
        explanation: Why it stands where it does, if that was asked for.
        stands_out: Whether the hit is more than chance explains, by which `Results.confident` goes; None if the library
            is too small to tell, or a server answered.
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
    recognised: tuple[TextLine, ...] = ()
    position: PartPosition | None = None
    explanation: Explanation | None = None
    stands_out: bool | None = field(default=None, compare=False, repr=False)

    @property
    def path(self) -> str:
        """The absolute path of the file; of a record maybe a URL."""
        return self.item.path

    @property
    def surprise(self) -> float:
        """The former name of `log_evalue`; it goes with the next release."""
        warnings.warn("Hit.surprise is Hit.log_evalue now", DeprecationWarning, stacklevel=2)
        return self.log_evalue


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a query that found nothing confident may have meant; it finds something.

    Attributes:
        kind: `spelling`, the query in words that the library has; `tag`; or `caption`, of the nearest texts.
        text: The words.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Results(Sequence[Hit]):
    """The ranked answer to one query, best first; a sequence of Hit.

    Attributes:
        query: The query as it is shown.
        encoder: Name of the encoder that answered.
        library: Folder of the library.
        hits: The hits.
        confident: Whether any hit stands out.
        warnings: What the user should know, such as a truncated query or an index that was not used.
        left_out: How many hits had too little confidence or score, or came after the gap in the scores.
        offset: How many hits of the whole answer stand before these; `offset + len(answer)` is where the next one is.
        suggestions: Spellings, tags and captions that find something, where nothing is confident and they were wanted.
        understood: What was lifted out of the words, as JSON has it: `text`, `filters`, `parts` and `description`, as
            `Understood.to_values` gives them; None where nothing was, or nobody asked for it.
    """

    query: str
    encoder: str
    library: str
    hits: tuple[Hit, ...]
    confident: bool
    warnings: tuple[str, ...] = field(default=())
    left_out: int = 0
    offset: int = 0
    suggestions: tuple[Suggestion, ...] = ()
    understood: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """Return a table of the ranks, scores, confidences and paths; `repr` has everything."""
        rows = []
        for hit in self.hits:
            sure = "-" if hit.confidence is None else f"{hit.confidence:.0%}"
            rows.append(
                f"{hit.rank:>4}  {hit.score:6.3f}  {sure:>5}  {hit.path!r}"
            )  # names may hold control characters
        return "\n".join([f"{len(rows)} hits for {self.query!r}, from rank {self.offset + 1}:", *rows])

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


class _Items(Sequence[Item]):
    """What is a sequence by its `items`."""

    __slots__ = ()
    items: tuple[Item, ...]

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
class Listing(_Items):
    """What filters alone allow, newest first; a sequence of Item.

    Attributes:
        library: Folder of the library.
        items: The first of them.
        total: How many there are.
        tags: Tags of each item that has any, by its id.
        warnings: What the user should know.
    """

    library: str
    items: tuple[Item, ...]
    total: int
    tags: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page(_Items):
    """Some of the items that a filter allows, in order of their ids; a sequence of Item.

    Attributes:
        items: The items.
        cursor: For the next page; None after the last.
        warnings: What the user should know.
    """

    items: tuple[Item, ...]
    cursor: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of items.

    Attributes:
        name: As it was written.
        count: How many of its items can be found.
        cover: The id of the first of its pictures, in the order of adding; None without one.
    """

    name: str
    count: int
    cover: int | None = None


Box = tuple[float, float, float, float]
"""South, west, north and east in degrees; a west beyond the east lies across the date line."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Items that were taken near each other.

    Attributes:
        latitude: Of their middle, in degrees; north is positive.
        longitude: Of their middle, in degrees; east is positive.
        count: How many items they are.
        id: One of them: the latest that came to the library.
    """

    latitude: float
    longitude: float
    count: int
    id: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where the items that a filter allows were taken, for a map.

    Attributes:
        total: How many items have a place.
        clusters: Those with most items first.
        bounds: The smallest box around them: south, west, north and east in degrees, with a west beyond the east
            across the date line; None without items.
    """

    total: int
    clusters: tuple[Cluster, ...] = ()
    bounds: Box | None = None


@dataclass(frozen=True, slots=True)
class Facets:
    """How many of the items that a filter allows have each value; of equal counts the first name comes first.

    Attributes:
        total: How many items there are.
        months: When pictures were taken, as `2024-06`, the newest first; all of them.
        cameras: Maker and model, the most frequent first.
        folders: Absolute paths of folders that were indexed and of those below, each with all that is below it.
        tags: As they are written most often.
        modalities: `image` and `text`: what the items are.
    """

    total: int
    months: tuple[tuple[str, int], ...] = ()
    cameras: tuple[tuple[str, int], ...] = ()
    folders: tuple[tuple[str, int], ...] = ()
    tags: tuple[tuple[str, int], ...] = ()
    modalities: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The nearest rows of a batch of queries, best first; equal scores are in order of id.

    Attributes:
        ids: int64 (n_queries, k), -1 if there are fewer than k.
        scores: float32 (n_queries, k), inner products, -inf where ids is -1.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
