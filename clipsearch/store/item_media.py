"""What the items of several parts are: films and documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, Connection, delete, exists, select

from clipsearch.store.checksums import is_sound
from clipsearch.store.inserts import insert_many
from clipsearch.store.positions import MAX_PAGE, MAX_TIME, load_position
from clipsearch.store.schema import item_media, items, vectors
from clipsearch.store.sql_values import listed
from clipsearch.types import Media, MediaInfo, Modality, PicturePart


def store(connection: Connection, infos: Mapping[int, MediaInfo | None]) -> None:
    """Store what items are, by id, in place of what they were; None for an item of one part."""
    remove(connection, infos)
    known = [(number, info) for number, info in infos.items() if info is not None]
    insert_many(
        connection,
        item_media,
        [
            {"item_id": number, "media": str(info.media), "duration": info.duration, "pages": info.pages}
            for number, info in known
        ],
    )


def remove(connection: Connection, ids: Iterable[int]) -> None:
    """Forget what items are."""
    connection.execute(delete(item_media).where(item_media.c.item_id.in_(listed(ids))))


def infos_of(connection: Connection, ids: Iterable[int]) -> dict[int, MediaInfo]:
    """Return what each of these items of several parts is; without those whose entry is damaged."""
    found: dict[int, MediaInfo] = {}
    for row in connection.execute(select(item_media).where(item_media.c.item_id.in_(listed(ids)))):
        if is_sound(row, item_media) and row.media in {*Media}:
            found[row.item_id] = MediaInfo(Media(row.media), _seconds(row.duration), _pages(row.pages))
    return found


def _seconds(stored: object) -> float | None:
    return float(stored) if isinstance(stored, int | float) and 0 <= stored <= MAX_TIME else None


def _pages(stored: object) -> int | None:
    return stored if isinstance(stored, int) and 0 < stored <= MAX_PAGE else None


def picture_parts(connection: Connection, item_id: int) -> list[PicturePart]:
    """Return the pictures of an item of several parts, in their order; none for any other item."""
    own = (vectors.c.item_id == item_id, vectors.c.modality == Modality.IMAGE, vectors.c.position.is_not(None))
    query = select(vectors.c.part, vectors.c.position).where(*own).order_by(vectors.c.part)
    found = ((row.part, load_position(row.position)) for row in connection.execute(query))
    return [PicturePart(part, position) for part, position in found if position is not None]


def mend(connection: Connection) -> None:
    """Say again what items are of which only that is lost: by where their parts lie. How long a film is stays lost."""
    is_known = exists().where(item_media.c.item_id == vectors.c.item_id)
    query = select(vectors.c.item_id, vectors.c.position).where(vectors.c.position.is_not(None), ~is_known)
    infos: dict[int, MediaInfo | None] = {}
    for item_id, stored in connection.execute(query):
        position, before = load_position(stored), infos.get(item_id)
        if position is not None and position.page is not None:
            pages = max(position.page, (before and before.pages) or 0)
            infos[item_id] = MediaInfo(Media.DOCUMENT, pages=pages)
        elif position is not None:
            infos[item_id] = MediaInfo(Media.FILM)
    store(connection, infos)


def is_media(kind: Media) -> ColumnElement[bool]:
    """Build the condition "an item that is a film", or a document."""
    return items.c.id.in_(select(item_media.c.item_id).where(item_media.c.media == str(kind)))
