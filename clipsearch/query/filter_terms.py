"""Filters as terms of a query: `tag:"beach"`, or `filter:"{...}"` for those that no one name writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, absolute, from_values, to_values
from clipsearch.query.filter_readers import READERS
from clipsearch.query.terms import quote

ANY_FILTER = "filter"
"""What stands before a filter as JSON."""

NAMES = (*READERS, ANY_FILTER)

_BY_FIELD = {
    "folders": "in", "cameras": "camera", "types": "type", "min_width": "min-width", "min_height": "min-height",
    "orientation": "orientation", "near": "near", "box": "box", "places": "place", "caption": "caption", "tags": "tag",
    "collections": "collection", "min_rating": "min-rating", "color_labels": "color-label",
}  # fmt: skip
_SIGNS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "contains": "~"}
_PERIODS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S")


def read_filter(name: str, value: str) -> Filter:
    """Read a filter by one of NAMES. Raises InvalidInputError for a value that it does not take."""
    if name != ANY_FILTER:
        return absolute(Filter(**READERS[name](value, datetime.now())))
    try:
        values = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"The filter {value[:80]!r} is no JSON ({error}).") from error
    if not isinstance(values, dict):
        raise InvalidInputError(f"The filter {value[:80]!r} is no object of JSON.")
    return absolute(from_values(values))


def write_filter(wanted: Filter) -> str:
    """Write a filter so that it is read as it was, by its name if it has one."""
    for name, value in _candidates(wanted):
        try:
            if read_filter(name, value) == wanted:
                return f"{name}:{quote(value)}"
        except InvalidInputError:
            continue
    return f"{ANY_FILTER}:{quote(json.dumps(to_values(wanted), ensure_ascii=False))}"


def _candidates(wanted: Filter) -> Iterator[tuple[str, str]]:
    given = to_values(wanted)
    start, end = given.get("taken_from"), given.get("taken_until")
    if first := start or end:
        moment = datetime.fromisoformat(first)
        name = "before" if start is None else "after" if end is None else "on"
        yield from ((name, moment.strftime(form)) for form in _PERIODS)
    elif len(given) == 1:
        ((field, value),) = given.items()
        if field in _BY_FIELD:
            yield _BY_FIELD[field], ",".join(map(str, value)) if isinstance(value, list) else str(value)
        elif field == "where":
            yield from (("where", each) for each in _conditions(value))


def _conditions(where: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    for name, wanted in where.items():
        for operator, value in wanted.items():
            sign = _SIGNS.get(operator, "=")
            yield f"{name}{sign}{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
