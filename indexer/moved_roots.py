"""Roots that have another path: a folder that was renamed, or a drive with another mount point.

When a folder is indexed for the first time, a sample of what each root that is out of reach had is looked for in it. If
nearly all of that is there, with the same sizes and times, and some of it that is read has the same content, the folder
is that root: it gets the new path, and its files are what they were. What moved otherwise, such as half of a folder, is
recognised file by file when it is committed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from clipsearch.paths import join, quote_path
from clipsearch.store.records import FileRecord, Root, Scope, mtime_ns
from clipsearch.store.roots import relative
from clipsearch.store.writer import Writer
from indexer.doubts import MOST, hash_of

SAMPLE = 64
"""Files of a root that are looked for."""

_READ = 8
"""How many of those that are found are read."""


def find_moved_root(writer: Writer, roots: Sequence[Root], path: str) -> Root | None:
    """Return the root that a folder at an absolute path is now; None for none, and where roots overlap with it.

    roots: all that are walked.
    """
    if not os.path.isdir(path) or any(_overlap(root.path, path) for root in roots):
        return None
    gone = (root for root in roots if is_out_of_reach(root.path))
    return next((root for root in gone if _is_now(writer, root, path)), None)


def is_out_of_reach(path: str) -> bool:
    """Tell whether a root is gone, or is an empty folder, as the mount point of a drive is without it."""
    if not os.path.lexists(path):
        return True
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def retire(writer: Writer, roots: Iterable[Root]) -> tuple[list[str], list[Root]]:
    """Forget the roots that are gone, and of which all files were found elsewhere in this run.

    Returns the paths of these, and the roots that are gone but have files left.
    """
    retired, left = [], []
    for root in roots:
        if root.id not in writer.ledger.left or os.path.lexists(root.path):
            continue
        if writer.ledger.has_items(root.id):
            left.append(root)
        else:
            writer.forget(Scope(root.id))
            retired.append(root.path)
    return retired, left


def _overlap(one: str, other: str) -> bool:
    return relative(one, other) is not None or relative(other, one) is not None


def _is_now(writer: Writer, root: Root, path: str) -> bool:
    """Tell whether a folder has what a root had."""
    sample = writer.sample_files(root.id, SAMPLE)
    found = [(record, known) for record, known in sample if record.path and _is_there(record, path)]
    if not found or len(found) < MOST * len(sample):
        return False
    return all(hash_of(record, path) == known for record, known in found[:_READ])


def _is_there(record: FileRecord, root: str) -> bool:
    try:
        status = os.stat(join(root, quote_path(record.path)))
    except (OSError, ValueError):
        return False
    return (status.st_size, mtime_ns(status)) == (record.size, record.mtime_ns)
