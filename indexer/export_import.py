"""An export to a new library. All values of an export are checked before any is stored."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.metadata import check_metadata
from clipsearch.store import catalog
from clipsearch.store.exporting import DECLARED
from clipsearch.store.library import Library
from clipsearch.store.metadata_index import declare_index
from clipsearch.store.positions import MAX_PAGE, MAX_TIME
from clipsearch.store.records import RootKind
from clipsearch.store.refilling import Refill, VectorBlock, refill
from clipsearch.store.spreads import SPREADS_KEY
from clipsearch.store.tags import TagSource
from clipsearch.types import Media, Modality
from clipsearch.words import fold_tag, tidy_name, tidy_tag
from indexer.export_files import ExportReader, read_declared
from indexer.export_tables import ITEM_COLUMNS, TEXT, chunked
from indexer.importing import ImportReport, refresh_derived
from indexer.report import Progress, Silent

AT_ONCE = 4096
"""Items, and vectors, that are read and stored together."""

_TOLERANCE = 1e-2
"""How far the length of a vector may be from 1; float16 rows of unit length are within 0.002."""

_MOST = 2**63 - 1
_HASH = re.compile("[0-9a-f]{1,40}", re.ASCII)


def import_export(
    folder: Path, source: Path, *, settings: Settings | None = None, progress: Progress | None = None
) -> ImportReport:
    """Fill the library in `folder`, which must be new or empty, with an export: with its ids, places and vectors.

    All of it is stored, or nothing. Raises InvalidInputError for an export that cannot be used and for a library that
    has items, LibraryLockedError, LibraryError for a full disk.
    """
    started = time.monotonic()
    progress = progress or Silent()
    with ExportReader(source) as opened:
        made = opened.manifest
        opened.check()
        library = Library.create(folder)
        try:
            with library.query() as connection:
                if not catalog.is_empty(connection):
                    raise InvalidInputError(
                        f"The library in {folder} holds items, and an export keeps its ids, so it needs a library of "
                        "its own. Name a new one with --library (in Python: another folder)."
                    )
            library.pin(made.encoder)
            with library.writer() as writer:
                library.check_pin(made.encoder)
                progress.start(made.items + sum(made.vectors.values()))
                refill(writer, library.base, Checked(opened, progress).refill())
                declare_index(writer, read_declared(made.settings))
                refresh_derived(library, writer, settings or Settings(), spreads=SPREADS_KEY not in made.settings)
        finally:
            library.close()
    return ImportReport(made.items, seconds=round(time.monotonic() - started, 3))


class Checked:
    """The rows of an export as they are stored. ids: of the items so far, int64, ascending."""

    def __init__(self, opened: ExportReader, progress: Progress) -> None:
        self._opened = opened
        self._progress = progress
        made = opened.manifest
        self._kinds = {root.id: root.kind for root in made.roots}
        self._numbers = {tidy_name(name): number for number, name in made.collections.items()}
        self._ids: list[NDArray[np.int64]] = []

    def refill(self) -> Refill:
        """Return what the library is filled with."""
        made = self._opened.manifest
        settings = {key: value for key, value in made.settings.items() if key != DECLARED}
        return Refill(made.roots, made.collections, self._items(), self._vectors(), settings)

    def _items(self) -> Iterator[Sequence[dict[str, Any]]]:
        last = count = 0
        for block in chunked(self._opened.items(), AT_ONCE):
            for row in block:
                try:
                    self._check_item(row, last)
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise InvalidInputError(
                        f"The export has a wrong item {row.get('id')!r:.20}: {error}. Nothing was imported."
                    ) from error
                last = row["id"]
            count += len(block)
            self._ids.append(np.array([row["id"] for row in block], np.int64))
            yield block
            self._progress.advance(len(block))
        if count != self._opened.manifest.items:
            raise InvalidInputError(f"The export has {count:,} items, but says {self._opened.manifest.items:,}.")

    def _check_item(self, row: dict[str, Any], last: int) -> None:
        """Check a row, and make of it what is stored. Raises ValueError and its like."""
        for name, kind in ITEM_COLUMNS.items():
            if kind == TEXT:
                _text(name, row[name])
        _whole("id", row["id"], last + 1, _MOST)
        row["name"] = _name(row["name"], self._kinds[row["root"]])
        Modality(row["modality"])
        if not isinstance(row["content_hash"], str) or not _HASH.fullmatch(row["content_hash"]):
            raise ValueError("its content hash is not hexadecimal")
        for name, least, most in (("size", 0, _MOST), ("mtime_ns", -_MOST, _MOST)):
            _whole(name, row[name], least, most)
        for name, most in (("width", 2**31), ("height", 2**31), ("pages", MAX_PAGE)):
            _whole_or_none(name, row[name], 1, most)
        for name, low, high in (("latitude", -90, 90), ("longitude", -180, 180), ("duration", 0, MAX_TIME)):
            row[name] = _number_or_none(name, row[name], low, high)
        if row["taken_at"] is not None and datetime.fromisoformat(row["taken_at"]).isoformat() != row["taken_at"]:
            raise ValueError("its taken_at is not a time as it is stored")
        if row["media"] is not None:
            Media(row["media"])
        self._check_lists(row)

    def _check_lists(self, row: dict[str, Any]) -> None:
        for name in ("metadata", "beside"):
            if row[name] is not None:
                check_metadata(row[name])
        folded = set()
        for tag, source, probability in row["tags"] or ():
            if not isinstance(tag, str) or not fold_tag(tag) or tidy_tag(tag) != tag:
                raise ValueError(f"{tag!r:.40} is not a tag")
            TagSource(source)
            _number_or_none("probability", probability, 0, 1)
            folded.add((fold_tag(tag), source))
        if len(folded) != len(row["tags"] or ()):
            raise ValueError("it has one tag twice")
        places = [(self._numbers[name], _whole("place", at, -_MOST, _MOST)) for name, at in row["collections"] or ()]
        if len({number for number, _ in places}) != len(places):
            raise ValueError("it is in one collection twice")
        row["collections"] = places
        if row["recognised"] is not None:
            _check_recognised(row["recognised"])

    def _vectors(self) -> Iterator[tuple[Modality, VectorBlock]]:
        ids = np.concatenate([np.empty(0, np.int64), *self._ids])
        rows = self._opened.vectors()
        for modality in Modality:
            first = 0
            for block in self._opened.blocks(modality, AT_ONCE):
                said = list(islice(rows, len(block)))
                if len(said) != len(block):
                    raise InvalidInputError("The export has fewer rows in its table of vectors than vectors.")
                for place, row in enumerate(said, first):
                    try:
                        _check_vector(row, modality, place)
                    except (ValueError, TypeError) as error:
                        raise InvalidInputError(
                            f"The export has a wrong vector {place} of modality {modality}: {error}."
                        ) from error
                if not np.isin([row["item"] for row in said], ids, kind="sort").all():
                    raise InvalidInputError("The export has a vector of an item that it lacks.")
                _check_rows(modality, block)
                yield modality, (said, block)
                first += len(block)
                self._progress.advance(len(block))
        if next(rows, None) is not None:
            raise InvalidInputError("The export has more rows in its table of vectors than vectors.")


def _name(name: object, kind: RootKind) -> str:
    """Return the stored name of an item, which in a folder leads nowhere else."""
    if not isinstance(name, str):
        raise ValueError("it has no name")
    name.encode()  # half of a character is in no stored name
    if kind is RootKind.FOLDER and name and {"", ".", ".."} & {*name.split("/")}:
        raise ValueError(f"its name {name!r:.80} leads out of its folder")
    return name


def _check_vector(row: Mapping[str, Any], modality: Modality, place: int) -> None:
    if row["modality"] != modality or row["row"] != place:
        raise ValueError(f"it is row {row['row']!r:.20} of modality {row['modality']!r:.20} in the table")
    _whole("item", row["item"], 1, _MOST)
    _whole("part", row["part"], 0, 2**31 - 1)
    _text("text", row["text"])
    for name in ("line", "end_line"):
        _whole_or_none(name, row[name], 0, 2**31 - 1)
    _whole_or_none("page", row["page"], 1, MAX_PAGE)
    _number_or_none("time", row["time"], 0, MAX_TIME)


def _check_rows(modality: Modality, rows: NDArray[np.float16]) -> None:
    wide = rows.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    if not np.all(np.abs(lengths - 1) < _TOLERANCE):  # NaN is not below
        raise InvalidInputError(f"The export has a vector of modality {modality} that is not of unit length.")


def _check_recognised(read: Mapping[str, Any]) -> None:
    if read.keys() != {"model", "lines"} or not isinstance(read["model"], str) or len(read["model"]) > 40:
        raise ValueError("its recognised text is not described")
    _text("model", read["model"])
    for text, box, confidence in read["lines"] or ():
        _text("line", text)
        _number_or_none("confidence", confidence, 0, 1)
        if len(box) != 4 or not all(len(corner) == 2 and all(map(_is_finite, corner)) for corner in box):
            raise ValueError("a line of recognised text has no box")


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"its {name} is not a text")
    value.encode()  # raises UnicodeEncodeError, a ValueError, for half of a character


def _whole(name: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"its {name} is {value!r:.40}, but must be a whole number from {least} to {most}")
    return value


def _whole_or_none(name: str, value: object, least: int, most: int) -> None:
    if value is not None:
        _whole(name, value, least, most)


def _number_or_none(name: str, value: object, low: float, high: float) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"its {name} is {value!r:.40}, but must be from {low} to {high}")
    return float(value)  # type: ignore[arg-type]
