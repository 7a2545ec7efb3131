"""The pictures of a library, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import items, vectors
from clipsearch.store.sql_values import chunks
from clipsearch.types import Item, Modality


class PictureRow(NamedTuple):
    """A picture and its vector. row: among those of pictures. path: as Item has it. taken_at: local time, no zone."""

    row: int
    id: int
    path: str
    content_hash: str
    taken_at: datetime | None


def picture_rows(connection: Connection, root_paths: Mapping[int, str]) -> Iterator[PictureRow]:
    """Yield every picture that may be found, in order of its row; root_paths: as for `catalog.matches`.

    Frames of films and pages of documents are no pictures of their own.
    """
    query = (
        select(vectors.c.row, items.c.id, items.c.root_id, items.c.path, items.c.content_hash, items.c.taken_at)
        .join(items, items.c.id == vectors.c.item_id)
        .where(vectors.c.modality == Modality.IMAGE, vectors.c.position.is_(None), ~items.c.deleted)
        .order_by(vectors.c.row)
    )
    for row in connection.execute(query):
        taken = _time(row.taken_at)
        path = catalog.path_of(root_paths, row.root_id, row.path)
        yield PictureRow(_number(row.row), row.id, path, row.content_hash, taken)


def _time(value: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if value else None
    except (ValueError, TypeError) as error:
        raise StoreCorruptError(f"The catalog has {value!r} instead of a time. {REPAIR}") from error


def _number(value: object) -> int:
    if isinstance(value, int):
        return value
    raise StoreCorruptError(f"The catalog has {value!r} instead of a row. {REPAIR}")


def rows_of_pictures(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Return the row of each of these items that is one picture; films and documents are several."""
    is_one = (vectors.c.modality == Modality.IMAGE, vectors.c.position.is_(None))
    query = select(vectors.c.item_id, vectors.c.row).where(*is_one)
    found: dict[int, int] = {}
    for chunk in chunks(ids):
        found |= {item: row for item, row in connection.execute(query.where(vectors.c.item_id.in_(chunk)))}
    return found


def copies(connection: Connection, root_paths: Mapping[int, str]) -> Iterator[Item]:
    """Yield every item that has the content of another which may be found, copies one after the other."""
    several = select(items.c.content_hash).where(~items.c.deleted).group_by(items.c.content_hash)
    query = select(items).where(~items.c.deleted, items.c.content_hash.in_(several.having(func.count() > 1)))
    for row in connection.execute(query.order_by(items.c.content_hash, items.c.id)):
        yield catalog.to_item(row, root_paths)


def copied_pictures(connection: Connection) -> frozenset[str]:
    """Return the content hashes that several pictures have which may be found."""
    query = select(items.c.content_hash).where(items.c.modality == Modality.IMAGE, ~items.c.deleted)
    several = query.group_by(items.c.content_hash).having(func.count() > 1)
    return frozenset(connection.execute(several).scalars())
