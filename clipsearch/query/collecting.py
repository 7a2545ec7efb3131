"""The methods of the engine about collections: named sets of items."""

from __future__ import annotations

from clipsearch.query.changing import find_items
from clipsearch.query.validation import Named, read_items
from clipsearch.query.writing import EngineWrites
from clipsearch.store import collections
from clipsearch.types import Collection
from clipsearch.words import tidy_name


class EngineCollections(EngineWrites):
    """Collections, whose items stand in the order in which they were added. What a call has returned from is durable.

    `Filter(collections=("Summer",))` allows their items. A file that is deleted leaves its collections when it is
    forgotten or compacted away; until then it comes back with them.
    """

    def collections(self) -> list[Collection]:
        """List the collections in order of their names."""
        with self.library.query() as connection:
            return collections.list_all(connection)

    def collect(self, name: str, add: Named = (), remove: Named = (), *, create: bool = True) -> Collection:
        """Add items to a collection, and take others out of it; the items stay in the library.

        Args:
            name: Its name, up to 200 characters, compared without case.
            add: Keys, as `get` takes them, or ids of items; one or several. One that is in it keeps its place.
            remove: Items to take out, named in the same way.
            create: Make the collection if it is not there.

        Returns:
            The collection.

        Raises:
            InvalidInputError: The name cannot be used, there is no such collection or item, or it would have more than
                100,000 items or the library more than 10,000 collections; nothing is changed then.
            LibraryLockedError: Another writer is still at work after the engine's timeout.
            LibraryError: The library cannot be written.

        Example:
            >>> engine.collect("Summer", add=["/photos/sea.jpg"]).count
            1
        """
        known, added, removed = tidy_name(name), read_items(add), read_items(remove)
        with self._writer() as writer:
            with self.library.read() as snapshot:
                new, gone = find_items(snapshot, added), find_items(snapshot, removed)
            writer.collect_items(known, new, gone, create=create)
        return self._collection(known)

    def rename_collection(self, name: str, new: str) -> Collection:
        """Give a collection another name. Raises InvalidInputError for an unknown one or a name that another has."""
        known, wanted = tidy_name(name), tidy_name(new)
        with self._writer() as writer:
            writer.rename_collection(known, wanted)
        return self._collection(wanted)

    def delete_collection(self, name: str) -> None:
        """Delete a collection; its items stay in the library. Raises InvalidInputError for an unknown one."""
        known = tidy_name(name)
        with self._writer() as writer:
            writer.delete_collection(known)

    def _collection(self, name: str) -> Collection:
        with self.library.query() as connection:
            return collections.get(connection, name)
