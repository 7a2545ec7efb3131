"""Hits and items in groups, by the day on which they were taken."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, TypeVar

from clipsearch.sorting import newest_first
from clipsearch.types import Hit, Item

Found = TypeVar("Found", Hit, Item)


def group_by_day(found: Iterable[Found]) -> list[tuple[date | None, tuple[Found, ...]]]:
    """Group hits or items by the day on which they were taken, without changing their order within a day.

    Args:
        found: Hits or items, such as an answer of `search` or a listing of `find`.

    Returns:
        Days with what is of them, in the order of the first hit or item of each. A file whose camera wrote no date is
        of the day of its last change; None stands for what has neither, such as a record.

    Example:
        >>> for day, hits in clipsearch.group_by_day(engine.search("a beach", k=50, sort="taken")):
        ...     print(day, [hit.path for hit in hits])
    """
    days: dict[date | None, list[Found]] = {}
    for each in found:
        days.setdefault(day_of(each.item if isinstance(each, Hit) else each), []).append(each)
    return [(day, tuple(of_it)) for day, of_it in days.items()]


def in_days(found: Iterable[Found]) -> tuple[tuple[Found, ...], list[dict[str, Any]]]:
    """Return hits or items with those of a day together, and the days as JSON: how many of each follow each other."""
    groups = group_by_day(found)
    days = [{"day": None if day is None else day.isoformat(), "count": len(of_it)} for day, of_it in groups]
    return tuple(each for _, of_it in groups for each in of_it), days


def day_of(item: Item) -> date | None:
    """Return the day of an item, as `group_by_day` takes it."""
    moment, _ = newest_first(item)
    return date.fromisoformat(moment[:10]) if moment else None
