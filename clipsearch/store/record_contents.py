"""What records that were added from Python hold beside their vectors: reading it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, func, or_, select

from clipsearch.paths import unquote_source
from clipsearch.store.checksums import is_sound
from clipsearch.store.schema import record_contents
from clipsearch.store.sql_values import listed


class Contents(NamedTuple):
    """source: the path or URL of its picture. text: all of it."""

    source: str | None
    text: str | None


def contents_of(connection: Connection, ids: Iterable[int]) -> tuple[dict[int, Contents], set[int]]:
    """Return the contents of each of these items that has any, and the items whose contents are damaged."""
    found: dict[int, Contents] = {}
    damaged: set[int] = set()
    for row in connection.execute(select(record_contents).where(record_contents.c.item_id.in_(listed(ids)))):
        if is_sound(row, record_contents) and all(isinstance(each, str | None) for each in (row.source, row.text)):
            source = None if row.source is None else unquote_source(row.source)
            found[row.item_id] = Contents(source, row.text)
        else:
            damaged.add(row.item_id)
    return found, damaged


def find_unreadable(connection: Connection) -> set[int]:
    """Return the items whose contents are no texts, whether or not they match their digests."""
    kinds = [
        func.typeof(column).not_in(("text", "null")) for column in (record_contents.c.source, record_contents.c.text)
    ]
    return set(connection.execute(select(record_contents.c.item_id).where(or_(*kinds))).scalars())
