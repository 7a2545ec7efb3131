"""The names that a library has, looked up in one state of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from clipsearch.store.place_names import PlaceAlias
from clipsearch.store.snapshot import Snapshot


class LibraryNames:
    """The names of a library; what it has to read is read when it is asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Look into a state of the library, for as long as that is open."""
        self._snapshot = snapshot

    def tags(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return the tags that are called so: by the folded name, the tag as it is written."""
        return self._snapshot.find_tags(names)

    def places(self, name: str) -> Sequence[PlaceAlias]:
        """Return the places that are called so."""
        return self._snapshot.place_names().find(name)

    def cameras(self) -> Sequence[str]:
        """Return the names of all cameras."""
        return self._snapshot.cameras()

    def has_taken(self, start: datetime, end: datetime) -> bool:
        """Tell whether anything was taken from a local time on until before another."""
        return self._snapshot.has_taken(start, end)
