"""Filters as people write them, by name and value: `tag` and `beach`, `on` and `last summer`.

The command line has them as options, and composed queries as terms.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import MAX_RATING
from clipsearch.where import parse_where

Fields = dict[str, Any]
"""Arguments of a Filter."""


def _during(value: str, now: datetime) -> Fields:
    start, end = _period(value, now)
    return {"taken_from": start, "taken_until": end}


def _period(value: str, now: datetime) -> tuple[datetime, datetime]:
    from clipsearch.dates import parse_period

    return parse_period(value, now)


def _pixels(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise InvalidInputError(f"{value!r} is not a whole number of pixels. Write one, such as 1024.")
    return int(value[:20])


def _stars(value: str) -> int:
    if value not in {str(stars) for stars in range(1, MAX_RATING + 1)}:
        raise InvalidInputError(f"{value!r} is not a number of stars from 1 to {MAX_RATING}.")
    return int(value)


def _numbers(value: str, count: int, remedy: str) -> tuple[float, ...]:
    """Read numbers between commas."""
    parts = value.split(",")
    column = 1
    for part in parts:
        try:
            float(part)
        except ValueError:
            raise InvalidInputError(f"{part!r} at column {column} of {value!r} is not a number. {remedy}") from None
        column += len(part) + 1
    if len(parts) != count:
        raise InvalidInputError(f"{value!r} is not {'three' if count == 3 else 'four'} numbers. {remedy}")
    return tuple(map(float, parts))


READERS: dict[str, Callable[[str, datetime], Fields]] = {
    "in": lambda value, now: {"folders": (value,)},
    "after": lambda value, now: {"taken_from": _period(value, now)[0]},
    "before": lambda value, now: {"taken_until": _period(value, now)[0]},
    "on": _during,
    "camera": lambda value, now: {"cameras": (value,)},
    "type": lambda value, now: {"types": tuple(kind.strip() for kind in value.split(","))},
    "min-width": lambda value, now: {"min_width": _pixels(value)},
    "min-height": lambda value, now: {"min_height": _pixels(value)},
    "orientation": lambda value, now: {"orientation": value},
    "min-rating": lambda value, now: {"min_rating": _stars(value)},
    "color-label": lambda value, now: {"color_labels": (value,)},
    "near": lambda value, now: {"near": _numbers(value, 3, "Write LATITUDE,LONGITUDE,KM: 48.86,2.35,20.")},
    "box": lambda value, now: {"box": _numbers(value, 4, "Write SOUTH,WEST,NORTH,EAST: 47.8,5.9,54.9,15.0.")},
    "place": lambda value, now: {"places": (value,)},
    "caption": lambda value, now: {"caption": value},
    "tag": lambda value, now: {"tags": (value,)},
    "collection": lambda value, now: {"collections": (value,)},
    "where": lambda value, now: {"where": parse_where(value)},
}
"""Each filter by its name: how it is read, with the current time for dates that are relative to it."""
