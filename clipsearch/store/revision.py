"""The revision of a library: a number that rises with every change, and what readers keep for as long as it stays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine

from clipsearch.store import catalog
from clipsearch.store.database import transaction

REVISION_KEY = "revision"

T = TypeVar("T")


class RevisionCache:
    """What was computed from one revision of a library, the newest one that was read. Safe to share by threads."""

    def __init__(self) -> None:
        self._revision = -1
        self._values: dict[str, object] = {}
        self._lock = threading.RLock()

    def get(self, revision: int, key: str, compute: Callable[[], T]) -> T:
        """Return what was computed for this revision, or compute it; values of older revisions are dropped."""
        with self._lock:
            if revision > self._revision:
                self._values, self._revision = {}, revision
            if revision < self._revision:
                return compute()
            if key not in self._values:
                self._values[key] = compute()
            return self._values[key]  # type: ignore[return-value]


def get_revision(connection: Connection) -> int:
    """Return the revision of a library, 0 before the first change."""
    return catalog.get_number(connection, REVISION_KEY)


@contextmanager
def change(engine: Engine | Connection) -> Iterator[Connection]:
    """Change a library in one transaction, and raise its revision, so that readers drop what they keep of the old one.

    Inside another transaction of the same connection it is a savepoint, as in `transaction`.
    """
    with transaction(engine) as connection:
        yield connection
        catalog.set_setting(connection, REVISION_KEY, str(get_revision(connection) + 1))
