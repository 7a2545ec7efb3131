"""Filters of Haystack as filters of a library."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from haystack.dataclasses import Document
from haystack.errors import FilterError

from clipsearch import Filter, InvalidInputError

NOTHING = Filter(ids=frozenset())
"""What no item passes."""

ALL = Filter()
"""What every item passes."""

MAX_DEPTH = 15
"""How deep conditions may be nested."""

_ORDER = {">": "gt", ">=": "ge", "<": "lt", "<=": "le"}
_COMPARISONS = ("==", "!=", *_ORDER, "in", "not in")
_ATTRIBUTES = frozenset(each.name for each in fields(Document)) - {"meta"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII)


def to_filter(filters: Mapping[str, Any] | None) -> Filter:
    """Return the filter that a filter of Haystack means.

    Args:
        filters: Comparisons, combined by AND, OR and NOT; None or an empty one allows all.

    Returns:
        A filter of a library. A list of strings equals each of its elements; dates are compared as strings.

    Raises:
        FilterError: The filter is malformed, or compares what a library cannot.
    """
    if filters is None or filters == {}:
        return ALL
    try:
        return _read(filters, 0)
    except InvalidInputError as error:
        raise FilterError(str(error)) from error


def _read(condition: object, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise FilterError(f"The filter is nested more than {MAX_DEPTH} levels deep. Combine fewer of AND, OR and NOT.")
    if not isinstance(condition, Mapping):
        raise FilterError(f"A condition of a filter is a dict, not {condition!r:.200}.")
    return _comparison(condition) if "field" in condition else _logic(condition, depth)


def _logic(condition: Mapping[str, Any], depth: int) -> Filter:
    operator, conditions = _value(condition, "operator"), _value(condition, "conditions")
    if not isinstance(conditions, Sequence) or isinstance(conditions, str):
        raise FilterError(f"The conditions of a filter are a list, not {conditions!r:.200}.")
    parts = tuple(_read(each, depth + 1) for each in conditions)
    match operator:
        case "AND":
            return Filter(all_of=parts)
        case "OR":
            return _any(parts)
        case "NOT":  # which is false where all of its conditions hold
            return ~Filter(all_of=parts) if parts else NOTHING
    raise FilterError(f"There is no operator {operator!r} between conditions. Use AND, OR or NOT.")


def _comparison(condition: Mapping[str, Any]) -> Filter:
    field, operator = condition["field"], _value(condition, "operator")
    value = _comparable(_value(condition, "value"))
    if operator not in _COMPARISONS:
        raise FilterError(f"There is no comparison {operator!r}. Use one of {', '.join(_COMPARISONS)}.")
    if not isinstance(field, str) or not field.removeprefix("meta."):
        raise FilterError(f"The field of a comparison is a name, not {field!r}.")
    if operator in _ORDER:
        return _ordered(field, operator, value)
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{operator} takes a list of values, not {value!r:.200}.")
        found = _any([_equal(field, _comparable(each)) for each in value])
    else:
        found = _equal(field, value)
    return ~found if operator in ("!=", "not in") else found


def _equal(field: str, value: object) -> Filter:
    if field == "id":
        return Filter(keys=(value,)) if isinstance(value, str) else NOTHING
    name = _name(field)
    if value is None:  # which is what a document has that lacks the field
        return _any([~Filter(where={name: {"exists": True}}), Filter(where={name: {"eq": None}})])
    if isinstance(value, list | dict):
        raise FilterError(f"{field} is compared with {value!r:.200}, but == and != take one value. Use in for several.")
    return Filter(where={name: {"eq": value}})


def _ordered(field: str, operator: str, value: object) -> Filter:
    name = _name(field)
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FilterError(f"{operator} compares numbers and dates, not {value!r:.200}.")
    if isinstance(value, str) and not _is_date(value):
        raise FilterError(f"{operator} compares strings only if they are dates of ISO 8601, unlike {value!r:.200}.")
    return Filter(where={name: {_ORDER[operator]: value}})


def _name(field: str) -> str:
    if field in _ATTRIBUTES:
        raise FilterError(f"Documents are not found by their {field}. Compare id or a field of meta.")
    return field.removeprefix("meta.")


def _any(parts: Sequence[Filter]) -> Filter:
    return Filter(any_of=tuple(parts)) if parts else NOTHING


def _value(condition: Mapping[str, Any], key: str) -> Any:
    if key not in condition:
        raise FilterError(f"{key!r} is missing in the condition {dict(condition)!r:.200}.")
    return condition[key]


def _comparable(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _is_date(value: str) -> bool:
    try:
        return bool(_DATE.fullmatch(value)) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False
