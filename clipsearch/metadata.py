r"""Metadata of items: what the caller or a table says of each, as JSON text in one form.

A name may be any text. In the JSON it stands with `"`, `\`, `%` and control characters written %XX, as in a path, so
that a JSON path to it needs no escapes, which SQLite reads differently from version to version.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.types import MetadataValue

MAX_NAME = 256
"""Characters of a name."""

MAX_BYTES = 1 << 20
"""Bytes of the metadata of one item."""

NONE = "{}"
"""The JSON of no metadata."""

_MOST = 2**63

Scalar = str | int | float | bool | None

_UNSAFE = re.compile(r'["\\%\x00-\x1f\x7f]')
_ESCAPE = re.compile("%([0-9A-F]{2})")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def check_metadata(metadata: Mapping[str, object]) -> str:
    """Return metadata as JSON text: names in order, no spaces, equal texts for equal metadata.

    Args:
        metadata: By name, each a str, an int of 64 bits, a finite float, a bool, None, or a list of str.

    Raises:
        InvalidInputError: A name or a value is none of these, or all together are longer than 1 MiB.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(f"Metadata is a mapping from names to values, not {_shown(metadata)}.")
    return _to_text({stored_name(name): _value(name, value) for name, value in metadata.items()})


def parse_metadata(text: object) -> dict[str, MetadataValue]:
    """Return the metadata that a JSON text of `check_metadata` holds. Raises ValueError for any other text."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        return {_read_name(name): _value(name, value) for name, value in found.items()}
    except (InvalidInputError, RecursionError) as error:
        raise ValueError(str(error)) from error


def stored_name(name: object) -> str:
    """Return a name as the JSON has it. Raises InvalidInputError for one that cannot be used."""
    if type(name) is str and len(name) <= MAX_NAME and name.isascii() and name.isidentifier():
        return name
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise InvalidInputError(
            f"A name of metadata is a text of 1 to {MAX_NAME} characters, not {_shown(name)}. Rename it."
        )
    _check_text(name, name)
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", name)


def check_scalar(name: str, value: object) -> Scalar:
    """Return a scalar as plain Python. Raises InvalidInputError for anything else, or one that cannot be stored."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidInputError(f"The text of {name!r} has a NUL character. Leave it out.")
        _check_text(name, value)
        return str.__str__(value)
    if isinstance(value, Integral):
        number = int(value)
        if not -(2**63) <= number < 2**63:
            raise InvalidInputError(f"{name!r} is {number}, beyond 64 bits. Write it as a text.")
        return number
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise InvalidInputError(f"{name!r} is {value}, which JSON does not have. Use None, or leave it out.")
        return float(value)
    raise InvalidInputError(
        f"{name!r} is {_shown(value)}, but a value of metadata is a text, a number, a truth value, None or a list of "
        "texts. Write anything else as a text."
    )


def _value(name: str, value: object) -> MetadataValue:
    # The usual cases first, without what follows.
    if type(value) is str and value.isascii() and "\0" not in value:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and -_MOST <= value < _MOST:
        return value
    if not isinstance(value, list | tuple):
        return check_scalar(name, value)
    for each in value:
        if not isinstance(each, str):
            raise InvalidInputError(f"The list {name!r} has {_shown(each)} in it, but only texts may be in a list.")
    return [str(check_scalar(name, each)) for each in value]


def _check_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name!r} has half of a character in it ({error.reason}). Leave it out.") from None


def _to_text(values: dict[str, Any]) -> str:
    text = _ENCODER.encode(values)
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_BYTES:
        raise InvalidInputError(f"The metadata is {size:,} bytes, but at most {MAX_BYTES:,} are stored. Shorten it.")
    return text


def _read_name(stored: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), stored) if "%" in stored else stored


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
