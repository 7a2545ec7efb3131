"""Keys of items: the ids that callers gave to records, and the absolute paths of everything else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator

from sqlalchemy import JSON, Connection, Integer, Text, and_, column, func, literal_column, select

from clipsearch.paths import may_be_opened, name_of_id, quote_path
from clipsearch.store.records import Root, RootKind
from clipsearch.store.roots import get_roots, relative
from clipsearch.store.schema import items
from clipsearch.store.sql_values import chunks

KEYS_AT_ONCE = 10_000
"""Keys that are looked up in one statement: what is made of them takes ten times their bytes."""


def ids_of_keys(connection: Connection, keys: Iterable[str], base: str) -> dict[str, list[int]]:
    """Return the live items that have each of these keys, where there are any; that of a record comes first.

    base: the folder that portable roots are relative to.
    """
    return _find(connection, keys, _Places(get_roots(connection, base)))


def matching_keys(connection: Connection, keys: Iterable[str], base: str) -> set[int]:
    """Return the ids of the live items that have one of these keys, however many they are. base: as above."""
    places = _Places(get_roots(connection, base))
    found = (_find(connection, part, places) for part in chunks(keys, KEYS_AT_ONCE))
    return {item_id for each in found for ids in each.values() for item_id in ids}


def _find(connection: Connection, keys: Iterable[str], places: _Places) -> dict[str, list[int]]:
    wanted = {place: key for key in keys for place in places.of(key)}
    pairs = [place for place in wanted if _is_text(place[1])]  # half of a character is in no stored path
    given = func.json_each(json.dumps(pairs)).table_valued(column("value", JSON))
    root_id = func.json_extract(given.c.value, literal_column("'$[0]'"), type_=Integer)
    path = func.json_extract(given.c.value, literal_column("'$[1]'"), type_=Text)
    at_place = and_(items.c.root_id == root_id, items.c.path == path)
    query = select(items.c.id, items.c.root_id, items.c.path).select_from(given.join(items, at_place))
    found: dict[str, list[tuple[bool, int]]] = {}
    for item_id, root, stored in connection.execute(query.where(~items.c.deleted)):
        found.setdefault(wanted[root, stored], []).append((root not in places.records, item_id))
    return {key: [item_id for _, item_id in sorted(ids)] for key, ids in found.items()}


class _Places:
    """Where items with a key may be: their roots, and their stored paths in these."""

    def __init__(self, roots: Iterable[Root]) -> None:
        roots = list(roots)
        self.records = {root.id for root in roots if root.kind in (RootKind.RECORDS, RootKind.SOURCE)}
        self._collections = [root for root in roots if root.kind is RootKind.COLLECTION]
        self._folders = {root.path: root.id for root in roots if root.kind is RootKind.FOLDER}

    def of(self, key: str) -> Iterator[tuple[int, str]]:
        for root_id in self.records:
            yield root_id, quote_path(key)
        for root in self._collections:
            inside = relative(key, root.folder)
            if inside:
                yield root.id, quote_path(inside)
            if may_be_opened(key):
                yield root.id, quote_path(key)
            yield root.id, quote_path(name_of_id(key))
        if os.path.isabs(key):
            folder = key
            while folder not in self._folders and folder != os.path.dirname(folder):
                folder = os.path.dirname(folder)
            inside = relative(key, folder)
            if folder in self._folders and inside is not None:
                yield self._folders[folder], quote_path(inside)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
