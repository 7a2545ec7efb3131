"""Reading the catalog: every query takes a Connection, so that several of them can see one state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    PoolProxiedConnection,
    Row,
    bindparam,
    cast,
    delete,
    exists,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from clipsearch.errors import StoreCorruptError
from clipsearch.paths import RECORDS, join
from clipsearch.store.checksums import is_sound, require_sound, row_checksum
from clipsearch.store.dialect import is_postgres
from clipsearch.store.names import is_generation_name, is_segment_name
from clipsearch.store.positions import load_position
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import generations, items, segments, settings, vectors
from clipsearch.store.sql_values import listed, listed_texts, number_parameter, numbers, to_parameter
from clipsearch.store.vectors import ROW_DTYPE, Segment
from clipsearch.types import EncoderPin, Item, Modality, PartPosition, Passage, PictureInfo

QUERIES_KEY = "calibration_queries"
"""The setting of the queries that a library was given: vectors of its encoder (indexer/queries.py)."""

DAMAGED = "damaged"
"""The name, and the only file, of a generation that cannot be what the catalog says: it is passed over and replaced."""


@dataclass(frozen=True, slots=True)
class Generation:
    """An approximate index that is active. Rows from `watermark` on are not in it."""

    modality: Modality
    name: str
    kind: str
    params: Mapping[str, Any]
    watermark: int
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Match:
    """The item and the part that a row belongs to; they are parsed on access.

    place: the columns of the item, then those of the row but its modality. root_paths: as of `matches`.
    """

    modality: Modality
    place: Row[*tuple[Any, ...]]
    root_paths: Mapping[int, str]

    @property
    def item_id(self) -> int:
        """The id of the item."""
        return int(self.place.id)

    @property
    def item(self) -> Item:
        """The item. Raises StoreCorruptError if its columns are invalid."""
        return to_item(self.place, self.root_paths)

    @property
    def part(self) -> int:
        """Which part of the item it is."""
        return int(self.place.part)

    @property
    def passage(self) -> Passage | None:
        """The passage that the row encodes; None for an image."""
        return _passage(self.place, self.modality)

    @property
    def position(self) -> PartPosition | None:
        """Where in a film or a document the row lies."""
        return load_position(self.place.position)

    def is_sound(self, vector: NDArray[np.float16]) -> bool:
        """Tell whether the item, the passage and the vector, float16 (dim,), match their checksums."""
        item_id, part, text, line, end_line, stored, position = tuple(self.place)[-7:]
        if not is_sound(self.place, items):
            return False
        return stored is None or bool(
            stored == row_checksum(vector.data, self.modality, item_id, part, (text, line, end_line), position)
        )


_PART = (
    vectors.c.part, vectors.c.text, vectors.c.line, vectors.c.end_line, vectors.c.checksum, vectors.c.position
)  # fmt: skip


# What every query begins with, or every few files of a run. SQLAlchemy takes longer to build these statements than
# SQLite to answer them. The columns are those of the tables in their order, as checksums.is_sound needs them.
_SETTING = "SELECT key, value, digest FROM settings WHERE key = ?"
_SEGMENTS = "SELECT id, modality, name, first_row, committed_rows, digest FROM segments ORDER BY modality, first_row"
_TOMBSTONES = "SELECT row FROM tombstones WHERE modality = ? ORDER BY row"
_GENERATION = (
    "SELECT id, modality, name, kind, params, watermark, checksums, digest FROM generations WHERE modality = ?"
)
_UPSERT = upsert(settings)
_SET = _UPSERT.on_conflict_do_update(index_elements=["key"], set_={"value": _UPSERT.excluded.value})
_MATCHES = (
    select(*items.c, vectors.c.row, vectors.c.item_id, *_PART)
    .join(items, items.c.id == vectors.c.item_id)
    .where(vectors.c.modality == bindparam("modality"), vectors.c.row.in_(number_parameter("rows")), ~items.c.deleted)
)
_ROWS = select(vectors.c.row, vectors.c.item_id).where(vectors.c.modality == bindparam("modality"))
_ITEMS_OF_ROWS = _ROWS.where(vectors.c.row.in_(number_parameter("rows")))
_ROWS_OF_ITEMS = _ROWS.where(vectors.c.item_id.in_(number_parameter("ids")))
_KNOWN = (
    "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM items WHERE content_hash = value AND EXISTS "
    "(SELECT 1 FROM vectors WHERE item_id = items.id AND vectors.modality = items.modality))"
)
IS_ENCODED = exists().where(vectors.c.item_id == items.c.id, vectors.c.modality == items.c.modality)
"""The condition that an item has its vectors, which one that another encoder could not read may lack."""


def get_setting(connection: Connection, key: str) -> str | None:
    """Return a setting's value, or None if it is not set. Raises StoreCorruptError if it is damaged."""
    row = connection.exec_driver_sql(_SETTING, (key,)).one_or_none()
    if row is None:
        return None
    require_sound(row, settings)
    return str(row.value)


def value_length(connection: Connection) -> ColumnElement[int]:
    """Return the bytes of the value of a setting; SQLite counts those of a text up to its first NUL alone."""
    if is_postgres(connection):
        return func.octet_length(settings.c.value)
    return func.length(cast(settings.c.value, LargeBinary))


def get_number(connection: Connection, key: str) -> int:
    """Return an integer setting, or 0 if it is not set. Raises StoreCorruptError if it is no integer or is damaged."""
    value = get_setting(connection, key)
    try:
        return int(value or 0)
    except ValueError:
        raise StoreCorruptError(f"The catalog says that {key} is {value!r}. {REPAIR}") from None


def get_encoder(connection: Connection) -> EncoderPin | None:
    """Return the encoder that the library is pinned to; None before the first run."""
    name = get_setting(connection, "encoder")
    if name is None:
        return None
    return EncoderPin(name, get_setting(connection, "fingerprint") or "", get_number(connection, "dim"))


def set_setting(connection: Connection, key: str, value: str | None) -> None:
    """Store a setting; None removes it."""
    if value is None:
        connection.execute(delete(settings).where(settings.c.key == key))
        return
    connection.execute(_SET, {"key": key, "value": value})


def get_segments(connection: Connection, modality: Modality | None = None) -> list[Segment]:
    """List segments in order of their rows."""
    found = [to_segment(row) for row in connection.exec_driver_sql(_SEGMENTS)]
    return [segment for segment in found if modality in (None, segment.modality)]


def count_rows(connection: Connection, modality: Modality) -> int:
    """Count the committed rows of one modality, dead ones too."""
    return sum(segment.committed_rows for segment in get_segments(connection, modality))


def get_row_bytes(connection: Connection) -> int:
    """Return the bytes of a stored vector, 0 before an encoder is pinned."""
    return int(get_setting(connection, "dim") or 0) * ROW_DTYPE.itemsize


def get_tombstones(connection: Connection, modality: Modality) -> NDArray[np.int64]:
    """Return the rows of one modality that must not be found: int64, ascending."""
    return numbers(connection.exec_driver_sql(_TOMBSTONES, (str(modality),)).scalars())


def path_of(root_paths: Mapping[int, str], root_id: int, path: str) -> str:
    """Return the absolute path of an item. Raises StoreCorruptError if its root is unknown or its path is not text."""
    try:
        return join(root_paths[root_id], path)
    except (LookupError, TypeError, ValueError) as error:
        raise StoreCorruptError(f"The catalog has a wrong file name in root {root_id!r} ({error}). {REPAIR}") from error


def get_generation(connection: Connection, modality: Modality) -> Generation | None:
    """Return the active generation of one modality; if its entry is damaged, a generation that fails to load."""
    row = connection.exec_driver_sql(_GENERATION, (str(modality),)).one_or_none()
    return None if row is None else to_generation(row, modality)


def to_generation(row: Row[Any], modality: Modality) -> Generation:
    """Build a Generation from a row that has the columns of `generations`; one that fails to load, if it is damaged."""
    try:
        params, checksums = json.loads(row.params), json.loads(row.checksums)
    except (ValueError, TypeError, RecursionError):
        params = checksums = None
    is_known = isinstance(params, dict) and isinstance(checksums, dict) and isinstance(row.watermark, int)
    if not is_known or not is_sound(row, generations) or not is_generation_name(row.name):
        return Generation(modality, DAMAGED, "", {}, 0, {DAMAGED: ""})
    return Generation(modality, row.name, row.kind, params, row.watermark, checksums)


def matches(
    connection: Connection, modality: Modality, rows: Sequence[int], root_paths: Mapping[int, str]
) -> dict[int, Match]:
    """Look up the items behind rows that are not tombstones; root_paths: id -> absolute folder of every root."""
    found = connection.execute(_MATCHES, {"modality": modality, "rows": to_parameter(rows)})
    return {row.row: Match(modality, row, root_paths) for row in found}


def item_ids_by_row(
    connection: Connection, modality: Modality, *, rows: Iterable[int] | None = None, ids: Iterable[int] | None = None
) -> dict[int, int]:
    """Return the id of the item of each of these rows, or of each row of these items."""
    wanted = {"modality": modality}
    if rows is not None:
        found = connection.execute(_ITEMS_OF_ROWS, {**wanted, "rows": to_parameter(rows)})
    else:
        found = connection.execute(_ROWS_OF_ITEMS, {**wanted, "ids": to_parameter(ids or ())})
    assert found.cursor is not None
    pairs = found.cursor.fetchall()  # in a third of the time that SQLAlchemy takes for tens of thousands of rows
    return {row: item_id for row, item_id in pairs if type(item_id) is int}  # anything else is of a damaged catalog


def rows_of_item(connection: Connection, item_id: int) -> list[Row[Any]]:
    """Return an item's vector rows, in order of part."""
    return list(connection.execute(select(vectors).where(vectors.c.item_id == item_id).order_by(vectors.c.part)))


def known_hashes(connection: PoolProxiedConnection, hashes: Iterable[str]) -> set[str]:
    """Return those of these content hashes that the library holds vectors for; also of deleted files.

    connection: that of the database itself, because SQLAlchemy takes longer for a statement than SQLite for this one.
    """
    cursor = connection.cursor()
    cursor.execute(_KNOWN, (to_parameter(hashes),))
    return {content_hash for (content_hash,) in cursor.fetchall()}


def held_hashes(connection: Connection, hashes: Iterable[str]) -> set[str]:
    """Return what `known_hashes` does, by a transaction of PostgreSQL."""
    held = select(items.c.content_hash).where(items.c.content_hash.in_(listed_texts(hashes)), IS_ENCODED)
    return set(connection.execute(held).scalars())


def has_caption(connection: Connection, content_hash: str, caption: str) -> bool:
    """Tell whether the library holds vectors for that content with that caption; also of a deleted file."""
    same = (items.c.content_hash == content_hash, items.c.caption == caption, IS_ENCODED)
    query = select(items.c.id).where(*same).limit(1)
    return connection.execute(query).first() is not None


def is_encoded(connection: Connection, item_id: int) -> bool:
    """Tell whether an item has its vectors."""
    return connection.execute(select(items.c.id).where(items.c.id == item_id, IS_ENCODED)).first() is not None


def is_empty(connection: Connection) -> bool:
    """Tell whether there are no items, live or deleted."""
    return connection.execute(select(items.c.id).limit(1)).first() is None


def count_items(connection: Connection) -> dict[Modality, int]:
    """Count the files that can be found, by modality."""
    query = select(items.c.modality, func.count()).where(~items.c.deleted).group_by(items.c.modality)
    return {m: count for name, count in connection.execute(query) for m in Modality if name == m}


def count_items_of_root(connection: Connection, root_id: int) -> int:
    """Count the items of a root that can be found."""
    query = select(func.count()).select_from(items).where(items.c.root_id == root_id, ~items.c.deleted)
    return int(connection.execute(query).scalar_one())


def list_items(
    connection: Connection, allowed: ColumnElement[bool], limit: int | None, offset: int = 0
) -> tuple[Sequence[Row[Any]], int]:
    """Return the rows of the first live items that meet a condition, after so many others, and how many do.

    Newest first: by the time of the camera, else by the local time of the file's last change; without either, last.
    """
    query = select(items).where(~items.c.deleted, allowed)
    found = connection.execute(query.order_by(*newest()).limit(limit).offset(offset)).all()
    if limit is None and not offset:
        return found, len(found)
    return found, connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()


def newest() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Build what items are sorted by, the newest first."""
    seconds = func.nullif(items.c.mtime_ns, 0).op("/")(1_000_000_000)  # not //, which SQLAlchemy has Python round
    changed = func.strftime("%Y-%m-%dT%H:%M:%S", seconds, "unixepoch", "localtime")
    return func.coalesce(items.c.taken_at, changed).desc().nulls_last(), items.c.id.desc()


def live_items(connection: Connection, ids: Iterable[int]) -> Sequence[Row[Any]]:
    """Return the rows of those of these items that are live, in order of id."""
    query = select(items).where(items.c.id.in_(listed(ids)), ~items.c.deleted)
    return connection.execute(query.order_by(items.c.id)).all()


def matching_ids(connection: Connection, allowed: ColumnElement[bool]) -> NDArray[np.int64]:
    """Return the ids of the live items that meet a condition: int64, ascending."""
    return np.sort(numbers(connection.execute(select(items.c.id).where(~items.c.deleted, allowed)).scalars()))


def count_matching(connection: Connection, allowed: ColumnElement[bool]) -> int:
    """Count the live items that meet a condition."""
    query = select(func.count()).select_from(items).where(~items.c.deleted, allowed)
    return int(connection.execute(query).scalar_one())


def to_item(row: Row[Any], root_paths: Mapping[int, str]) -> Item:
    """Build an Item from a row that has the columns of `items`. Raises StoreCorruptError if they are invalid."""
    try:
        picture = None
        if row.width is not None or row.taken_at is not None:
            taken = datetime.fromisoformat(row.taken_at) if row.taken_at else None
            latitude, longitude = _coordinates(row.latitude, row.longitude)
            width, height = _pixels(row.width, row.height)
            picture = PictureInfo(width, height, taken, _text(row.camera), latitude, longitude)
        path = path_of(root_paths, row.root_id, row.path)
        modality = Modality(row.modality)
        if not (isinstance(row.size, int) and isinstance(row.mtime_ns, int) and isinstance(row.content_hash, str)):
            raise TypeError("its size, time or content is of another type")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise StoreCorruptError(f"The catalog has a wrong entry for item {row.id} ({error}). {REPAIR}") from error
    key = path.removeprefix(RECORDS) if root_paths[row.root_id] == RECORDS else path
    return Item(row.id, path, modality, row.size, row.mtime_ns, row.content_hash, picture, _text(row.caption), key)


def _pixels(width: object, height: object) -> tuple[int, int] | tuple[None, None]:
    """Return a width and a height; none where the two are not numbers of pixels, as those of a damaged catalog."""
    if isinstance(width, int) and isinstance(height, int) and width >= 0 and height >= 0:
        return width, height
    return None, None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _coordinates(latitude: object, longitude: object) -> tuple[float, float] | tuple[None, None]:
    """Return a place in degrees; none where the two are not degrees, as those of a damaged catalog."""
    for degrees, most in ((latitude, 90), (longitude, 180)):
        if not isinstance(degrees, int | float) or not abs(degrees) <= most:
            return None, None
    return latitude, longitude  # type: ignore[return-value]


def _passage(row: Row[Any], modality: Modality) -> Passage | None:
    if modality is Modality.TEXT and row.text is None:  # of a record, whose text is its caption
        return Passage(row.caption or "", 1, 1)
    return None if row.text is None else Passage(row.text, row.line, row.end_line, load_position(row.position))


def to_segment(row: Row[Any]) -> Segment:
    """Build a Segment from a row that has the columns of `segments`.

    Raises StoreCorruptError if the row is damaged, or its name is not that of a segment.
    """
    require_sound(row, segments)
    try:
        segment = Segment(row.id, Modality(row.modality), row.name, int(row.first_row), int(row.committed_rows))
    except (ValueError, TypeError, OverflowError) as error:
        raise StoreCorruptError(f"The catalog has a wrong entry for a segment ({error}). {REPAIR}") from error
    if not isinstance(segment.name, str) or not is_segment_name(segment.name):
        raise StoreCorruptError(
            f"The catalog names {segment.name!r} as a file of vectors, which is not a valid name. {REPAIR}"
        )
    return segment


def cameras(connection: Connection) -> tuple[str, ...]:
    """Return the names of all cameras; anything but a text is of a damaged catalog, and left out."""
    found = connection.execute(select(items.c.camera).where(items.c.camera.is_not(None)).distinct()).scalars()
    return tuple(name for name in found if isinstance(name, str))


def has_taken(connection: Connection, start: datetime, end: datetime) -> bool:
    """Tell whether a live picture was taken from a local time on until before another."""
    during = items.c.taken_at >= start.isoformat(), items.c.taken_at < end.isoformat()
    return connection.execute(select(items.c.id).where(*during, ~items.c.deleted).limit(1)).first() is not None
