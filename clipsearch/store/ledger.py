"""The state of one indexing run: which files were seen, which need work, which are missing.

It is kept in temporary tables of the writer's connection, so memory use does not grow with the number of files, and
nothing of it outlives the run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    union,
    update,
)

from clipsearch.media.extras import DOCUMENT_SUFFIXES
from clipsearch.paths import quote_path, suffix, unquote_path
from clipsearch.store import catalog, renames
from clipsearch.store.database import transaction
from clipsearch.store.inserts import insert_many
from clipsearch.store.records import CaptionSource, FileIdentity, FileRecord, Scope, still_of
from clipsearch.store.renames import Renamed
from clipsearch.store.roots import under
from clipsearch.store.schema import failures, items
from clipsearch.store.sql_values import chunks
from clipsearch.types import Modality

_temporary = MetaData()
_seen = Table(
    "run_seen",
    _temporary,
    Column("what", String(8), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    prefixes=["TEMPORARY"],
)
_todo = Table(
    "run_todo",
    _temporary,
    Column("seq", Integer, primary_key=True),
    Column("root_id", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("sidecar", Text, nullable=False),
    Column("texts", Text, nullable=False),  # JSON: what tables of captions say
    Column("stamp", Text),
    Column("metadata", Text, nullable=False),  # JSON
    Column("described", Text, nullable=False),  # JSON: paths of metadata beside the file
    Column("stills", Text, nullable=False),  # JSON: names of pictures beside a film
    Column("ctime_ns", BigInteger),
    Column("inode", BigInteger),
    Column("beside_ctime_ns", BigInteger),
    Column("is_new", Boolean, nullable=False),
    Column("doubt", Integer),
    Index("ix_run_todo", "root_id", "inode"),
    prefixes=["TEMPORARY"],
)
_missing = Table(
    "run_missing",
    _temporary,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("content_hash", String(40), nullable=False),
    Index("ix_run_missing", "size", "content_hash", "id"),
    prefixes=["TEMPORARY"],
)
_scopes = Table(
    "run_scopes",
    _temporary,
    Column("what", String(8), primary_key=True),
    Column("root_id", Integer, primary_key=True),
    Column("prefix", Text, primary_key=True),
    prefixes=["TEMPORARY"],
)

_IDENTITY = ("ctime_ns", "inode", "beside_ctime_ns")
_SAME_FILE = ("root_id", "inode", "size", "mtime_ns")
_RECORD_COLUMNS = tuple(
    _todo.c[name]
    for name in (
        *("seq", "root_id", "path", "size", "mtime_ns"),
        *("sidecar", "texts", "stamp", "metadata", "described", "stills"),
    )
) + tuple(_todo.c[name] for name in _IDENTITY)
_STAMP = ("id", "path", "size", "mtime_ns", "ctime_ns")
_KNOWN = select(
    *(items.c[name] for name in (*_STAMP, "inode", "beside_ctime_ns", "deleted", "modality", "caption_stamp"))
)
_FAILED = select(*(failures.c[name] for name in (*_STAMP, "transient", "reason")))
_DOUBTED = (
    select(items.c.content_hash, *_RECORD_COLUMNS)
    .join_from(_todo, items, (items.c.root_id == _todo.c.root_id) & (items.c.path == _todo.c.path))
    .where(_todo.c.doubt.is_not(None))
)
_LEARN = (
    update(items)
    .where(items.c.id == bindparam("item_id"))
    .values({name: bindparam(f"new_{name}") for name in _IDENTITY})
)
_NO_TEXTS = "[]"


class Doubt(IntEnum):
    """Why a file of the same size and time may have changed: what of its identity is another.

    TOUCHED: its change time, or that of the text beside it. RENUMBERED: its inode. REPLACED: both.
    """

    TOUCHED = 1
    RENUMBERED = 2
    REPLACED = 3


@dataclass(slots=True)
class Tally:
    """How many files of a walk are unchanged, new or changed, before any is read.

    identified: how many of the unchanged have the identity that is known of them. doubted: how many may have changed
    though their size and time are the same, by the reason. live_photos: films that still count with
    their pictures.
    """

    unchanged: int = 0
    new: int = 0
    changed: int = 0
    identified: int = 0
    doubted: Counter[Doubt] = field(default_factory=Counter)
    live_photos: int = 0

    def keep(self, item: Row[Any] | None = None) -> None:
        """Count a file that is unchanged; item: what is indexed of it, if anything is."""
        self.unchanged += 1
        self.identified += item is not None and item.ctime_ns is not None

    def add(self, *, is_new: bool, doubt: Doubt | None) -> None:
        """Count a file that is new or changed, or may be changed."""
        if doubt is not None:
            self.doubted[doubt] += 1
        elif is_new:
            self.new += 1
        else:
            self.changed += 1


class Ledger:
    """The state of one run, on the connection of the writer.

    left: ids of roots whose items moved to another root. followed: ids of items that followed their files to names
    that others had.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.left: set[int] = set()
        self.followed: set[int] = set()
        with transaction(connection):
            _temporary.drop_all(connection)
            _temporary.create_all(connection)

    def note(
        self, records: Sequence[FileRecord], *, retry_failed: bool, rehash: bool = False, tally: Tally | None = None
    ) -> Tally:
        """Compare files of one root with the catalog; what is new or changed, or may be, goes on the to-do list.

        A file that failed before and has not changed counts as unchanged, unless retry_failed or it could not
        be opened then. rehash: all files may have changed. tally: is added to. What is not known yet of the identity
        of a file that has not changed is noted in the catalog.
        """
        tally = tally or Tally()
        with transaction(self._connection):  # no new revision: a reader keeps no identities
            for chunk in chunks(records):
                self._note(chunk, tally, retry_failed, rehash)
        return tally

    def _note(self, chunk: list[FileRecord], tally: Tally, retry_failed: bool, rehash: bool) -> None:
        known = self._look_up(_KNOWN, items, chunk)
        failed = self._look_up(_FAILED, failures, chunk)
        seen = [{"what": "failure", "id": failure.id} for failure in failed.values()]
        seen += [{"what": "item", "id": item.id} for item in known.values() if not item.deleted]
        todo, learnt = [], []
        for record in chunk:
            path = quote_path(record.path)
            item, failure = known.get(path), failed.get(path)
            item = None if item is None or item.deleted else item
            if item is not None and _is_as_known(item, record) and _is_captioned(item, record):
                doubt = Doubt.TOUCHED if rehash else _doubt(item, record)
                if doubt is None:
                    tally.keep(item)
                    if None in (item.ctime_ns, item.inode, item.beside_ctime_ns) and _has_news(item, record):
                        learnt.append(_identity_of(record, "new_") | {"item_id": item.id})
                    continue
            elif not (retry_failed or rehash) and _fails_again(failure, record):
                if failure is not None and still_of(failure.reason) is not None:
                    tally.live_photos += 1
                else:
                    tally.keep()
                continue
            else:
                doubt = None
            tally.add(is_new=item is None, doubt=doubt)
            todo.append(_to_row(record) | {"is_new": item is None, "doubt": doubt})
        if seen:
            self._connection.execute(insert(_seen).prefix_with("OR IGNORE"), seen)
        if todo:
            insert_many(self._connection, _todo, todo)
        if learnt:
            self._connection.execute(_LEARN, learnt)

    def sample(self, scope: Scope, doubt: Doubt, count: int) -> list[tuple[FileRecord, str]]:
        """Choose files of a scope that may have changed; each with the hash of what is indexed."""
        query = _DOUBTED.where(under(_todo, scope), _todo.c.doubt == doubt).order_by(func.random()).limit(count)
        with transaction(self._connection):
            return [(_from_row(row[1:]), row[0]) for row in self._connection.execute(query)]

    def doubted(self, page: int = 1000) -> Iterator[tuple[FileRecord, str]]:
        """Yield the files that may have changed; each with the hash of what is indexed."""
        last = 0
        while True:
            query = _DOUBTED.where(_todo.c.seq > last).order_by(_todo.c.seq).limit(page)
            with transaction(self._connection):
                rows = self._connection.execute(query).all()
            if not rows:
                return
            yield from ((_from_row(row[1:]), row[0]) for row in rows)
            last = rows[-1].seq

    def believe(self, scope: Scope, doubt: Doubt) -> None:
        """Take files of a scope that may have changed for unchanged; note their identity."""
        chosen = (under(_todo, scope), _todo.c.doubt == doubt)
        same = (items.c.root_id == _todo.c.root_id, items.c.path == _todo.c.path)
        values = {name: _todo.c[name] for name in _IDENTITY}
        with transaction(self._connection):  # no new revision: a reader keeps no identities
            self._connection.execute(update(items).values(values).where(*same, *chosen))
            self._connection.execute(delete(_todo).where(*chosen))

    def renamed(self) -> list[Renamed]:
        """Return the files that have the name of another, but the inode, size and time of an item whose file left."""
        other = _todo.alias()
        item = select(*(items.c[name] for name in ("id", "path", "content_hash", *_SAME_FILE))).where(~items.c.deleted)
        is_there = (items.c.root_id == other.c.root_id) & (items.c.path == other.c.path)
        replaced = item.join_from(other, items, is_there).where(~other.c.is_new, items.c.inode != other.c.inode)
        left = union(replaced, item.where(items.c.id.in_(self.missing))).subquery()
        is_same = and_(left.c.path != _todo.c.path, *(left.c[name] == _todo.c[name] for name in _SAME_FILE))
        query = (
            select(left.c.id, left.c.path, left.c.content_hash, *_RECORD_COLUMNS)
            .join_from(left, _todo, is_same)
            .where(~_todo.c.is_new)
            .order_by(left.c.id, _todo.c.seq)
        )
        with transaction(self._connection):
            return [Renamed(row[0], row[1], row[2], _from_row(row[3:])) for row in self._connection.execute(query)]

    def follow(self, renamed: Sequence[Renamed]) -> None:
        """Give the items of renamed files their places; call it inside a transaction of the same connection."""
        renames.follow(self._connection, _missing, renamed)
        self.followed.update(each.item_id for each in renamed)

    def _look_up(self, query: Select[Any], table: Table, chunk: list[FileRecord]) -> dict[str, Row[Any]]:
        paths = [quote_path(record.path) for record in chunk]
        query = query.where(table.c.root_id == chunk[0].root_id, table.c.path.in_(paths))
        return {row.path: row for row in self._connection.execute(query)}

    def find_missing(self, scopes: Sequence[Scope], unreadable: Sequence[Scope]) -> int:
        """Record the items in scope that the walk did not see; return how many.

        unreadable: folders that could not be listed; what is below them is not missing.
        """
        noted = [("walked", scope) for scope in scopes] + [("hidden", scope) for scope in unreadable]
        rows = [{"what": what, "root_id": scope.root_id, "prefix": scope.prefix} for what, scope in noted]
        seen = select(_seen.c.id).where(_seen.c.what == "item")
        columns = (items.c.id, items.c.size, items.c.content_hash)
        query = select(*columns).where(_gone_from(items), ~items.c.deleted, items.c.id.not_in(seen))
        with transaction(self._connection):
            if rows:
                self._connection.execute(insert(_scopes).prefix_with("OR IGNORE"), rows)
            self._connection.execute(insert(_missing).from_select([column.name for column in columns], query))
            self._forget_failures()
        return self.count_missing()

    def _forget_failures(self) -> None:
        """Drop the failures of files that are gone."""
        seen = select(_seen.c.id).where(_seen.c.what == "failure")
        self._connection.execute(delete(failures).where(_gone_from(failures), failures.c.id.not_in(seen)))

    def may_be_live(self) -> Iterator[tuple[FileRecord, bool]]:
        """Yield the films on the to-do list that may be those of Live Photos, and whether each is new."""
        query = select(_todo.c.is_new, *_RECORD_COLUMNS).where(_todo.c.stills != _NO_TEXTS).order_by(_todo.c.seq)
        with transaction(self._connection):
            rows = self._connection.execute(query).all()
        yield from ((_from_row(row[1:]), row[0]) for row in rows)

    def todo(self, page: int = 1000, *, only_new: bool = False) -> Iterator[FileRecord]:
        """Yield the files that need work, in the order of the walk; only_new: those that no live item is of."""
        last = 0
        while True:
            query = select(*_RECORD_COLUMNS).where(_todo.c.seq > last).order_by(_todo.c.seq).limit(page)
            query = query.where(_todo.c.is_new) if only_new else query
            with transaction(self._connection):
                rows = self._connection.execute(query).all()
            if not rows:
                return
            yield from map(_from_row, rows)
            last = rows[-1].seq

    def count_todo(self) -> int:
        """Count the files that need work."""
        return self._count(select(func.count()).select_from(_todo))

    def count_missing(self) -> int:
        """Count the items that are missing and were not found again elsewhere."""
        return self._count(select(func.count()).select_from(_missing))

    def is_missing(self, size: int) -> bool:
        """Tell whether an item of that size, in bytes, is missing."""
        with transaction(self._connection):
            query = select(_missing.c.id).where(_missing.c.size == size).limit(1)
            return self._connection.execute(query).first() is not None

    def missing_with(self, connection: Connection, size: int, content_hash: str, page: int = 256) -> Iterator[int]:
        """Yield the ids of the missing items of that size, in bytes, and content; all within one transaction."""
        last = 0
        while True:
            same = select(_missing.c.id).where(_missing.c.size == size, _missing.c.content_hash == content_hash)
            found = connection.execute(same.where(_missing.c.id > last).order_by(_missing.c.id).limit(page))
            ids = found.scalars().all()
            yield from ids
            if len(ids) < page:
                return
            last = ids[-1]

    def found_again(self, item_id: int) -> None:
        """Take an item off the missing list; call it inside a transaction of the same connection."""
        self._connection.execute(delete(_missing).where(_missing.c.id == item_id))

    def claim_missing(self, size: int, content_hash: str) -> bool:
        """Take an item of that size and content off the missing list; return False if the list has no such item."""
        same = select(_missing.c.id).where(_missing.c.size == size, _missing.c.content_hash == content_hash).limit(1)
        with transaction(self._connection) as connection:
            item_id = connection.execute(same).scalar_one_or_none()
            if item_id is not None:
                self.found_again(item_id)
        return item_id is not None

    @property
    def missing(self) -> Select[tuple[int]]:
        """Return the query for the ids of what is still missing, for use inside another statement."""
        return select(_missing.c.id)

    def has_items(self, root_id: int) -> bool:
        """Tell whether a root has items that can be found."""
        with transaction(self._connection) as connection:
            return catalog.count_items_of_root(connection, root_id) > 0

    def is_single_file(self, root_id: int) -> bool:
        """Tell whether a root is itself an indexed file."""
        query = select(func.count()).select_from(items).where(items.c.root_id == root_id, items.c.path == "")
        return self._count(query) > 0

    def _count(self, query: object) -> int:
        with transaction(self._connection):
            return int(self._connection.execute(query).scalar_one())  # type: ignore[call-overload]


def _is_captioned(item: Row[Any], record: FileRecord) -> bool:
    """Tell whether an item has the captions beside its file, or is not of a kind with captions."""
    if item.modality == Modality.TEXT or record.beside.stamp in (None, item.caption_stamp):
        return True
    return suffix(record.path) in DOCUMENT_SUFFIXES


def _to_row(record: FileRecord) -> dict[str, Any]:
    beside = record.beside
    return {
        "root_id": record.root_id,
        "path": quote_path(record.path),
        "size": record.size,
        "mtime_ns": record.mtime_ns,
        "sidecar": quote_path(beside.sidecar),
        "texts": json.dumps(beside.texts) if beside.texts else _NO_TEXTS,
        "stamp": beside.stamp,
        "metadata": beside.metadata,
        "described": _dump_paths(beside.described),
        "stills": _dump_paths(beside.stills),
        **_identity_of(record),
    }


def _from_row(row: Sequence[Any]) -> FileRecord:
    _, root_id, path, size, mtime_ns, sidecar, texts, stamp, metadata, *paths = tuple(row)[: -len(_IDENTITY)]
    ctime_ns, inode, beside_ctime_ns = tuple(row)[-len(_IDENTITY) :]
    said = () if texts == _NO_TEXTS else tuple(json.loads(texts))
    described, stills = (() if each == _NO_TEXTS else tuple(map(unquote_path, json.loads(each))) for each in paths)
    beside = CaptionSource(unquote_path(sidecar), said, stamp, metadata, described, beside_ctime_ns, stills)
    return FileRecord(root_id, unquote_path(path), size, mtime_ns, beside, FileIdentity(ctime_ns, inode))


def _dump_paths(paths: Sequence[str]) -> str:
    return json.dumps([*map(quote_path, paths)]) if paths else _NO_TEXTS


def _identity_of(record: FileRecord, prefix: str = "") -> dict[str, int | None]:
    """Return the columns of _IDENTITY, under names that begin so."""
    return dict(zip((prefix + name for name in _IDENTITY), _seen_of(record), strict=True))


def _seen_of(record: FileRecord) -> tuple[int | None, ...]:
    return record.identity.ctime_ns, record.identity.inode, record.beside.ctime_ns


def _is_as_known(row: Row[Any], record: FileRecord) -> bool:
    return bool((row.size, row.mtime_ns) == (record.size, record.mtime_ns))


def _fails_again(failure: Row[Any] | None, record: FileRecord) -> bool:
    """Tell whether a file failed that is as it was then, and not one that could not be opened."""
    if failure is None:
        return False
    if (still := still_of(failure.reason)) is not None and still not in record.beside.stills:
        return False
    is_touched = _differs(failure.ctime_ns, record.identity.ctime_ns)
    return not failure.transient and not is_touched and _is_as_known(failure, record)


def _doubt(item: Row[Any], record: FileRecord) -> Doubt | None:
    """Tell why a file may have changed though its size and time are the same; None for no reason."""
    known = (item.ctime_ns, item.inode, item.beside_ctime_ns)
    seen = _seen_of(record)
    if known == seen:
        return None
    is_changed, is_renumbered, is_told_otherwise = map(_differs, known, seen)
    if is_changed and is_renumbered:
        return Doubt.REPLACED
    if is_changed or is_told_otherwise:
        return Doubt.TOUCHED
    return Doubt.RENUMBERED if is_renumbered else None


def _differs(known: int | None, seen: int | None) -> bool:
    return known != seen and known is not None and seen is not None


def _has_news(item: Row[Any], record: FileRecord) -> bool:
    """Tell whether there is something in the identity of a file that is not known yet."""
    known = (item.ctime_ns, item.inode, item.beside_ctime_ns)
    if known == _seen_of(record):
        return False
    return any(old is None and new is not None for old, new in zip(known, _seen_of(record), strict=True))


def _gone_from(table: Table) -> ColumnElement[bool]:
    """Build the condition "in a scope that was walked, and in no folder that could not be listed".

    The scopes are in a table, because there may be more of them than a statement has parameters.
    """

    def lies_in(what: str) -> ColumnElement[bool]:
        prefix = _scopes.c.prefix
        below = and_(table.c.path >= prefix + "/", table.c.path < prefix + "0")  # "0" follows "/" in ASCII
        inside = or_(prefix == "", table.c.path == prefix, below)
        same_root = and_(_scopes.c.what == what, _scopes.c.root_id == table.c.root_id)
        return exists().where(same_root, inside).correlate(table)

    return and_(lies_in("walked"), ~lies_in("hidden"))
