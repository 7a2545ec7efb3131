"""The metadata of items: stored, changed, read, and matched with conditions."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from clipsearch.errors import StoreCorruptError
from clipsearch.metadata import LABEL, NONE, RATING, check_metadata, parse_metadata
from clipsearch.store import metadata_index
from clipsearch.store.checksums import digest, is_sound
from clipsearch.store.dialect import is_postgres
from clipsearch.store.metadata_sql import meets
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import item_metadata, items
from clipsearch.store.sql_values import chunks, listed
from clipsearch.types import MetadataValue
from clipsearch.where import Condition, Where

_COLUMNS = ("item_id", "data", "digest")
_STORE = (
    f"INSERT INTO item_metadata ({', '.join(_COLUMNS)}) VALUES {{}} "
    "ON CONFLICT (item_id) DO UPDATE SET data = excluded.data WHERE item_metadata.data <> excluded.data"
)
_ROWS = 64
"""Rows per statement: as in clipsearch.store.inserts. Also conditions of a query, whose depth SQLite bounds."""
_STORE_BESIDE = (
    "INSERT INTO item_metadata (item_id, data, beside) VALUES (?, ?, ?) "
    "ON CONFLICT (item_id) DO UPDATE SET data = excluded.data, beside = excluded.beside"
)


NOTE = "incomplete"
"""The name of what is missing of a picture that was accepted all the same."""


def store(connection: Connection, metadata: Mapping[int, str]) -> None:
    """Store the metadata of items, by id, in place of what they have: JSON texts of `check_metadata`."""
    given = [(item_id, text, digest(item_id, text, None)) for item_id, text in metadata.items() if text != NONE]
    if given and is_postgres(connection):
        given = _insert_new(connection, given)
    for page in chunks(given, _ROWS):
        values = ", ".join(["(?, ?, ?)"] * len(page))
        connection.exec_driver_sql(_STORE.format(values), tuple(chain.from_iterable(page)))
    if empty := [item_id for item_id, text in metadata.items() if text == NONE]:
        connection.execute(delete(item_metadata).where(item_metadata.c.item_id.in_(listed(empty))))
    metadata_index.refresh(connection, listed(metadata))


def _insert_new(connection: Connection, given: Sequence[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
    """Insert the metadata of items that have none, all at once; return the rest."""
    from clipsearch.store.postgres.copying import copy_rows

    query = select(item_metadata.c.item_id).where(item_metadata.c.item_id.in_(listed(row[0] for row in given)))
    present = set(connection.execute(query).scalars())
    copy_rows(connection, item_metadata.name, _COLUMNS, (row for row in given if row[0] not in present))
    return [row for row in given if row[0] in present]


def store_beside(
    connection: Connection, said: Mapping[int, str], facts: Mapping[int, Mapping[str, MetadataValue]]
) -> None:
    """Store what tables beside files say of items now, by id, as JSON texts of `check_metadata`, and what files do.

    Only what has changed since that was read last is changed, so that what a caller has set stays. facts: of files, by
    id; a table counts before them, and an item without an entry keeps its own.
    """
    query = select(item_metadata).where(item_metadata.c.item_id.in_(listed(said)))
    present = {row.item_id: row for row in connection.execute(query)}
    changed: list[tuple[int, str, str]] = []
    for item_id, of_tables in said.items():
        row = present.get(item_id)
        before = (row and row.beside) or NONE
        text = _with_facts(of_tables, facts.get(item_id), before)
        if before != text:
            data = _read(row and row.data)
            old, new = _read(before), _read(text)
            data = {name: value for name, value in data.items() if name in new or name not in old}
            data |= {name: value for name, value in new.items() if json.dumps(old.get(name)) != json.dumps(value)}
            changed.append((item_id, check_metadata(data), text))
    if changed:
        connection.exec_driver_sql(_STORE_BESIDE, changed)
        metadata_index.refresh(connection, listed(item_id for item_id, _, _ in changed))


def _with_facts(of_tables: str, facts: Mapping[str, MetadataValue] | None, before: str) -> str:
    """Return what tables and the file say of an item. before: both, when they were read last."""
    if facts is None and before != NONE:
        facts = {name: value for name, value in _read(before).items() if name in (RATING, LABEL)}
    return check_metadata({**facts, **_read(of_tables)}) if facts else of_tables


def store_notes(connection: Connection, notes: Mapping[int, str]) -> None:
    """Store what is missing of pictures, by id, under the name NOTE; "" removes it.

    Raises StoreCorruptError for metadata that is damaged.
    """
    noted = {item_id: note for item_id, note in notes.items() if note}
    query = select(item_metadata.c.item_id).where(item_metadata.c.item_id.in_(listed(notes)))
    has_any = [item_id for item_id in connection.execute(query).scalars() if item_id not in noted]
    present, _ = values_of(connection, has_any)
    if whole := [item_id for item_id, values in present.items() if NOTE in values]:
        merge(connection, whole, {}, (NOTE,))
    for item_id, note in noted.items():
        merge(connection, [item_id], {NOTE: note}, ())


def _read(text: object) -> dict[str, MetadataValue]:
    """Read metadata; nothing where it is damaged."""
    try:
        return parse_metadata(text)
    except ValueError:
        return {}


def merge(connection: Connection, ids: Sequence[int], changed: Mapping[str, object], removed: Collection[str]) -> None:
    """Set values of items by name, and remove others. Raises StoreCorruptError for metadata that is damaged."""
    present, damaged = values_of(connection, ids)
    if damaged:
        raise StoreCorruptError(f"The metadata of item {min(damaged)} is damaged. {REPAIR}")
    kept = ({n: v for n, v in present.get(item_id, {}).items() if n not in removed} for item_id in ids)
    store(connection, {item_id: check_metadata({**own, **changed}) for item_id, own in zip(ids, kept, strict=True)})


def values_of(connection: Connection, ids: Iterable[int]) -> tuple[dict[int, dict[str, MetadataValue]], set[int]]:
    """Return the metadata of each of these items that has any, and the items whose metadata is damaged."""
    query = select(item_metadata).where(item_metadata.c.item_id.in_(listed(ids)))
    found: dict[int, dict[str, MetadataValue]] = {}
    damaged: set[int] = set()
    for row in connection.execute(query):
        try:
            if not is_sound(row, item_metadata):
                raise ValueError("it fails its checksum")
            found[row.item_id] = parse_metadata(row.data)
        except ValueError:
            damaged.add(row.item_id)
    return found, damaged


def find_unreadable(connection: Connection) -> set[int]:
    """Return the items whose metadata cannot be read, whether or not it matches its digest."""
    rows = connection.execute(select(item_metadata.c.item_id, item_metadata.c.data))
    return {item_id for item_id, text in rows if not _is_readable(text)}


def _is_readable(text: object) -> bool:
    try:
        parse_metadata(text)
    except ValueError:
        return False
    return True


def condition(connection: Connection, where: Where) -> ColumnElement[bool]:
    """Build the condition "an item whose metadata meets all of these"."""
    numbers = metadata_index.declared(connection)
    absent = [each for each in where.conditions if each.operator == "exists" and not each.value]
    by_index: dict[int, list[Condition]] = {}
    rest = []
    for each in where.conditions:
        if each.name in numbers and metadata_index.can_answer(connection, each):
            by_index.setdefault(numbers[each.name], []).append(each)
        elif each not in absent:
            rest.append(each)
    found = [ids for number, wanted in by_index.items() for ids in metadata_index.matching(number, wanted)]
    if rest:  # of what the index leaves, the JSON is read
        left = [item_metadata.c.item_id.in_(ids) for ids in found]
        found = [select(item_metadata.c.item_id).where(*left, *map(meets, part)) for part in chunks(rest, _ROWS)]
    has = [select(item_metadata.c.item_id).where(meets(each._replace(value=True))) for each in absent]
    return and_(True, *(items.c.id.in_(ids) for ids in found), *(items.c.id.not_in(ids) for ids in has))
