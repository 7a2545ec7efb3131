"""The values of declared names of metadata in a table that is sorted by them, so that a filter need not read the rest.

An index of SQLite on an expression would do, but the one that Python comes with may refuse JSON in the schema of a
database that it does not trust. A list has a row for each of its texts, null has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    and_,
    delete,
    except_,
    false,
    func,
    insert,
    literal,
    select,
    true,
    union_all,
)

from clipsearch.errors import StoreCorruptError
from clipsearch.metadata import stored_name
from clipsearch.store import catalog
from clipsearch.store.dialect import is_postgres
from clipsearch.store.metadata_sql import INDEXED_TYPES, KEY_BYTES, compares, elements, kind, typed
from clipsearch.store.refusals import REPAIR
from clipsearch.store.revision import change
from clipsearch.store.schema import item_metadata, metadata_values
from clipsearch.store.sql_values import listed
from clipsearch.where import Condition

if TYPE_CHECKING:
    from clipsearch.store.writer import Writer

DECLARED_KEY = "index_metadata"
"""The setting of the names whose values are indexed: a JSON list, which only grows. A name has its place as number."""

Ids = Select[tuple[int]] | Select[tuple[int | str]]


def declared(connection: Connection) -> dict[str, int]:
    """Return the numbers of the names whose values are indexed. Raises StoreCorruptError for a wrong setting."""
    setting = catalog.get_setting(connection, DECLARED_KEY)
    try:
        names = json.loads(setting or "[]")
        return {name: number for number, name in enumerate(names) if stored_name(name)}
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreCorruptError(f"The catalog has a wrong list of indexed metadata ({error}). {REPAIR}") from error


def declare_index(writer: Writer, names: Iterable[str]) -> None:
    """Index the values of these names too. Raises InvalidInputError for what cannot be a name."""
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        stored_name(name)
    with change(writer.storage[0]) as connection:
        present = declared(connection)
        new = {name: i for i, name in enumerate((n for n in wanted if n not in present), len(present))}
        if new:
            _fill(connection, new, None)
            catalog.set_setting(connection, DECLARED_KEY, json.dumps([*present, *new], ensure_ascii=False))


def refresh(connection: Connection, ids: Ids) -> None:
    """Index the values that items have now, in place of what is indexed of them."""
    names = declared(connection)
    if names:
        connection.execute(delete(metadata_values).where(metadata_values.c.item_id.in_(ids)))
        _fill(connection, names, ids)


def rebuild(connection: Connection) -> None:
    """Make the index again."""
    connection.execute(delete(metadata_values))
    _fill(connection, declared(connection), None)


def differs(connection: Connection) -> bool:
    """Tell whether the index is not what the metadata would give now."""
    names = declared(connection)
    pairs: list[Select[Any] | CompoundSelect[Any]] = [
        select(metadata_values).where(metadata_values.c.name.not_in(listed(names.values())))
    ]
    for name, number in names.items():
        stored = select(metadata_values).where(metadata_values.c.name == number)
        fresh = select(union_all(*_values(connection, name, number)).subquery())
        pairs += [except_(stored, fresh), except_(fresh, stored)]
    return any(connection.execute(pair.limit(1)).first() is not None for pair in pairs)


def can_answer(connection: Connection, wanted: Condition) -> bool:
    """Tell whether an index can answer a condition."""
    if is_postgres(connection) and not all(
        map(_is_short, wanted.value if isinstance(wanted.value, tuple) else (wanted.value,))
    ):
        return False
    if wanted.operator in ("eq", "in"):
        return None not in (wanted.value if isinstance(wanted.value, tuple) else (wanted.value,))
    return wanted.operator in ("lt", "le", "gt", "ge")


def _is_short(value: object) -> bool:
    """Tell whether a value compares with the start of a key as with all of it."""
    return not isinstance(value, str) or len(value.encode()) < KEY_BYTES - 1


def matching(number: int, wanted: Iterable[Condition]) -> list[Select[tuple[int]]]:
    """Build queries for the ids that meet conditions on the name of a number, in all of them at once."""
    wanted = list(wanted)
    own, ordered = metadata_values.c.name == number, [each for each in wanted if each.operator not in ("eq", "in")]
    found = [_having(own, each) for each in wanted if each not in ordered]
    if ordered:  # as one range
        found.append(_having(and_(own, metadata_values.c.element == false()), *ordered))
    return found


def _having(own: ColumnElement[bool], *wanted: Condition) -> Select[tuple[int]]:
    return select(metadata_values.c.item_id).where(own, *(compares(metadata_values.c.value, each) for each in wanted))


def _fill(connection: Connection, names: Mapping[str, int], ids: Ids | None) -> None:
    for name, number in names.items():
        for rows in _values(connection, name, number):
            chosen = rows if ids is None else rows.where(item_metadata.c.item_id.in_(ids))
            connection.execute(insert(metadata_values).from_select(metadata_values.c.keys(), chosen))


def _values(connection: Connection, name: str, number: int) -> list[Select[Any]]:
    """Build the queries for the rows of a name: of values, and of elements of lists."""
    element = elements(name)
    value: ColumnElement[Any] = typed(name)
    each: ColumnElement[Any] = element.c.value
    if is_postgres(connection):
        value, each = func.substring(value, 1, KEY_BYTES), func.substring(each, 1, KEY_BYTES)
    scalars = select(literal(number), value, item_metadata.c.item_id, false())
    lists = select(literal(number), each, item_metadata.c.item_id, true()).distinct()
    return [
        scalars.where(kind(name).in_(INDEXED_TYPES)),
        lists.select_from(item_metadata.join(element, true())).where(kind(name) == "array", element.c.type == "text"),
    ]
