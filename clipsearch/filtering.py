"""Filters as plain values, for JSON, and free of the folder that they were written in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.types import Filter


def absolute(wanted: Filter) -> Filter:
    """Return a filter that means the same whatever the current folder is. Raises InvalidInputError if that is gone."""
    return replace(
        wanted,
        folders=tuple(map(_absolute, wanted.folders)),
        all_of=tuple(map(absolute, wanted.all_of)),
        none_of=tuple(map(absolute, wanted.none_of)),
    )


def to_values(wanted: Filter) -> dict[str, Any]:
    """Return what is set in a filter, as JSON has it."""
    given = {each.name: (getattr(wanted, each.name), each.default) for each in fields(wanted)}
    return {name: _plain(value) for name, (value, default) in given.items() if value != default}


def from_values(values: Mapping[str, Any]) -> Filter:
    """Return the filter that `to_values` was given. Raises InvalidInputError for values that are no filter's."""
    read = dict(values)
    try:
        for name in ("taken_from", "taken_until"):
            if name in read:
                read[name] = datetime.fromisoformat(read[name])
        for name in ("all_of", "none_of"):
            read[name] = tuple(map(from_values, read.get(name, ())))
        return Filter(**read)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{values!r} are not values of a filter ({error}).") from error


def _absolute(folder: str) -> str:
    if os.path.isabs(folder):
        return folder
    try:
        return os.path.join(os.getcwd(), folder)
    except OSError as error:
        raise InvalidInputError(
            f"The current folder no longer exists ({error.strerror}). Name folders by absolute paths."
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, Filter):
        return to_values(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(map(int, value))
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
