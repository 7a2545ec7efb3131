"""Finding the item of a path."""

from __future__ import annotations

import os

from sqlalchemy import select

from clipsearch.paths import name_of_id, quote_path
from clipsearch.store.filters import scopes_of
from clipsearch.store.library import Library
from clipsearch.store.records import RootKind
from clipsearch.store.roots import get_roots
from clipsearch.store.schema import items


def item_at(library: Library, path: str) -> int | None:
    """Return the id of the item that is the file of a path, or a record of that name; None if it does not exist."""
    try:
        names = {quote_path(path), quote_path(name_of_id(path)), quote_path(os.path.abspath(path))}
    except OSError:  # the current folder is gone
        names = {quote_path(path), quote_path(name_of_id(path))}
    with library.query() as connection:
        query = select(items.c.id).where(~items.c.deleted)
        try:
            scopes = scopes_of(connection, path, library.base)
        except (OSError, ValueError):  # no path, but maybe a name
            scopes = []
        for scope in scopes:
            own = query.where(items.c.root_id == scope.root_id, items.c.path == scope.prefix)
            if (found := connection.execute(own).scalar_one_or_none()) is not None:
                return int(found)
        for root in get_roots(connection, library.base):
            if root.kind is not RootKind.FOLDER:
                own = query.where(items.c.root_id == root.id, items.c.path.in_(names))
                if (found := connection.execute(own.limit(1)).scalar_one_or_none()) is not None:
                    return int(found)
    return None
