"""Vectors that were made elsewhere: an array with a file of records, a table of both, or clip-retrieval's folder.

The layout is that of clip-retrieval (https://github.com/rom1504/clip-retrieval): `img_emb/*.npy`, `text_emb/*.npy`
and `metadata/*.parquet`, of which row i of the files of one number belong together. Arrays are read by the block, so
that memory stays flat however long they are.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from clipsearch.errors import InvalidInputError
from clipsearch.paths import without_mark
from clipsearch.store.records import ARRAY_SUFFIX, FILE_SUFFIXES, TABLE_SUFFIX, CollectionRecord, RecordBlock
from clipsearch.types import Modality
from indexer.sources.items import BadRecord, read_items
from indexer.sources.matrices import Array, Column, Matrix, norms_of

BLOCK_ROWS = 8192
SHOWN_ROWS = 10
_MANY = 1_000_000  # records too many that are counted
_FOLDERS = {Modality.IMAGE: "img_emb", Modality.TEXT: "text_emb"}
_METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Part:
    """Files whose rows belong together, the first of them being `first_row` of the source.

    prefix: what the names of records start with that have none but their numbers.
    """

    matrices: Mapping[Modality, Matrix]
    items: Path | None
    first_row: int
    prefix: str = ""

    @property
    def rows(self) -> int:
        """How many records it has."""
        return next(iter(self.matrices.values())).rows

    def records(self) -> Iterator[CollectionRecord | BadRecord]:
        """Yield its records; without a file of them, their numbers in the source are their names."""
        if self.items is None:
            return (CollectionRecord(f"{self.prefix}{self.first_row + i}") for i in range(self.rows))
        return read_items(self.items, self.first_row)


@dataclass(slots=True)
class _Tally:
    """Rows with one fault: the first few as they are shown, and how many there are."""

    fault: str
    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, where: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN_ROWS:
            self.shown.append(where)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.shown) else ""
        return f"{self.count:,} {'row' if self.count == 1 else 'rows'} {self.fault}: {', '.join(self.shown)}{more}"


class EmbeddingSource:
    """Records with their vectors. path: absolute and resolved. dim: of each vector. rows: how many records."""

    def __init__(self, source: str, items: str | None = None, modality: Modality | None = None) -> None:
        """Open a .npy or .parquet file, or a folder in clip-retrieval's layout; little but heads of files is read.

        items: the records of a .npy file, JSONL or parquet. modality: what the vectors of a file were made from,
        pictures unless given. Raises InvalidInputError for what cannot be used.
        """
        self.path = Path(os.path.realpath(source))
        if not source or not self.path.exists():
            raise InvalidInputError(f"There is no file or folder {source!r}. Check the path.")
        if self.path.is_dir():
            if items is not None or modality is not None:
                raise InvalidInputError("--items and --modality apply only to a file. Leave them out for a folder.")
            self.parts = _layout(self.path)
        else:
            self.parts = [_single(self.path, items, modality or Modality.IMAGE)]
        matrices = [matrix for part in self.parts for matrix in part.matrices.values()]
        self.dim = matrices[0].dim
        for matrix in matrices:
            if matrix.dim != self.dim:
                raise InvalidInputError(
                    f"{matrix.path} has {matrix.dim} dimensions, {matrices[0].path} has {self.dim}. All must be equal."
                )
        self.rows = sum(part.rows for part in self.parts)

    def check(self) -> Iterator[int]:
        """Look at every row and record; yield how many were seen since the last time.

        Raises InvalidInputError at the end, with the numbers of the first rows that cannot be used and how many there
        are: NaN or infinity, zero, no usable record, a name that another has, more or fewer records than rows.
        """
        not_finite, zero = _Tally("with NaN or infinity"), _Tally("with nothing but zeros")
        unusable, names, miscounted = _Tally("with a record that cannot be used"), _Names(), list[str]()
        for part in self.parts:
            records, before = part.records(), names.count + unusable.count
            for start in range(0, part.rows, BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, part.rows)
                for matrix in part.matrices.values():
                    self._check_rows(matrix, start, stop, not_finite, zero)
                for row, record in enumerate(islice(records, stop - start), start):
                    if isinstance(record, BadRecord):
                        unusable.add(f"{self._where(part.items, row)} ({record.reason})")
                    else:
                        names.add(without_mark(record.name))
                yield stop - start
            miscounted += _miscounted(part, names.count + unusable.count - before, records)
        problems = [str(tally) for tally in (not_finite, zero, unusable) if tally.count] + miscounted
        if not problems:
            problems = self._repeated(names)
        if problems:
            raise InvalidInputError(f"{self.path} cannot be imported: {'; '.join(problems)}. Nothing was imported.")

    def blocks(self) -> Iterator[RecordBlock]:
        """Yield all records in order, with unit vectors, at most 8,192 at a time."""
        for part in self.parts:
            records = part.records()
            for start in range(0, part.rows, BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, part.rows)
                block = [record for record in islice(records, stop - start) if isinstance(record, CollectionRecord)]
                if len(block) != stop - start:
                    raise InvalidInputError(f"{part.items} changed while it was read. Run again.")
                yield RecordBlock(block, {m: matrix.unit_rows(start, stop) for m, matrix in part.matrices.items()})

    def _check_rows(self, matrix: Matrix, start: int, stop: int, not_finite: _Tally, zero: _Tally) -> None:
        for first, values in matrix.blocks(start, stop):
            norms = norms_of(values)
            for tally, bad in ((not_finite, ~np.isfinite(norms)), (zero, norms == 0)):
                for row in np.flatnonzero(bad):
                    tally.add(self._where(matrix.path, first + int(row)))

    def _where(self, path: Path | None, row: int) -> str:
        """Name a row of a file: by its number alone where there is only one file of vectors."""
        return f"{row}" if len(self.parts) == 1 or path is None else f"{row} of {path.name}"

    def _repeated(self, names: _Names) -> list[str]:
        """Find names that several records have; those that are numbers of rows have no other."""
        suspects = names.suspects()
        if not suspects or all(part.items is None for part in self.parts):
            return []
        tally, seen = _Tally("with a name that a row before has"), set[str]()
        for part in self.parts:
            for row, record in enumerate(part.records()):
                name = without_mark(record.name) if isinstance(record, CollectionRecord) else None
                if name is not None and hash(name) in suspects:
                    if name in seen:
                        tally.add(f"{self._where(part.items, row)} ({name})")
                    seen.add(name)
        return [f"{tally}; give each its own name, such as an `id`"] if tally.count else []


class _Names:
    """The names of all records, as eight bytes each."""

    def __init__(self) -> None:
        self._hashes = array("q")

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._hashes)

    def add(self, name: str) -> None:
        self._hashes.append(hash(name))

    def suspects(self) -> set[int]:
        """Return the hashes that occur more than once."""
        hashes = np.sort(np.frombuffer(self._hashes, np.int64))
        return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def _miscounted(part: Part, seen: int, rest: Iterator[object]) -> list[str]:
    """Say what is wrong where a file of records is longer or shorter than its vectors; seen: of its records."""
    found = seen + sum(1 for _ in islice(rest, _MANY))
    over = "more than " if found >= seen + _MANY else ""
    return [] if found == part.rows else [f"it has {part.rows:,} rows, but {part.items} has {over}{found:,} records"]


def _single(path: Path, items: str | None, modality: Modality) -> Part:
    if path.suffix not in FILE_SUFFIXES or not path.is_file():
        raise InvalidInputError(
            f"{path} is neither a .npy or .parquet file nor a folder with img_emb or text_emb in it."
        )
    if path.suffix == TABLE_SUFFIX:
        if items is not None:
            raise InvalidInputError("--items applies only to a .npy file. The records of a table are its own columns.")
        return Part({modality: Column.open(path)}, path, 0)
    if items is not None and not os.path.isfile(items):
        raise InvalidInputError(f"There is no file {items!r}. Check the path.")
    # two arrays of one folder must not give the same paths
    return Part({modality: Array.open(path)}, None if items is None else Path(items), 0, f"{path.name}/")


def _layout(folder: Path) -> list[Part]:
    """Pair the files of clip-retrieval's folders, in order of their numbers."""
    if folder.suffix in FILE_SUFFIXES:
        raise InvalidInputError(f"{folder} is a folder with the name of a file. Give it another name.")
    files = {modality: _numbered(folder / name, ARRAY_SUFFIX) for modality, name in _FOLDERS.items()}
    arrays = {modality: found for modality, found in files.items() if found}
    if not arrays:
        raise InvalidInputError(f"{folder} has neither img_emb/*.npy nor text_emb/*.npy in it.")
    metadata = _numbered(folder / _METADATA, TABLE_SUFFIX)
    numbers = list(next(iter(arrays.values())))
    for found in (*arrays.values(), *([metadata] if metadata else [])):
        if list(found) != numbers:
            said = ", ".join(_count(each) for each in (*arrays.values(), metadata) if each)
            raise InvalidInputError(
                f"The files in {folder} do not pair: {said}. Each number must occur once in each folder."
            )
    return _pair(arrays, metadata, numbers)


def _pair(arrays: Mapping[Modality, dict[int, Path]], metadata: dict[int, Path], numbers: list[int]) -> list[Part]:
    parts: list[Part] = []
    for number in numbers:
        first_row = parts[-1].first_row + parts[-1].rows if parts else 0
        matrices = {modality: Array.open(found[number]) for modality, found in arrays.items()}
        if len({matrix.rows for matrix in matrices.values()}) > 1:
            said = " and ".join(f"{matrix.path} has {matrix.rows:,} rows" for matrix in matrices.values())
            raise InvalidInputError(f"{said}. All must have the same number.")
        parts.append(Part(matrices, metadata.get(number), first_row))
    return parts


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """Return the files of a folder by the last number in their names, ascending. Raises InvalidInputError for twins."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob(f"[!.]*{suffix}")) if folder.is_dir() else ():
        digits = re.findall(r"\d+", path.stem)
        if not digits or (number := int(digits[-1])) in found:
            raise InvalidInputError(f"{path} has no unique number in its name. Rename it, such as img_emb_0{suffix}.")
        found[number] = path
    return dict(sorted(found.items()))


def _count(found: dict[int, Path]) -> str:
    folder = next(iter(found.values())).parent.name
    return f"{folder} has {len(found)} from {min(found)} to {max(found)}"
