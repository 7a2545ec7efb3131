"""The file of an item, opened to be given out: a picture, or a text.

It is opened as in clipsearch.store.picture_files, without following links. The paths in a catalog may be a stranger's,
so only pictures are given out, and texts that are what was indexed: whoever does not know a file cannot have its hash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

from sqlalchemy import Connection, Row, select

from clipsearch.errors import MediaError
from clipsearch.media.content_hash import hash_content
from clipsearch.media.decode import HEAD, picture_kind, read_open
from clipsearch.media.documents.opening import is_pdf
from clipsearch.media.films.base import film_format
from clipsearch.paths import unquote_path
from clipsearch.store.checksums import require_sound
from clipsearch.store.library import Library
from clipsearch.store.picture_files import bounded, open_below, place_of, sound_row, unnamed_errors
from clipsearch.store.schema import items, record_contents, record_pictures
from clipsearch.types import Modality

_SECOND = 1_000_000_000
_MOST_KEPT = 1 << 30
_ENDINGS = {"JPEG": ".jpg", "JPEG2000": ".jp2", "HEIF": ".heic", "PNM": ".pnm"}
"""Of pictures that are kept of records; those of other kinds are called as the kind."""


@dataclass(frozen=True, slots=True)
class ItemFile:
    """A file to give out.

    name: of the file, or the id of the record. size: bytes; it may have become shorter. changed: seconds since the
    epoch, None if unknown.
    """

    name: str
    file: IO[bytes]
    size: int
    changed: float | None = None


@contextmanager
def open_item(library: Library, item_id: int, limit: int) -> Iterator[ItemFile]:
    """Open the file of an item that can be found: a picture, what is kept of one, or a text.

    limit: bytes of the largest text. Raises MediaError, without the path, for an item without such a file;
    StoreCorruptError for a damaged catalog.
    """
    with library.query() as connection:
        row = connection.execute(select(items).where(items.c.id == item_id, ~items.c.deleted)).one_or_none()
        if row is None:
            raise MediaError("there is no such item")
        require_sound(row, items)
        known = _of_record(connection, row)
        if known is None:
            place = place_of(connection, library.base, row, sound_row(connection, record_contents, item_id))
    if known is not None:
        yield known
        return
    with unnamed_errors():
        descriptor = open_below(place)
    name = place.names[-1]
    if row.modality != Modality.IMAGE:
        with unnamed_errors():
            data, status = read_open(descriptor, limit, setting="max_text_bytes")
        if hash_content(data, name) != row.content_hash:
            raise MediaError("the text has changed since it was indexed")
        yield ItemFile(name, BytesIO(data), len(data), status.st_mtime_ns / _SECOND)
        return
    with os.fdopen(descriptor, "rb") as file:
        with unnamed_errors():
            head = file.read(HEAD)
            if picture_kind(head) is None and not is_pdf(head) and film_format(head) is None:
                raise MediaError("what is there is not a picture")
            file.seek(0)
            status = os.fstat(descriptor)
        yield ItemFile(name, file, status.st_size, status.st_mtime_ns / _SECOND)


def _of_record(connection: Connection, row: Row[Any]) -> ItemFile | None:
    """Return what the library itself has of an item: the picture that is kept of a record, or its text."""
    name = unquote_path(row.path) if isinstance(row.path, str) else ""
    kept = sound_row(connection, record_pictures, row.id)
    if kept is not None:
        data = bounded(kept.picture, _MOST_KEPT)
        kind = picture_kind(data[:HEAD])
        if kind is None:
            raise MediaError("what is kept of it is not a picture")
        return ItemFile(_ending(name, _ENDINGS.get(kind, f".{kind.lower()}")), BytesIO(data), len(data))
    contents = sound_row(connection, record_contents, row.id)
    if row.modality == Modality.TEXT and contents is not None and isinstance(contents.text, str):
        data = contents.text.encode("utf-8", "replace")
        return ItemFile(_ending(name, ".txt"), BytesIO(data), len(data))
    return None


def _ending(name: str, ending: str) -> str:
    return name if name.lower().endswith(ending) else name + ending
