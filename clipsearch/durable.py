"""Making files survive a power cut."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from clipsearch.errors import InvalidInputError

_CURRENT, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2."""


def fsync_path(path: Path) -> None:
    """Make a file's content, or a folder's new and renamed entries, durable.

    Does nothing for a folder where folders cannot be opened, as on Windows. Raises OSError.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_replaceable(path: Path) -> None:
    """See that a file can be written or replaced: its folder is there, and what has the name is a regular file.

    Raises InvalidInputError.
    """
    if not path.parent.is_dir():
        raise InvalidInputError(f"The folder {path.parent} for {path.name} does not exist. Make it first.")
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        raise InvalidInputError(f"{path} is not a regular file, so it is not overwritten. Name another file.")


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all; one of that name is replaced.

    Raises InvalidInputError as check_replaceable does, and OSError.
    """
    check_replaceable(path)
    new = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        new.write_bytes(data)
        fsync_path(new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def exchange(first: Path, second: Path) -> bool:
    """Give two files or folders each other's names in one step; False where the system cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if call is None:
        return False
    return bool(call(_CURRENT, os.fsencode(first), _CURRENT, os.fsencode(second), _EXCHANGE) == 0)
