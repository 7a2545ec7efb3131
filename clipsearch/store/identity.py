"""Which library a library is: a random id that it keeps wherever it is copied to or restored."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection

from clipsearch.store import catalog

LIBRARY_ID_KEY = "library_id"


def get_library_id(connection: Connection) -> str:
    """Return the id of a library, "" for one that was last written before there were ids."""
    return catalog.get_setting(connection, LIBRARY_ID_KEY) or ""


def ensure_library_id(connection: Connection) -> None:
    """Give a library an id unless it has one."""
    if not get_library_id(connection):
        catalog.set_setting(connection, LIBRARY_ID_KEY, uuid.uuid4().hex)
