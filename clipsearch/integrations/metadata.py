"""Metadata of any JSON, in a library that keeps scalars and lists of strings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from clipsearch import InvalidInputError

Plain = str | int | float | bool | None | list[str]
"""What filters can find by its name."""

REST = "_json"
"""The name under which a library has what is not a scalar or a list of strings, as one JSON object."""

MAX_NAME = 200
"""Characters of a name that is kept as it is."""


def names_a_place(path: str) -> bool:
    """Tell whether the path of an item is that of a file or a URL. That of a record may be just its id."""
    return os.path.isabs(path) or ("://" in path and not path.startswith("record:"))


def pack(metadata: Mapping[Any, Any]) -> dict[str, Plain]:
    """Return metadata as a library keeps it: what filters can find by its name, the rest under `REST`.

    Args:
        metadata: What JSON can hold. Tuples and keys that are not strings come back as JSON has them.

    Returns:
        Scalars and lists of strings, by name.

    Raises:
        InvalidInputError: JSON cannot hold a value.
    """
    kept: dict[str, Plain] = {name: value for name, value in metadata.items() if _is_kept(name, value)}
    rest = {name: value for name, value in metadata.items() if name not in kept}
    if not rest:
        return kept
    for name, value in rest.items():
        try:
            json.dumps({name: value})
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"The metadata {name!r} is {value!r:.80}, which JSON cannot hold ({error}). Give it as text or numbers."
            ) from None
    return {**kept, REST: json.dumps(rest)}


def unpack(metadata: Mapping[str, Plain]) -> dict[str, Any]:
    """Return the metadata that `pack` was given; a value of that name that `pack` did not write stays as it is."""
    try:
        rest = json.loads(str(metadata.get(REST, "{}")))
    except (ValueError, RecursionError):
        rest = None
    if not isinstance(rest, dict):
        return dict(metadata)
    return {**{name: value for name, value in metadata.items() if name != REST}, **rest}


def _is_kept(name: object, value: object) -> bool:
    if not isinstance(name, str) or name == REST or not name or len(name) > MAX_NAME or not _is_text(name):
        return False
    if isinstance(value, list):
        return all(isinstance(each, str) and _is_text(each) for each in value)
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: str) -> bool:
    """Tell whether a library can keep a text: without NUL and halves of characters."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
