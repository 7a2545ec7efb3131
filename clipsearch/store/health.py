"""The health of a library's files. Examination is read-only; damage is returned as a finding, never raised."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog, generations, second_set
from clipsearch.store.dialect import is_postgres
from clipsearch.store.findings import INDEX, Finding, Severity, counted, guarded
from clipsearch.store.library import Library
from clipsearch.store.log_check import examine_log
from clipsearch.store.names import VECTORS, is_generation_name, is_segment_name, is_temporary_name
from clipsearch.store.reading import CATALOG
from clipsearch.store.refusals import REPAIR
from clipsearch.store.row_health import examine_owners, examine_rows, examine_segments, regular_size
from clipsearch.store.second_check import find_damaged_seconds
from clipsearch.store.vectors import ROW_DTYPE
from clipsearch.store.verification import (
    MESSAGES,
    Stage,
    count_damaged,
    differs_from_metadata,
    differs_from_texts,
    has_checksums,
    integrity_problems,
)
from clipsearch.types import Modality


def examine(
    library: Library, build: str, *, quick: bool = False, stage: Stage = lambda name, total: None
) -> Iterator[Finding]:
    """Examine the files of a library: catalog, segments, rows, generations, and leftover files.

    build: the command that rebuilds its index. quick: check a sample of the rows, and skip the indexes of
    words and metadata. stage: called with the name of the next stage and its number of rows; returns the callback
    that advances it.
    """
    yield from guarded("log", partial(_log, library))
    yield from guarded("catalog", partial(_catalog, library, quick))
    yield from guarded("references", partial(_references, library))
    yield from guarded("digests", partial(_digests, library))
    if not quick:
        yield from guarded("words", partial(_words, library))
        yield from guarded("metadata", partial(_metadata, library))
    yield from guarded("contents", partial(_contents, library))
    for modality in Modality:
        segments = guarded("segments", partial(examine_segments, library, modality), modality)
        yield from segments
        if quick and any(finding.severity is Severity.PROBLEM for finding in segments):
            continue  # a sample would name rows that do not exist
        yield from guarded("rows", partial(examine_rows, library, modality, quick, stage), modality)
        yield from guarded("owners", partial(examine_owners, library, modality), modality)
        yield from guarded("index_files", partial(_generation, library, modality, build), modality)
    yield from guarded("second_set", partial(_second, library, quick))
    yield from guarded("leftovers", partial(_leftovers, library))


def _log(library: Library) -> Iterator[Finding]:
    """Check SQLite's write-ahead log: SQLite silently drops what follows damage in it."""
    damage = examine_log(library.folder / f"{CATALOG}-wal")
    if damage:
        todo = f"The last commits are lost. Index again: {INDEX}. Or restore a backup: clipsearch restore DIR"
        yield Finding("log", Severity.PROBLEM, damage, todo)


def _catalog(library: Library, quick: bool) -> Iterator[Finding]:
    """Run the integrity check of SQLite."""
    with library.query() as connection:
        problems = integrity_problems(connection, quick=quick)
        is_server = is_postgres(connection)
    if problems:
        found = f"SQLite finds damage in the catalog: {'; '.join(problems)}."
        yield Finding("catalog", Severity.PROBLEM, found, REPAIR)
    elif is_server:
        yield Finding("catalog", Severity.OK, "The PostgreSQL server of the catalog answers.")
    else:
        yield Finding("catalog", Severity.OK, "SQLite finds no damage in the catalog.")


def _references(library: Library) -> Iterator[Finding]:
    """Check that all references to items and roots are valid."""
    counts: dict[str, int] = {}
    with library.query() as connection:
        # PostgreSQL never lets a reference go wrong.
        wrong = [] if is_postgres(connection) else connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        for table, _, parent, _ in wrong:
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
    """Compare each row of the catalog with its digest."""
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
            f"Rows of the catalog do not match their checksums, or cannot be read: {what}.",
            REPAIR,
            None,
            counts,
        )
    else:
        yield Finding("digests", Severity.OK, "Each row of the catalog matches its checksum.")


def _words(library: Library) -> Iterator[Finding]:
    """Compare the full-text index with the captions and passages."""
    with library.query() as connection:
        try:
            differs = differs_from_texts(connection)
        except DatabaseError:  # the index is damaged
            differs = True
    if differs:
        found = "The full-text index does not match the captions and passages; searches for words may be wrong."
        yield Finding("words", Severity.PROBLEM, found, REPAIR)
    else:
        yield Finding("words", Severity.OK, "The full-text index matches the captions and passages.")


def _metadata(library: Library) -> Iterator[Finding]:
    """Compare the index of metadata with the metadata."""
    with library.query() as connection:
        differs = differs_from_metadata(connection)
    if differs:
        found = "The index of metadata does not match the metadata; filters may be wrong."
        yield Finding("metadata", Severity.PROBLEM, found, REPAIR)
    else:
        yield Finding("metadata", Severity.OK, "The index of metadata matches the metadata.")


def _contents(library: Library) -> Iterator[Finding]:
    """Count the files that can be found."""
    with library.query() as connection:
        files = sum(catalog.count_items(connection).values())
    if files:
        yield Finding("contents", Severity.OK, f"{counted(files, 'file')} can be found.", "", None, {"files": files})
    else:
        todo = f"{INDEX} FOLDER"
        yield Finding("contents", Severity.NOTE, "The library is empty.", todo, None, {"files": 0})


def _generation(library: Library, modality: Modality, build: str) -> Iterator[Finding]:
    """Compare the files of the index with their checksums."""
    generation = _active(library, modality)
    if generation is None:
        return
    try:
        generations.verify(library.folder, generation)
    except StoreCorruptError as error:
        if _active(library, modality) != generation:
            yield from _generation(library, modality, build)  # a build replaced it during the check
            return
        found = f"{error} Until it is built again, every search is exact and slower."
        yield Finding("index_files", Severity.PROBLEM, found, build, modality)
        return
    if generation.checksums:
        found = f"{counted(len(generation.checksums), 'file')} of the index match their checksums."
        yield Finding("index_files", Severity.OK, found, "", modality)


def _second(library: Library, quick: bool) -> Iterator[Finding]:
    """Compare the vectors of the second set with their checksums; quick: only see that their files are there."""
    second = library.second
    if second is None:
        return
    values = second.to_payload()
    bad = find_damaged_seconds(library, quick=quick)
    name = f"{counted(second.vectors, 'vector')} of {second.encoder.name}, {second.role}"
    if bad:
        found = f"{name}: {sum(map(len, bad.values())):,} of them are not as they were written."
        yield Finding("second_set", Severity.PROBLEM, found, REPAIR, None, values)
    else:
        yield Finding("second_set", Severity.OK, f"{name}: as they were written.", "", None, values)


def _leftovers(library: Library) -> Iterator[Finding]:
    """Look for files that the catalog does not name: remains of a crash, or replaced files."""
    with library.query() as connection:
        row_bytes = catalog.get_row_bytes(connection)
        expected = {s.name: s.committed_rows * row_bytes for s in catalog.get_segments(connection)}
        active = {g.name for m in Modality if (g := catalog.get_generation(connection, m)) is not None}
        if (pin := second_set.get_pin(connection)) is not None:
            own_bytes = pin.dim * ROW_DTYPE.itemsize
            expected |= {s.name: s.committed_rows * own_bytes for s in second_set.get_segments(connection)}
            active |= {g.name for m in Modality if (g := second_set.get_generation(connection, m)) is not None}
    files = (path for path in (library.folder / VECTORS).glob("*") if is_segment_name(path.name))
    rests = {path.name: regular_size(path) or 0 for path in files}
    rests = {name: over for name, size in rests.items() if (over := size - expected.get(name, 0)) > 0}
    ann = library.folder / generations.FOLDER
    for path in ann.iterdir() if ann.is_dir() else ():
        if (is_generation_name(path.name) and path.name not in active) or is_temporary_name(path.name):
            files = (Path(where, name) for where, _, names in os.walk(path) for name in names)
            rests[path.name] = sum(regular_size(file) or 0 for file in files)
    total = sum(rests.values())
    values = {"files": len(rests), "bytes": total}
    if rests:
        names = ", ".join(sorted(rests)[:MESSAGES])
        found = f"{total:,} bytes of leftover files, from an interrupted run or one in progress: {names}."
        yield Finding("leftovers", Severity.NOTE, found, f"The next run deletes them: {INDEX}", None, values)
    else:
        yield Finding("leftovers", Severity.OK, "There are no leftover files.", "", None, values)


def _active(library: Library, modality: Modality) -> catalog.Generation | None:
    with library.query() as connection:
        return catalog.get_generation(connection, modality)
