"""Collections: named sets of items that a user puts together, each item with its place in the order of adding.

Names are compared without case, as tags are. A deleted item keeps its place, as it keeps its rows, until it is erased;
meanwhile it neither shows nor counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from clipsearch.errors import InvalidInputError, StoreCorruptError
from clipsearch.store.checksums import is_sound
from clipsearch.store.dialect import is_postgres
from clipsearch.store.inserts import insert_many
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import collection_items, collections
from clipsearch.store.sql_values import listed, listed_texts
from clipsearch.types import Collection
from clipsearch.words import fold_tag, tidy_name

MAX_COLLECTIONS, MAX_ITEMS = 10_000, 100_000
"""Collections of a library, and items of a collection."""

_MOST_PLACES = 2**62
_COVER = "items.id, min(CASE WHEN items.modality = 'image' THEN position END)"
# A column beside min() is that of the row with the minimum: https://sqlite.org/lang_select.html#bareagg
_COVER_IN_POSTGRES = (
    "(array_agg(items.id ORDER BY position) FILTER (WHERE items.modality = 'image'))[1], "
    "min(position) FILTER (WHERE items.modality = 'image')"
)
_LIST = f"""
SELECT name, count(items.id), {{cover}}
FROM collections
LEFT JOIN collection_items ON collection_id = collections.id
LEFT JOIN items ON items.id = item_id AND NOT deleted
{{where}} GROUP BY collections.id ORDER BY folded LIMIT {MAX_COLLECTIONS}
"""


class UnknownCollectionError(InvalidInputError):
    """There is no collection of that name."""


def list_all(connection: Connection) -> list[Collection]:
    """Return the collections in order of their names; one whose name is none is of a damaged catalog, and left out."""
    return _read(connection, "")


def get(connection: Connection, name: str) -> Collection:
    """Return a collection. Raises UnknownCollectionError."""
    found = _read(connection, "WHERE collections.id = ?", find(connection, name))
    if not found:
        raise StoreCorruptError(f"The name of the collection {name!r} is damaged. {REPAIR}")
    return found[0]


def find(connection: Connection, name: str) -> int:
    """Return the id of the collection of a name. Raises UnknownCollectionError."""
    found = _ids(connection, [name])
    if not found:
        raise _unknown(name)
    return found[0]


def matching(connection: Connection, names: Sequence[str]) -> Select[tuple[int]]:
    """Build the query for the ids of items that are in any of these collections. Raises UnknownCollectionError."""
    ids = _ids(connection, names)
    if len(ids) < len({*map(fold_tag, names)}):
        raise _unknown(next(name for name in names if not _ids(connection, [name])))
    return select(collection_items.c.item_id).where(collection_items.c.collection_id.in_(listed(ids)))


def change(
    connection: Connection, name: str, added: Sequence[int], removed: Sequence[int], *, create: bool = True
) -> None:
    """Add items to a collection, which is made if it is not there and `create` says so, and take others out of it.

    An item that is in it keeps its place. Raises UnknownCollectionError; InvalidInputError beyond MAX_ITEMS and
    MAX_COLLECTIONS.
    """
    ids = _ids(connection, [name])
    if not ids and not create:
        raise _unknown(name)
    number = ids[0] if ids else _create(connection, name)
    own = collection_items.c.collection_id == number
    connection.execute(delete(collection_items).where(own, collection_items.c.item_id.in_(listed(removed))))
    present = {*connection.execute(select(collection_items.c.item_id).where(own)).scalars()}
    new = [item_id for item_id in dict.fromkeys(added) if item_id not in present]
    if len(present) + len(new) > MAX_ITEMS:
        raise InvalidInputError(
            f"The collection {name!r} would have {len(present) + len(new):,} items, but a collection has at most "
            f"{MAX_ITEMS:,}. Make another one."
        )
    first = _next_place(connection, number) if new else 0
    places = [{"collection_id": number, "item_id": each, "position": first + i} for i, each in enumerate(new)]
    insert_many(connection, collection_items, places)


def rename(connection: Connection, name: str, new: str) -> None:
    """Give a collection another name. Raises UnknownCollectionError, InvalidInputError for a name that another has."""
    number = find(connection, name)
    if _ids(connection, [new]) not in ([], [number]):
        raise InvalidInputError(f"There is a collection {new!r} already. Choose another name.")
    named = {"name": tidy_name(new), "folded": fold_tag(new)}
    connection.execute(update(collections).where(collections.c.id == number).values(**named))


def erase(connection: Connection, name: str) -> None:
    """Erase a collection; its items stay in the library. Raises UnknownCollectionError."""
    number = find(connection, name)
    connection.execute(delete(collection_items).where(collection_items.c.collection_id == number))
    connection.execute(delete(collections).where(collections.c.id == number))


def remove(connection: Connection, ids: Select[tuple[int]] | Iterable[int]) -> None:
    """Take items out of all collections."""
    connection.execute(delete(collection_items).where(collection_items.c.item_id.in_(ids)))


def mend(connection: Connection) -> None:
    """Take damaged places out of collections, and give a collection whose name is damaged one that can be used."""
    for row in connection.execute(select(collections)).all():
        if row.digest is None or not is_sound(row, collections):
            others = {*connection.execute(select(collections.c.folded).where(collections.c.id != row.id)).scalars()}
            name = row.name if _is_name(row.name) and fold_tag(row.name) not in others else f"Collection {row.id}"
            named = {"name": tidy_name(name), "folded": fold_tag(name), "digest": None}
            connection.execute(update(collections).where(collections.c.id == row.id).values(**named))
    known = {*connection.execute(select(collections.c.id)).scalars()}
    for row in connection.execute(select(collection_items)).all():
        if row.digest is None or not is_sound(row, collection_items) or row.collection_id not in known:
            key = [column == getattr(row, column.name) for column in collection_items.primary_key]
            connection.execute(delete(collection_items).where(*key))


def _read(connection: Connection, where: str, *values: int) -> list[Collection]:
    cover = _COVER_IN_POSTGRES if is_postgres(connection) else _COVER
    found = connection.exec_driver_sql(_LIST.format(where=where, cover=cover), values)
    return [
        Collection(name, count, None if place is None else cover)
        for name, count, cover, place in found
        if _is_name(name)
    ]


def _ids(connection: Connection, names: Iterable[str]) -> list[int]:
    wanted = collections.c.folded.in_(listed_texts({fold_tag(name) for name in names}))
    return list(connection.execute(select(collections.c.id).where(wanted)).scalars())


def _create(connection: Connection, name: str) -> int:
    count: int = connection.execute(select(func.count()).select_from(collections)).scalar_one()
    if count >= MAX_COLLECTIONS:
        raise InvalidInputError(f"The library has {count:,} collections, and no room for more. Delete one.")
    made = connection.execute(insert(collections).values(name=tidy_name(name), folded=fold_tag(name)))
    assert made.inserted_primary_key is not None
    return int(made.inserted_primary_key[0])


def _next_place(connection: Connection, number: int) -> int:
    query = select(func.max(collection_items.c.position)).where(collection_items.c.collection_id == number)
    last = connection.execute(query).scalar_one()
    if last is None:
        return 1
    if not isinstance(last, int) or last >= _MOST_PLACES:
        raise StoreCorruptError(f"The catalog has {last!r:.40} instead of a place in a collection. {REPAIR}")
    return last + 1


def _is_name(name: object) -> bool:
    try:
        tidy_name(name)
    except InvalidInputError:
        return False
    return True


def _unknown(name: str) -> UnknownCollectionError:
    return UnknownCollectionError(f"There is no collection {name!r}. List them: clipsearch collections")
