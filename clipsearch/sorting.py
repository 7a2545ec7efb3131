"""Orders of items other than by relevance: what they are called, and what items are sorted by."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import RATING
from clipsearch.types import Item

RELEVANCE, TAKEN = "relevance", "taken"
SORTS = (RELEVANCE, TAKEN, "name", "size", "rating")
"""How hits can be sorted; items without a query, by all but relevance. Equal ones stand newest first."""

_DIGITS = re.compile(r"(\d+)", re.ASCII)


def check_sort(sort: object, known: Sequence[str] = SORTS) -> str:
    """Return the name of an order. Raises InvalidInputError for an unknown one."""
    if sort not in known:
        raise InvalidInputError(f"There is no order {sort!r:.80}. Sort by one of: {', '.join(known)}.")
    return str(sort)


def sort_items(items: Iterable[Item], sort: str) -> list[Item]:
    """Sort items: names upwards, with numbers in them as numbers; the newest, largest, and best rated first.

    An item that nobody rated stands after those with stars, before the rejected ones. sort: not `relevance`.
    """
    newest = sorted(items, key=newest_first, reverse=True)
    if sort == TAKEN:
        return newest
    return sorted(newest, key=lambda item: sort_key(sort, item.path, item.size, item.metadata.get(RATING)))


def newest_first(item: Item) -> tuple[str, int]:
    """Return what items are sorted by, the highest first: when they were taken, else changed; as store/catalog.py."""
    if item.picture is not None and item.picture.taken_at is not None:
        return item.picture.taken_at.isoformat(), item.id
    changed = changed_at(item)
    return "" if changed is None else changed.isoformat(), item.id


def changed_at(item: Item) -> datetime | None:
    """Return when the file of an item was changed, in local time to the second; None where that is not known."""
    changed = _number(item.mtime_ns)
    try:
        return datetime.fromtimestamp(changed // 10**9) if changed else None
    except (OverflowError, OSError, ValueError):  # a time that no calendar has
        return None


def sort_key(sort: str, path: str, size: int, rating: object) -> Any:  # noqa: ANN401 - what compares
    """Return what items that stand newest first are sorted by, the lowest first. rating: as metadata has it."""
    if sort == "name":
        parts = _DIGITS.split(os.path.basename(path).casefold())
        numbered = [(len(part.lstrip("0")), part.lstrip("0")) if i % 2 else part for i, part in enumerate(parts)]
        return numbered, path
    if sort == "size":
        return -_number(size)
    return -_number(rating)


def _number(value: object) -> float:
    """Return a number of the catalog; 0 for a value that is not a number, as in a damaged catalog."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -math.inf < value < math.inf else 0  # type: ignore[operator,return-value]
