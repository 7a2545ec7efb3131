"""Name the places of items: their coordinates become country, region and city in their metadata.

Only the extra `places` knows these names; without it nothing is done. Each item is looked at once: a setting says up
to which id, and of which gazetteer. A run that changed files looks at all, for one may lie elsewhere now.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from clipsearch.store import catalog
from clipsearch.store.database import transaction
from clipsearch.store.library import Library
from clipsearch.store.metadata_index import declare_index
from clipsearch.store.place_names import (
    FIELDS,
    NAMES_KEY,
    PROGRESS_KEY,
    PlaceName,
    PlaceNames,
    get_names,
    last_id,
    store_places,
    unplaced,
)
from clipsearch.store.revision import change
from clipsearch.store.sql_values import chunks
from clipsearch.store.writer import Writer
from indexer import gazetteer

logger = logging.getLogger("clipsearch")

_AT_ONCE = 1000
"""Items of one transaction."""


def refresh_places(library: Library, writer: Writer, *, is_changed: bool = False) -> int:
    """Give items with coordinates their place; return how many got one.

    is_changed: items that had a place may have moved.
    """
    version = gazetteer.installed_version()
    if version is None:
        return 0
    with library.query() as connection:
        before, done = _progress(catalog.get_setting(connection, PROGRESS_KEY)), last_id(connection)
        first = 0 if is_changed or before[0] != version else before[1]
        if (version, done) == before and first:
            return 0
        found = unplaced(connection, first)
    named = _name(writer, found) if found else 0
    if named is not None and (version, done) != before:
        writer.set_setting(PROGRESS_KEY, json.dumps([version, done]))
    return named or 0


def _name(writer: Writer, found: Sequence[tuple[int, float, float]]) -> int | None:
    """Name the places of items, given as id, latitude and longitude; None where the gazetteer cannot be read."""
    connection, _ = writer.storage
    with transaction(connection) as reading:
        known = get_names(reading)
    try:
        located = gazetteer.load().locate([(latitude, longitude) for _, latitude, longitude in found])
        new = {place.name: place for place in located if place and not _is_known(place.name, known)}
        names = known.add(gazetteer.aliases(new.values())) if new else known
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        logger.warning("Places get no names: the data of the extra places cannot be read (%r).", error)
        return None
    named = {item_id: place.name for (item_id, _, _), place in zip(found, located, strict=True) if place}
    if not named:
        return 0
    declare_index(writer, FIELDS)
    count = 0
    if new:  # before the items: what they say must be known as a place
        writer.set_setting(NAMES_KEY, names.dump())
    for page in chunks(named, _AT_ONCE):
        with change(connection) as changing:
            count += store_places(changing, {item_id: named[item_id] for item_id in page}, names)
    return count


def _is_known(place: PlaceName, known: PlaceNames) -> bool:
    return all(known.holds(field, name) for field, name in place.values().items())


def _progress(setting: str | None) -> tuple[str, int]:
    """Return of which gazetteer items have their places, and up to which id."""
    try:
        version, last = json.loads(setting or "null")
        return str(version), int(last)
    except (ValueError, TypeError, RecursionError):
        return "", 0
