r"""A line of output as a template says: `{path}\t{score:.3f}`.

Between braces stand names of fields that are listed here, each with a format that is checked before anything is looked
up. Nothing of Python is reached by a template: no attribute, no index, no conversion, no width beyond MAX_WIDTH.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from string import Formatter
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import shown
from clipsearch.types import Hit, Item

MAX_TEMPLATE, MAX_WIDTH, MAX_DECIMALS = 4000, 1000, 100

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "0": "\0", "\\": "\\"}
_SPEC = re.compile(r"(?:.?[<>=^])?[-+ ]?0?([0-9]*)[,_]?(?:\.([0-9]+))?[bdeEfFgGosxX%]?", re.DOTALL)
_TIME = re.compile(r"(?:%[aAbBdHjmMpSUVyYz%]|[^%])*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Field:
    """What a name stands for. sample: a value of its kind, on which a format is tried."""

    sample: object
    read: Callable[[Any], object]


def _taken(item: Item) -> datetime | None:
    return item.picture.taken_at if item.picture else None


def _of_picture(name: str, sample: object) -> _Field:
    return _Field(sample, lambda item: getattr(item.picture, name) if item.picture else None)


def _of_media(name: str, sample: object) -> _Field:
    return _Field(sample, lambda item: getattr(item.media, name) if item.media else None)


_ITEM: dict[str, _Field] = {
    "id": _Field(0, lambda item: item.id),
    "key": _Field("", lambda item: item.key),
    "path": _Field("", lambda item: item.path),
    "name": _Field("", lambda item: os.path.basename(item.path)),
    "folder": _Field("", lambda item: os.path.dirname(item.path)),
    "modality": _Field("", lambda item: str(item.modality)),
    "size": _Field(0, lambda item: item.size),
    "taken_at": _Field(datetime(2000, 1, 1), _taken),
    "camera": _of_picture("camera", ""),
    "width": _of_picture("width", 0),
    "height": _of_picture("height", 0),
    "latitude": _of_picture("latitude", 0.0),
    "longitude": _of_picture("longitude", 0.0),
    "caption": _Field("", lambda item: item.caption),
    "text": _Field("", lambda item: item.text),
    "metadata": _Field("", lambda item: json.dumps(dict(item.metadata), ensure_ascii=False)),
    "tags": _Field("", lambda item: ",".join(item.tags)),
    "media": _Field("", lambda item: str(item.media.media) if item.media else None),
    "duration": _of_media("duration", 0.0),
    "pages": _of_media("pages", 0),
}


def _of_hit(field: _Field) -> _Field:
    return _Field(field.sample, lambda hit: field.read(hit.item))


def _of_passage(name: str, sample: object) -> _Field:
    return _Field(sample, lambda hit: getattr(hit.passage, name) if hit.passage else None)


def _of_position(name: str, sample: object) -> _Field:
    return _Field(sample, lambda hit: getattr(hit.position, name) if hit.position else None)


ITEM_FIELDS: Mapping[str, _Field] = _ITEM
"""The fields of an item that is listed."""

HIT_FIELDS: Mapping[str, _Field] = {
    "rank": _Field(0, lambda hit: hit.rank),
    "score": _Field(0.0, lambda hit: hit.score),
    "confidence": _Field(0.0, lambda hit: hit.confidence),
    **{name: _of_hit(field) for name, field in _ITEM.items()},
    "modality": _Field("", lambda hit: str(hit.modality)),
    "item_modality": _of_hit(_ITEM["modality"]),
    "part": _Field(0, lambda hit: hit.part),
    "line": _of_passage("line", 0),
    "end_line": _of_passage("end_line", 0),
    "passage": _of_passage("text", ""),
    "time": _of_position("time", 0.0),
    "page": _of_position("page", 0),
}
"""The fields of a hit: those of its item, but `modality` is that of what matched."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was checked. pieces: literal texts, and fields with their formats."""

    pieces: tuple[str | tuple[_Field, str], ...]

    def write(self, found: Iterable[Hit | Item], end: str) -> bytes:
        r"""Return a line for each, ended by `end` where the template itself does not end with `\n` or `\0`."""
        last = self.pieces[-1]
        ending = "" if isinstance(last, str) and last.endswith(("\n", "\0")) else end
        return b"".join(_encode(self._line(each) + ending) for each in found)

    def _line(self, found: Hit | Item) -> str:
        return "".join(piece if isinstance(piece, str) else _format(piece[0], piece[1], found) for piece in self.pieces)


def read_template(text: str, fields: Mapping[str, _Field]) -> Template:
    """Read a template. Raises InvalidInputError for a field, a format or an escape that there is not."""
    if not text or len(text) > MAX_TEMPLATE:
        raise InvalidInputError(f"A template has 1 to {MAX_TEMPLATE:,} characters, not {len(text):,}. {_example()}")
    pieces: list[str | tuple[_Field, str]] = []
    try:
        for literal, name, spec, conversion in Formatter().parse(text):
            if literal:
                pieces.append(_unescape(literal))
            if name is not None:
                pieces.append(_read_field(name, spec or "", conversion, fields))
    except InvalidInputError:
        raise
    except ValueError as error:
        raise InvalidInputError(
            f"The template {shown(text)} cannot be read: {error}. Write {{{{ and }}}} for braces."
        ) from error
    return Template(tuple(pieces))


def _read_field(name: str, spec: str, conversion: str | None, fields: Mapping[str, _Field]) -> tuple[_Field, str]:
    if name not in fields or conversion:
        written = name + (f"!{conversion}" if conversion else "")
        raise InvalidInputError(f"There is no field {shown(written)}. The fields are: {', '.join(fields)}.")
    field = fields[name]
    _check_format(name, spec, field.sample)
    return field, spec


def _check_format(name: str, spec: str, sample: object) -> None:
    """Raise InvalidInputError for a format that values of this kind do not have, or that makes them too wide."""
    try:
        if _is_narrow(spec, sample):
            _write(sample, spec)
            return
    except ValueError:
        pass
    raise InvalidInputError(
        f"The field {name} has no format {shown(spec)}. A format is such as {{score:.3f}}, {{path:<40}}, {{rank:>4}} "
        f"or {{taken_at:%Y-%m-%d}}, at most {MAX_WIDTH:,} wide, with at most {MAX_DECIMALS} decimals."
    )


def _is_narrow(spec: str, sample: object) -> bool:
    if _is_of_time(spec, sample):
        return _TIME.fullmatch(spec) is not None
    read = _SPEC.fullmatch(spec)
    return read is not None and _number(read[1]) <= MAX_WIDTH and _number(read[2]) <= MAX_DECIMALS


def _number(digits: str | None) -> int:
    return int((digits or "0")[:9])


def _is_of_time(spec: str, value: object) -> bool:
    return isinstance(value, datetime) and "%" in spec


def _write(value: object, spec: str) -> str:
    return format(value.isoformat() if isinstance(value, datetime) and "%" not in spec else value, spec)


def _format(field: _Field, spec: str, found: Hit | Item) -> str:
    """Return a value as it is written; one that is unknown is empty, and as wide as the others."""
    value = field.read(found)
    if value is not None:
        return _write(value, spec)
    read = None if _is_of_time(spec, field.sample) else _SPEC.fullmatch(spec)
    return " " * _number(read[1]) if read else ""


def _unescape(text: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPES:
            raise InvalidInputError(f"There is no escape {shown(found[0])}. Write \\t, \\n, \\r, \\0 or \\\\.")
        return _ESCAPES[found[1]]

    return re.sub(r"\\(.?)", replaced, text, flags=re.DOTALL)


def _encode(line: str) -> bytes:
    """Return a line in UTF-8, and the names of files as the bytes that they are."""
    try:
        return os.fsencode(line)
    except UnicodeEncodeError:  # half of a character, in a text that is no name
        return line.encode("utf-8", "backslashreplace")


def _example() -> str:
    return r"Such as '{path}\t{score:.3f}'."
