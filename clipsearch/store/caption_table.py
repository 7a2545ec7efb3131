"""Tables of captions that are too large to hold in memory, or to read at every run.

The first run that meets such a table copies it into a database in the user's cache, in the order of the pictures that
it names. As long as the table is the same file, as `store/verified.py` tells, later runs look up in the copy what they
need. It is derived: it can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from clipsearch.errors import LibraryError
from clipsearch.locations import cache_dir
from clipsearch.private import check_folder
from clipsearch.store.verified import SETTLED

Entry = tuple[str, str, str]
"""The picture that a line names, its caption, and JSON of its other columns."""

_VERSION = 2
_BLOCK = 10_000
_MAKE = "CREATE TABLE seen (state TEXT); CREATE TABLE said (folded TEXT, picture TEXT, caption TEXT, metadata TEXT);"
_FIND = "SELECT picture, caption, metadata FROM said WHERE folded = ? ORDER BY rowid"


class CaptionTable:
    """The copy of a table. Its methods may be called from any thread, one at a time."""

    def __init__(self, path: Path, *, is_new: bool = False) -> None:
        """Open a copy. is_new: whether it was made now. Raises sqlite3.Error for a file that is not one."""
        self._path, self._is_new = path, is_new
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
        self._connection = connection
        self._finalizer = weakref.finalize(self, connection.close)

    def lines_of(self, picture: str) -> list[Entry]:
        """Return the lines of a picture, and of others whose names differ from its in case alone, in their order.

        Raises LibraryError where the copy is damaged.
        """
        try:
            found = self._connection.execute(_FIND, (_bytes(picture.casefold()),))
            return [(name.decode("utf-8", "surrogatepass"), *said) for name, *said in found]
        except sqlite3.Error as error:
            raise LibraryError(
                f"The copy of a table of captions in {self._path} is damaged: {error}. Delete it."
            ) from error

    def new_names(self) -> Iterator[str]:
        """Yield the names of pictures, if the copy was made now. Raises sqlite3.Error."""
        if self._is_new:
            for (name,) in self._connection.execute("SELECT DISTINCT picture FROM said"):
                yield name.decode("utf-8", "surrogatepass")

    def state(self) -> str:
        """Return the state of the file that it is a copy of. Raises sqlite3.Error."""
        found = self._connection.execute("SELECT state FROM seen").fetchone()
        return str(found[0]) if found else ""


def open_table(path: str, entries: Iterable[Entry]) -> CaptionTable:
    """Return the copy of a table, from the cache where it is of today's file, else from its lines.

    entries: reads the table, if it must be read; what it raises is raised, and nothing is kept. Raises LibraryError
    where the copy cannot be written.
    """
    kept, state = _place(path), _state(path)
    if state is not None and (found := _kept(kept, state)) is not None:
        return found
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(kept.parent)
        handle, name = tempfile.mkstemp(suffix=".tmp", dir=kept.parent)
        os.close(handle)
    except OSError as error:
        raise LibraryError(f"{kept.parent} cannot be written: {error.strerror}. Set CLIPSEARCH_CACHE.") from error
    new = Path(name)
    try:
        _fill(new, entries, state or "")
        opened = CaptionTable(new, is_new=True)
        if state is not None and state == _state(path):
            os.replace(new, kept)
        return opened
    except (OSError, sqlite3.Error) as error:
        raise LibraryError(f"{kept.parent} cannot be written: {error}. Set CLIPSEARCH_CACHE.") from error
    finally:
        with suppress(OSError):  # an open file stays readable; Windows leaves it to the next run
            new.unlink(missing_ok=True)


def _place(path: str) -> Path:
    name = hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=16).hexdigest()
    return cache_dir() / "captions" / f"{name}.db"


def _state(path: str) -> str | None:
    """Return what changes with a file; None where it has just changed, or where a change of an entry has no time."""
    status = os.stat(path)
    if os.name != "posix" or time.time() - max(status.st_mtime, status.st_ctime) <= SETTLED:
        return None
    seen = (_VERSION, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return repr(seen)


def _kept(path: Path, state: str) -> CaptionTable | None:
    with suppress(OSError, sqlite3.Error, ValueError):
        check_folder(path.parent)
        if path.is_file():
            found = CaptionTable(path)
            if found.state() == state:
                return found
    return None


def _fill(path: Path, entries: Iterable[Entry], state: str) -> None:
    rest = _stored(entries)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")  # it is only kept whole, and is made again if it is not
        db.executescript(_MAKE)
        db.execute("BEGIN")
        while block := list(islice(rest, _BLOCK)):
            db.executemany("INSERT INTO said VALUES (?, ?, ?, ?)", block)
        db.execute("CREATE INDEX by_picture ON said (folded)")
        db.execute("INSERT INTO seen VALUES (?)", (state,))
        db.execute("COMMIT")


def _stored(entries: Iterable[Entry]) -> Iterator[tuple[bytes, bytes, str, str]]:
    for picture, caption, metadata in entries:
        said = caption.encode("utf-8", "replace").decode()
        yield _bytes(picture.casefold()), _bytes(picture), said, metadata


def _bytes(path: str) -> bytes:
    """Return a path as it is stored: it may have bytes that are not UTF-8."""
    return path.encode("utf-8", "surrogatepass")
