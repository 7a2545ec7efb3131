"""States of libraries that change while they are read."""

from __future__ import annotations

from clipsearch.errors import ServerError


class StateChangedError(ServerError):
    """The library of a server is no longer in the state that a search began with: the search begins again."""
