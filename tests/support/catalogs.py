"""Catalogs as earlier versions left them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

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
