"""Changing what is said of items that are there: metadata, and captions with their rows, inside one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from clipsearch.store import full_text, item_metadata
from clipsearch.store.inserts import insert_many
from clipsearch.store.records import RootKind
from clipsearch.store.resolve import Part
from clipsearch.store.row_places import vector_columns
from clipsearch.store.rows import Appended, remove_rows
from clipsearch.store.schema import FIRST_RECOGNISED_PART, items, roots, vectors
from clipsearch.store.sql_values import listed, listed_texts
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.types import Modality, Passage


@dataclass(frozen=True, slots=True)
class NewCaption:
    """A caption that items are to have in place of their own.

    text: None for none. passages, vectors: of it, float32 (passages, dim), unit rows. None for the vectors where
    nothing can be encoded, so that the rows of items stay. kept: by the id of a record, the passages of its own text.
    """

    text: str | None
    passages: Sequence[Passage] = ()
    vectors: NDArray[np.float32] | None = None
    kept: Mapping[int, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What is to be changed. metadata: values to set by name; removed: names. caption: None leaves captions alone."""

    metadata: Mapping[str, object] = field(default_factory=dict)
    removed: Collection[str] = ()
    caption: NewCaption | None = None

    def rows(self, items: int) -> dict[Modality, NDArray[np.float16]]:
        """Return the rows to append for so many items, by modality."""
        found = None if self.caption is None else self.caption.vectors
        if found is None or not len(found):
            return {}
        return {Modality.TEXT: np.tile(found.astype(ROW_DTYPE), (items, 1))}


def store(connection: Connection, ids: Sequence[int], change: ItemChange, appended: Appended) -> None:
    """Change items. Raises StoreCorruptError for metadata that is damaged."""
    if change.metadata or change.removed:
        item_metadata.merge(connection, ids, change.metadata, change.removed)
    if change.caption is not None:
        chosen = select(items.c.id).where(items.c.id.in_(listed(ids)))
        full_text.remove(connection, chosen)
        if change.caption.vectors is not None:
            for item_id in ids:
                _drop_rows(connection, item_id, change.caption.kept.get(item_id, ()))
            insert_many(connection, vectors, list(_places(connection, ids, change.caption, appended)))
        connection.execute(update(items).where(items.c.id.in_(chosen)).values(caption=change.caption.text))
        full_text.add_again(connection, chosen)


def _drop_rows(connection: Connection, item_id: int, kept: Collection[str]) -> None:
    """Hide the rows of an item's caption, and take them from it.

    Text in a picture stays, and of a record its text, and a vector that its caller made.
    """
    has_texts = roots.c.kind.in_((RootKind.RECORDS, RootKind.SOURCE))
    is_record = select(items.c.id).join(roots, roots.c.id == items.c.root_id).where(has_texts)
    has_own: ColumnElement[bool] = or_(vectors.c.text.is_(None), vectors.c.text.in_(listed_texts(kept)))
    is_caption = (vectors.c.part < FIRST_RECOGNISED_PART) & ~(vectors.c.item_id.in_(is_record) & has_own)
    remove_rows(connection, [item_id], Modality.TEXT, is_caption)


def _places(
    connection: Connection, ids: Sequence[int], caption: NewCaption, appended: Appended
) -> Iterator[dict[str, Any]]:
    """Yield the columns of the rows of a caption, after the parts that items keep."""
    if not caption.passages:
        return
    assert caption.vectors is not None
    is_own = (vectors.c.modality == Modality.TEXT, vectors.c.part < FIRST_RECOGNISED_PART)
    last = select(vectors.c.item_id, func.max(vectors.c.part)).where(vectors.c.item_id.in_(listed(ids)), *is_own)
    last_parts = {item_id: part for item_id, part in connection.execute(last.group_by(vectors.c.item_id))}
    rows = caption.vectors.astype(ROW_DTYPE)
    for item_id in ids:
        first = appended.take(Modality.TEXT, len(rows))
        next_part = last_parts.get(item_id, -1) + 1
        parts = [Part.of_passage(number, passage) for number, passage in enumerate(caption.passages, next_part)]
        yield from vector_columns(item_id, parts, {Modality.TEXT: rows}, {Modality.TEXT: first})
