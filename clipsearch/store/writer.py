"""Committing to a library: vectors first and durable, then one transaction that makes them count.

At most one Writer exists per library at any time; it holds the lock. Whatever instant a process dies at, the
library is as after the last commit that returned, or the one in flight.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, func, insert, select

from clipsearch.store import catalog, commit, full_text, imports, tags
from clipsearch.store.database import mapped_errors, transaction
from clipsearch.store.ledger import Ledger
from clipsearch.store.records import (
    CommitCounts,
    Encoded,
    Failed,
    FileRecord,
    ImportCounts,
    Outcome,
    RecordBlock,
    Root,
    RootKind,
    Scope,
)
from clipsearch.store.resolve import Resolver
from clipsearch.store.roots import RulesChange, add_collection, add_root, change_rules, find_scope, set_offline
from clipsearch.store.rows import advance, append
from clipsearch.store.schema import failures, generations, items, roots, vectors
from clipsearch.store.vectors import VectorStore
from clipsearch.types import Modality

REVISION_KEY = "revision"


@dataclass(slots=True)
class Committed:
    """The outcome of a commit. unresolved: files whose known content is gone meanwhile; read and encode them."""

    counts: CommitCounts = field(default_factory=CommitCounts)
    unresolved: list[FileRecord] = field(default_factory=list)


class Writer:
    """The only way to change a library; not thread-safe."""

    def __init__(self, connection: Connection, store: VectorStore) -> None:
        self._connection = connection
        self._store = store
        self.ledger = Ledger(connection)
        self._resolver = Resolver(store, self.ledger)

    @property
    def storage(self) -> tuple[Connection, VectorStore]:
        """The connection and the segments, for what rewrites a library; see clipsearch.store.compaction."""
        return self._connection, self._store

    def commit(self, batch: Sequence[Outcome]) -> Committed:
        """Store a batch of outcomes; when it returns they are durable and findable.

        Raises LibraryError when the disk refuses; nothing of the batch counts then.
        """
        with transaction(self._connection) as connection:
            contents, unresolved = self._resolver.resolve(connection, batch)
        result = Committed(CommitCounts(encoded=sum(isinstance(outcome, Encoded) for outcome in batch)), unresolved)
        appended = append(self._connection, self._store, commit.rows_of_contents(contents))
        with transaction(self._connection) as connection:
            advance(connection, appended)
            for content in contents:
                commit.store(connection, content, appended, self.ledger, result.counts)
            for failed in batch:
                if isinstance(failed, Failed):
                    commit.store_failure(connection, failed)
            bump_revision(connection)
        return result

    def commit_records(self, root_id: int, block: RecordBlock) -> ImportCounts:
        """Store a block of a collection's records; when it returns they are durable and findable.

        What the collection holds already as it is, is skipped; a record that has changed is replaced and keeps its id.
        Raises LibraryError when the disk refuses; nothing of the block counts then.
        """
        with transaction(self._connection) as connection:
            change = imports.compare(connection, root_id, block)
        if len(change.chosen):
            appended = append(self._connection, self._store, change.rows())
            with transaction(self._connection) as connection:
                advance(connection, appended)
                imports.store(connection, change, appended)
                bump_revision(connection)
        return change.counts

    def remove_missing(self) -> int:
        """Tombstone every item that the run found missing; return how many."""
        removed = self.ledger.count_missing()
        if removed:
            with transaction(self._connection) as connection:
                commit.tombstone(connection, self.ledger.missing)
                bump_revision(connection)
        return removed

    def forget(self, scope: Scope) -> int:
        """Erase a scope's items and failures, and the root when it is the whole of it; return how many were live.

        Their rows stay on disk, unfindable, until a compaction.
        """
        inside = catalog.under(items, scope)
        ids = select(items.c.id).where(inside)
        with transaction(self._connection) as connection:
            count = connection.execute(
                select(func.count()).select_from(items).where(inside, ~items.c.deleted)
            ).scalar_one()
            commit.tombstone(connection, ids)
            full_text.remove(connection, ids)
            tags.remove(connection, ids)
            connection.execute(delete(vectors).where(vectors.c.item_id.in_(ids)))
            connection.execute(delete(items).where(inside))
            connection.execute(delete(failures).where(catalog.under(failures, scope)))
            if not scope.prefix:
                connection.execute(delete(roots).where(roots.c.id == scope.root_id))
            bump_revision(connection)
        return count

    def save_labels(self, labels: Sequence[str], ids: Sequence[int], best: Mapping[int, tuple[str, float]]) -> None:
        """Make what labels say of items their tags, in the place of what the same labels said of them before.

        best: for each of these items that gets a tag, its label and the chance of that, from 0 to 1.
        """
        with transaction(self._connection) as connection:
            tags.set_labels(connection, labels, ids, best)
            bump_revision(connection)

    def add_root(self, base: str, path: str) -> Scope:
        """Cover a resolved absolute path, by the root that holds it or by a new one."""
        with transaction(self._connection) as connection:
            scope = find_scope(connection, base, path)
            if scope is None:
                scope = add_root(connection, base, path)
                bump_revision(connection)  # a reader keeps the roots that it knows, and some may have been merged
        return scope

    def count_records(self, root_id: int) -> int:
        """Count the records of a collection."""
        count = select(func.count()).select_from(items).where(items.c.root_id == root_id, ~items.c.deleted)
        with transaction(self._connection) as connection:
            return int(connection.execute(count).scalar_one())

    def add_collection(self, base: str, source: str) -> int:
        """Return the root of the collection that comes from a resolved absolute path, making it where it is new."""
        with transaction(self._connection) as connection:
            bump_revision(connection)  # a reader keeps the roots that it knows
            return add_collection(connection, base, source)

    def change_rules(self, root_id: int, change: RulesChange) -> None:
        """Change which files of a root are wanted."""
        with transaction(self._connection) as connection:
            change_rules(connection, root_id, change)

    def roots(self, base: str) -> list[Root]:
        """List the roots that are walked; base: the folder that portable ones are relative to."""
        with transaction(self._connection) as connection:
            return [root for root in catalog.get_roots(connection, base) if root.kind is RootKind.FOLDER]

    def claim_missing(self, candidates: Sequence[int], content_hash: str) -> bool:
        """Take one of these missing items that has that content off the missing list; False if none has."""
        same = select(items.c.id).where(items.c.id.in_(candidates), items.c.content_hash == content_hash).limit(1)
        with transaction(self._connection) as connection:
            item_id = connection.execute(same).scalar_one_or_none()
            if item_id is not None:
                self.ledger.found_again(item_id)
        return item_id is not None

    def set_offline(self, root_id: int, offline: bool) -> None:
        """Note whether a root can be reached."""
        with transaction(self._connection) as connection:
            set_offline(connection, root_id, offline)

    def activate(self, generation: catalog.Generation) -> None:
        """Make a generation the one that answers for its modality; its files must be durable."""
        with transaction(self._connection) as connection:
            connection.execute(delete(generations).where(generations.c.modality == generation.modality))
            values = {
                "modality": generation.modality,
                "name": generation.name,
                "kind": generation.kind,
                "params": json.dumps(dict(generation.params)),
                "watermark": generation.watermark,
                "checksums": json.dumps(dict(generation.checksums)),
            }
            connection.execute(insert(generations).values(**values))
            bump_revision(connection)

    def deactivate(self, modality: Modality) -> None:
        """Go back to exact search for a modality."""
        with transaction(self._connection) as connection:
            connection.execute(delete(generations).where(generations.c.modality == modality))
            bump_revision(connection)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Undo at the end all that was changed in this block."""
        with mapped_errors(), self._connection.begin() as outer:
            yield
            outer.rollback()

    def set_setting(self, key: str, value: str | None) -> None:
        """Store one setting of the library."""
        with transaction(self._connection) as connection:
            catalog.set_setting(connection, key, value)
            bump_revision(connection)


def bump_revision(connection: Connection) -> None:
    """Count a change of the library, so that readers know when what they cached is old."""
    revision = catalog.get_number(connection, REVISION_KEY)
    catalog.set_setting(connection, REVISION_KEY, str(revision + 1))
