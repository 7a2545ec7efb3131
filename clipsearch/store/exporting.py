"""What an export says of items and of their vectors: plain values, read from one state of a library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Table, select

from clipsearch.copy_distance import COPY_DISTANCE_KEY
from clipsearch.errors import StoreCorruptError
from clipsearch.store.catalog import get_setting
from clipsearch.store.checksums import require_sound, row_checksum
from clipsearch.store.metadata_index import DECLARED_KEY
from clipsearch.store.positions import load_position
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import (
    collection_items,
    collections,
    item_media,
    item_metadata,
    items,
    recognised_text,
    record_contents,
    record_pictures,
    tags,
    vectors,
)
from clipsearch.store.spreads import SPREADS_KEY
from clipsearch.store.sql_values import listed
from clipsearch.types import Modality

COLUMNS = (
    "modality", "size", "mtime_ns", "content_hash", "width", "height", "taken_at", "camera", "latitude", "longitude",
    "caption", "caption_stamp",
)  # fmt: skip
"""The columns of items that an export has under their own names."""


SETTINGS = (SPREADS_KEY, COPY_DISTANCE_KEY)
"""What was measured of the rows: other values would give other confidences."""

DECLARED = DECLARED_KEY
"""The setting of the names of metadata whose values are indexed."""


def exported_items(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return what is known of live items, in order of id; tags, collections and what JSON texts hold as JSON values.

    root: the id of its root; name: its stored path in that. Raises StoreCorruptError for what fails its checksum.
    """
    found = connection.execute(select(items).where(items.c.id.in_(listed(ids)), ~items.c.deleted).order_by(items.c.id))
    said: dict[int, dict[str, Any]] = {}
    for row in found:
        require_sound(row, items)
        columns = {name: getattr(row, name) for name in COLUMNS}
        said[row.id] = {"id": row.id, "root": row.root_id, "name": row.path, **columns, "tags": [], "collections": []}
    for row in _rows(connection, tags, ids):
        said[row.item_id]["tags"].append([row.tag, str(row.source), row.probability])
    for row in _rows(connection, collection_items, ids):
        said[row.item_id]["collections"].append([row.collection_id, row.position])
    for row in _rows(connection, item_metadata, ids):
        said[row.item_id] |= {"metadata": _json(row.data), "beside": _json(row.beside)}
    for row in _rows(connection, item_media, ids):
        said[row.item_id] |= {"media": row.media, "duration": row.duration, "pages": row.pages}
    for row in _rows(connection, record_contents, ids):
        said[row.item_id] |= {"source": row.source, "text": row.text}
    for row in _rows(connection, recognised_text, ids):
        said[row.item_id] |= {"recognised": {"model": row.model, "lines": _json(row.lines)}}
    return list(said.values())


def exported_vectors(
    connection: Connection, modality: Modality, numbers: NDArray[np.int64], rows: NDArray[np.float16]
) -> list[dict[str, Any]]:
    """Return what the rows of one modality belong to, in their order. rows: float16 (n, dim), of these numbers.

    Raises StoreCorruptError for a row that fails its checksum.
    """
    wanted = select(vectors).where(vectors.c.modality == modality, vectors.c.row.in_(listed(numbers.tolist())))
    found = connection.execute(wanted.order_by(vectors.c.row)).all()
    if [row.row for row in found] != numbers.tolist():
        raise StoreCorruptError(f"The catalog lacks rows of modality {modality}. {REPAIR}")
    return [_vector(row, data) for row, data in zip(found, rows, strict=True)]


def exported_collections(connection: Connection) -> dict[int, str]:
    """Return the names of the collections by their ids."""
    found = connection.execute(select(collections)).all()
    for row in found:
        require_sound(row, collections)
    return {row.id: row.name for row in found}


def exported_settings(connection: Connection) -> dict[str, str]:
    """Return the settings by which answers and later runs are the same, as far as they are there."""
    return {key: value for key in (*SETTINGS, DECLARED) if (value := get_setting(connection, key)) is not None}


def count_kept_pictures(connection: Connection, ids: Iterable[int]) -> int:
    """Count the items of which the library keeps a picture or a thumbnail."""
    own = select(record_pictures.c.item_id).where(record_pictures.c.item_id.in_(listed(ids)))
    return len(connection.execute(own).all())


def _rows(connection: Connection, table: Table, ids: Sequence[int]) -> Iterator[Row[Any]]:
    query = select(table).where(table.c.item_id.in_(listed(ids))).order_by(*table.primary_key)
    for row in connection.execute(query):
        require_sound(row, table)
        yield row


def _vector(row: Row[Any], data: NDArray[np.float16]) -> dict[str, Any]:
    passage = (row.text, row.line, row.end_line)
    checksum = row_checksum(data.data, row.modality, row.item_id, row.part, passage, row.position)
    if row.checksum is not None and checksum != row.checksum:
        raise StoreCorruptError(f"A vector of item {row.item_id} does not match its checksum. {REPAIR}")
    position = load_position(row.position)
    where: Mapping[str, Any] = {} if position is None else {"time": position.time, "page": position.page}
    columns = {"line": row.line, "end_line": row.end_line, "text": row.text}
    return {"modality": str(row.modality), "item": row.item_id, "part": row.part, **where, **columns}


def _json(text: str | None) -> Any:  # noqa: ANN401
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(f"The catalog has a text that is not JSON ({error}). {REPAIR}") from error
