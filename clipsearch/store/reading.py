"""What a reader needs before SQLAlchemy is loaded: how the catalog is opened, and which encoder a library has.

Loading SQLAlchemy takes longer than anything else in a query; meanwhile the encoder can be at work already.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

CATALOG = "catalog.db"
BUSY_SECONDS = 30.0
_IMPORTED = "imported:"


@dataclass(frozen=True, slots=True)
class EncoderPin:
    """The encoder that made a library's vectors."""

    name: str
    fingerprint: str
    dim: int


class Frozen(sqlite3.Connection):
    """A connection to a file that SQLite was told does not change."""


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the catalog for reading; transactions are begun by hand.

    Where the folder cannot be written and holds no WAL, SQLite cannot share the file; it is then opened as
    immutable, which is right for a read-only medium. Others may still be able to write there, so such a connection,
    a Frozen one, serves one transaction only.
    """
    frozen = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    mode, factory = ("ro&immutable=1", Frozen) if frozen else ("ro", sqlite3.Connection)
    connection = sqlite3.connect(
        uri(path, mode), uri=True, timeout=BUSY_SECONDS, check_same_thread=False, factory=factory
    )
    connection.isolation_level = None
    return connection


def uri(path: Path, mode: str) -> str:
    """Return the name that SQLite opens a file by."""
    return f"file:{quote(os.fsencode(path))}?mode={mode}"


def peek_encoder(library: Path) -> EncoderPin | None:
    """Return the encoder of the library in a folder, as `Library.encoder` does; None if that cannot be told so soon."""
    statement = "SELECT key, value FROM settings WHERE key IN ('encoder', 'fingerprint', 'dim')"
    try:
        with closing(connect_reader(library / CATALOG)) as connection:
            found = dict(connection.execute(statement))
        return EncoderPin(found["encoder"], found["fingerprint"], int(found["dim"]))
    except (sqlite3.Error, KeyError, ValueError, TypeError):
        return None


def imported_fingerprint(name: str) -> str:
    """Return the fingerprint of an encoder that nobody has looked at: vectors came, and with them only its name."""
    return _IMPORTED + name


def is_imported(fingerprint: str) -> bool:
    """Tell whether a fingerprint says no more than the name that vectors came with."""
    return fingerprint.startswith(_IMPORTED)
