"""Facts about the fields of the meta of documents, as the document stores of Haystack give them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Metas = Iterable[Mapping[str, Any]]


def plain_name(field: str) -> str:
    """Return the name of a field without `meta.`."""
    return field.removeprefix("meta.")


def value_of(meta: Mapping[str, Any], field: str) -> Any:
    """Return the value of a field, that of a dotted name from within dicts; None if it is missing."""
    name = plain_name(field)
    if name in meta:
        return meta[name]
    found: Any = meta
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def count_values(metas: Metas, names: Sequence[str]) -> dict[str, int]:
    """Count the different values of each field, by the names as they are given."""
    seen: dict[str, set[str]] = {name: set() for name in names}
    for meta in metas:
        for name, values in seen.items():
            if (value := value_of(meta, name)) is not None:
                values.add(_identity(value))
    return {name: len(values) for name, values in seen.items()}


def describe(metas: Metas) -> dict[str, dict[str, str]]:
    """Return the type of each field: `boolean`, `int`, `float`, or `keyword` for anything else and for mixed ones."""
    types: dict[str, str] = {}
    for meta in metas:
        for name, value in meta.items():
            if value is not None:
                found = _type_of(value)
                types[name] = _common(types.get(name, found), found)
    return {name: {"type": each} for name, each in types.items()}


def smallest_and_largest(metas: Metas, field: str) -> dict[str, Any]:
    """Return the least and the greatest value of a field; None for both if it has none, or numbers and strings."""
    least: Any = None
    most: Any = None
    for meta in metas:
        value = value_of(meta, field)
        if not isinstance(value, int | float | str):
            continue
        if least is None:
            least = most = value
        elif isinstance(value, str) != isinstance(least, str):
            return {"min": None, "max": None}
        least, most = min(least, value), max(most, value)
    return {"min": least, "max": most}


def different_values(metas: Metas, field: str, search_term: str | None) -> list[Any]:
    """Return the different values of a field, in order of how they are written.

    search_term: in either case, a part of how the values are written; None for all values.
    """
    found: dict[tuple[str, str, str], Any] = {}
    for meta in metas:
        value = value_of(meta, field)
        if value is not None and (not search_term or search_term.lower() in str(value).lower()):
            found.setdefault((str(value), type(value).__name__, _identity(value)), value)
    return [found[key] for key in sorted(found)]


def _identity(value: object) -> str:
    return f"{type(value).__name__} {json.dumps(value, sort_keys=True)}"


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else "keyword"


def _common(one: str, other: str) -> str:
    if one == other:
        return one
    return "float" if {one, other} == {"int", "float"} else "keyword"
