"""Catalogs as earlier versions left them, and as they are, read and copied past the code under test."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from clipsearch.store.schema import SEALED


def drop_checksums(db: sqlite3.Connection) -> None:
    """Make a catalog as it was before checksums, apart from the version that it names."""
    for table in SEALED:
        db.execute(f"DROP TRIGGER {table.name}_changed")
        db.execute(f"DROP INDEX ix_{table.name}_unsealed")
        db.execute(f"ALTER TABLE {table.name} DROP COLUMN digest")
    db.execute("ALTER TABLE vectors DROP COLUMN checksum")
    db.execute("DELETE FROM settings WHERE key = 'row_checksums'")


def set_version(library: Path, version: str) -> None:
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        db.execute("UPDATE settings SET value = ? WHERE key = 'schema_version'", (version,))
        db.commit()


def marker_of(library: Path) -> dict[str, Any] | None:
    """What the folder of a library says of a catalog in PostgreSQL; None where the catalog is a file."""
    marker = library / "catalog.json"
    is_there = marker.exists() and not (library / "catalog.db").exists()  # else it is left of a move
    return json.loads(marker.read_text()) if is_there else None


@contextmanager
def raw_catalog(library: Path) -> Iterator[Any]:
    """Open a catalog past the code under test: `execute` takes `?` for parameters, of a new transaction."""
    marker = marker_of(library)
    if marker is None:
        with closing(sqlite3.connect(f"{(library / 'catalog.db').as_uri()}", uri=True)) as db, db:
            yield db
        return
    with connect_marker(marker) as connection:
        yield _Translating(connection)


def connect_marker(marker: dict[str, Any]) -> Any:
    """Connect to the server and the schema that a folder names."""
    import psycopg

    from clipsearch.store.postgres.address import parse

    connection = psycopg.connect(**parse(marker["url"]).parameters(), row_factory=_row)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.execute(f"SET search_path = {marker['schema']}")
    return connection


class _Translating:
    """A connection of psycopg that takes statements as sqlite3 does."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Any = ()) -> Any:
        return self._connection.execute(statement.replace("?", "%s"), tuple(values))

    def commit(self) -> None:
        self._connection.commit()


class _Row(tuple):  # type: ignore[type-arg]
    names: tuple[str, ...]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)


def _row(cursor: Any) -> Any:
    names = tuple(column.name for column in cursor.description or ())

    def make(values: Any) -> _Row:
        row = _Row(values)
        row.names = names
        return row

    return make


def copy_library(source: Path, target: Path, **options: Any) -> Path:
    """Copy a folder with libraries in it, each with a catalog of its own, in PostgreSQL too."""
    shutil.copytree(source, target, **options)
    for marker in target.rglob("catalog.json"):
        from clipsearch.store.postgres.address import parse, trust

        said = json.loads(marker.read_text())
        parameters = parse(said["url"]).parameters()
        said["url"] = parse(_server().new_database(parameters["dbname"])).url
        marker.write_text(json.dumps(said))
        trust(said["url"])
    return target


def _server() -> Any:
    from tests.support.postgres import running

    return running()
