"""What a reader needs before SQLAlchemy is loaded: how the catalog is opened, and which encoder a library has.

Loading SQLAlchemy takes longer than anything else in a query; meanwhile the encoder can be at work already.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from clipsearch.errors import ClipSearchError, LibraryError, StoreCorruptError
from clipsearch.store.schema_check import check_schema
from clipsearch.types import EncoderPin

CATALOG, MARKER = "catalog.db", "catalog.json"
"""The catalog in SQLite, or the file that says which server has it."""

BUSY_SECONDS = 30.0


class Frozen(sqlite3.Connection):
    """A connection to a file opened as immutable, or to a copy: it serves one transaction only."""


_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_copies: dict[Path, tuple[tuple[int, ...], str]] = {}


def catalog_file(library: Path) -> Path:
    """Return the file that makes a folder a library: its catalog, else what names the server of its catalog.

    A folder that may not be looked into seems to have its catalog: opening that says what is wrong.
    """
    catalog, marker = library / CATALOG, library / MARKER
    try:
        return marker if not catalog.exists() and marker.exists() else catalog
    except OSError:
        return catalog


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the catalog for reading; transactions are begun by hand.

    Where the folder cannot be written, SQLite cannot make the file by which connections share a log. Without a log the
    catalog is then opened as immutable, which is right for a read-only medium. With one, left by a writer that was
    killed, immutable would pass over what was committed last; a private copy of catalog and log is read instead,
    which takes their size in the temporary folder for as long as the process lives. Others may still be able to
    write there, so either connection, a Frozen one, serves one transaction only; a copy is made again once the files
    have changed. Raises LibraryError and StoreCorruptError as `check_catalog` does, and LibraryError for what may not
    be read or has no room.
    """
    check_catalog(path)
    mode, factory = "ro", sqlite3.Connection
    if not os.access(path.parent, os.W_OK) and not _beside(path, "-shm").exists():
        factory = Frozen
        if _size(_beside(path, "-wal")):
            path = _copied(path)
        else:
            mode = "ro&immutable=1"
    return connect(path, mode, factory)


def connect(path: Path, mode: str, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Open a catalog such that nothing its schema says can run a function with effects, nor a cell overrun its page.

    Raises LibraryError for a file that the system does not open; StoreCorruptError as `check_schema` does.
    """
    try:
        connection = sqlite3.connect(
            uri(path, mode), uri=True, timeout=BUSY_SECONDS, check_same_thread=False, factory=factory
        )
    except sqlite3.OperationalError as error:
        raise _not_opened(path, error) from error
    connection.isolation_level = None
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    try:
        check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def check_catalog(path: Path, *, for_writing: bool = False) -> None:
    """See that the catalog is what a library has: a regular file, and so is what SQLite keeps beside it.

    SQLite follows links, writes into what has another name elsewhere, and deletes the file that a journal names as its
    super-journal. Raises LibraryError for each of these.
    """
    for ending in ("", "-wal", "-shm", "-journal"):
        name = _beside(path, ending)
        try:
            status = os.lstat(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            from clipsearch.store.refusals import unreadable

            raise unreadable(name, error) from error
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            raise LibraryError(
                f"{name} is {kind}, which a library must not contain. Put the file itself there; to keep a "
                "library elsewhere, link its whole folder."
            )
        if for_writing and status.st_nlink > 1:
            raise LibraryError(
                f"{name} has {status.st_nlink} names (hard links), and writing to it would change the others. Give it "
                f"one of its own: cp {name} {name}.new && mv {name}.new {name}"
            )
    _check_journal(_beside(path, "-journal"))


def _check_journal(journal: Path) -> None:
    try:
        with open(journal, "rb") as file:
            file.seek(-min(len(_JOURNAL_MAGIC), os.fstat(file.fileno()).st_size), os.SEEK_END)
            end = file.read()
    except FileNotFoundError:
        return
    except OSError as error:
        from clipsearch.store.refusals import unreadable

        raise unreadable(journal, error) from error
    if end == _JOURNAL_MAGIC:
        raise StoreCorruptError(
            f"{journal} names another file, which SQLite would delete; clipsearch writes no such journal. Delete it, "
            "then see: clipsearch verify"
        )


def _copied(path: Path) -> Path:
    """Return a private copy of a catalog and its log, made when first needed and when one of them has changed."""
    import atexit
    import shutil
    from tempfile import gettempdir, mkdtemp

    names = [path, _beside(path, "-wal")]
    state = _state(names)
    if path not in _copies or _copies[path][0] != state:
        size, free = sum(map(_size, names)), shutil.disk_usage(gettempdir()).free
        if size > free:
            raise LibraryError(
                f"{path.parent} cannot be written, and there is no room for a copy of its catalog, {size:,} bytes, in "
                f"{gettempdir()}, where {free:,} bytes are free. Set TMPDIR to a folder with more room."
            )
        folder = mkdtemp(prefix="clipsearch-")  # for this user alone
        atexit.register(_remove_copy, folder, os.getpid())
        try:
            for name in names:
                shutil.copyfile(name, Path(folder, name.name))
        except OSError as error:
            from clipsearch.store.refusals import unreadable

            raise unreadable(error.filename or path, error) from error
        if _state(names) != state:
            return _copied(path)
        if path in _copies:
            shutil.rmtree(_copies[path][1], ignore_errors=True)
        _copies[path] = (state, folder)
    return Path(_copies[path][1], path.name)


def _remove_copy(folder: str, process: int) -> None:
    """Remove a copy at the end of the process that made it; its forks use it too."""
    if os.getpid() == process:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _state(names: list[Path]) -> tuple[int, ...]:
    found = [os.stat(name) for name in names]
    return tuple(n for each in found for n in (each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns))


def _not_opened(path: Path, error: sqlite3.OperationalError) -> LibraryError:
    """Find out what SQLite does not report. Not by opening the file: closing it would drop the locks on it."""
    import errno

    from clipsearch.store.refusals import unreadable

    code = errno.EACCES if path.exists() and not os.access(path, os.R_OK) else 0
    return unreadable(path, OSError(code, os.strerror(code) if code else str(error)))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def uri(path: Path, mode: str) -> str:
    """Return the name that SQLite opens a file by."""
    return f"file:{quote(os.fsencode(path))}?mode={mode}"


def peek_encoder(library: Path) -> EncoderPin | None:
    """Return the encoder of the library in a folder, as `Library.encoder` does; None if that is not known so soon."""
    statement = "SELECT key, value FROM settings WHERE key IN ('encoder', 'fingerprint', 'dim')"
    try:
        with closing(connect_reader(library / CATALOG)) as connection:
            found = dict(connection.execute(statement))
        return EncoderPin(found["encoder"], found["fingerprint"], int(found["dim"]))
    except (sqlite3.Error, ClipSearchError, OSError, KeyError, ValueError, TypeError, OverflowError):
        return None
