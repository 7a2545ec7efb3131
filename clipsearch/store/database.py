"""SQLAlchemy: connections to SQLite, transactions, and the one place where the errors of databases become ours."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from clipsearch.errors import LibraryError, LibraryLockedError, StoreCorruptError
from clipsearch.store import checksums
from clipsearch.store.postgres.errors import database_errors, translate_error
from clipsearch.store.reading import Frozen, check_catalog, connect, connect_reader
from clipsearch.store.refusals import REPAIR

_LOCK = "clipsearch_lock"
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS"})
_DAMAGED_WORDS = ("malformed", "not a database", "no such table", "no such column")
_FORBIDDEN = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")


def writer_engine(path: Path) -> Engine:
    """Open the catalog for writing; each transaction starts with BEGIN IMMEDIATE.

    WAL with synchronous=FULL: a transaction that returned survives a power cut.
    """

    def connect_writer() -> sqlite3.Connection:
        check_catalog(path, for_writing=True)
        connection = connect(path, "rwc")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        checksums.register(connection)
        return connection

    engine = _engine(connect_writer, NullPool, "BEGIN IMMEDIATE")
    event.listen(engine, "commit", checksums.seal)
    guard(engine)
    return engine


def guard(engine: Engine) -> None:
    """Have threads that share a connection of a writer's engine take turns; see `transaction`."""

    @event.listens_for(engine, "connect")
    def _add_lock(connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_LOCK] = threading.RLock()


def reader_engine(path: Path) -> Engine:
    """Open the catalog for reading; a transaction sees one state however long it lasts, and never waits."""
    engine = _engine(partial(connect_reader, path), QueuePool, "BEGIN", pool_size=0, pool_use_lifo=True)

    @event.listens_for(engine, "checkin")
    def _drop(connection: sqlite3.Connection | None, record: ConnectionPoolEntry) -> None:
        if isinstance(connection, Frozen):
            record.invalidate()

    return engine


@contextmanager
def transaction(engine: Engine | Connection) -> Iterator[Connection]:
    """Run a block in one transaction: committed at its end, rolled back on any error; errors become ours.

    Inside another transaction of the same connection it is a savepoint. Threads that share a connection of a writer
    take turns.
    """
    with mapped_errors():
        if isinstance(engine, Engine):
            with engine.begin() as connection:
                yield connection
        else:
            with (
                engine.info.get(_LOCK) or nullcontext(),
                engine.begin_nested() if engine.in_transaction() else engine.begin(),
            ):
                yield engine


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn the errors of SQLAlchemy, sqlite3 and psycopg into LibraryError and its kin."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, *database_errors()) as error:  # type: ignore[misc]  # a tuple of classes
        original = getattr(error, "orig", None) or error
        if (ours := translate_error(original)) is not None:
            raise ours from error
        raise _translate(str(original), str(getattr(original, "sqlite_errorname", ""))) from error
    except UnicodeDecodeError as error:  # of SQLite's own texts, where its schema is damaged
        raise StoreCorruptError(f"The catalog is damaged ({error}). {REPAIR}") from error


def _translate(cause: str, code: str) -> LibraryError:
    """Build our error; cause: SQLite's message; code: its extended error code, by name."""
    if "locked" in cause:
        return LibraryLockedError(f"The catalog is busy ({cause}). Wait for the other process to end, then run again.")
    if "full" in cause:
        return LibraryError(f"The disk is full ({cause}). Free some space and run again; nothing committed is lost.")
    if code in _DAMAGED or any(words in cause for words in _DAMAGED_WORDS):
        return StoreCorruptError(f"The catalog is damaged ({cause}). {REPAIR}")
    if code.startswith("SQLITE_IOERR_READ"):
        return LibraryError(
            f"The disk cannot read the catalog ({cause}). Check that it is attached. Copy the library to another disk, "
            "then see: clipsearch verify"
        )
    if code.startswith("SQLITE_IOERR"):  # a quota, a limit of size, a disk that breaks
        return LibraryError(
            f"The catalog could not be written ({cause}). Free some space or repair the disk, and run again; nothing "
            "committed is lost."
        )
    if code in ("SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY"):
        return LibraryError(f"A write to the catalog was interrupted ({cause}). Complete it: clipsearch index FOLDER")
    if code.startswith(_FORBIDDEN):
        return LibraryError(
            f"The catalog cannot be accessed ({cause}). Give this user the right to "
            "read and write the library's folder "
            "and its files: chmod -R u+rwX FOLDER"
        )
    return LibraryError(f"The catalog could not be used: {cause}. See what is damaged: clipsearch verify")


def _engine(connect: object, pool: type, begin: str, **options: object) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=pool, **options)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
