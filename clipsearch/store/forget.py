"""Take paths out of a library."""

from __future__ import annotations

from collections.abc import Sequence

from clipsearch.errors import InvalidInputError
from clipsearch.store import catalog
from clipsearch.store.filters import scopes_of
from clipsearch.store.library import Library
from clipsearch.store.records import Scope


def forget(library: Library, paths: Sequence[str]) -> int:
    """Erase what lies at or below paths, and return how many files could be found until now.

    Raises InvalidInputError, before anything is erased, for a path the library does not cover.
    """
    scopes: list[Scope] = []
    with library.query() as connection:
        for path in paths:
            if not path:
                raise InvalidInputError("A path is empty. Name a file or folder to forget; . is the current folder.")
            found = scopes_of(connection, path, library.base)
            if not any(catalog.holds(connection, scope) for scope in found):
                raise InvalidInputError(
                    f"The library in {library.folder} has nothing at {path}. List what it holds: clipsearch status"
                )
            scopes += found
    with library.writer() as writer:
        return sum(writer.forget(scope) for scope in scopes)
