"""A folder of a library, by its handle.

A library may come from a stranger, so a name in it may be a symbolic link, a FIFO or a device. Whatever is opened,
truncated or deleted here is named relative to the handle of its folder and never followed; see docs/security.md.
Only the folder of the library itself may be reached through a link: where it lies is the user's own choice.

Where the system has no such handles, as Windows, names are checked first and then opened by path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipsearch.durable import fsync_path
from clipsearch.errors import LibraryError

_HAS_HANDLES = os.open in os.supports_dir_fd and os.unlink in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_FOREIGN = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMLINK)
"""What systems say of a link, a device or a FIFO that is opened as something else."""


class Folder:
    """An open folder. Methods raise OSError, and LibraryError for what is a link or of another kind than expected."""

    def __init__(self, path: Path, handle: int | None) -> None:
        self.path = path
        self._handle = handle

    def open(self, name: str, flags: int, *, own: bool = False) -> int:
        """Open a regular file and return its descriptor, which is the caller's to close.

        own: the file is going to be changed, so it must not be reachable under another name as well (a hard link).
        """
        _check_name(name)
        try:
            if self._handle is not None:
                descriptor = os.open(name, flags | _SAFE | _BINARY, 0o666, dir_fd=self._handle)
            else:
                self._refuse_link(name)
                descriptor = os.open(self.path / name, flags | _BINARY, 0o666)
        except OSError as error:
            if error.errno in _FOREIGN:
                raise self._foreign(name, "a regular file") from error
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (own and status.st_nlink > 1):
            os.close(descriptor)
            raise self._foreign(name, "a regular file" if not stat.S_ISREG(status.st_mode) else "without hard links")
        return descriptor

    @contextmanager
    def child(self, name: str) -> Iterator[Folder]:
        """Open a folder in this one."""
        _check_name(name)
        if self._handle is None:
            self._refuse_link(name)
            if not (self.path / name).is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path / name))
            yield Folder(self.path / name, None)
            return
        try:
            handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _SAFE, dir_fd=self._handle)
        except OSError as error:
            if error.errno in _FOREIGN:
                raise self._foreign(name, "a folder") from error
            raise
        try:
            yield Folder(self.path / name, handle)
        finally:
            os.close(handle)

    def make(self, name: str) -> None:
        """Make a folder in this one, durably, unless there is one."""
        _check_name(name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name if self._handle is not None else self.path / name, dir_fd=self._handle)
            self.sync()

    def names(self) -> list[str]:
        """List what is in the folder, sorted."""
        return sorted(os.listdir(self.path if self._handle is None else self._handle))

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of a name without following links; None if it does not exist."""
        _check_name(name)
        try:
            return os.stat(self._name(name), dir_fd=self._handle, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def unlink(self, name: str) -> None:
        """Delete a file; of a link, the link."""
        _check_name(name)
        os.unlink(self._name(name), dir_fd=self._handle)

    def rmdir(self, name: str) -> None:
        """Delete an empty folder."""
        _check_name(name)
        os.rmdir(self._name(name), dir_fd=self._handle)

    def rename(self, old: str, new: str) -> None:
        """Give a file or folder another name in this folder."""
        _check_name(old)
        _check_name(new)
        os.rename(self._name(old), self._name(new), src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def sync(self) -> None:
        """Make new and renamed entries durable."""
        if self._handle is not None:
            os.fsync(self._handle)
        else:
            fsync_path(self.path)

    def _name(self, name: str) -> str | Path:
        return name if self._handle is not None else self.path / name

    def _refuse_link(self, name: str) -> None:
        if (self.path / name).is_symlink():
            raise self._foreign(name, "a regular file")

    def _foreign(self, name: str, expected: str) -> LibraryError:
        return LibraryError(
            f"{self.path / name} is not {expected} of the library, but a link or a special file. Nothing was changed. "
            "Put the real one in its place. To keep a library on another disk, link its whole folder."
        )


@contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """Open the folder of a library, which may itself be reached through links. Raises OSError."""
    if not _HAS_HANDLES:
        yield Folder(path, None)
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_CLOEXEC", 0))
    try:
        yield Folder(path, handle)
    finally:
        os.close(handle)


def _check_name(name: str) -> None:
    """Raise LibraryError for what is not the plain name of a file."""
    if not name or name in (os.curdir, os.pardir) or "/" in name or os.sep in name or "\0" in name:
        raise LibraryError(f"{name!r} is not a valid name for a file of a library. Run: clipsearch verify")
