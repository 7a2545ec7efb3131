"""Damage to the files of a library."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path


def edit(file: Path, change: Callable[[bytearray], object]) -> None:
    """Write a file again, after a function has changed its bytes in place."""
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)


def segment(library: Path, modality: str = "image") -> Path:
    """The first file of vectors of a kind."""
    return next(library.glob(f"vectors/{modality}-*.f16"))


def sql(library: Path, *statements: str) -> None:
    """Change the catalog; its triggers run."""
    with closing(sqlite3.connect(library / "catalog.db")) as db, db:
        for statement in statements:
            db.execute(statement)


def spoil_page(library: Path, name: str = "ix_items_content_hash") -> None:
    """Break a table or an index inside SQLite's file, such that the file still opens."""
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    edit(library / "catalog.db", lambda data: data.__setitem__(slice(page * size - 300, page * size), bytes(300)))
