"""What is to be stored for the files of a batch: all that it refers to is read before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, select

from clipsearch.paths import quote_path
from clipsearch.store import catalog
from clipsearch.store.ledger import Ledger
from clipsearch.store.records import Encoded, FileRecord, Known, Outcome
from clipsearch.store.schema import items
from clipsearch.store.vectors import ROW_DTYPE, VectorStore
from clipsearch.types import Modality


@dataclass(slots=True)
class Content:
    """What is to be stored for one file: item columns, one dict of vector columns a part, float16 rows (parts, dim)."""

    record: FileRecord
    columns: dict[str, Any] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    rows: NDArray[np.float16] = field(default_factory=lambda: np.empty((0, 0), ROW_DTYPE))
    moved_from: int | None = None  # an item that keeps its id and rows; parts and rows are not used then


class Resolver:
    """Turns outcomes into contents, with what the library holds already."""

    def __init__(self, store: VectorStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def resolve(self, connection: Connection, batch: Sequence[Outcome]) -> tuple[list[Content], list[FileRecord]]:
        """Return what to store, and the files whose known content is gone meanwhile."""
        contents: list[Content] = []
        unresolved: list[FileRecord] = []
        fresh: dict[str, Content] = {}
        # An item at the place of a file of this batch is about to be that file: it cannot also move elsewhere.
        taken = {own.id for outcome in batch if (own := item_at(connection, outcome.record)) is not None}
        for outcome in batch:
            content = None
            if isinstance(outcome, Encoded):
                content = _from_encoded(outcome)
                fresh.setdefault(outcome.content_hash, content)
            elif isinstance(outcome, Known):
                content = self._from_known(connection, outcome, fresh, taken)
                if content is None:
                    unresolved.append(outcome.record)
            if content is not None:
                contents.append(content)
        return contents, unresolved

    def _from_known(
        self, connection: Connection, known: Known, fresh: dict[str, Content], taken: set[int]
    ) -> Content | None:
        """Find the content elsewhere: in the item itself, in one that is gone from its place, or in a copy."""
        own = item_at(connection, known.record)
        if own is not None and own.content_hash == known.content_hash:
            return Content(known.record, moved_from=own.id)
        if own is None or own.deleted:
            gone = self._gone(connection, known.content_hash, taken)
            if gone is not None:
                taken.add(gone)
                return Content(known.record, moved_from=gone)
        same = select(items).where(items.c.content_hash == known.content_hash)
        source = connection.execute(same.order_by(items.c.deleted, items.c.id).limit(1)).one_or_none()
        if source is not None:
            return self._copy(connection, known.record, source)
        if known.content_hash in fresh:
            twin = fresh[known.content_hash]
            return Content(known.record, twin.columns, twin.parts, twin.rows)
        return None

    def _gone(self, connection: Connection, content_hash: str, taken: set[int]) -> int | None:
        """Return an item with that content whose file is missing or was deleted, and that may be moved."""
        is_gone = items.c.deleted | items.c.id.in_(self._ledger.missing)
        query = select(items.c.id).where(items.c.content_hash == content_hash, is_gone)
        found = connection.execute(query.order_by(items.c.deleted, items.c.id)).scalars()
        return next((number for number in found if number not in taken), None)

    def _copy(self, connection: Connection, record: FileRecord, source: Row[Any]) -> Content:
        parts = catalog.rows_of_item(connection, source.id)
        view = self._store.view(catalog.get_segments(connection, Modality(source.modality)))
        rows = view.gather(np.array([part.row for part in parts], np.int64)).astype(ROW_DTYPE)
        names = ("modality", "content_hash", "width", "height", "taken_at", "camera", "latitude", "longitude")
        columns = {name: getattr(source, name) for name in names}
        kept = ("modality", "part", "text", "line", "end_line")
        return Content(record, columns, [{name: getattr(part, name) for name in kept} for part in parts], rows)


def item_at(connection: Connection, record: FileRecord) -> Row[Any] | None:
    """Return the item at a file's place, live or deleted."""
    at_path = (items.c.root_id == record.root_id) & (items.c.path == quote_path(record.path))
    return connection.execute(select(items).where(at_path)).one_or_none()


def _from_encoded(encoded: Encoded) -> Content:
    columns: dict[str, Any] = {"modality": encoded.modality, "content_hash": encoded.content_hash}
    picture = encoded.picture
    columns |= {
        "width": picture.width if picture else None,
        "height": picture.height if picture else None,
        "taken_at": picture.taken_at.isoformat() if picture and picture.taken_at else None,
        "camera": picture.camera if picture else None,
        "latitude": picture.latitude if picture else None,
        "longitude": picture.longitude if picture else None,
    }
    parts = [
        {
            "modality": encoded.modality,
            "part": i,
            "text": p and p.text,
            "line": p and p.line,
            "end_line": p and p.end_line,
        }
        for i, p in enumerate(encoded.passages or [None] * len(encoded.vectors))
    ]
    return Content(encoded.record, columns, parts, encoded.vectors.astype(ROW_DTYPE))
