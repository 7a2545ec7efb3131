"""The health of the rows: segments as long as the catalog says, rows as they were written, each with an item."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, or_, select

from clipsearch.filtering import Filter
from clipsearch.store import catalog
from clipsearch.store.filters import matching_rows
from clipsearch.store.findings import Finding, Severity, counted
from clipsearch.store.library import Library
from clipsearch.store.names import VECTORS
from clipsearch.store.refusals import REPAIR
from clipsearch.store.roots import get_roots
from clipsearch.store.schema import vectors
from clipsearch.store.vectors import Rows, Segment
from clipsearch.store.verification import Stage, damaged_rows, has_checksums
from clipsearch.types import Modality

UNIT_TOLERANCE = 0.01
"""The length of a row is 1, by so much; float16 costs less than a tenth of it."""

_QUICK_ROWS = 10_000
_RUN_ROWS = 100
_BLOCK_ROWS = 8192


def examine_segments(library: Library, modality: Modality) -> Iterator[Finding]:
    """Check that the segments are contiguous and as long as the catalog says."""
    segments, row_bytes = _read_segments(library, modality)
    if not segments:
        return
    damage = _gaps(segments) or _short(library, segments, row_bytes)
    if damage and (segments, row_bytes) != _read_segments(library, modality):
        yield from examine_segments(library, modality)  # a compaction replaced them during the check
        return
    rows = sum(segment.committed_rows for segment in segments)
    values = {"segments": len(segments), "rows": rows, "row_bytes": row_bytes}
    if damage:
        found = " ".join(damage)
        yield Finding("segments", Severity.PROBLEM, found, REPAIR, modality, values)
    else:
        found = f"{counted(rows, 'row')} in {counted(len(segments), 'file')}, as long as the catalog says."
        yield Finding("segments", Severity.OK, found, "", modality, values)


def _gaps(segments: list[Segment]) -> list[str]:
    ends = [0, *(segment.first_row + segment.committed_rows for segment in segments)]
    return [
        f"{segment.name} starts at row {segment.first_row:,}, but the previous one ends at {end:,}."
        for segment, end in zip(segments, ends, strict=False)
        if segment.first_row != end
    ]


def _short(library: Library, segments: list[Segment], row_bytes: int) -> list[str]:
    if not row_bytes:
        return ["The catalog does not say how long a row is."]
    sizes = [regular_size(library.folder / VECTORS / segment.name) for segment in segments]
    return [
        f"{segment.name} is missing, or is not a regular file."
        if size is None
        else f"{segment.name} holds {size // row_bytes:,} rows, but the catalog has {segment.committed_rows:,}."
        for segment, size in zip(segments, sizes, strict=True)
        if (size or 0) < segment.committed_rows * row_bytes
    ]


def examine_rows(library: Library, modality: Modality, quick: bool, stage: Stage) -> Iterator[Finding]:
    """Compare all rows with their checksums; without checksums, check that rows are finite and of unit length."""
    with library.query() as connection:
        total = catalog.count_rows(connection, modality)
        checksums = has_checksums(connection)
    if not total:
        return
    advance = stage(f"{modality}: verifying", total) or (lambda rows: None)
    looked, bad = total, np.empty(0, np.int64)
    if checksums and not quick:
        bad = damaged_rows(library, modality, advance)
    else:
        with library.read() as snapshot:
            looked, bad = _odd_rows(snapshot.rows(modality), quick)
    yield _of_rows(library, modality, looked, bad, checksums and not quick)


def _of_rows(library: Library, modality: Modality, looked: int, bad: NDArray[np.int64], checksums: bool) -> Finding:
    values = {"looked_at": looked, "bad": len(bad)}
    as_it_was = "as they were written" if checksums else "finite and of unit length"
    if not len(bad):
        found = f"{counted(looked, 'row')} checked, all {as_it_was}."
        return Finding("rows", Severity.OK, found, "", modality, values)
    found = f"{len(bad):,} of {looked:,} rows checked are not {as_it_was}; the first is {bad[0]:,}"
    return Finding(
        "rows", Severity.PROBLEM, f"{found}{_whose(library, modality, int(bad[0]))}.", REPAIR, modality, values
    )


def _whose(library: Library, modality: Modality, row: int) -> str:
    with library.query() as connection:
        paths = {root.id: root.folder for root in get_roots(connection, library.base)}
        match = catalog.matches(connection, modality, [row], paths).get(row)
        return f", of {match.item.path}" if match else ""


def _odd_rows(rows: Rows, quick: bool = False) -> tuple[int, NDArray[np.int64]]:
    """Return how many rows were checked, and which of them are not unit vectors: int64, ascending.

    quick: check a sample, in runs that are spread evenly.
    """
    runs = min(-(-len(rows) // _RUN_ROWS), _QUICK_ROWS // _RUN_ROWS) if quick else 1
    edges = np.linspace(0, len(rows), runs + 1).astype(np.int64).tolist()
    looked, bad = 0, [np.empty(0, np.int64)]
    for start, end in pairwise(edges):
        for first, block in rows.blocks(start, min(end, start + _RUN_ROWS) if quick else end, _BLOCK_ROWS):
            with np.errstate(invalid="ignore", over="ignore"):
                norms = np.linalg.norm(block.astype(np.float32), axis=1)
                is_unit = np.abs(norms - 1) < UNIT_TOLERANCE
            looked += len(block)
            bad.append(first + np.flatnonzero(~is_unit))
    return looked, np.concatenate(bad)


def examine_owners(library: Library, modality: Modality) -> Iterator[Finding]:
    """Check that each row either belongs to an item or is a tombstone."""
    with library.query() as connection:
        total = catalog.count_rows(connection, modality)
        outside = _outside(connection, modality, total)
        owned = matching_rows(connection, modality, Filter(), "")
        dead = catalog.get_tombstones(connection, modality)
    is_owned, is_dead = _mask(owned, total), _mask(dead, total)
    counts = {
        "outside": outside + int(np.count_nonzero((dead < 0) | (dead >= total))),
        "lost": int(np.count_nonzero(~is_owned & ~is_dead)),
        "hidden": int(np.count_nonzero(is_owned & is_dead)),
    }
    said = {
        "outside": "rows of the catalog lie outside the segments",
        "lost": "rows belong to no file but are not marked as deleted",
        "hidden": "rows of indexed files are marked as deleted",
    }
    wrong = [f"{count:,} {said[name]}" for name, count in counts.items() if count]
    if wrong:
        yield Finding("owners", Severity.PROBLEM, f"{'; '.join(wrong)}.", REPAIR, modality, counts)
    elif total:
        yield Finding("owners", Severity.OK, "Each row has an item or is deleted.", "", modality, counts)


def _outside(connection: Connection, modality: Modality, total: int) -> int:
    beyond = or_(vectors.c.row < 0, vectors.c.row >= total)
    count = select(func.count()).select_from(vectors).where(vectors.c.modality == modality, beyond)
    found: int = connection.execute(count).scalar_one()
    return found


def _mask(rows: NDArray[np.int64], total: int) -> NDArray[np.bool_]:
    mask = np.zeros(total, np.bool_)
    mask[rows[(rows >= 0) & (rows < total)]] = True
    return mask


def _read_segments(library: Library, modality: Modality) -> tuple[list[Segment], int]:
    """Return the segments of a modality, and the bytes of a row."""
    with library.query() as connection:
        return catalog.get_segments(connection, modality), catalog.get_row_bytes(connection)


def regular_size(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None if it does not exist or is reached through a link."""
    if path.parent.is_symlink():
        return None
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
