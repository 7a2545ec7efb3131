"""SQLite through SQLAlchemy: connections, transactions, and the one place where its errors become ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from clipsearch.errors import LibraryError, LibraryLockedError, StoreCorruptError
from clipsearch.store import checksums
from clipsearch.store.reading import BUSY_SECONDS, Frozen, connect_reader, uri


def writer_engine(path: Path) -> Engine:
    """Open the catalog for writing; each transaction starts with BEGIN IMMEDIATE.

    WAL with synchronous=FULL: a transaction that returned survives a power cut.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri(path, "rwc"), uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        checksums.register(connection)
        return connection

    engine = _engine(connect, NullPool, "BEGIN IMMEDIATE")
    event.listen(engine, "commit", checksums.seal)
    return engine


def reader_engine(path: Path) -> Engine:
    """Open the catalog for reading; a transaction sees one state however long it lasts, and never waits."""
    engine = _engine(partial(connect_reader, path), QueuePool, "BEGIN", pool_size=0)

    @event.listens_for(engine, "checkin")
    def _drop(connection: sqlite3.Connection | None, record: ConnectionPoolEntry) -> None:
        if isinstance(connection, Frozen):
            record.invalidate()

    return engine


@contextmanager
def transaction(engine: Engine | Connection) -> Iterator[Connection]:
    """Run a block in one transaction: committed at its end, rolled back on any error; errors become ours.

    Inside another transaction of the same connection it is a savepoint.
    """
    with mapped_errors():
        if isinstance(engine, Engine):
            with engine.begin() as connection:
                yield connection
        else:
            with engine.begin_nested() if engine.in_transaction() else engine.begin():
                yield engine


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn SQLAlchemy's and sqlite3's errors into LibraryError and its kin."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        original = getattr(error, "orig", None) or error
        raise _translate(str(original), str(getattr(original, "sqlite_errorname", ""))) from error


def _translate(cause: str, code: str) -> LibraryError:
    """Build our error; cause: SQLite's message; code: its extended error code, by name."""
    if "locked" in cause:
        return LibraryLockedError(f"The catalog is busy ({cause}). Wait for the other process, then try again.")
    if "full" in cause:
        return LibraryError(f"The disk is full ({cause}). Free some space and run again; nothing committed is lost.")
    if code.startswith("SQLITE_IOERR") and "READ" not in code:  # a quota, a limit of size, a disk that breaks
        return LibraryError(
            f"The catalog could not be written ({cause}). Free some space or mend the disk and run again; nothing "
            "committed is lost."
        )
    if "malformed" in cause or "not a database" in cause or "no such table" in cause or "disk I/O" in cause:
        return StoreCorruptError(f"The catalog is damaged ({cause}). Restore catalog.db from a copy, or index anew.")
    return LibraryError(f"The catalog could not be used: {cause}.")


def _engine(connect: object, pool: type, begin: str, **options: object) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=pool, **options)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
