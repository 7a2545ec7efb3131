"""Filling a new library with what an export holds: all of it in one transaction, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import IntegrityError

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import check_metadata
from clipsearch.store import catalog, full_text, metadata_index
from clipsearch.store.exporting import COLUMNS
from clipsearch.store.inserts import insert_many
from clipsearch.store.positions import dump_position
from clipsearch.store.records import Root
from clipsearch.store.resolve import Part
from clipsearch.store.revision import change
from clipsearch.store.roots import restore_root
from clipsearch.store.row_places import vector_columns
from clipsearch.store.row_transfer import keep_ids
from clipsearch.store.rows import Appended, advance, append
from clipsearch.store.schema import (
    collection_items,
    collections,
    item_media,
    item_metadata,
    items,
    recognised_text,
    record_contents,
    roots,
    tags,
    vectors,
)
from clipsearch.store.vectors import Segment
from clipsearch.store.writer import Writer
from clipsearch.types import Modality, PartPosition
from clipsearch.words import fold_tag, tidy_name, tidy_tag

VectorBlock = tuple[Sequence[Mapping[str, Any]], NDArray[np.float16]]
"""What rows of one modality belong to, and the rows: float16 (n, dim), of unit length."""


@dataclass(frozen=True, slots=True)
class Refill:
    """What a library is filled with, in values that were checked, as `exporting` gives them.

    roots: as items name them, by their ids. collections: names by their ids. items: blocks in order of id. vectors:
    blocks in the order of the rows. settings: by key.
    """

    roots: Sequence[Root]
    collections: Mapping[int, str]
    items: Iterable[Sequence[Mapping[str, Any]]]
    vectors: Iterable[tuple[Modality, VectorBlock]]
    settings: Mapping[str, str] = field(default_factory=dict)


def refill(writer: Writer, base: str, given: Refill) -> None:
    """Fill a library that has no items; its items get the ids that they are given with.

    base: the folder that portable roots are relative to. Raises InvalidInputError for two items of one place, for a
    library that has items; LibraryError when the disk refuses; nothing has changed then.
    """
    connection, store = writer.storage
    grown: dict[Modality, list[Segment]] = {modality: [] for modality in Modality}
    with change(connection):
        if not catalog.is_empty(connection):
            raise InvalidInputError("The library is not empty, so an export cannot be read into it. Name a new one.")
        try:
            for root in given.roots:
                restore_root(connection, base, root)
            insert_many(
                connection, collections, [_collection(number, name) for number, name in given.collections.items()]
            )
            for block in given.items:
                _insert_items(connection, block)
        except IntegrityError as error:
            raise InvalidInputError(
                f"The export names two items, roots or collections alike ({error.orig}). Nothing was imported."
            ) from error
        for modality, (said, rows) in given.vectors:
            appended = append(connection, store, {modality: rows}, lambda _, each: grown[each])
            names = {segment.name for segment in appended.grown}
            grown[modality] = [each for each in grown[modality] if each.name not in names] + appended.grown
            insert_many(connection, vectors, list(_vector_rows(modality, said, rows, appended)))
        advance(connection, Appended([segment for each in grown.values() for segment in each]))
        for key, value in given.settings.items():
            catalog.set_setting(connection, key, value)
        for table in (roots, items, collections):
            last = connection.execute(select(func.max(table.c.id))).scalar_one()
            keep_ids(connection, table, last or 0)
        full_text.fill(connection)
        metadata_index.rebuild(connection)


def _collection(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "name": tidy_name(name), "folded": fold_tag(name)}


def _insert_items(connection: Connection, block: Sequence[Mapping[str, Any]]) -> None:
    columns = [
        {"id": said["id"], "root_id": said["root"], "path": said["name"], **{name: said.get(name) for name in COLUMNS}}
        for said in block
    ]
    insert_many(connection, items, [{**each, "deleted": False} for each in columns])
    for table, rows in _beside_items(block).items():
        insert_many(connection, table, rows)


def _beside_items(block: Sequence[Mapping[str, Any]]) -> dict[Table, list[dict[str, Any]]]:
    """Return what other tables say of items."""
    rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in _BESIDE}
    for said in block:
        own = {"item_id": said["id"]}
        for tag, source, probability in said.get("tags") or ():
            texts = {"folded": fold_tag(tag), "source": source, "tag": tidy_tag(tag)}
            rows[tags].append({**own, **texts, "probability": probability})
        for number, position in said.get("collections") or ():
            rows[collection_items].append({"collection_id": number, **own, "position": position})
        if said.get("metadata") is not None:
            beside = said.get("beside")
            data = {"data": check_metadata(said["metadata"]), "beside": beside and check_metadata(beside)}
            rows[item_metadata].append({**own, **data})
        if said.get("media") is not None:
            rows[item_media].append({**own, **{name: said.get(name) for name in ("media", "duration", "pages")}})
        if said.get("source") is not None or said.get("text") is not None:
            rows[record_contents].append({**own, "source": said.get("source"), "text": said.get("text")})
        if (read := said.get("recognised")) is not None:
            lines = json.dumps(read["lines"], ensure_ascii=False)
            rows[recognised_text].append({**own, "model": read["model"], "lines": lines})
    return rows


_BESIDE = (tags, collection_items, item_metadata, item_media, record_contents, recognised_text)


def _vector_rows(
    modality: Modality, said: Sequence[Mapping[str, Any]], rows: NDArray[np.float16], appended: Appended
) -> Iterator[dict[str, Any]]:
    """Yield the columns of the vectors of a block."""
    first = appended.take(modality, len(rows))
    for place, each in enumerate(said):
        position = None
        if each.get("time") is not None or each.get("page") is not None:
            position = dump_position(PartPosition(each.get("time"), each.get("page")))
        part = Part(modality, each["part"], each.get("text"), each.get("line"), each.get("end_line"), position)
        own = {modality: rows[place : place + 1]}
        yield from vector_columns(each["item"], (part,), own, {modality: first + place})
