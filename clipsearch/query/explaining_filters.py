"""A filter in words, a condition each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clipsearch.filtering import Filter, to_values

MAX_SHOWN = 120
"""Characters of a value."""

_SIGNS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "contains": "~", "nin": "not in"}
_COMBINED = ("all_of", "any_of", "none_of")


def describe(wanted: Filter) -> tuple[str, ...]:
    """Return the conditions of a filter, such as `min rating: 4`, `price < 20` and `not (cameras: canon)`."""
    return tuple(_conditions(to_values(wanted)))


def _conditions(values: Mapping[str, Any]) -> list[str]:
    found = [f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in values.items() if _is_plain(name)]
    found += [said for name, value in values.get("where", {}).items() for said in _of_metadata(name, value)]
    for part in values.get("all_of", ()):
        found += _conditions(part)
    if parts := values.get("any_of", ()):
        found.append(" or ".join(f"({_joined(part)})" for part in parts))
    return found + [f"not ({_joined(part)})" for part in values.get("none_of", ())]


def _is_plain(name: str) -> bool:
    return name not in (*_COMBINED, "where")


def _joined(values: Mapping[str, Any]) -> str:
    return "; ".join(_conditions(values)) or "everything"


def _of_metadata(name: str, value: object) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{name} = {_shown(value)}"]
    return [f"{name} {_SIGNS.get(sign, sign)} {_shown(other)}" for sign, other in value.items()]


def _shown(value: object) -> str:
    """Write a value as JSON, but texts without quotes, on one short line."""
    if isinstance(value, list | tuple):
        text = ", ".join(_shown(each) for each in value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
