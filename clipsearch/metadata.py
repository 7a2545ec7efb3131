"""Metadata of items: JSON scalars and lists of strings, by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from clipsearch.errors import InvalidInputError

MAX_NAME = 200
"""Characters of a name."""

MAX_METADATA = 1 << 16
"""Bytes of the metadata of one item, as JSON in UTF-8."""


def check_metadata(value: object) -> str:
    """Return metadata as JSON. Raises InvalidInputError for anything but JSON scalars and lists of str by name."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"Metadata must be a mapping of names to values, not {type(value).__name__}.")
    for name, each in value.items():
        if type(each) is not str:
            _check_value(name, each)
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise InvalidInputError(
                f"A name of metadata must be a str of 1 to {MAX_NAME} characters, not {name!r:.80}."
            )
    try:
        written = json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        size = len(written.encode())
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"The metadata cannot be stored: {error}.") from error
    if size > MAX_METADATA:
        raise InvalidInputError(f"The metadata takes {size} bytes as JSON, but at most {MAX_METADATA} are allowed.")
    return written


def _check_value(name: object, value: object) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidInputError(f"The metadata {name!r:.80} is {value}, which does not fit 64 bits.")
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInputError(f"The metadata {name!r:.80} is {value}, but must be a finite number.")
        return
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise InvalidInputError(
            f"The metadata {name!r:.80} is of type {type(value).__name__}, "
            "but must be a str, a number, a bool, None or a list of str."
        )
