"""Encoded records without a library, as they travel: a JSON object a line, and rows of vectors.

What comes from a file or another machine is checked in full when it is read; nothing of it is run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import check_metadata, parse_metadata
from clipsearch.store.additions import DIGEST_LENGTH, Addition
from clipsearch.store.resolve import ItemColumns, Part
from clipsearch.types import Modality
from indexer.sources.records import check_id

_MAX_TEXT = 1 << 26
_MAX_NUMBER = 2**31
_TOLERANCE = 1e-2
_SCALARS = ("width", "height", "taken_at", "camera", "latitude", "longitude")
_TEXTS = ("caption", "text", "metadata", "source")
_FAILURE = {"id", "failed"}
_FLAGS = ("picture", "image")
_FIELDS = frozenset({"id", "modality", "digest", *_FLAGS, "passages", *_SCALARS, *_TEXTS})


@dataclass(frozen=True, slots=True)
class EmbeddedRecord:
    """A record with its vectors. has_picture: whether its picture is given or named."""

    addition: Addition
    has_picture: bool


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """What came of rows of a shard. With it and those before, all rows before the number `stop` are done.

    lines: a JSON object for each record, and for each row that failed. vectors: of these records in their order,
    float16 (n, dim), unit rows, by modality. checksum: of all that.
    """

    first: int
    stop: int
    lines: Sequence[bytes]
    vectors: Mapping[Modality, NDArray[np.float16]]
    checksum: str = ""

    @classmethod
    def of(
        cls, first: int, stop: int, records: Sequence[EmbeddedRecord], failed: Iterable[tuple[str, str]], dim: int
    ) -> EmbeddedBatch:
        """Write records, and the ids of rows that failed with their reasons."""
        lines = [_to_line(_described(record)) for record in records]
        lines += [_to_line({"failed": _plain(reason), "id": _plain(name)}) for name, reason in failed]
        vectors = {modality: _stack(records, modality, dim) for modality in Modality}
        return cls(first, stop, lines, vectors, _checksum(first, stop, lines, vectors))

    def check(self) -> None:
        """Raise InvalidInputError unless the checksum is that of the content."""
        if self.checksum != _checksum(self.first, self.stop, self.lines, self.vectors):
            raise InvalidInputError(f"The rows {self.first} to {self.stop} do not have their checksum.")


@dataclass(slots=True)
class Unpacked:
    """What a batch says. failed: ids and reasons."""

    records: list[EmbeddedRecord] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def unpack(batch: EmbeddedBatch) -> Unpacked:
    """Return the records of a batch. Raises InvalidInputError for anything that `EmbeddedBatch.of` does not write."""
    for modality, vectors in batch.vectors.items():
        _check_rows(modality, vectors)
    taken = dict.fromkeys(Modality, 0)
    found = Unpacked()
    for line in batch.lines:
        said = read_line(line)
        if "failed" in said:
            found.failed.append((_text("id", said["id"]), _text("failed", said["failed"])))
            continue
        rows: dict[Modality, NDArray[np.float16]] = {}
        for modality, count in counts_of(said).items():
            rows[modality] = batch.vectors[modality][taken[modality] : taken[modality] + count]
            taken[modality] += count
            if len(rows[modality]) != count:
                raise InvalidInputError(f"it has too few vectors for its records, of the kind {modality}")
        rows = {modality: each for modality, each in rows.items() if len(each)}
        found.records.append(_record(said, rows))
    if any(taken[key] != len(rows) for key, rows in batch.vectors.items()):
        raise InvalidInputError("it has more vectors than its records say")
    return found


def read_line(line: bytes) -> dict[str, Any]:
    """Read the object on a line. Raises InvalidInputError."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("a line is not a JSON object in UTF-8") from error
    if (
        not isinstance(said, dict)
        or "id" not in said
        or not (said.keys() <= _FIELDS or said.keys() == {"id", "failed"})
    ):
        raise InvalidInputError("a line is not the record of a shard")
    return said


def counts_of(said: Mapping[str, Any]) -> dict[Modality, int]:
    """Return how many vectors the record of a line has. Raises InvalidInputError."""
    if "failed" in said:
        return {}
    if not isinstance(said.get("passages"), list) or not all(isinstance(said.get(name), bool) for name in _FLAGS):
        raise InvalidInputError("a record does not say which vectors it has")
    return {Modality.IMAGE: int(said["image"]), Modality.TEXT: len(said["passages"])}


def _described(record: EmbeddedRecord) -> dict[str, Any]:
    """Return what is written of a record, without what it has not."""
    addition = record.addition
    columns = {name: getattr(addition.columns, name) for name in _SCALARS}
    said: dict[str, Any] = {
        "id": addition.name,
        "modality": addition.columns.modality,
        "digest": addition.columns.content_hash,
        "picture": record.has_picture,
        **columns,
        **{name: getattr(addition, name) for name in _TEXTS},
        "image": Modality.IMAGE in addition.rows,
        "passages": [part.passage for part in addition.parts if part.modality is Modality.TEXT],
    }
    return {name: value for name, value in said.items() if value is not None}


def _plain(text: str) -> str:
    """Return what is said of a row that failed as a text that any database holds; names may have any bytes."""
    return text.replace("\0", " ").encode("utf-8", "backslashreplace").decode()


def _to_line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _stack(records: Sequence[EmbeddedRecord], modality: Modality, dim: int) -> NDArray[np.float16]:
    rows = [record.addition.rows[modality] for record in records if modality in record.addition.rows]
    return np.concatenate([np.empty((0, dim), np.float16), *rows])


def _checksum(first: int, stop: int, lines: Iterable[bytes], vectors: Mapping[Modality, NDArray[np.float16]]) -> str:
    digest = hashlib.blake2b(f"{first} {stop}\n".encode(), digest_size=20)
    for line in lines:
        digest.update(line)
    for modality, rows in sorted(vectors.items()):
        digest.update(f"{modality} {rows.shape}\n".encode())
        digest.update(rows.astype("<f2", copy=False).tobytes())
    return digest.hexdigest()


def _check_rows(modality: Modality, rows: NDArray[np.float16]) -> None:
    if rows.ndim != 2 or rows.dtype != np.float16:
        raise InvalidInputError(f"its vectors of the kind {modality} are not rows of float16")
    wide = rows.astype(np.float32)
    if not np.all(np.abs(np.sqrt(np.einsum("ij,ij->i", wide, wide)) - 1) < _TOLERANCE):
        raise InvalidInputError(f"a vector of the kind {modality} is not of unit length")


def _record(said: Mapping[str, Any], rows: Mapping[Modality, NDArray[np.float16]]) -> EmbeddedRecord:
    texts = {name: _text(name, said[name]) for name in _TEXTS if name in said}
    if "metadata" in texts:
        texts["metadata"] = _metadata(texts["metadata"])
    parts = [Part(Modality.IMAGE, 0)] if Modality.IMAGE in rows else []
    parts += [_passage(number, each) for number, each in enumerate(said["passages"])]
    addition = Addition(
        check_id(said["id"]), _columns(said), texts.get("caption"), texts.get("text"), texts.get("metadata"),
        texts.get("source"), parts=tuple(parts), rows=rows,
    )  # fmt: skip
    return EmbeddedRecord(addition, said["picture"])


def _columns(said: Mapping[str, Any]) -> ItemColumns:
    modality, digest = said.get("modality"), said.get("digest")
    if modality not in [str(each) for each in Modality]:
        raise InvalidInputError("a record does not say of which kind it is")
    if not isinstance(digest, str) or len(digest) != DIGEST_LENGTH or not set(digest) <= set("0123456789abcdef"):
        raise InvalidInputError("a record has no digest")
    read: dict[str, Callable[[object], Any]] = {
        "width": lambda value: _number("width", value, 1, _MAX_NUMBER),
        "height": lambda value: _number("height", value, 1, _MAX_NUMBER),
        "taken_at": _time,
        "camera": lambda value: _text("camera", value),
        "latitude": lambda value: _degrees("latitude", value, 90),
        "longitude": lambda value: _degrees("longitude", value, 180),
    }
    values: dict[str, Any] = {name: read[name](said[name]) for name in _SCALARS if name in said}
    return ItemColumns(modality, digest, **values)


def _passage(number: int, said: object) -> Part:
    if not isinstance(said, list) or len(said) != 3:
        raise InvalidInputError("a record has an invalid passage")
    text, line, end_line = said
    if said == [None, None, None]:
        return Part(Modality.TEXT, number)
    first, last = (_number("line", each, 1, _MAX_NUMBER) for each in (line, end_line))
    return Part(Modality.TEXT, number, _text("passage", text), first, last)


def _metadata(text: str) -> str:
    try:
        checked = check_metadata(parse_metadata(text))
    except ValueError as error:
        raise InvalidInputError(f"a record has metadata that cannot be used: {error}") from error
    if checked != text:
        raise InvalidInputError("a record has metadata in another form than it is written in")
    return text


def _text(name: str, value: object) -> str:
    """Return a text that any database holds."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise InvalidInputError(f"a record has no text for {name}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"a record has half of a character for {name}") from error
    return value


def _number(name: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidInputError(f"a record has {name} {value!r:.40}, but it must be {least} to {most}")
    return value


def _time(value: object) -> str:
    try:
        return datetime.fromisoformat(_text("taken_at", value)).isoformat()
    except ValueError as error:
        raise InvalidInputError(f"a record has the time {value!r:.40}, which is not valid") from error


def _degrees(name: str, value: object, most: int) -> float:
    if type(value) not in (int, float) or not -most <= value <= most:  # type: ignore[operator]
        raise InvalidInputError(f"a record has {name} {value!r:.40}, but it must be -{most} to {most}")
    return float(value)  # type: ignore[arg-type]
