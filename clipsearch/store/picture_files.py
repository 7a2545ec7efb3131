"""The bytes of an item's picture: what is kept of a record, else its file, opened without following links.

The paths in a catalog may be a stranger's, and what lies at one may have been replaced since. So below the folder that
was indexed no link is followed, and nothing but a regular file is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table, select

from clipsearch.errors import LibraryError, MediaError
from clipsearch.media.decode import read_open
from clipsearch.paths import is_url, unquote_path, unquote_source
from clipsearch.store import catalog
from clipsearch.store.checksums import require_sound
from clipsearch.store.folder import open_folder
from clipsearch.store.item_media import picture_parts
from clipsearch.store.library import Library
from clipsearch.store.records import FileIdentity, RootKind, mtime_ns
from clipsearch.store.roots import get_roots
from clipsearch.store.schema import items, record_contents, record_pictures
from clipsearch.types import Modality, PicturePart


class FilePlace(NamedTuple):
    """A folder that may be reached through links, and the names below it that may not."""

    anchor: str
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class OpenPicture:
    """The picture of an item, before it is read.

    content_hash: of the item. version: of the bytes that are read; it changes with them. is_as_indexed: whether they
    are what was indexed, as far as size, times and inode of a file tell. read: returns the bytes, given how many there
    may be; raises MediaError. descriptor: of its file while it is open; None where the library keeps it. parts: of a
    film or a document, in their order.
    """

    content_hash: str
    version: str
    is_as_indexed: bool
    read: Callable[[int], bytes]
    descriptor: int | None = None
    parts: tuple[PicturePart, ...] = ()


def read_picture_of(library: Library, item_id: int, limit: int) -> bytes:
    """Return the encoded picture of an item that can be found.

    limit: bytes of the largest file that is read. Raises as `open_picture_of` does, and MediaError for a larger one.
    """
    with open_picture_of(library, item_id) as picture:
        return picture.read(limit)


@contextmanager
def open_picture_of(library: Library, item_id: int) -> Iterator[OpenPicture]:
    """Open the encoded picture of an item that can be found.

    Raises MediaError, without the path, for an item without a picture, for one with nothing but a URL, and for a file
    that cannot be read or is reached through a link; StoreCorruptError for a damaged catalog.
    """
    with library.query() as connection:
        row = connection.execute(select(items).where(items.c.id == item_id, ~items.c.deleted)).one_or_none()
        if row is None:
            raise MediaError("the item is no longer in the library")
        require_sound(row, items)
        kept = sound_row(connection, record_pictures, item_id)
        if kept is None and row.modality != Modality.IMAGE:
            raise MediaError("it is a text")
        content = sound_row(connection, record_contents, item_id) if kept is None else None
        place = place_of(connection, library.base, row, content) if kept is None else None
        parts = tuple(picture_parts(connection, item_id))
    if place is None:
        assert kept is not None
        yield OpenPicture(row.content_hash, _digest(kept.picture), True, partial(bounded, kept.picture))
        return
    with _opened(place) as descriptor:
        status = os.fstat(descriptor)
        is_as_indexed = _is_as_indexed(row, status)
        version = row.content_hash if is_as_indexed else "-".join(f"{number:x}" for number in _numbers(status))
        yield OpenPicture(row.content_hash, version, is_as_indexed, partial(_read, descriptor), descriptor, parts)


def _is_as_indexed(row: Row[Any], status: os.stat_result) -> bool:
    """Tell whether a file is what was indexed, as far as size, times and inode tell, where they are known."""
    found, known = (status.st_size, mtime_ns(status)), (row.size, row.mtime_ns)
    identity = zip((row.ctime_ns, row.inode), FileIdentity.of(status), strict=True)
    return found == known and all(old is None or old == new for old, new in identity)


def _numbers(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def read_kept(library: Library, item_id: int, limit: int) -> bytes:
    """Return what is kept of a record's picture, of at most `limit` bytes. Raises MediaError, StoreCorruptError."""
    with library.query() as connection:
        kept = sound_row(connection, record_pictures, item_id)
    if kept is None:
        raise MediaError("its picture is no longer kept")
    return bounded(kept.picture, limit)


def sound_row(connection: Connection, table: Table, item_id: int) -> Row[Any] | None:
    """Return the row of an item in a table, if it has one. Raises StoreCorruptError if that is damaged."""
    row = connection.execute(select(table).where(table.c.item_id == item_id)).one_or_none()
    if row is not None:
        require_sound(row, table)
    return row


def bounded(picture: object, limit: int) -> bytes:
    """Return what is kept of a record's picture. Raises MediaError for what is not so, or is too large."""
    if not isinstance(picture, bytes) or len(picture) > limit:
        raise MediaError(f"what is kept of it is not a picture of at most {limit} bytes (setting max_picture_bytes)")
    return picture


def place_of(connection: Connection, base: str, row: Row[Any], kept: Row[Any] | None) -> FilePlace:
    """Return where the file of an item is; kept: what the library has of a record. Raises MediaError without one."""
    root = next((root for root in get_roots(connection, base) if root.id == row.root_id), None)
    path: object = catalog.path_of({} if root is None else {root.id: root.folder}, row.root_id, row.path)
    if root is not None and root.kind is RootKind.FOLDER and row.path:
        return FilePlace(root.path, unquote_path(row.path).split("/"))
    if root is not None and root.kind in (RootKind.RECORDS, RootKind.SOURCE):
        stored = kept.source if kept is not None else None
        if stored is None:
            raise MediaError("the library keeps only its vector")
        path = unquote_source(stored) if isinstance(stored, str) else None
    if not isinstance(path, str) or is_url(path) or not os.path.isabs(path):
        raise MediaError("its picture is not a file")
    return FilePlace(os.path.dirname(path), [os.path.basename(path)])


def open_below(place: FilePlace) -> int:
    """Open a file for reading; return its descriptor. Raises LibraryError and OSError, as a Folder does."""
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder(Path(place.anchor)))
        for name in place.names[:-1]:
            folder = stack.enter_context(folder.child(name))
        return folder.open(place.names[-1], os.O_RDONLY)


def _digest(picture: object) -> str:
    return hashlib.blake2b(picture if isinstance(picture, bytes) else b"", digest_size=20).hexdigest()


@contextmanager
def _opened(place: FilePlace) -> Iterator[int]:
    with unnamed_errors():
        descriptor = open_below(place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, limit: int) -> bytes:
    with unnamed_errors():
        return read_open(os.dup(descriptor), limit)[0]


@contextmanager
def unnamed_errors() -> Iterator[None]:
    """Turn the errors of a file into MediaError, which does not name its path."""
    try:
        yield
    except LibraryError as error:
        raise MediaError("it is reached through a link, or is not a regular file") from error
    except FileNotFoundError as error:
        raise MediaError("there is no such file") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
