"""The bytes of an item's picture: what is kept of a record, else its file, opened without following links.

The paths in a catalog may be a stranger's, and what lies at one may have been replaced since. So below the folder that
was indexed no link is followed, and nothing but a regular file is read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from clipsearch.errors import LibraryError, MediaError
from clipsearch.media.decode import read_open
from clipsearch.paths import is_url, unquote_path, unquote_source
from clipsearch.store import catalog
from clipsearch.store.checksums import require_sound
from clipsearch.store.folder import open_folder
from clipsearch.store.library import Library
from clipsearch.store.records import RootKind
from clipsearch.store.roots import get_roots
from clipsearch.store.schema import items, record_contents, record_pictures
from clipsearch.types import Modality


def read_picture_of(library: Library, item_id: int, limit: int) -> bytes:
    """Return the encoded picture of an item that can be found.

    limit: bytes of the largest file that is read. Raises MediaError, without the path, for an item without a picture,
    for one with nothing but a URL, and for a file that cannot be read or is reached through a link;
    StoreCorruptError for a damaged catalog.
    """
    with library.query() as connection:
        row = connection.execute(select(items).where(items.c.id == item_id, ~items.c.deleted)).one_or_none()
        if row is None:
            raise MediaError("the item is no longer in the library")
        require_sound(row, items)
        kept = _sound_row(connection, record_pictures, item_id)
        if kept is not None:
            return _bounded(kept.picture, limit)
        if row.modality != Modality.IMAGE:
            raise MediaError("it is a text")
        anchor, names = _place(connection, library.base, row, _sound_row(connection, record_contents, item_id))
    return _read_below(anchor, names, limit)


def _sound_row(connection: Connection, table: Table, item_id: int) -> Row[Any] | None:
    """Return the row of an item in a table, if it has one. Raises StoreCorruptError if that is damaged."""
    row = connection.execute(select(table).where(table.c.item_id == item_id)).one_or_none()
    if row is not None:
        require_sound(row, table)
    return row


def _bounded(picture: object, limit: int) -> bytes:
    if not isinstance(picture, bytes) or len(picture) > limit:
        raise MediaError(f"what is kept of it is not a picture of at most {limit} bytes (setting max_picture_bytes)")
    return picture


def _place(connection: Connection, base: str, row: Row[Any], kept: Row[Any] | None) -> tuple[str, Sequence[str]]:
    """Return a folder that may be reached through links, and the names below it that may not."""
    root = next((root for root in get_roots(connection, base) if root.id == row.root_id), None)
    path: object = catalog.path_of({} if root is None else {root.id: root.folder}, row.root_id, row.path)
    if root is not None and root.kind is RootKind.FOLDER and row.path:
        return root.path, unquote_path(row.path).split("/")
    if root is not None and root.kind is RootKind.RECORDS:
        stored = kept.source if kept is not None else None
        if stored is None:
            raise MediaError("the library keeps only its vector")
        path = unquote_source(stored) if isinstance(stored, str) else None
    if not isinstance(path, str) or is_url(path) or not os.path.isabs(path):
        raise MediaError("its picture is not a file")
    return os.path.dirname(path), [os.path.basename(path)]


def _read_below(anchor: str, names: Sequence[str], limit: int) -> bytes:
    try:
        with ExitStack() as stack:
            folder = stack.enter_context(open_folder(Path(anchor)))
            for name in names[:-1]:
                folder = stack.enter_context(folder.child(name))
            return read_open(folder.open(names[-1], os.O_RDONLY), limit)[0]
    except LibraryError as error:
        raise MediaError("it is reached through a link, or is not a regular file") from error
    except FileNotFoundError as error:
        raise MediaError("there is no such file") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
