"""Take paths out of a library."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sqlalchemy import Connection

from clipsearch.errors import InvalidInputError
from clipsearch.store import catalog
from clipsearch.store.library import Library
from clipsearch.store.records import Scope
from clipsearch.store.roots import find_scope, scopes_below


def forget(library: Library, paths: Sequence[str]) -> int:
    """Erase what lies at or below paths, and return how many files could be found until now.

    Raises InvalidInputError, before anything is erased, for a path the library does not cover.
    """
    scopes: list[Scope] = []
    with library.query() as connection:
        for path in paths:
            if not path:
                raise InvalidInputError("A path is empty. Name what to forget; . is the folder you are in.")
            found = _scopes(connection, library.base, path)
            if not any(catalog.holds(connection, scope) for scope in found):
                raise InvalidInputError(
                    f"The library in {library.folder} has nothing at {path}. See: clipsearch status"
                )
            scopes += found
    with library.writer() as writer:
        return sum(writer.forget(scope) for scope in scopes)


def _scopes(connection: Connection, base: str, path: str) -> list[Scope]:
    """Find what a path covers: by its real name, and by the name that a file found through a link is shown with."""
    found: list[Scope] = []
    for name in dict.fromkeys((os.path.realpath(path), os.path.abspath(path))):
        own = find_scope(connection, base, name)
        found += [own] if own else scopes_below(connection, base, name)
    return found
