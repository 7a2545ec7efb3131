"""Which files were compared with their checksums already, so that a cold query need not read a whole index twice.

FAISS reads most damaged files without an error, so no index is loaded before its files are known to be right. A file
is, if this user compared it before and it is the same file still: its place on the disk, size, and the times of its
last change of content and of its entry. The latter cannot be set by a program; a file that was written over has another
one. What was seen is kept in this user's cache, where nobody else can write.

What changes on the disk with no writing is not seen by that. So a comparison counts for a week only; `clipsearch
verify`, `status` and `backup` read every file; and whatever an index proposes is scored from rows with checksums of
their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from clipsearch.locations import cache_dir
from clipsearch.private import read_private, write_private
from clipsearch.store.folder import Folder

MAX_AGE = 7 * 86_400.0
"""Seconds that a comparison counts for."""

SETTLED = 2.0
"""Seconds after its last change from which on a file that changes again has other times, on any file system."""

MIN_BYTES = 1 << 20
"""A smaller file is read faster than its note is kept."""


def has_digest(folder: Folder, name: str, expected: str) -> bool:
    """Tell whether a file has a BLAKE2b, by a comparison of this user that counts, else by reading it.

    Raises OSError and LibraryError as `Folder.open` does.
    """
    with open(folder.open(name, os.O_RDONLY), "rb") as file:
        state = _state(os.fstat(file.fileno()))
        if _is_known(expected, state):
            return True
        began = time.time()
        if hashlib.file_digest(file, hashlib.blake2b).hexdigest() != expected:
            return False
        after = os.fstat(file.fileno())
    if _state(after) == state and began - max(after.st_mtime, after.st_ctime) > SETTLED and after.st_size >= MIN_BYTES:
        _keep(expected, state, began)
    return True


def _state(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _path(digest: str) -> Path:
    return cache_dir() / "verified" / hashlib.blake2b(digest.encode(), digest_size=16).hexdigest()


def _is_known(digest: str, state: list[int]) -> bool:
    """Tell whether a file in that state was compared; where a change of an entry has no time, as on Windows, never."""
    if os.name != "posix" or state[2] < MIN_BYTES:
        return False
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        kept = json.loads(read_private(_path(digest)))
        return bool(kept["digest"] == digest and kept["state"] == state and 0 <= time.time() - kept["time"] < MAX_AGE)
    return False


def _keep(digest: str, state: list[int], when: float) -> None:
    if os.name == "posix":
        with suppress(OSError):  # a cache that cannot be written costs time alone
            write_private(_path(digest), json.dumps({"digest": digest, "state": state, "time": when}).encode())
