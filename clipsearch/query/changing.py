"""The methods of the engine that change items which are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.metadata import check_metadata
from clipsearch.query.validation import (
    Named,
    read_filter,
    read_items,
    read_keys,
    read_names,
    read_tags,
    require_known,
)
from clipsearch.query.writing import EngineWrites
from clipsearch.store.item_changes import ItemChange, NewCaption
from clipsearch.store.metadata_index import declare_index, declared
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Item, Modality
from clipsearch.words import fold_tag


def find_items(snapshot: Snapshot, named: Sequence[str | int]) -> list[int]:
    """Return the ids of items that are named by keys or ids, each once, in that order.

    Raises InvalidInputError for one that is not in the library.
    """
    keys = [each for each in named if isinstance(each, str)]
    by_key = snapshot.ids_of_keys(keys) if keys else {}
    require_known(keys, by_key)
    ids = [by_key[each][0] if isinstance(each, str) else each for each in named]
    unknown = {*ids} - {*snapshot.matching_ids(Filter(ids=frozenset(ids))).tolist()}
    if unknown:
        raise InvalidInputError(f"There is no item {min(unknown)} in the library. To see ids: clipsearch find --json")
    return list(dict.fromkeys(ids))


class EngineChanges(EngineWrites):
    """Deleting items, and changing what is said of them. What a call has returned from is durable."""

    def delete(self, ids: str | Iterable[str] | None = None, *, filters: Filter | None = None) -> int:
        """Delete items, by their keys or by a filter: exactly one of the two.

        Records are erased. Files are only hidden, and stay on disk; `index` brings back those that it finds again.

        Args:
            ids: One key or several; unknown ones are passed over. Where a record and a file have the same key, it is
                the record, as in `get`; `Filter(ids=(item.id,))` names any item.
            filters: Which items; Filter() deletes all.

        Returns:
            How many items were deleted.

        Raises:
            InvalidInputError: Neither or both are given, or one cannot be used.
            LibraryLockedError: Another writer is still at work after the engine's timeout.
            LibraryError: The library cannot be written.
        """
        if (ids is None) == (filters is None):
            raise InvalidInputError("delete takes ids or filters, one of the two. Filter() deletes all items.")
        keys = None if ids is None else read_keys(ids)
        with self._writer() as writer:
            with self.library.read() as snapshot:
                if keys is None:
                    chosen = snapshot.matching_ids(read_filter(filters)).tolist()
                else:
                    chosen = sorted({found[0] for found in snapshot.ids_of_keys(keys).values()})
            if chosen:
                writer.delete_items(chosen)
        return len(chosen)

    def update(
        self,
        ids: str | Iterable[str],
        *,
        metadata: Mapping[str, object] | None = None,
        remove: str | Iterable[str] = (),
        caption: str | None = None,
    ) -> int:
        """Change what is said of items; no picture is read or encoded again.

        Args:
            ids: One key or several, as `get` takes them.
            metadata: Values to set, by name; other names keep theirs.
            remove: Names to remove.
            caption: Takes the place of their own, and is encoded; an empty one removes it. None leaves them alone.
                That of a picture stays until what lies beside it, such as a captions.csv, says something else.

        Returns:
            How many items were changed.

        Raises:
            InvalidInputError: A key is not in the library, or a value cannot be used; nothing is changed then. The
                file of a text has no caption.
            EncoderError: The encoder of the library is unavailable.
            LibraryLockedError: Another writer is still at work after the engine's timeout.
            LibraryError: The library cannot be written.
        """
        keys = list(dict.fromkeys(read_keys(ids)))
        changed = {} if metadata is None else metadata
        removed = frozenset(read_names(remove))
        check_metadata(changed)
        with self._writer() as writer:
            with self.library.read() as snapshot:
                by_key = snapshot.ids_of_keys(keys)
                require_known(keys, by_key)
                wanted = [by_key[key][0] for key in keys]
                items = [] if caption is None else snapshot.items_by_id(wanted)
            new = None if caption is None else self._new_caption(caption, items)
            writer.update_items(wanted, ItemChange(changed, removed, new))
        return len(keys)

    def tag(self, ids: Named, *, add: str | Iterable[str] = (), remove: str | Iterable[str] = ()) -> int:
        """Give items tags, and take tags from them. They stay whatever becomes of the content, and are in backups.

        Args:
            ids: Keys, as `get` takes them, or ids of items; one or several.
            add: Tags to add: up to 200 characters each, compared without case.
            remove: Tags to remove, whoever says them. A keyword of a file comes back once the file has changed, a
                label when `clipsearch label --save` gives it again.

        Returns:
            How many items were named.

        Raises:
            InvalidInputError: An item is not in the library, a tag cannot be used, or one is both added and removed;
                nothing is changed then.
            LibraryLockedError: Another writer is still at work after the engine's timeout.
            LibraryError: The library cannot be written.

        Example:
            >>> engine.tag("/photos/sea.jpg", add=["beach", "Crete"], remove="snow")
        """
        named, added, removed = read_items(ids), read_tags(add), read_tags(remove)
        if both := {*map(fold_tag, added)} & {*map(fold_tag, removed)}:
            raise InvalidInputError(f"The tag {min(both)!r} is both added and removed. Name it once.")
        with self._writer() as writer:
            with self.library.read() as snapshot:
                chosen = find_items(snapshot, named)
            if chosen and (added or removed):
                writer.tag_items(chosen, added, removed)
        return len(chosen)

    def index_metadata(self, names: str | Iterable[str]) -> None:
        """Index the values of names of metadata from now on, beside those that are; filters on them are fast then.

        Args:
            names: One name or several; nothing is written where all are indexed.

        Raises:
            InvalidInputError: One cannot be a name.
            LibraryLockedError: Another writer is still at work after the engine's timeout.
            LibraryError: The library cannot be written.
        """
        wanted = read_names(names)
        if wanted:
            with self.library.query() as connection:
                present = declared(connection)
            if not {*wanted} <= {*present}:
                with self._writer() as writer:
                    declare_index(writer, wanted)

    def _new_caption(self, caption: str, items: Sequence[Item]) -> NewCaption:
        from indexer.recaptioning import make_caption

        for item in items:
            if item.modality is Modality.TEXT and item.size:
                raise InvalidInputError(f"{item.path} is a text, which has no caption. Give it metadata instead.")
        return make_caption(caption, items, None if self._pinned().is_imported else self._encoder_for_writing())
