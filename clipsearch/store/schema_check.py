"""What the schema of a catalog may have: tables and indexes, and of SQL that runs only what clipsearch writes.

A view, a column that is computed, or a trigger of somebody else can be work without an end for whatever reads a table.
This is needed before SQLAlchemy is loaded.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from clipsearch.errors import StoreCorruptError

_VIRTUAL = "full_text"
_OBJECTS = """
SELECT type, name, sql, rootpage FROM main.sqlite_master WHERE type NOT IN ('table', 'index') OR rootpage = 0
"""
_COMPUTED = """
SELECT tables.name || '.' || columns.name FROM main.sqlite_master AS tables, pragma_table_xinfo(tables.name, 'main') AS
columns WHERE tables.type = 'table' AND tables.rootpage AND columns.hidden LIMIT 1
"""
_OWN_TRIGGER = re.compile(
    r'CREATE TRIGGER (?P<table>\w+)_changed AFTER UPDATE OF "\w+"(, "\w+")* ON (?P=table) '
    r"BEGIN UPDATE (?P=table) SET digest = NULL WHERE \w+ = NEW\.\w+( AND \w+ = NEW\.\w+)*; END"
)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """See that a catalog brings no SQL of its own along.

    path: of the catalog. Raises StoreCorruptError, and sqlite3.Error for a file that cannot be read.
    """
    for kind, name, sql, rootpage in connection.execute(_OBJECTS):
        is_own = kind == "trigger" and isinstance(sql, str) and _OWN_TRIGGER.fullmatch(sql)
        if not is_own and not (kind == "table" and not rootpage and name == _VIRTUAL):
            what = "virtual table" if kind == "table" else kind
            raise _foreign(path, f"the {what} {name!r:.80}")
    for (name,) in connection.execute(_COMPUTED):
        raise _foreign(path, f"the computed column {name!r:.80}")


def _foreign(path: Path, what: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path} has {what}, which clipsearch does not write and does not run. If the library is a stranger's, use "
        "another; if it is yours, restore it: clipsearch restore BACKUP"
    )
