"""Connections to the catalog in PostgreSQL: readers that see one state, and one writer that holds the lock.

The lock is an advisory lock of the session that commits, so a writer whose session has ended can no longer commit, and
the server frees the lock at that moment. A session that is lost is never renewed under a writer: in between, another
one may have written.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from clipsearch.errors import LibraryError, LibraryLockedError
from clipsearch.store.postgres.address import CatalogAddress
from clipsearch.store.postgres.compiler import speak, translate

if TYPE_CHECKING:
    from psycopg import Connection as Session

logger = logging.getLogger("clipsearch")

OLDEST = 15
"""The oldest version of PostgreSQL that the statements are for."""

_PAUSE_SECONDS = 0.05
_GRACE_SECONDS = 2.0
"""How long a server may take to notice that the process of a writer has ended."""

_ALIVE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3", "tcp_user_timeout": "30000"}
_SETTINGS = {
    "jit": "off",
    "random_page_cost": "1.1",  # a catalog is in memory, or on a disk without a head
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "standard_conforming_strings": "on",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_READER = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}
_WRITER = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "work_mem": "256MB",
}
_DURABLE = ("on", "local", "remote_write", "remote_apply")


def reader_engine(address: CatalogAddress) -> Engine:
    """Open the catalog for reading; a transaction sees one state however long it lasts, and never waits."""

    def connect() -> Session[Any]:
        return _connect(address, _READER)

    return _engine(connect, pool_size=0)


def writer_engine(address: CatalogAddress, timeout: float = 0.0) -> Engine:
    """Open the catalog for writing, on one connection that holds the writer's lock until the engine is disposed of.

    A transaction that returned survives a power cut of the server. timeout: seconds to wait while another writer has
    the lock; LibraryLockedError after that, when the engine first connects.
    """
    is_lost = False

    def connect() -> Session[Any]:
        nonlocal is_lost
        if is_lost:
            raise LibraryError(
                "The connection to the server of the catalog was lost. Run again; nothing committed is lost."
            )
        session = _connect(address, _WRITER)
        try:
            _require_durable(session)
            _lock(session, address, timeout)
        except BaseException:
            session.close()
            raise
        is_lost = True
        return session

    engine = _engine(connect, pool_size=1, max_overflow=0)
    event.listen(engine, "close", _unlock)
    return engine


def add_views(session: Session[Any], views: Sequence[str]) -> None:
    """Make temporary views of the tables of SQLite's `main`, which a session sees in their place until it ends.

    They are of the tables of today, which a view keeps to whatever is called so later.
    """
    session.read_only = False
    try:
        for view in views:
            session.execute(view.replace(" main.", " "))
        session.commit()
    finally:
        session.read_only = None


def _engine(connect: object, **options: Any) -> Engine:  # noqa: ANN401
    _require_driver()
    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=QueuePool,
        pool_use_lifo=True,
        use_native_hstore=False,
        **options,
    )
    speak(engine)
    event.listen(engine, "checkout", _require_alive)

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def _translate(
        connection: Connection,
        cursor: object,
        statement: str,
        parameters: Any,  # noqa: ANN401
        context: Any,  # noqa: ANN401
        executemany: bool,
    ) -> tuple[str, Any]:
        is_plain = context is not None and context.compiled is None and "?" in statement
        return (translate(statement) if is_plain else statement), parameters

    return engine


def _require_alive(session: Session[Any], record: ConnectionPoolEntry, proxy: object) -> None:
    """Have the pool connect again where the server has ended a session that nobody used: its socket has an end to read.

    Raises DisconnectionError, which the pool takes.
    """
    if session.closed or _is_readable(session.fileno()):
        raise DisconnectionError


def _is_readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(waiting.poll(0))


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise LibraryError(
            "A catalog in PostgreSQL needs psycopg, which is not installed: pip install 'clipsearch[postgres]'"
        ) from error


def _connect(address: CatalogAddress, settings: dict[str, str]) -> Session[Any]:
    import psycopg

    chosen: dict[str, Any] = {"connect_timeout": "10", **_ALIVE, **address.parameters(), "client_encoding": "UTF8"}
    # A reader asks the same few things again and again, which the server plans once.
    factory = psycopg.Cursor if settings is _READER else psycopg.ClientCursor
    session: Session[Any] = psycopg.connect(
        **chosen, application_name="clipsearch", autocommit=True, cursor_factory=factory
    )
    try:
        _prepare(session, {**_SETTINGS, **settings, "search_path": address.schema})
        session.autocommit = False
    except BaseException:
        session.close()
        raise
    return session


def _prepare(session: Session[Any], settings: dict[str, str]) -> None:
    """Check the server, and set what a session is to be like."""
    if session.info.server_version < OLDEST * 10_000:
        version = session.info.parameter_status("server_version")
        raise LibraryError(f"The server is PostgreSQL {version}, but a catalog needs {OLDEST} or later. Upgrade it.")
    if session.info.parameter_status("server_encoding") != "UTF8":
        raise LibraryError("The database is not in UTF-8, so it cannot hold all names. Make one: createdb -E UTF8 NAME")
    chosen = ", ".join(["set_config(%s, %s, false)"] * len(settings))
    session.execute(f"SELECT {chosen}", [part for pair in settings.items() for part in pair])
    _set_zone(session)


def _set_zone(session: Session[Any]) -> None:
    """Give a session the time zone of this machine; of one that the server does not know, the hours."""
    from psycopg import Error

    for zone in (_zone(), f"{-time.timezone / 3600:+g}"):
        try:
            session.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
            return
        except Error:
            continue


def _zone() -> str:
    """Return the name of this machine's time zone as far as it is known."""
    return os.environ.get("TZ", "").removeprefix(":") or os.path.realpath("/etc/localtime").rpartition("zoneinfo/")[2]


def _require_durable(session: Session[Any]) -> None:
    """Have a commit wait for the server's disk, and warn of a server that never does."""
    row = session.execute("SELECT current_setting('synchronous_commit'), current_setting('fsync')").fetchone()
    chosen, fsync = row or ("", "on")
    if chosen not in _DURABLE:
        session.execute("SET synchronous_commit = on")
    if fsync != "on":
        logger.warning("The server of the catalog runs with fsync=off: a power cut may lose what is committed.")


def _unlock(session: Session[Any], record: ConnectionPoolEntry) -> None:
    """Free the lock at once; the server would do it a moment after the session is closed."""
    from psycopg import Error

    with suppress(Error):
        session.rollback()
        session.execute("SELECT pg_advisory_unlock_all()")
        session.commit()


def _lock(session: Session[Any], address: CatalogAddress, timeout: float) -> None:
    """Take the writer's lock of a schema, which ends with the session."""
    digest = hashlib.blake2b(f"clipsearch {address.schema}".encode(), digest_size=8).digest()
    number, until = int.from_bytes(digest, "big", signed=True), time.monotonic() + max(timeout, _GRACE_SECONDS)
    while True:
        row = session.execute("SELECT pg_try_advisory_lock(%s)", (number,)).fetchone()
        if row == (True,):
            return
        if time.monotonic() >= until:
            raise LibraryLockedError(
                f"Another process, here or on another machine, is writing to the catalog at {address.place}. Wait for "
                "it to end, then try again. In Python, clipsearch.open(..., timeout=SECONDS) waits that long."
            )
        time.sleep(_PAUSE_SECONDS)
