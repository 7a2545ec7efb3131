"""How far the shards of data sets were read, and which items each of them has.

What a batch of records changes here is part of its commit, so that a shard goes on exactly after what is stored. Each
time that a shard is read from its start its version rises; the items that still have a lower one when all of it was
read are those whose rows are gone from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Row,
    Select,
    Table,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)

from clipsearch.store.checksums import is_sound
from clipsearch.store.inserts import insert_many
from clipsearch.store.schema import items, shard_items, shards
from clipsearch.store.sql_values import listed, text_parameter, to_parameter

_temporary = MetaData()
_seen = Table(
    "run_shards",
    _temporary,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    prefixes=["TEMPORARY"],
)

_BY_NAME = select(shards).where(shards.c.root_id == bindparam("root"), shards.c.name.in_(text_parameter("names")))


@dataclass(frozen=True, slots=True)
class Found:
    """A shard that is there now. fingerprint: changes with what it holds, and with how it is read."""

    name: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class State:
    """How far a shard was read. rows: the next one to read. version: rises when it is read again from its start."""

    id: int
    name: str
    version: int
    rows: int = 0
    failed: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a shard is read with a commit. failed: how many more rows failed. broken: its end cannot be read."""

    state: State
    rows: int
    failed: int = 0
    done: bool = False
    broken: bool = False


@dataclass(slots=True)
class Reached:
    """What a commit changes of shards. owners: the shard of each record by its name. unchanged: items, with theirs."""

    marks: Sequence[Mark] = ()
    owners: Mapping[str, State] = field(default_factory=dict)
    unchanged: list[tuple[int, State]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """What a library has of a data set: shards, those that are read to their ends, rows that failed, and items."""

    shards: int = 0
    done: int = 0
    failed: int = 0
    items: int = 0


def begin(connection: Connection, root_id: int, found: Sequence[Found], *, retry_failed: bool) -> list[State]:
    """Return how far shards were read, in their order; what is new or has changed is to be read from its start.

    retry_failed: also read again those of which rows failed.
    """
    _temporary.create_all(connection)
    names = {"root": root_id, "names": to_parameter(each.name for each in found)}
    known = {row.name: row for row in connection.execute(_BY_NAME, names)}
    new = [each for each in found if each.name not in known]
    insert_many(connection, shards, [_first(root_id, each) for each in new])
    again = [each for each in found if each.name in known and _is_stale(known[each.name], each, retry_failed)]
    for each in again:
        row = known[each.name]
        values = {"fingerprint": each.fingerprint, "version": row.version + 1}
        statement = update(shards).where(shards.c.id == row.id)
        connection.execute(statement.values(**values, rows=0, failed=0, done=False, broken=False))
    if new or again:
        known = {row.name: row for row in connection.execute(_BY_NAME, names)}
    ids = [known[each.name].id for each in found]
    if unseen := _unseen(connection, ids):
        connection.execute(insert(_seen), [{"id": each} for each in unseen])
    return [_state(known[each.name]) for each in found]


def is_done(connection: Connection, root_id: int, name: str) -> bool:
    """Tell whether a shard was read to its end."""
    own = (shards.c.root_id == root_id, shards.c.name == name)
    return bool(connection.execute(select(shards.c.done).where(*own)).scalar())


def _first(root_id: int, found: Found) -> dict[str, Any]:
    values = {"root_id": root_id, "name": found.name, "fingerprint": found.fingerprint, "version": 1}
    return values | {"rows": 0, "failed": 0, "done": False, "broken": False}


def _is_stale(row: Row[Any], found: Found, retry_failed: bool) -> bool:
    return (
        row.fingerprint != found.fingerprint
        or not is_sound(row, shards)
        or bool(retry_failed and (row.failed or row.broken))
    )


def _state(row: Row[Any]) -> State:
    return State(row.id, row.name, row.version, row.rows, row.failed, row.done)


def _unseen(connection: Connection, ids: Sequence[int]) -> list[int]:
    seen = {*connection.execute(select(_seen.c.id).where(_seen.c.id.in_(listed(ids)))).scalars()}
    return [each for each in dict.fromkeys(ids) if each not in seen]


def store(connection: Connection, reached: Reached, placed: Iterable[tuple[int, str]]) -> None:
    """Note how far shards are read and which items they have, inside the transaction of a commit.

    placed: the ids and names of the records of the commit.
    """
    owned = {item_id: reached.owners[name] for item_id, name in placed}
    owned |= dict(reached.unchanged)
    remove_items(connection, listed(owned))
    rows = [{"item_id": each, "shard_id": state.id, "version": state.version} for each, state in owned.items()]
    insert_many(connection, shard_items, rows)
    for mark in reached.marks:
        values = {"rows": mark.rows, "done": mark.done, "broken": mark.broken}
        statement = update(shards).where(shards.c.id == mark.state.id)
        connection.execute(statement.values(**values, failed=shards.c.failed + mark.failed))


def take_unseen(connection: Connection, root_id: int) -> list[int]:
    """Return the items whose rows or shards are gone; forget the shards that are gone, which `begin` did not name."""
    _temporary.create_all(connection)
    own = shards.c.root_id == root_id
    is_whole = (shards.c.version > 1, shards.c.done, ~shards.c.broken)
    of_shards = select(shard_items.c.item_id).join(shards, shards.c.id == shard_items.c.shard_id)
    gone = of_shards.where(own, *is_whole, shard_items.c.version < shards.c.version)
    lost = connection.execute(select(shards.c.id).where(own, shards.c.id.not_in(select(_seen.c.id)))).scalars().all()
    of_lost = select(shard_items.c.item_id).where(shard_items.c.shard_id.in_(listed(lost)))
    found = [*connection.execute(gone).scalars(), *connection.execute(of_lost).scalars()]
    connection.execute(delete(shards).where(shards.c.id.in_(listed(lost))))
    return found


def summarise(connection: Connection) -> dict[int, SourceSummary]:
    """Return what the library has of its data sets, by root."""
    done = func.sum(cast(shards.c.done, Integer))  # PostgreSQL does not add truth values
    counts = (func.count(), done, func.sum(shards.c.failed))
    by_root = connection.execute(select(shards.c.root_id, *counts).group_by(shards.c.root_id))
    live = select(items.c.root_id, func.count()).where(~items.c.deleted).group_by(items.c.root_id)
    found = {row[0]: row[1:] for row in by_root}
    known = {root: number for root, number in connection.execute(live.where(items.c.root_id.in_(listed(found))))}
    return {
        root: SourceSummary(total, int(done), int(failed), known.get(root, 0))
        for root, (total, done, failed) in found.items()
    }


def remove_items(connection: Connection, ids: Select[Any] | Iterable[int]) -> None:
    """Forget which shards items belong to."""
    connection.execute(delete(shard_items).where(shard_items.c.item_id.in_(ids)))


def remove_root(connection: Connection, root_id: int) -> None:
    """Forget how far a data set was read."""
    connection.execute(delete(shards).where(shards.c.root_id == root_id))


def mend(connection: Connection) -> None:
    """Forget what is damaged: its shards are read again by the next run."""
    for table in (shards, shard_items):
        for row in connection.execute(select(table)):
            if row.digest is None or not is_sound(row, table):
                key = [column == getattr(row, column.name) for column in table.primary_key]
                connection.execute(delete(table).where(*key))
