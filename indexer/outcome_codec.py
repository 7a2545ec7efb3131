"""Files and what came of them as bytes: how they travel to the machines of a cluster and back.

JSON, with the vectors as float16 behind it. Only the classes that are named here are made of what is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import numpy as np

from clipsearch.errors import InvalidInputError
from clipsearch.store.records import (
    Captions,
    CaptionSource,
    Encoded,
    Failed,
    FileIdentity,
    FileRecord,
    Known,
    Taken,
)
from clipsearch.types import Media, MediaInfo, Modality, PartPosition, Passage, PictureInfo

_CLASSES: dict[str, Any] = {
    each.__name__: each
    for each in (
        *(Captions, CaptionSource, Encoded, Failed, FileIdentity, FileRecord, Known),
        *(MediaInfo, PartPosition, Passage, PictureInfo, Taken),
    )
}
_CLASS, _MOMENT, _ROWS, _MODALITY, _MEDIA, _NAMED = "class", "moment", "rows", "modality", "kind", "named"


def pack(values: Sequence[object]) -> tuple[bytes, bytes]:
    """Return values of these classes as JSON, and the rows of their vectors as float16."""
    rows: list[bytes] = []
    said = [_to_plain(value, rows) for value in values]
    return json.dumps(said, separators=(",", ":")).encode(), b"".join(rows)


def unpack(said: bytes, rows: bytes) -> list[Any]:
    """Return what was packed. Raises InvalidInputError for anything else."""
    reader = _Rows(rows)
    try:
        return [_from_plain(value, reader) for value in json.loads(said)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInputError(f"What came from the cluster cannot be read: {error!r:.200}") from error


class _Rows:
    """Vectors that are taken one block after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = np.frombuffer(data, np.float16)
        self._at = 0

    def take(self, count: int, dim: int) -> Any:  # noqa: ANN401 - float16 (count, dim)
        found = self._data[self._at : self._at + count * dim].reshape(count, dim)
        self._at += count * dim
        return found


def _to_plain(value: Any, rows: list[bytes]) -> Any:  # noqa: ANN401
    if is_dataclass(value):
        name = type(value).__name__
        return {_CLASS: name} | {each.name: _to_plain(getattr(value, each.name), rows) for each in fields(value)}
    if isinstance(value, FileIdentity):
        return {_CLASS: FileIdentity.__name__} | value._asdict()
    if isinstance(value, np.ndarray):
        rows.append(value.astype(np.float16).tobytes())
        return {_ROWS: value.shape}
    if isinstance(value, datetime):
        return {_MOMENT: value.isoformat()}
    if isinstance(value, Modality):
        return {_MODALITY: str(value)}
    if isinstance(value, Media):
        return {_MEDIA: str(value)}
    if isinstance(value, dict):
        return {_NAMED: {name: _to_plain(each, rows) for name, each in value.items()}}
    return [_to_plain(each, rows) for each in value] if isinstance(value, tuple | list) else value


def _from_plain(value: Any, rows: _Rows) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return tuple(_from_plain(each, rows) for each in value)
    if not isinstance(value, dict):
        return value
    if _ROWS in value:
        return rows.take(*value[_ROWS])
    if _MOMENT in value:
        return datetime.fromisoformat(value[_MOMENT])
    if _MODALITY in value and _CLASS not in value:
        return Modality(value[_MODALITY])
    if _NAMED in value:
        return {name: _from_plain(each, rows) for name, each in value[_NAMED].items()}
    if _MEDIA in value:
        return Media(value[_MEDIA])
    made = _CLASSES[value.pop(_CLASS)]
    return made(**{name: _from_plain(each, rows) for name, each in value.items()})
