"""Take paths out of a library."""

from __future__ import annotations

import os
from collections.abc import Sequence

from clipsearch.errors import InvalidInputError
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
            real = os.path.realpath(path)
            own = find_scope(connection, library.base, real)
            found = [own] if own else scopes_below(connection, library.base, real)
            if not found:
                raise InvalidInputError(
                    f"The library in {library.folder} has nothing at {path}. See: clipsearch status"
                )
            scopes += found
    with library.writer() as writer:
        return sum(writer.forget(scope) for scope in scopes)
