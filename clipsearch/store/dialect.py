"""Which database holds the catalog of a connection."""

from __future__ import annotations

from sqlalchemy import Connection, Engine


def is_postgres(connection: Connection | Engine) -> bool:
    """Tell whether it is PostgreSQL; else it is SQLite."""
    return connection.dialect.name == "postgresql"
