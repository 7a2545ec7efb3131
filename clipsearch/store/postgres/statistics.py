"""What the server's planner knows of the tables: without it, a table just filled is read as a small one."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Connection

from clipsearch.errors import LibraryError
from clipsearch.store.database import transaction
from clipsearch.store.postgres.words import NAME

_CHANGED = """
SELECT stats.relname FROM pg_stat_user_tables AS stats JOIN pg_class ON pg_class.oid = stats.relid
WHERE schemaname = current_schema()
AND (n_mod_since_analyze > 500 + 0.1 * greatest(reltuples, 0) OR (reltuples < 0 AND n_mod_since_analyze > 0))
"""
_ALL = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"


def refresh(connection: Connection) -> None:
    """Have the server look again at the tables of which much has changed, at once and not in a minute.

    What was added to the index of words goes from its list of new entries, which each search reads, into the index.

    Does nothing where the server is gone: what was committed needs no statistics.
    """
    with suppress(LibraryError):
        with transaction(connection):
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        with transaction(connection):
            _analyze(connection, _CHANGED)
            connection.exec_driver_sql(f"SELECT gin_clean_pending_list('ix_{NAME}_words')")


def refresh_all(connection: Connection) -> None:
    """Have the server look at all tables of a catalog, inside the transaction that has filled them."""
    _analyze(connection, _ALL)


def _analyze(connection: Connection, which: str) -> None:
    names = connection.exec_driver_sql(which).scalars().all()
    if names:
        connection.exec_driver_sql(f"ANALYZE {', '.join(names)}")
