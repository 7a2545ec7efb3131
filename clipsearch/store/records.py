"""What an indexing run hands to the store: one frozen record per file and outcome."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.metadata import NONE
from clipsearch.paths import RECORDS, unquote_path
from clipsearch.types import MediaInfo, MetadataValue, Modality, PartPosition, Passage, PictureInfo, TextLine

ARRAY_SUFFIX, TABLE_SUFFIX = FILE_SUFFIXES = (".npy", ".parquet")
"""End the path of a collection that came from a single file, and of no other collection."""


class RootKind(StrEnum):
    """What a root is: walked, records that came with their vectors, records from Python, or the rows of a data set."""

    FOLDER = "folder"
    COLLECTION = "collection"
    RECORDS = "records"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Root:
    """A folder, a single file or a data set that is indexed, or where a collection came from.

    path: absolute; the address of a data set. exclude: patterns as the scan reads them. options: JSON of how a data set
    is read.
    """

    id: int
    path: str
    exclude: tuple[str, ...] = ()
    include_hidden: bool = False
    offline: bool = False
    kind: RootKind = RootKind.FOLDER
    options: str = "{}"

    @property
    def folder(self) -> str:
        """Where the paths of its items start: the root, or for a collection from a single file what holds that."""
        if self.kind is RootKind.SOURCE:
            return RECORDS
        is_file = self.kind is RootKind.COLLECTION and self.path.endswith(FILE_SUFFIXES)
        return os.path.dirname(self.path) if is_file else self.path


@dataclass(frozen=True, slots=True)
class Scope:
    """What one walk covers: a root, or what is at or below `prefix` (stored form) in it."""

    root_id: int
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class CaptionSource:
    """Where a picture's captions stand outside of it.

    sidecar: the absolute path of a text of its name, "" for none. texts: what tables of captions say of it. stamp: of
    all this, "" for nothing; None where a table could not be read, so that there may be more. metadata: JSON of what
    the other columns of tables say. described: absolute paths of metadata beside the picture, as of
    `media/sidecars.py`. ctime_ns: the newest of the text and of these, as of `FileIdentity`. stills: of a film, the
    names of the pictures beside it that it may make a Live Photo with.
    """

    sidecar: str = ""
    texts: tuple[str, ...] = ()
    stamp: str | None = ""
    metadata: str = NONE
    described: tuple[str, ...] = ()
    ctime_ns: int | None = None
    stills: tuple[str, ...] = ()


class FileIdentity(NamedTuple):
    """What a file system says of a file beside its size and time, for nothing. None where it says nothing.

    ctime_ns: when the file or its entry changed last, which no program sets; on Windows, when it was made. inode: its
    number. Both are held within the 64 bits that a database keeps.
    """

    ctime_ns: int | None = None
    inode: int | None = None

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Take it from what stat says."""
        inode, ctime_ns = status.st_ino, status.st_ctime_ns
        if (
            0 < inode < 2**63 and -(2**63) <= ctime_ns < 2**63
        ):  # as nearly all are; this is done for each file of a walk
            return cls(ctime_ns, inode)
        inode &= 2**64 - 1
        return cls(_bounded(ctime_ns), (inode - 2**64 if inode >= 2**63 else inode) or None)


UNKNOWN_IDENTITY = FileIdentity()


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as the walk saw it. path: below its root, with `/`, as os.fsdecode gives it; "" for the root itself."""

    root_id: int
    path: str
    size: int
    mtime_ns: int
    beside: CaptionSource = CaptionSource()
    identity: FileIdentity = field(default=UNKNOWN_IDENTITY, compare=False)


def mtime_ns(status: os.stat_result) -> int:
    """Return a file's time of change in nanoseconds, held within the 64 bits that a database keeps."""
    return _bounded(status.st_mtime_ns)


def _bounded(nanoseconds: int) -> int:
    return min(max(nanoseconds, -(2**63)), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Taken:
    """When and where a picture was taken, in local time and degrees; None for what nothing says."""

    at: datetime | None = None
    place: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Captions:
    """What is said of a picture, inside its file and beside it.

    stamp: of what is beside it; None where not all of that could be read, so that a picture that has captions keeps
    them. text: all captions, then the keywords, a line each; None for none. passages: what is encoded of it.
    vectors: float16 or float32 (passages, dim), unit rows; None while the library holds the same picture with
    the same text, or they are not encoded yet. taken: from inside and beside; None keeps what the library has. facts:
    what becomes metadata of the item, from inside and beside, by name; None keeps what the library has.
    """

    stamp: str | None
    text: str | None = None
    keywords: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    vectors: NDArray[np.float16] | NDArray[np.float32] | None = None
    taken: Taken | None = None
    facts: Mapping[str, MetadataValue] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file whose parts were encoded.

    vectors: float16 or float32 (parts, dim), unit rows, of its modality. passages: one a part, of a text. captions: of
    a picture; None keeps what the library has of the same one. media: what a file of several pictures is, such as a
    film, and positions: where each of these lies. passages of such a file are those of its pages, with
    passage_vectors, float16 or float32 (passages, dim), unit rows.
    """

    record: FileRecord
    content_hash: str
    modality: Modality
    vectors: NDArray[np.float16] | NDArray[np.float32]
    picture: PictureInfo | None = None
    passages: tuple[Passage, ...] = ()
    captions: Captions | None = None
    media: MediaInfo | None = None
    positions: tuple[PartPosition, ...] = ()
    passage_vectors: NDArray[np.float16] | NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A file whose content the library already holds under this hash. captions: as of `Encoded`."""

    record: FileRecord
    content_hash: str
    captions: Captions | None = None


LIVE_PHOTO = "film of the Live Photo "
"""Prefix of the reason why the film of a Live Photo is not an item: it counts with its picture. The stored name of the
picture follows."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that is not an item, and why. transient: it could not be opened, so it is tried at every run."""

    record: FileRecord
    reason: str
    transient: bool = False

    @property
    def is_live_photo(self) -> bool:
        """Whether the file is sound, and counts with a picture."""
        return still_of(self.reason) is not None


def still_of(reason: str) -> str | None:
    """Return the name of the picture of a Live Photo from the reason why its film is not an item; else None."""
    return unquote_path(reason.removeprefix(LIVE_PHOTO)) if reason.startswith(LIVE_PHOTO) else None


Outcome = Encoded | Known | Failed


@dataclass(frozen=True, slots=True)
class RecognisedText:
    """The text in a picture. content_hash: of what was read. model: fingerprint of what read it.

    lines: all that were found; None where none can be recognised. passages: of these lines, as they are encoded;
    vectors: float32 (passages, dim), unit rows.
    """

    item_id: int
    content_hash: str
    model: str
    lines: tuple[TextLine, ...] | None
    passages: tuple[Passage, ...]
    vectors: NDArray[np.float32]


@dataclass(slots=True)
class CommitCounts:
    """What commits did, in files; `encoded` counts files whose vectors were computed."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    encoded: int = 0


class CollectionRecord(NamedTuple):
    """A record of a collection. name: unique in it; a path, a URL or any other. width, height: pixels, both or none."""

    name: str
    caption: str | None = None
    width: int | None = None
    height: int | None = None
    taken_at: datetime | None = None
    metadata: str = NONE


@dataclass(frozen=True, slots=True)
class RecordBlock:
    """Records, and in each modality that they have their vectors: float16 (records, dim), unit rows."""

    records: Sequence[CollectionRecord]
    vectors: Mapping[Modality, NDArray[np.float16]]


@dataclass(slots=True)
class ImportCounts:
    """What was done with records. skipped: those that were there, as they are now."""

    imported: int = 0
    skipped: int = 0
    replaced: int = 0
