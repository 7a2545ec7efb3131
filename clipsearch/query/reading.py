"""The methods of the engine that look items up: by key, by filter, page by page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.query.answers import hints_for_none
from clipsearch.query.validation import as_modality, read_count, read_filter, read_keys, require_known
from clipsearch.ranking import are_unit
from clipsearch.store.library import Library
from clipsearch.store.refusals import REPAIR
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Facets, Item, Listing, Modality, Page, Places

_CURSOR = "after:"

MAX_CELLS = 128
"""Columns, and rows, of the grid of a map."""


class EngineReads:
    """What the engine says of items without ranking them. Each call sees one state of the library."""

    library: Library
    if TYPE_CHECKING:
        _require_rows: Callable[[Snapshot], None]

    def find(
        self, filters: Filter | None = None, *, limit: int | None = None, offset: int = 0, sort: str = "taken"
    ) -> Listing:
        """List the items that a filter allows, newest first: by when they were taken, else by their last change.

        Args:
            filters: None lists all items.
            limit: How many items are listed at most; None for all.
            offset: How many of the first are passed over.
            sort: `taken`, or by `name`, by `size`, the largest first, or by `rating`, the best first.

        Returns:
            The items, how many there are in all, and their tags.

        Raises:
            InvalidInputError: The limit is below 1, the offset below 0, the order unknown, or a folder is not in the
                library.
            LibraryNotFoundError: The library is empty.
        """
        limit = None if limit is None else read_count("limit", limit)
        if sort != "taken":
            from clipsearch.sorting import SORTS, check_sort

            check_sort(sort, SORTS[1:])
        passed = 0 if offset == 0 else read_count("offset", offset)
        with self.library.read() as snapshot:
            self._require_rows(snapshot)
            items, total = snapshot.list_items(read_filter(filters), limit, passed, sort)
            items = snapshot.enrich(items)
            tags = {item.id: item.tags for item in items if item.tags}
            warnings = snapshot.warnings if total else (*snapshot.warnings, *hints_for_none(snapshot, filters))
            return Listing(str(self.library.folder), tuple(items), total, tags, warnings)

    @overload
    def get(self, ids: str) -> Item | None: ...  # type: ignore[overload-overlap]
    @overload
    def get(self, ids: Iterable[str]) -> list[Item | None]: ...
    def get(self, ids: str | Iterable[str]) -> Item | list[Item | None] | None:
        """Look items up by their keys: the caller's ids of records, the absolute paths of files.

        Args:
            ids: One key, or several.

        Returns:
            The item, or None for an unknown key; for several keys a list in their order.

        Raises:
            InvalidInputError: A key is empty or no str.
            StoreCorruptError: An item is damaged.
        """
        keys = read_keys(ids)
        with self.library.read() as snapshot:
            by_key = {key: found[0] for key, found in snapshot.ids_of_keys(keys).items()}
            items = {item.id: item for item in snapshot.items_by_id(by_key.values())}
            if lost := {*by_key.values()} - {*items}:
                raise StoreCorruptError(f"Item {min(lost)} of the library is damaged. {REPAIR}")
        found = [items[by_key[key]] if key in by_key else None for key in keys]
        return found[0] if isinstance(ids, str) else found

    def count(self, filters: Filter | None = None) -> int:
        """Count the items that a filter allows; None counts all. Raises InvalidInputError."""
        with self.library.read() as snapshot:
            return snapshot.count_items(read_filter(filters))

    def facets(self, filters: Filter | None = None, *, limit: int = 100) -> Facets:
        """Count the items that a filter allows by month, camera, folder, tag and kind.

        Args:
            filters: None counts all items.
            limit: How many cameras, folders and tags at most: those of most items. All months are there.

        Returns:
            The values with their counts.

        Raises:
            InvalidInputError: The limit is below 1, or a filter cannot be used.
        """
        most = read_count("limit", limit)
        with self.library.read() as snapshot:
            return snapshot.facets(read_filter(filters), most)

    def places(self, filters: Filter | None = None, *, cells: int = 32) -> Places:
        """Say where the items that a filter allows were taken, as clusters for a map.

        Args:
            filters: None for all items. With a `box`, that is what the map shows; else what is around the items.
            cells: How many clusters at most, from 1 to 128, stand side by side from west to east, and from south to
                north, give or take one.

        Returns:
            How many items have a place, their clusters, and the smallest box around them.

        Raises:
            InvalidInputError: The number of cells or a filter cannot be used.
        """
        most = read_count("number of cells", cells)
        if most > MAX_CELLS:
            raise InvalidInputError(f"The number of cells is {most:,}, but must be from 1 to {MAX_CELLS}.")
        with self.library.read() as snapshot:
            return snapshot.places(read_filter(filters), most)

    def vectors(self, ids: str | Iterable[str], *, modality: Modality | str | None = None) -> NDArray[np.float32]:
        """Return the vectors of items.

        Args:
            ids: Their keys, as `get` takes them.
            modality: `image` or `text`; None takes the picture's where there is one, else the text's. A text of
                several passages has the mean of theirs.

        Returns:
            float32 (n, dim), rows of unit length, in the order of the keys.

        Raises:
            InvalidInputError: A key is not in the library, or its item has no such vector.
            StoreCorruptError: A vector is damaged.
        """
        keys = read_keys(ids)
        modalities = tuple(Modality) if modality is None else (as_modality(modality),)
        with self.library.read() as snapshot:
            by_key = snapshot.ids_of_keys(keys)
            require_known(keys, by_key)
            wanted = [by_key[key][0] for key in keys]
            found: dict[int, NDArray[np.float32]] = {}
            for each in modalities:
                found |= _means(snapshot, each, {*wanted} - {*found})
            for key, item_id in zip(keys, wanted, strict=True):
                if item_id not in found:
                    what = " or ".join(modalities)
                    raise InvalidInputError(f"The item {key!r} has no vector of modality {what}.")
            dim = snapshot.rows(modalities[0]).dim
            return np.stack([found[item_id] for item_id in wanted]) if wanted else np.empty((0, dim), np.float32)

    def items(self, filters: Filter | None = None, *, batch: int = 1000) -> Iterator[Item]:
        """Iterate over the items that a filter allows, in order of their ids.

        Which they are is looked up once; what is deleted meanwhile is passed over, what is added is not seen.

        Args:
            filters: None for all items.
            batch: How many are read at once.

        Returns:
            An iterator; each item is as it is in the library when its batch is read. Damaged ones are passed over.

        Raises:
            InvalidInputError: The batch is below 1, or a filter cannot be used.
        """
        size = read_count("batch", batch)
        with self.library.read() as snapshot:
            ids = snapshot.matching_ids(read_filter(filters))
        return self._items_by_id(ids, size)

    def _items_by_id(self, ids: NDArray[np.int64], size: int) -> Iterator[Item]:
        for start in range(0, len(ids), size):
            with self.library.read() as snapshot:
                found = snapshot.items_by_id(ids[start : start + size].tolist())
            yield from found

    def page(self, filters: Filter | None = None, *, cursor: str | None = None, limit: int = 100) -> Page:
        """Return the next items that a filter allows, in order of their ids.

        Commits between two pages neither repeat an item nor leave one out that was there all along.

        Args:
            filters: None for all items; the same for each page.
            cursor: What the page before gave; None for the first page.
            limit: How many items at most.

        Returns:
            The items, and the cursor of the next page; None after the last.

        Raises:
            InvalidInputError: The limit is below 1, or no page gave this cursor.
        """
        size, after = read_count("limit", limit), _read_cursor(cursor)
        with self.library.read() as snapshot:
            ids = snapshot.matching_ids(read_filter(filters), after)
            shown = ids[:size].tolist()
            more = len(ids) > size
            return Page(tuple(snapshot.items_by_id(shown)), _cursor(shown[-1]) if more else None, snapshot.warnings)


def _means(snapshot: Snapshot, modality: Modality, ids: set[int]) -> dict[int, NDArray[np.float32]]:
    """Return the unit mean of the rows of each of these items that has any in a modality: float32 (dim,)."""
    owners = snapshot.rows_of_items(modality, ids) if ids else {}
    if not owners:
        return {}
    numbers = np.array(sorted(owners), np.int64)
    snapshot.require_sound(modality, numbers)
    rows = snapshot.rows(modality).gather(numbers)
    if not are_unit(rows).all():
        raise StoreCorruptError(f"A stored vector is damaged: its length is not 1. {REPAIR}")
    found, places = np.unique([owners[row] for row in numbers.tolist()], return_inverse=True)
    sums = np.zeros((len(found), rows.shape[1]), np.float32)
    np.add.at(sums, places, rows)
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    return dict(zip(found.tolist(), sums, strict=True))


def _cursor(last: int) -> str:
    return base64.urlsafe_b64encode(f"{_CURSOR}{last}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode("ascii")
        if text.startswith(_CURSOR) and text[len(_CURSOR) :].isdigit() and len(text) < 30:
            return int(text[len(_CURSOR) :])
    except (TypeError, ValueError, AttributeError, binascii.Error):
        pass
    raise InvalidInputError(f"{cursor!r} is not a cursor. Pass the one of the page before, or None for the first page.")
