"""Values of metadata in SQL, and what conditions on them mean.

A value is compared as it sorts in SQLite: numbers before texts before BLOBs, which stand for everything else. So each
condition is a range: `value < 20` holds for no text and no truth value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    TableValuedAlias,
    and_,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
)

from clipsearch.metadata import MAX_BYTES, Scalar, stored_name
from clipsearch.where import Condition

_FIRST_TEXT: ColumnElement[Any] = literal_column("''")
_FIRST_BLOB: ColumnElement[Any] = literal_column("x''")
_TRUTHS: dict[bool, ColumnElement[Any]] = {False: literal_column("x'00'"), True: literal_column("x'01'")}

_DATA: ColumnElement[Any] = literal_column(
    f"CASE WHEN length(item_metadata.data) <= {MAX_BYTES} AND json_valid(item_metadata.data) "
    "THEN item_metadata.data END"
)
"""The JSON of an item. Nothing where it is damaged, or SQLite would fail the whole query for one such row.

A longer one than is ever stored cannot be read either, and to parse it for each condition would take seconds.
"""

KEY_BYTES = 1000
"""How much of a value is indexed in PostgreSQL, whose indexes take no more than 2.7 KB of one."""

INDEXED_TYPES = ("text", "integer", "real", "true", "false")
"""The types of JSON whose values `typed` tells apart."""


def kind(name: str) -> ColumnElement[str]:
    """Build the JSON type of a value; NULL for a missing value."""
    return func.json_type(_DATA, _path(name))


def typed(name: str) -> ColumnElement[Any]:
    """Build the value of a name; NULL for null and for a missing value. The BLOB of a list is its JSON."""
    found = func.json_extract(_DATA, _path(name))
    values = {"text": found, "integer": found, "real": found, "true": _TRUTHS[True], "false": _TRUTHS[False]}
    return type_coerce(case(values, value=kind(name), else_=cast(found, LargeBinary)), LargeBinary)


def elements(name: str) -> TableValuedAlias:
    """Build the table of the elements of a list: `value` and `type`."""
    return func.json_each(_DATA, _path(name)).table_valued(column("value", LargeBinary), "type")


def meets(wanted: Condition) -> ColumnElement[bool]:
    """Build a condition on the JSON of an item that has metadata."""
    name, operator, value = wanted
    if operator == "exists":
        return kind(name).is_not(None) if value else kind(name).is_(None)
    if operator in ("ne", "nin"):
        return and_(kind(name).is_not(None), _equals_any(name, _several(value)).is_not(True))
    if operator in ("eq", "in"):
        return _equals_any(name, _several(value))
    if operator == "contains":
        return _contains(name, str(value))
    return compares(typed(name), wanted)


def compares(value: ColumnElement[Any], wanted: Condition) -> ColumnElement[bool]:
    """Build a condition of `eq`, `in` or an order on a typed value; that it equals None cannot be asked."""
    if wanted.operator in ("eq", "in"):
        return _is_any(value, _several(wanted.value))
    is_text, other = isinstance(wanted.value, str), _literal(wanted.value)
    if wanted.operator in ("lt", "le"):
        upper = value < other if wanted.operator == "lt" else value <= other
        return and_(value >= _FIRST_TEXT, upper) if is_text else upper
    lower = value > other if wanted.operator == "gt" else value >= other
    return and_(lower, value < (_FIRST_BLOB if is_text else _FIRST_TEXT))


def _is_any(value: ColumnElement[Any], wanted: Sequence[Scalar]) -> ColumnElement[bool]:
    truths = {each for each in wanted if isinstance(each, bool)}
    plain = [each for each in wanted if each is not None and not isinstance(each, bool)]
    terms = [value == _TRUTHS[truth] for truth in sorted(truths)]
    if plain:
        terms.append(value == _literal(plain[0]) if len(plain) == 1 else value.in_(_literals(plain)))
    return or_(*terms) if terms else false()


def _equals_any(name: str, wanted: Sequence[Scalar]) -> ColumnElement[bool]:
    terms = [_is_any(typed(name), wanted)]
    if texts := [each for each in wanted if isinstance(each, str)]:
        element = elements(name)
        terms.append(_has(name, element, element.c.value.in_(_literals(texts))))
    if None in wanted:
        terms.append(kind(name) == literal_column("'null'"))
    return or_(*terms)


def _contains(name: str, part: str) -> ColumnElement[bool]:
    element = elements(name)
    in_text = and_(kind(name) == literal_column("'text'"), func.instr(typed(name), part) > 0)
    return or_(in_text, _has(name, element, func.instr(element.c.value, part) > 0))


def _has(name: str, element: TableValuedAlias, term: ColumnElement[bool]) -> ColumnElement[bool]:
    """Build the condition "a list, one of whose texts meets a term"."""
    one = select(element.c.value).where(element.c.type == literal_column("'text'"), term)
    return and_(kind(name) == literal_column("'array'"), one.exists())


def _literal(value: object) -> ColumnElement[Any]:
    """Build a number or a text; it is read from JSON as what it is compared with, or the last bits might differ."""
    return func.json_extract(json.dumps(value, ensure_ascii=False), literal_column("'$'"))


def _literals(values: Sequence[Scalar]) -> Select[Any]:
    found = func.json_each(json.dumps(values, ensure_ascii=False)).table_valued("value")
    return select(found.c.value)


def _several(value: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    return value if isinstance(value, tuple) else (value,)


def _path(name: str) -> str:
    """Return the JSON path to a name. It needs no escapes; see clipsearch.metadata."""
    return f'$."{stored_name(name)}"'
