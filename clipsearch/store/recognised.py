"""The text that was recognised in pictures: its lines in a table of its own, its passages beside those of captions.

A picture that was read has a row in `recognised_text`, also where no text was found or none can be recognised.
Passages are rows of the modality text, like those of a caption, with part numbers from FIRST_PART on; their lines are
numbered as in the table. So a caption may change, and these stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, delete, exists, func, select

from clipsearch.media.ocr import clean_line
from clipsearch.store import full_text
from clipsearch.store.checksums import is_sound
from clipsearch.store.inserts import insert_many
from clipsearch.store.records import RecognisedText, RootKind
from clipsearch.store.resolve import Part
from clipsearch.store.row_places import vector_columns
from clipsearch.store.rows import Appended, remove_rows
from clipsearch.store.schema import FIRST_RECOGNISED_PART as FIRST_PART
from clipsearch.store.schema import items, recognised_text, roots, vectors
from clipsearch.store.sql_values import listed
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.types import Modality, TextLine

_MAX_LINES = 1000
_NONE_FOUND, _FAILED = "[]", "null"
"""The lines of a picture without text, and of one whose text cannot be recognised."""


class Unread(NamedTuple):
    """A picture whose text is to be recognised. path: as stored; size: bytes of the file."""

    item_id: int
    root_id: int
    path: str
    size: int
    content_hash: str


def _unread(model: str | None, retry_failed: bool) -> Select[Any]:
    """Build the query for pictures without text of a model; None: of any model. retry_failed: and for failed ones."""
    same = recognised_text.c.item_id == items.c.id
    if model is not None:
        same = and_(same, recognised_text.c.model == model)
    if retry_failed:
        same = and_(same, recognised_text.c.lines != _FAILED)
    columns = select(*(items.c[name] for name in ("id", "root_id", "path", "size", "content_hash")))
    reachable = (roots.c.kind == RootKind.FOLDER, ~roots.c.offline)
    wanted = (items.c.modality == Modality.IMAGE, ~items.c.deleted, ~exists().where(same))
    return columns.join(roots, roots.c.id == items.c.root_id).where(*reachable, *wanted)


def count_unread(connection: Connection, model: str | None, *, retry_failed: bool) -> int:
    """Count the pictures that can be found and lack text of a model, or where it is None, of any.

    retry_failed: also those whose text could not be recognised.
    """
    query = select(func.count()).select_from(_unread(model, retry_failed).subquery())
    count: int = connection.execute(query).scalar_one()
    return count


def list_unread(
    connection: Connection, model: str | None, after: int, limit: int, *, retry_failed: bool
) -> list[Unread]:
    """List them, in order of id, from beyond the id `after` on."""
    query = _unread(model, retry_failed).where(items.c.id > after).order_by(items.c.id).limit(limit)
    return [Unread._make(row) for row in connection.execute(query)]


def known_lines(connection: Connection, content_hash: str, model: str) -> tuple[TextLine, ...] | None:
    """Return the lines that the same model found in the same content elsewhere; None where it was not read.

    What failed or is damaged does not count.
    """
    query = select(recognised_text).join(items, items.c.id == recognised_text.c.item_id)
    same = (items.c.content_hash == content_hash, recognised_text.c.model == model, recognised_text.c.lines != _FAILED)
    found = connection.execute(query.where(*same).limit(1)).one_or_none()
    return None if found is None else _lines(found)


def lines_of(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[TextLine, ...]]:
    """Return the lines of each of these items that has any; damaged ones are left out."""
    has_lines = recognised_text.c.lines.not_in((_NONE_FOUND, _FAILED))
    query = select(recognised_text).where(recognised_text.c.item_id.in_(listed(ids)), has_lines)
    found = ((row.item_id, _lines(row)) for row in connection.execute(query))
    return {item_id: lines for item_id, lines in found if lines}


def store(connection: Connection, batch: Sequence[RecognisedText], appended: Appended) -> None:
    """Store what was read of pictures, in place of what was read before, inside the transaction of a commit.

    A picture whose content is another one by now is passed over.
    """
    ids = [each.item_id for each in batch]
    current = dict(
        connection.execute(select(items.c.id, items.c.content_hash).where(items.c.id.in_(listed(ids)))).all()
    )
    full_text.remove(connection, ids)
    _drop_parts(connection, ids)
    remove(connection, ids)
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for each in batch:
        first = appended.take(Modality.TEXT, len(each.passages)) if each.passages else 0
        if current.get(each.item_id) == each.content_hash:
            rows.append({"item_id": each.item_id, "model": each.model, "lines": _dump(each.lines)})
            parts += _parts(each, first)
    insert_many(connection, recognised_text, rows)
    insert_many(connection, vectors, parts)
    full_text.add_again(connection, ids)


def remove(connection: Connection, ids: Select[tuple[int]] | Sequence[int]) -> None:
    """Forget the lines of items, so that their pictures count as not read."""
    connection.execute(delete(recognised_text).where(recognised_text.c.item_id.in_(ids)))


def _parts(text: RecognisedText, first: int) -> Iterator[dict[str, Any]]:
    parts = [Part.of_passage(number, passage) for number, passage in enumerate(text.passages, FIRST_PART)]
    rows = {Modality.TEXT: text.vectors.astype(ROW_DTYPE)}
    return vector_columns(text.item_id, parts, rows, {Modality.TEXT: first})


def _drop_parts(connection: Connection, ids: Sequence[int]) -> None:
    """Hide the rows of what was read before, and take them from the items."""
    is_recognised = vectors.c.part >= FIRST_PART
    remove_rows(connection, ids, Modality.TEXT, is_recognised)


def _dump(lines: Iterable[TextLine] | None) -> str:
    if lines is None:
        return _FAILED
    return json.dumps([[line.text, line.box, line.confidence] for line in lines], ensure_ascii=False)


def _lines(row: Row[Any]) -> tuple[TextLine, ...] | None:
    """Read lines; None for a row that is damaged or that we have not written."""
    if not is_sound(row, recognised_text):
        return None
    try:
        return tuple(_line(text, box, sure) for text, box, sure in json.loads(row.lines)[:_MAX_LINES])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _line(text: Any, box: Any, sure: Any) -> TextLine:  # noqa: ANN401
    """Check a line, and bring its text into the form that the writer gives it, no longer than that allows."""
    corners, confidence = tuple((float(x), float(y)) for x, y in box), float(sure)
    if not isinstance(text, str) or len(corners) != 4:
        raise ValueError("not a text and four corners")
    if not all(0 <= value <= 1 for value in chain([confidence], *corners)):  # nor is NaN
        raise ValueError("a value out of range")
    return TextLine(clean_line(text), corners, confidence)
