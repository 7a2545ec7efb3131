"""What the system refuses to read or write, as our errors: that is no damage, and each has a remedy of its own."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from clipsearch.errors import LibraryError, StoreCorruptError

_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_AWAY = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ENODEV, errno.ENXIO})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

REPAIR = "See what is damaged: clipsearch verify. Repair it: clipsearch repair, or clipsearch restore BACKUP."


def unreadable(path: str | os.PathLike[str], error: OSError) -> LibraryError:
    """Build the error for a file of a library that the system does not read."""
    fact = f"{os.fspath(path)} cannot be read: {error.strerror or error}."
    if error.errno in _FORBIDDEN:
        return LibraryError(f"{fact} Give this user the right to read it: chmod -R u+rX {Path(path).parent}")
    if error.errno in _AWAY:
        return LibraryError(f"{fact} Mount the disk or network share again, then run again.")
    if error.errno in _EXHAUSTED:
        return LibraryError(f"{fact} Close other programs or raise the limit (ulimit -n), then run again.")
    if error.errno == errno.EIO:
        return LibraryError(f"{fact} The disk is failing: copy the library to another one, then see: clipsearch verify")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        return StoreCorruptError(f"{fact} {REPAIR}")
    return LibraryError(f"{fact} Remove the cause, then run again.")
