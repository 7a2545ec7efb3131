"""Queries that a user gives to calibrate a library for: vectors, or texts for its encoder; kept in its settings."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, EncoderMismatchError, InvalidInputError
from clipsearch.linalg import unit_rows
from clipsearch.media.captions import read_pairs
from clipsearch.paths import printable
from clipsearch.store.catalog import QUERIES_KEY, get_setting
from clipsearch.store.library import Library
from clipsearch.store.writer import Writer
from indexer.sources.matrices import Array

COUNT = 500
"""Queries of a kind: enough for a standard error of the recall of about half a percent."""

MIN_COUNT = 50
"""Fewer queries than this say too little."""

AUTO = "auto"
"""Instead of queries: forget those that were given."""

MAX_BYTES = 256 << 20
"""A file of texts that is longer is not read."""

MAX_ROWS = 1_000_000
_MAX_LINE = 1 << 20
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_LINES = ".txt"
_ARRAY = ".npy"

Given = str | os.PathLike[str] | Sequence[str] | NDArray[np.floating]
"""A file, a list of texts, or vectors (n, dim)."""


@dataclass(frozen=True, slots=True)
class GivenQueries:
    """At most COUNT queries, unit rows, float32 (n, dim). source: where they came from, for the reader."""

    vectors: NDArray[np.float32]
    source: str

    def save(self, writer: Writer) -> None:
        """Keep them for every later calibration of the library."""
        data = base64.b64encode(self.vectors.astype("<f2").tobytes()).decode()
        values = {"source": self.source, "dim": self.vectors.shape[1], "vectors": data}
        writer.set_setting(QUERIES_KEY, json.dumps(values))

    @classmethod
    def of(cls, library: Library) -> GivenQueries | None:
        """Return those that a library was given; None without any, or if they cannot be read or are of another encoder.

        Libraries of earlier versions kept them when the encoder changed: the dimension tells.
        """
        pin = library.encoder
        with library.query() as connection:
            stored = get_setting(connection, QUERIES_KEY)
        try:
            values = json.loads(stored) if stored else {}
            data = base64.b64decode(values["vectors"], validate=True)
            vectors = np.frombuffer(data, "<f2").reshape(-1, int(values["dim"])).astype(np.float32)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        if pin is None or vectors.shape[1] != pin.dim:
            return None
        lengths = np.linalg.norm(vectors, axis=1)
        usable = len(vectors) and np.all(np.isfinite(lengths)) and np.all(lengths > 0)
        return cls(unit_rows(vectors), printable(str(values.get("source", "")))) if usable else None


def forget_queries(writer: Writer) -> None:
    """Calibrate with queries of the library's own again."""
    writer.set_setting(QUERIES_KEY, None)


def read_queries(given: Given, dim: int, load_encoder: Callable[[], Encoder]) -> GivenQueries:
    """Read queries, of which at most COUNT are taken, evenly spread.

    given: a .npy file of vectors of `dim` numbers; a .csv, .tsv or .jsonl file of captions; a .txt file with a text a
    line; texts; or vectors, (n, dim) of any length but zero. Texts are encoded by the encoder of the library.
    Raises InvalidInputError for what cannot be used, EncoderError where texts cannot be encoded.
    """
    if isinstance(given, np.ndarray):
        return GivenQueries(_spread(_unit(given, dim)), "vectors that were given")
    if not isinstance(given, str | os.PathLike):
        if not all(isinstance(text, str) for text in given):
            return read_queries(_as_array(given), dim, load_encoder)
        texts = [text for text in given if text.strip()]
        return GivenQueries(_encode(texts, "the list of texts", load_encoder), "texts that were given")
    name = os.fsdecode(given)
    path = Path(os.path.abspath(name))
    if not path.is_file():
        raise InvalidInputError(f"There is no file {name!r}. Check the path.")
    source = f"queries of {path.name}"
    if path.suffix.lower() == _ARRAY:
        return GivenQueries(_read_vectors(path, dim), source)
    return GivenQueries(_encode(_read_texts(path), str(path), load_encoder), source)


def _read_vectors(path: Path, dim: int) -> NDArray[np.float32]:
    """Read a .npy file: all rows are checked, some are returned."""
    matrix = Array.open(path)
    if matrix.dim != dim:
        raise _wrong_dim(str(path), matrix.dim, dim)
    if matrix.rows > MAX_ROWS:
        raise InvalidInputError(f"{path} has {matrix.rows:,} rows; at most {MAX_ROWS:,} are read. Save fewer of them.")
    wanted, taken = _places(matrix.rows, str(path)), []
    for first, values in matrix.blocks(0, matrix.rows):
        unit = _unit(values, dim, str(path), first)
        taken.append(unit[wanted[(wanted >= first) & (wanted < first + len(values))] - first])
    return np.concatenate(taken)


def _read_texts(path: Path) -> list[str]:
    """Read a file of texts."""
    suffix = path.suffix.lower()
    if suffix not in (*_TABLES, _LINES):
        raise InvalidInputError(f"{path} is no file of queries. Name a .npy, .csv, .tsv, .jsonl or .txt file.")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InvalidInputError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read. Save fewer queries.")
    return list(_lines(path)) if suffix == _LINES else [pair.caption for pair in read_pairs(path)]


def _lines(path: Path) -> Iterable[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            number = 0
            while line := file.readline(_MAX_LINE):
                number += 1
                if len(line) == _MAX_LINE:
                    raise InvalidInputError(f"{path}, line {number}: longer than {_MAX_LINE:,} characters.")
                if text := line.strip():
                    yield text
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8: {error.reason}. Save it as UTF-8.") from error


def _encode(texts: list[str], where: str, load_encoder: Callable[[], Encoder]) -> NDArray[np.float32]:
    chosen = [texts[place] for place in _places(len(texts), where)]
    try:
        return unit_rows(load_encoder().encode_queries(chosen).astype(np.float32))
    except EncoderMismatchError:
        raise
    except EncoderError as error:
        raise type(error)(
            f"The texts of {where} cannot be encoded, because the encoder cannot be loaded. Save the vectors of the "
            f"queries as a .npy file and name that. {error}"
        ) from error


def _unit(rows: NDArray[np.floating], dim: int, where: str = "The array", first: int = 0) -> NDArray[np.float32]:
    """Return rows (n, dim) at unit length. Raises InvalidInputError for other ones."""
    if rows.dtype.kind not in "fiu":
        raise InvalidInputError(f"{where} holds {rows.dtype}, not real numbers. Give a list of texts, or real vectors.")
    if rows.ndim != 2:
        raise InvalidInputError(f"Queries must have the shape (n, {dim}), not {rows.shape}.")
    if rows.shape[1] != dim:
        raise _wrong_dim(where, rows.shape[1], dim)
    with np.errstate(all="ignore"):
        wide = rows.astype(np.float64)
        norms = np.linalg.norm(wide, axis=1)
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise InvalidInputError(
            f"{where} cannot be used: row {first + int(bad[0])} is zero or holds NaN or infinity. Leave such rows out."
        )
    unit: NDArray[np.float32] = (wide / norms[:, None]).astype(np.float32)
    return unit


def _as_array(values: Sequence[object]) -> NDArray[np.floating]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Queries must be texts, or vectors of one length: {error}.") from error


def _spread(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows[_places(len(rows), "The array")]


def _places(count: int, where: str) -> NDArray[np.int64]:
    """Return the indices of at most COUNT of the queries, evenly spread. Raises InvalidInputError for too few."""
    if count < MIN_COUNT:
        raise InvalidInputError(
            f"{where} has {count} queries; at least {MIN_COUNT} are needed to calibrate with. Name more."
        )
    return np.unique(np.linspace(0, count - 1, min(count, COUNT)).astype(np.int64))


def _wrong_dim(where: str, dim: int, wanted: int) -> InvalidInputError:
    return InvalidInputError(
        f"{where} has vectors of {dim} dimensions, but those of the library have {wanted}. Use the encoder that made "
        "the library."
    )
