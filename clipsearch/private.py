"""Files that only this user can have written: owner and permissions are checked, links are not followed.

Only a file or folder itself is checked, not the folders above it: who can write above it can replace it, but the
replacement belongs to them, and is refused. The superuser counts as this user, so that a cache in a system image can
be used. Where the platform has no owners, as on Windows, nothing is checked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from clipsearch.durable import fsync_path

SECRET_BYTES = 32
"""Of a secret of `read_secret`."""

_HAS_OWNERS = hasattr(os, "geteuid")
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC if _HAS_OWNERS else getattr(os, "O_BINARY", 0)


def open_private(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a regular file that others cannot have written; return its descriptor.

    flags: those of os.open; a new file gets mode 0600. Raises PermissionError, which names the reason, for a file of
    another owner, one that group or others may write, and one that is not regular; OSError for a symbolic link and
    whatever else fails.
    """
    if not _HAS_OWNERS and os.path.islink(path):
        raise _refused("it is a symbolic link", path)
    descriptor = os.open(path, flags | _FLAGS, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _refused("it is not a regular file", path)
        _check(status, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_folder(path: str | os.PathLike[str]) -> None:
    """Check that a folder is a real one that others cannot write. Raises PermissionError as `open_private`, OSError."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise _refused("it is not a folder but a link or a file", path)
    _check(status, path)


def read_private(path: str | os.PathLike[str]) -> bytes:
    """Read a file that others cannot have written. Raises as `open_private`."""
    with open(open_private(path), "rb") as file:
        return file.read()


def read_secret(path: Path, *, make: bool = False) -> bytes:
    """Return the random bytes that only this user knows, SECRET_BYTES of them. Raises OSError.

    make: create the file if it does not exist.
    """
    if make and not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):  # another process was faster
            write_private(path, os.urandom(SECRET_BYTES), replace=False)
    found = read_private(path)
    if len(found) != SECRET_BYTES:
        raise OSError(f"{path} is not a secret of {SECRET_BYTES} bytes")
    return found


def write_private(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file of mode 0600 atomically; create its folder, of mode 0700, if it does not exist.

    replace: also if there is one of that name; else FileExistsError is raised then. Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(new, path)
        else:
            os.link(new, path)
        fsync_path(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()


def _check(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not _HAS_OWNERS:
        return
    if status.st_uid not in (os.geteuid(), 0):
        raise _refused(f"it belongs to another user, with the number {status.st_uid}", path)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(f"others can write to it; run: chmod go-w '{os.fspath(path)}'", path)


def _refused(reason: str, path: str | os.PathLike[str]) -> PermissionError:
    return PermissionError(errno.EPERM, reason, os.fspath(path))
