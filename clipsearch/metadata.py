r"""Metadata of items: what the caller or a table says of each, as JSON text in one form.

A name may be any text. In the JSON it stands with `"`, `\`, `%` and control characters written %XX, as in a path, so
that a JSON path to it needs no escapes, which SQLite reads differently from version to version.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.types import MetadataValue

MAX_NAME = 256
"""Characters of a name."""

MAX_BYTES = 1 << 20
"""Bytes of the metadata of one item."""

RATING, LABEL = "rating", "label"
"""Names of metadata that pictures say themselves: stars, 1 to 5 or -1 for rejected, and the name of a color."""

NONE = "{}"
"""The JSON of no metadata."""

_MOST = 2**63
_SHORT = 1000
"""Characters of a text that is far from MAX_BYTES."""

Scalar = str | int | float | bool | None

_UNSAFE = re.compile(r'["\\%\x00-\x1f\x7f]')
_ESCAPE = re.compile("%([0-9A-F]{2})")
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def check_metadata(metadata: Mapping[str, object]) -> str:
    """Return metadata as JSON text: names in order, no spaces, equal texts for equal metadata.

    Args:
        metadata: By name, each a str, an int of 64 bits, a finite float, a bool, None, or a list of str.

    Raises:
        InvalidInputError: A name or a value is not allowed, or all together are longer than 1 MiB.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(f"Metadata is a mapping from names to values, not {shown(metadata)}.")
    return _to_text({stored_name(name): _value(name, value) for name, value in metadata.items()})


def check_value(name: object, value: object) -> MetadataValue:
    """Return a value as plain Python. Raises InvalidInputError where it, or its name, cannot be metadata."""
    if isinstance(value, str | list | tuple) and len(value) > _SHORT:
        check_metadata({str(name): value})
    return _value(stored_name(name), value)


def keep_metadata(found: Mapping[str, object]) -> str:
    """Return what of the fields of a file can be metadata, as JSON text; nothing where all together are too long."""
    kept: dict[str, object] = {}
    for name, value in found.items():
        try:
            check_metadata({name: value})
        except InvalidInputError:
            continue
        kept[name] = value
    try:
        return check_metadata(kept)
    except InvalidInputError:
        return NONE


def parse_metadata(text: object) -> dict[str, MetadataValue]:
    """Return the metadata that a JSON text of `check_metadata` holds. Raises ValueError for any other text."""
    try:
        is_short = isinstance(text, str) and len(text) <= MAX_BYTES
        found = json.loads(str(text), object_pairs_hook=_unique) if is_short else None
        if not isinstance(found, dict):
            raise ValueError(f"not a JSON object of at most {MAX_BYTES} bytes")
        return {_read_name(name): _value(name, value) for name, value in found.items()}
    except (InvalidInputError, RecursionError) as error:
        raise ValueError(str(error)) from error


def stored_name(name: object) -> str:
    """Return a name as the JSON has it. Raises InvalidInputError for one that cannot be used."""
    if type(name) is str and len(name) <= MAX_NAME and name.isascii() and name.isidentifier():
        return name
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise InvalidInputError(
            f"A name of metadata is a text of 1 to {MAX_NAME} characters, not {shown(name)}. Rename it."
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
        if not -_MOST <= number < _MOST:
            raise InvalidInputError(f"{name!r} is {shown(number)}, beyond 64 bits. Write it as a text.")
        return number
    if isinstance(value, Real):
        real = _to_float(value)
        if not math.isfinite(real):
            raise InvalidInputError(f"{name!r} is {real}, which JSON does not have. Use None, or leave it out.")
        return real
    raise InvalidInputError(
        f"{name!r} is {shown(value)}, but a value of metadata is a text, a number, a truth value, None or a list of "
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
            raise InvalidInputError(f"The list {name!r} has {shown(each)} in it, but only texts may be in a list.")
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; ValueError for one with a name twice, of which others might read the first."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _read_name(stored: str) -> str:
    """Return the name that stands so in the JSON; ValueError for one that filters would not find."""
    name = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), stored) if "%" in stored else stored
    if stored_name(name) != stored:
        raise ValueError(f"{shown(stored)} is no stored name")
    return name


def _to_float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # of a fraction
        return math.inf


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


def shown(value: object) -> str:
    """Return how a value reads, short, whatever it holds and however deep."""
    try:
        shown = _REPR.repr(value)
    except ValueError:  # of a number of thousands of digits
        return f"a {type(value).__name__} that is too long to show"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
