"""The health of a library's files: what is examined here changes nothing, and damage is a finding, never an error."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, or_, select
from sqlalchemy.exc import DatabaseError

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog, generations
from clipsearch.store.filters import matching_rows
from clipsearch.store.findings import INDEX, Finding, Severity, counted, guarded
from clipsearch.store.library import VECTORS, Library
from clipsearch.store.log_check import examine_log
from clipsearch.store.names import is_generation_name, is_segment_name, is_temporary_name
from clipsearch.store.reading import CATALOG
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import vectors
from clipsearch.store.vectors import ROW_DTYPE, Rows, Segment
from clipsearch.store.verification import Advance, count_damaged, damaged_rows, differs_from_texts, has_checksums
from clipsearch.types import Filter, Modality

Stage = Callable[[str, int], Advance | None]

UNIT_TOLERANCE = 0.01
"""The length of a row is 1, by so much; float16 costs less than a tenth of it."""

_QUICK_ROWS = 10_000
_RUN_ROWS = 100
_BLOCK_ROWS = 8192
_MESSAGES = 5


def examine(
    library: Library, build: str, *, quick: bool = False, stage: Stage = lambda name, total: None
) -> Iterator[Finding]:
    """Examine the files of a library: catalog, segments, rows, generations, and what lies about.

    build: the command that builds its index again. quick: look at a sample of the rows, and pass the words over.
    stage: called with the name of the next stage and its number of rows; returns the callback that advances it.
    """
    yield from guarded("log", partial(_log, library))
    yield from guarded("catalog", partial(_catalog, library, quick))
    yield from guarded("references", partial(_references, library))
    yield from guarded("digests", partial(_digests, library))
    if not quick:
        yield from guarded("words", partial(_words, library))
    yield from guarded("contents", partial(_contents, library))
    for modality in Modality:
        segments = guarded("segments", partial(_segments, library, modality), modality)
        yield from segments
        if quick and any(finding.severity is Severity.PROBLEM for finding in segments):
            continue  # a sample would name rows that are not there
        yield from guarded("rows", partial(_rows, library, modality, quick, stage), modality)
        yield from guarded("owners", partial(_owners, library, modality), modality)
        yield from guarded("index_files", partial(_generation, library, modality, build), modality)
    yield from guarded("leftovers", partial(_leftovers, library))


def _log(library: Library) -> Iterator[Finding]:
    """Look through SQLite's write-ahead log, of which it drops what follows damage without a word."""
    damage = examine_log(library.folder / f"{CATALOG}-wal")
    if damage:
        todo = f"The last commits are lost. Index again: {INDEX}. Or restore a backup: clipsearch restore DIR"
        yield Finding("log", Severity.PROBLEM, damage, todo)


def _catalog(library: Library, quick: bool) -> Iterator[Finding]:
    """Let SQLite look through its file."""
    check = "quick_check" if quick else "integrity_check"
    with library.query() as connection:
        said = connection.exec_driver_sql(f"PRAGMA {check}({_MESSAGES})").scalars().all()
    if said == ["ok"]:
        yield Finding("catalog", Severity.OK, "SQLite finds no damage in the catalog.")
    else:
        said = [line for message in said for line in str(message).splitlines()][:_MESSAGES]
        yield Finding("catalog", Severity.PROBLEM, f"SQLite finds damage in the catalog: {'; '.join(said)}.", REPAIR)


def _references(library: Library) -> Iterator[Finding]:
    """See that whatever names an item or a root names one that is there."""
    counts: dict[str, int] = {}
    with library.query() as connection:
        for table, _, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            name = f"{table} without {parent}"
            counts[name] = counts.get(name, 0) + 1
    if counts:
        what = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        yield Finding(
            "references", Severity.PROBLEM, f"Rows of the catalog refer to rows that are missing: {what}.", REPAIR
        )
    else:
        yield Finding("references", Severity.OK, "Every vector has its item, every item its root.")


def _digests(library: Library) -> Iterator[Finding]:
    """See that each row of the catalog is as it was written."""
    with library.query() as connection:
        if not has_checksums(connection):
            found = "The library has an earlier format, without checksums."
            yield Finding("digests", Severity.NOTE, found, f"The next run adds them: {INDEX}")
            return
        counts = {table: count for table, (count, _) in count_damaged(connection).items() if count}
    if counts:
        what = ", ".join(f"{count:,} of {table}" for table, count in counts.items())
        yield Finding(
            "digests",
            Severity.PROBLEM,
            f"Rows of the catalog do not match their checksums: {what}.",
            REPAIR,
            None,
            counts,
        )
    else:
        yield Finding("digests", Severity.OK, "Each row of the catalog matches its checksum.")


def _words(library: Library) -> Iterator[Finding]:
    """Compare the index of words with the captions and passages."""
    with library.query() as connection:
        try:
            differs = differs_from_texts(connection)
        except DatabaseError:  # what SQLite says of a damaged one
            differs = True
    if differs:
        found = "The full-text index does not match the captions and passages; searches for words may be wrong."
        yield Finding("words", Severity.PROBLEM, found, REPAIR)
    else:
        yield Finding("words", Severity.OK, "The full-text index matches the captions and passages.")


def _contents(library: Library) -> Iterator[Finding]:
    """Count the files that can be found."""
    with library.query() as connection:
        files = sum(catalog.count_items(connection).values())
    if files:
        yield Finding("contents", Severity.OK, f"{counted(files, 'file')} can be found.", "", None, {"files": files})
    else:
        todo = f"{INDEX} FOLDER"
        yield Finding("contents", Severity.NOTE, "The library is empty.", todo, None, {"files": 0})


def _segments(library: Library, modality: Modality) -> Iterator[Finding]:
    """See that the segments follow each other and are as long as the catalog says."""
    segments, row_bytes = _read_segments(library, modality)
    if not segments:
        return
    damage = _gaps(segments) or _short(library, segments, row_bytes)
    if damage and (segments, row_bytes) != _read_segments(library, modality):
        yield from _segments(library, modality)  # a compaction replaced them meanwhile
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
    sizes = [_size(library.folder / VECTORS / segment.name) for segment in segments]
    return [
        f"{segment.name} is missing, or is not a regular file."
        if size is None
        else f"{segment.name} holds {size // row_bytes:,} rows, but the catalog has {segment.committed_rows:,}."
        for segment, size in zip(segments, sizes, strict=True)
        if (size or 0) < segment.committed_rows * row_bytes
    ]


def _rows(library: Library, modality: Modality, quick: bool, stage: Stage) -> Iterator[Finding]:
    """Look at the rows: all against their checksums; or finite and of unit length, where there are none."""
    with library.query() as connection:
        total = sum(segment.committed_rows for segment in catalog.get_segments(connection, modality))
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
        paths = {root.id: root.folder for root in catalog.get_roots(connection, library.base)}
        match = catalog.matches(connection, modality, [row], paths).get(row)
        return f", of {match.item.path}" if match else ""


def _odd_rows(rows: Rows, quick: bool = False) -> tuple[int, NDArray[np.int64]]:
    """Return how many rows were looked at, and which of them are no unit vectors: int64, ascending.

    quick: look at a sample, in runs that are spread evenly.
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


def _owners(library: Library, modality: Modality) -> Iterator[Finding]:
    """See that each row has an item or is dead, and none is both."""
    with library.query() as connection:
        total = sum(segment.committed_rows for segment in catalog.get_segments(connection, modality))
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


def _generation(library: Library, modality: Modality, build: str) -> Iterator[Finding]:
    """Compare the files of the index with their checksums."""
    generation = _active(library, modality)
    if generation is None:
        return
    try:
        generations.verify(library.folder, generation)
    except StoreCorruptError as error:
        if _active(library, modality) != generation:
            yield from _generation(library, modality, build)  # a build replaced it meanwhile
            return
        found = f"{error} Until it is built again, every search is exact and slower."
        yield Finding("index_files", Severity.PROBLEM, found, build, modality)
        return
    if generation.checksums:
        found = f"{counted(len(generation.checksums), 'file')} of the index match their checksums."
        yield Finding("index_files", Severity.OK, found, "", modality)


def _leftovers(library: Library) -> Iterator[Finding]:
    """Look for what no catalog names: rests of a crash, or of what was replaced."""
    with library.query() as connection:
        row_bytes = _row_bytes(connection)
        expected = {s.name: s.committed_rows * row_bytes for s in catalog.get_segments(connection)}
        active = {g.name for m in Modality if (g := catalog.get_generation(connection, m)) is not None}
    files = (path for path in (library.folder / VECTORS).glob("*") if is_segment_name(path.name))
    rests = {path.name: _size(path) or 0 for path in files}
    rests = {name: over for name, size in rests.items() if (over := size - expected.get(name, 0)) > 0}
    ann = library.folder / generations.FOLDER
    for path in ann.iterdir() if ann.is_dir() else ():
        if (is_generation_name(path.name) and path.name not in active) or is_temporary_name(path.name):
            files = (Path(where, name) for where, _, names in os.walk(path) for name in names)
            rests[path.name] = sum(_size(file) or 0 for file in files)
    total = sum(rests.values())
    values = {"files": len(rests), "bytes": total}
    if rests:
        names = ", ".join(sorted(rests)[:_MESSAGES])
        found = f"{total:,} bytes of leftover files, from an interrupted run or one in progress: {names}."
        yield Finding("leftovers", Severity.NOTE, found, f"The next run deletes them: {INDEX}", None, values)
    else:
        yield Finding("leftovers", Severity.OK, "There are no leftover files.", "", None, values)


def _active(library: Library, modality: Modality) -> catalog.Generation | None:
    with library.query() as connection:
        return catalog.get_generation(connection, modality)


def _read_segments(library: Library, modality: Modality) -> tuple[list[Segment], int]:
    """Return the segments of a modality, and the bytes of a row."""
    with library.query() as connection:
        return catalog.get_segments(connection, modality), _row_bytes(connection)


def _row_bytes(connection: Connection) -> int:
    return int(catalog.get_setting(connection, "dim") or 0) * ROW_DTYPE.itemsize


def _size(path: Path) -> int | None:
    """Return the bytes of a regular file; None if it is not there, or is reached through a link."""
    if path.parent.is_symlink():
        return None
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
