"""The second set of a library, seen as if it were the library: temporary views show its tables as the first ones.

So all that reads a library reads the second set too: searching, evaluation, the making of an index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import Engine, Table, event
from sqlalchemy.pool import ConnectionPoolEntry

from clipsearch.errors import LibraryError
from clipsearch.store import second_set
from clipsearch.store.dialect import is_postgres
from clipsearch.store.library import Library
from clipsearch.store.revision import REVISION_KEY
from clipsearch.store.schema import generations, segments, vectors
from clipsearch.store.second_flip import KEYS

_OWN = ", ".join(f"'{key}'" for key in (*KEYS, REVISION_KEY))


def _as_first(table: Table) -> str:
    """Build the view that shows a table of the second set under the name of the first one's."""
    columns = ", ".join(f'"{column.name}"' for column in table.c)
    return f"CREATE TEMPORARY VIEW {table.name} AS SELECT {columns} FROM main.second_{table.name}"


VIEWS = (
    *map(_as_first, (vectors, segments, generations)),
    "CREATE TEMPORARY VIEW tombstones AS SELECT modality, row FROM main.second_tombstones "
    "UNION SELECT second_vectors.modality, second_vectors.row FROM main.items "
    "JOIN main.second_vectors ON second_vectors.item_id = items.id WHERE items.deleted",
    # The revision of the two together rises with a change of either, so that a reader drops what it keeps.
    f"CREATE TEMPORARY VIEW settings AS SELECT key, value, digest FROM main.settings WHERE key NOT IN ({_OWN}) "
    f"UNION ALL SELECT key, value, digest FROM main.second_settings WHERE key IN ({_OWN}) AND key <> '{REVISION_KEY}' "
    f"UNION ALL SELECT '{REVISION_KEY}', CAST(sum(CAST(value AS BIGINT)) AS TEXT), NULL FROM ("
    f"SELECT value FROM main.settings WHERE key = '{REVISION_KEY}' UNION ALL "
    f"SELECT value FROM main.second_settings WHERE key = '{REVISION_KEY}') AS both_sets",
)


class SecondLibrary(Library):
    """A library whose second set answers; it is only read. Safe to share by threads."""

    def __init__(self, folder: Path) -> None:
        """Open it. Raises what `Library` raises, and LibraryError where there is no second set."""
        with_first = Library(folder)
        try:
            with with_first.query() as connection:
                pin = second_set.get_pin(connection)
        finally:
            with_first.close()
        if pin is None:
            raise LibraryError(
                f"The library in {folder} has no second set of vectors. Prepare one: clipsearch reindex --model NAME "
                "--no-flip"
            )
        super().__init__(folder)

    def _open_catalog(self) -> None:
        super()._open_catalog()
        _show_second(self._engine)

    @contextmanager
    def writer(self, *, repair: bool = False, timeout: float = 0.0) -> Iterator[NoReturn]:
        """Refuse: the second set is written by `clipsearch reindex` alone. Raises LibraryError."""
        raise LibraryError("The second set of a library is only read. Open the library itself to write.")
        yield


def _show_second(engine: Engine) -> None:
    """Give the connections of a reader the views."""
    add: Callable[[Any, Sequence[str]], None] = _add_views
    if is_postgres(engine):
        from clipsearch.store.postgres.connections import add_views

        add = add_views

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ANN401
        add(connection, VIEWS)

    engine.dispose()  # the connections that were made before


def _add_views(connection: sqlite3.Connection, views: Sequence[str]) -> None:
    for view in views:
        connection.execute(view)
