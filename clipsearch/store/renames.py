"""Files that took each other's names: their items follow them, so that tags stay with the picture.

A file that is moved to a new name is recognised by its content when it is committed. Here every name had a file before
and has one after, as when names are swapped, or numbers close a gap. A rename keeps the inode of a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from clipsearch.paths import quote_path
from clipsearch.store.records import FileRecord
from clipsearch.store.schema import items
from clipsearch.store.sql_values import listed, text_parameter, to_parameter

_PLACE = update(items).where(items.c.id == bindparam("item_id")).values(path=bindparam("place"))
_HOLDERS = select(items.c.id, items.c.path, items.c.size, items.c.content_hash).where(
    items.c.root_id == bindparam("root"), items.c.path.in_(text_parameter("paths"))
)


class Renamed(NamedTuple):
    """A file that lies where another was. record: of the file now. item_id, before, content_hash: of its item."""

    item_id: int
    before: str
    content_hash: str
    record: FileRecord

    @property
    def after(self) -> str:
        """The path of the file now, as it is stored."""
        return quote_path(self.record.path)


def follow(connection: Connection, missing: Table, renamed: Sequence[Renamed]) -> None:
    """Give items the places of their files; those that lose theirs get the ones that are free then.

    missing: the items without files, whose list is kept right. Call it inside a transaction of the connection.
    """
    for root_id in {each.record.root_id for each in renamed}:
        _follow(connection, missing, root_id, [each for each in renamed if each.record.root_id == root_id])


def _follow(connection: Connection, missing: Table, root_id: int, renamed: Sequence[Renamed]) -> None:
    owners = {each.before: each.item_id for each in renamed}
    places = {each.item_id: each.after for each in renamed}
    free = sorted(owners.keys() - set(places.values()))
    wanted = {"root": root_id, "paths": to_parameter(sorted(set(places.values()) - owners.keys()))}
    holders = connection.execute(_HOLDERS, wanted).all()
    gone = set(connection.execute(select(missing.c.id).where(missing.c.id.in_(listed(owners.values())))).scalars())
    lost = []
    for holder, place in zip(holders, free, strict=True):
        places[holder.id] = place
        if owners[place] in gone:
            lost.append({"id": holder.id, "size": holder.size, "content_hash": holder.content_hash})
    _place(connection, ((number, f"/{number}") for number in places))  # no stored path starts with "/"
    _place(connection, places.items())
    connection.execute(delete(missing).where(missing.c.id.in_(listed(owners.values()))))
    if lost:
        connection.execute(insert(missing), lost)


def _place(connection: Connection, places: Iterable[tuple[int, str]]) -> None:
    connection.execute(_PLACE, [{"item_id": number, "place": path} for number, path in places])
