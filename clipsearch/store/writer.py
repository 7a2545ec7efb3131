"""Committing to a library: vectors first and durable, then one transaction that makes them count.

At most one Writer exists per library at any time; it holds the lock. If the process dies, the library is in the state
of the last commit that returned, or of the one in flight.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from sqlalchemy import Connection

from clipsearch.errors import LibraryError
from clipsearch.store import (
    additions,
    catalog,
    collections,
    commit,
    deletion,
    generations,
    imports,
    item_changes,
    recognised,
    shards,
    tags,
)
from clipsearch.store.database import mapped_errors, transaction
from clipsearch.store.ledger import Ledger
from clipsearch.store.records import (
    CommitCounts,
    Encoded,
    Failed,
    FileRecord,
    ImportCounts,
    Outcome,
    RecognisedText,
    RecordBlock,
    Root,
    RootKind,
    Scope,
)
from clipsearch.store.renames import Renamed
from clipsearch.store.resolve import Resolver, sample_files
from clipsearch.store.revision import change
from clipsearch.store.roots import (
    RulesChange,
    add_collection,
    add_records_root,
    add_root,
    add_source,
    change_rules,
    find_records_root,
    find_scope,
    get_roots,
    relocate,
    set_offline,
)
from clipsearch.store.row_places import stack_rows
from clipsearch.store.rows import advance, append
from clipsearch.store.vectors import ROW_DTYPE, VectorStore
from clipsearch.types import Modality

if TYPE_CHECKING:
    from clipsearch.store.searches import Mark


@dataclass(slots=True)
class Committed:
    """The outcome of a commit. unresolved: files whose known content was deleted since; read and encode them."""

    counts: CommitCounts = field(default_factory=CommitCounts)
    unresolved: list[FileRecord] = field(default_factory=list)


class SettingsWriter(Protocol):
    """What stores the settings that belong to an encoder."""

    def set_setting(self, key: str, value: str | None) -> None:
        """Store one; None removes it."""


class Writer:
    """The only way to change a library. Threads may share it: each transaction is one thread's alone, and one commits.

    What a method changes is one transaction, which raises the revision unless a comment says why it need not.
    """

    def __init__(self, connection: Connection, store: VectorStore) -> None:
        self._connection = connection
        self._store = store
        self.ledger = Ledger(connection)
        self._resolver = Resolver(store, self.ledger)
        self._commits = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Wait for a commit in progress in another thread, and refuse later ones.

        Otherwise it could overwrite rows of the next writer. An interrupt is therefore raised only after the wait.
        """
        interrupt: KeyboardInterrupt | None = None
        while not self._is_closed:
            try:
                with self._commits:
                    self._is_closed = True
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    @property
    def storage(self) -> tuple[Connection, VectorStore]:
        """The connection and the segments, for what rewrites a library; see clipsearch.store.compaction."""
        return self._connection, self._store

    def commit(self, batch: Sequence[Outcome], roots: Mapping[int, str] | None = None) -> Committed:
        """Store a batch of outcomes; when it returns they are durable and findable.

        roots: id -> absolute path. Items of these whose files are gone may be what new files are. Without, only what
        the run found missing may be.
        Raises LibraryError when the disk refuses; nothing of the batch counts then.
        """
        with self._commits:
            self._check_open()
            return self._commit(batch, roots or {})

    def _check_open(self) -> None:
        if self._is_closed:
            raise LibraryError("The writer of the library is closed. Run again; nothing committed is lost.")

    def _commit(self, batch: Sequence[Outcome], roots: Mapping[int, str]) -> Committed:
        with transaction(self._connection) as connection:
            contents, unresolved = self._resolver.resolve(connection, batch, roots)
        result = Committed(CommitCounts(encoded=sum(isinstance(outcome, Encoded) for outcome in batch)), unresolved)
        appended = append(self._connection, self._store, stack_rows(content.rows for content in contents))
        with change(self._connection) as connection:
            advance(connection, appended)
            commit.store(connection, contents, appended, self.ledger, result.counts)
            for failed in batch:
                if isinstance(failed, Failed):
                    commit.store_failure(connection, failed)
        return result

    def commit_text(self, batch: Sequence[RecognisedText]) -> None:
        """Store the text that was recognised in a batch of pictures; when it returns it is durable and findable.

        Raises LibraryError when the disk refuses; nothing of the batch counts then.
        """
        found = [each.vectors.astype(ROW_DTYPE) for each in batch if len(each.vectors)]
        with self._commits:
            self._check_open()
            appended = append(self._connection, self._store, {Modality.TEXT: np.concatenate(found)} if found else {})
            with change(self._connection) as connection:
                advance(connection, appended)
                recognised.store(connection, batch, appended)

    def unread_pictures(
        self, model: str | None, *, retry_failed: bool = False, page: int = 1000
    ) -> Iterator[recognised.Unread]:
        """Yield the pictures that lack text of a model, or where it is None, of any; in order of id.

        retry_failed: also those whose text could not be recognised.
        """
        last = 0
        while True:
            with transaction(self._connection) as connection:
                found = recognised.list_unread(connection, model, last, page, retry_failed=retry_failed)
            if not found:
                return
            yield from found
            last = found[-1].item_id

    def count_unread(self, model: str | None, *, retry_failed: bool = False) -> int:
        """Count the pictures that `unread_pictures` yields."""
        with transaction(self._connection) as connection:
            return recognised.count_unread(connection, model, retry_failed=retry_failed)

    def commit_records(self, root_id: int, block: RecordBlock) -> ImportCounts:
        """Store a block of a collection's records; when it returns they are durable and findable.

        Records that have not changed are skipped; a record that has changed is replaced and keeps its id.
        Raises LibraryError when the disk refuses; nothing of the block counts then.
        """
        with transaction(self._connection) as connection:
            changes = imports.compare(connection, root_id, block)
        if changes.additions:
            self.commit_additions(root_id, changes.additions)
        return changes.counts

    def known_additions(self, root_id: int, names: Iterable[str]) -> dict[str, additions.StoredRecord]:
        """Return what the library has of records under these ids, by id."""
        with transaction(self._connection) as connection:
            return additions.find_known(connection, root_id, names)

    def commit_additions(
        self, root_id: int, batch: Sequence[additions.Addition], reached: shards.Reached | None = None
    ) -> None:
        """Store records that a caller adds, no two of one id; when it returns they are durable and findable.

        reached: how far the shards that they come from are read with this batch, which is the same commit.
        Raises LibraryError when the disk refuses; nothing of the batch counts then.
        """
        with self._commits:
            self._check_open()
            appended = append(self._connection, self._store, stack_rows(addition.rows for addition in batch))
            with change(self._connection) as connection:
                advance(connection, appended)
                ids = additions.store(connection, root_id, batch, appended)
                if reached is not None:
                    shards.store(connection, reached, zip(ids, (addition.name for addition in batch), strict=True))

    def follow_renames(self, renamed: Sequence[Renamed]) -> None:
        """Give the items of files that took each other's names the places of these."""
        with change(self._connection):
            self.ledger.follow(renamed)

    def remove_missing(self) -> int:
        """Tombstone every item that the run found missing; return how many."""
        removed = self.ledger.count_missing()
        if removed:
            with change(self._connection) as connection:
                deletion.tombstone(connection, self.ledger.missing)
        return removed

    def forget(self, scope: Scope) -> int:
        """Erase a scope's items and failures, and the root if the scope is all of it; return how many items were live.

        Their rows stay on disk, hidden, until a compaction.
        """
        with change(self._connection) as connection:
            return deletion.erase_scope(connection, scope)

    def delete_items(self, ids: Iterable[int]) -> None:
        """Erase records, and mark files deleted, by their ids."""
        with self._commits:
            self._check_open()
            with change(self._connection) as connection:
                deletion.delete_items(connection, ids)

    def update_items(self, ids: Sequence[int], wanted: item_changes.ItemChange) -> None:
        """Change what is said of items; when it returns that is durable. Raises StoreCorruptError for damaged ones."""
        with self._commits:
            self._check_open()
            appended = append(self._connection, self._store, wanted.rows(len(ids)))
            with change(self._connection) as connection:
                advance(connection, appended)
                item_changes.store(connection, ids, wanted, appended)

    def save_labels(self, labels: Sequence[str], ids: Sequence[int], best: Mapping[int, tuple[str, float]]) -> None:
        """Store the labels of items as tags, and remove the tags that the same labels gave these items before.

        best: the label and its probability, 0 to 1, of each item that gets a tag.
        """
        with change(self._connection) as connection:
            tags.set_labels(connection, labels, ids, best)

    def tag_items(self, ids: Iterable[int], added: Sequence[str], removed: Sequence[str]) -> None:
        """Give items tags of the user, and take others from them; when it returns that is durable."""
        with self._commits:
            self._check_open()
            with change(self._connection) as connection:
                tags.change(connection, ids, added, removed)

    def collect_items(self, name: str, added: Sequence[int], removed: Sequence[int], *, create: bool) -> None:
        """Add items to a collection and take others out of it; when it returns that is durable."""
        with self._commits:
            self._check_open()
            with change(self._connection) as connection:
                collections.change(connection, name, added, removed, create=create)

    def rename_collection(self, name: str, new: str) -> None:
        """Give a collection another name."""
        with change(self._connection) as connection:
            collections.rename(connection, name, new)

    def delete_collection(self, name: str) -> None:
        """Delete a collection; its items stay."""
        with change(self._connection) as connection:
            collections.erase(connection, name)

    def save_search(self, name: str, asked: Mapping[str, Any], saved_at: str) -> None:
        """Store a search under a name, with a mark after all that there is; when it returns that is durable."""
        from clipsearch.store import searches

        with transaction(self._connection) as connection:  # no new revision: a reader keeps nothing of searches
            mark = searches.current(connection)
            searches.put(connection, searches.StoredSearch(name, asked, saved_at, mark))

    def remember_search(self, name: str, saved_at: str, mark: Mark) -> None:
        """Store up to where the matches of a search were seen."""
        from clipsearch.store import searches

        with transaction(self._connection) as connection:  # no new revision, as above
            searches.remember(connection, name, saved_at, mark)

    def delete_search(self, name: str) -> None:
        """Delete a saved search."""
        from clipsearch.store import searches

        with transaction(self._connection) as connection:  # no new revision, as above
            searches.erase(connection, name)

    def add_root(self, base: str, path: str) -> Scope:
        """Return the scope of a resolved absolute path; add a root if no root contains it."""
        with transaction(self._connection) as connection:
            scope = find_scope(connection, base, path)
        if scope is not None:
            return scope
        with change(self._connection) as connection:
            return add_root(connection, base, path)

    def relocate(self, base: str, root_id: int, path: str) -> None:
        """Give a root the resolved absolute path where its folder is now; no root may hold that or lie in it."""
        with change(self._connection) as connection:
            relocate(connection, base, root_id, path)

    def sample_files(self, root_id: int, count: int) -> list[tuple[FileRecord, str]]:
        """Choose files of a root by chance; each with the hash of its content."""
        with transaction(self._connection) as connection:
            return sample_files(connection, root_id, count)

    def add_collection(self, base: str, source: str) -> int:
        """Return the root of the collection that comes from a resolved absolute path, adding it if it is new."""
        with change(self._connection) as connection:
            return add_collection(connection, base, source)

    def add_records_root(self) -> int:
        """Return the root of the records that are added from Python, adding it if it is new."""
        with transaction(self._connection) as connection:
            root_id = find_records_root(connection)
        if root_id is not None:
            return root_id
        with change(self._connection) as connection:
            return add_records_root(connection)

    def add_source(self, base: str, address: str, options: str) -> int:
        """Return the root of a data set, adding it if it is new. options: JSON of how it is read, for later runs."""
        with change(self._connection) as connection:
            return add_source(connection, base, address, options)

    def begin_shards(self, root_id: int, found: Sequence[shards.Found], *, retry_failed: bool) -> list[shards.State]:
        """Return how far each of these shards was read; one that is new or has changed is read from its start."""
        with transaction(self._connection) as connection:  # no new revision: a reader keeps nothing of shards
            return shards.begin(connection, root_id, found, retry_failed=retry_failed)

    def has_read_shard(self, root_id: int, name: str) -> bool:
        """Tell whether a shard of a data set was read to its end."""
        with transaction(self._connection) as connection:
            return shards.is_done(connection, root_id, name)

    def remove_unseen(self, root_id: int) -> int:
        """Erase the items whose rows are gone from their shards, or whose shards are gone; return how many.

        A shard that `begin_shards` did not name since the writer was opened is gone.
        """
        with change(self._connection) as connection:
            return deletion.erase_unseen(connection, root_id)

    def count_records(self, root_id: int) -> int:
        """Count the records of a collection."""
        with transaction(self._connection) as connection:
            return catalog.count_items_of_root(connection, root_id)

    def roots(self, base: str, kind: RootKind = RootKind.FOLDER) -> list[Root]:
        """List the roots of a kind, those that are walked; base: the folder that portable ones are relative to."""
        with transaction(self._connection) as connection:
            return [root for root in get_roots(connection, base) if root.kind is kind]

    def change_rules(self, root_id: int, rules: RulesChange) -> None:
        """Change which files of a root are wanted."""
        with transaction(self._connection) as connection:  # no new revision: a reader keeps no rules
            change_rules(connection, root_id, rules)

    def set_offline(self, root_id: int, offline: bool) -> None:
        """Record whether a root can be reached."""
        with transaction(self._connection) as connection:  # no new revision: a reader keeps only the paths of roots
            set_offline(connection, root_id, offline)

    def activate(self, generation: catalog.Generation) -> None:
        """Make a generation the one that answers for its modality; its files must be durable."""
        with change(self._connection) as connection:
            generations.activate(connection, generation)

    def deactivate(self, modality: Modality) -> None:
        """Go back to exact search for a modality."""
        with change(self._connection) as connection:
            generations.deactivate(connection, modality)

    def set_setting(self, key: str, value: str | None) -> None:
        """Store one setting of the library."""
        with change(self._connection) as connection:
            catalog.set_setting(connection, key, value)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Roll back at the end all changes made in this block."""
        with mapped_errors(), self._connection.begin() as outer:
            yield
            outer.rollback()
