"""Compare what is on disk with the catalog, before any file is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from clipsearch.paths import join, quote_path, unquote_path
from clipsearch.store.ledger import Ledger, Tally
from clipsearch.store.records import FileRecord, Root, RootKind, Scope
from clipsearch.store.roots import Rules
from indexer.doubts import believe_sampled
from indexer.report import Progress
from indexer.sources.folder import FolderWalk, SiblingCache

_CHUNK = 500


@dataclass(slots=True)
class Difference:
    """What the walks found. The files that need work are on the ledger's to-do list, missing items on its other list.

    doubted: files of the same size and time that are on the to-do list, since they may have changed. unchanged_in,
    doubted_in: the same by the id of a root. offline: roots that are gone or suddenly empty; nothing of them is
    missing. online: other roots that were walked. unreadable: (path, reason) of folders. notes: (path, note) of tables
    of captions. passed_over: files that are not indexed, by the endings of their names. beside: RAW files that are not,
    since their JPEGs are. live_photos: films that are known to count with their pictures.
    """

    unchanged: int = 0
    new: int = 0
    changed: int = 0
    doubted: int = 0
    missing: int = 0
    unchanged_in: Counter[int] = field(default_factory=Counter)
    doubted_in: Counter[int] = field(default_factory=Counter)
    offline: list[Root] = field(default_factory=list)
    online: list[Root] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    beside: int = 0
    live_photos: int = 0

    def add(self, root: Root, tally: Tally, believed: int = 0) -> None:
        """Add the files of a walk. believed: how many of those in doubt are taken for unchanged."""
        self.unchanged += tally.unchanged + believed
        self.unchanged_in[root.id] += tally.unchanged + believed
        self.new += tally.new
        self.live_photos += tally.live_photos
        self.changed += tally.changed
        self.doubted += tally.doubted.total() - believed
        self.doubted_in[root.id] += tally.doubted.total() - believed


@dataclass(frozen=True, slots=True)
class Comparison:
    """How files are compared with the catalog.

    retry_failed: whether those that failed before count as changed. rehash: whether all may have changed. within: links
    that lead out of these folders are not followed, and what was found through them stays; None follows all.
    """

    retry_failed: bool = False
    rehash: bool = False
    within: Sequence[str] | None = None


def compare(
    ledger: Ledger,
    scopes: Sequence[Scope],
    roots: Sequence[Root],
    *,
    library: str,
    how: Comparison,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Difference:
    """Walk the scopes and note on the ledger what is new, changed and missing; library: a folder to leave out.

    When should_stop says so, the comparison ends early and nothing counts as missing.
    """
    difference = Difference()
    by_id = {root.id: root for root in roots}
    covered = frozenset(root.path for root in roots)  # made once: there may be thousands of roots and scopes
    reached: list[Scope] = []
    unreadable: list[Scope] = []
    siblings = SiblingCache()
    within = how.within
    allowed = None if within is None else [*within, *(root.path for root in roots if root.kind is RootKind.FOLDER)]
    for scope in scopes:
        root = by_id[scope.root_id]
        rules = Rules(root.exclude, root.include_hidden)
        prefix = unquote_path(scope.prefix)
        walk = FolderWalk(
            root.id, root.path, prefix, rules, covered=covered, skip=library, siblings=siblings, within=allowed
        )
        whole = FolderWalk(root.id, root.path, "", Rules((), True), covered=covered, skip=library)
        files = 0
        tally = Tally()
        for chunk in _chunks(iter(walk)):
            files += len(chunk)
            ledger.note(chunk, retry_failed=how.retry_failed, rehash=how.rehash, tally=tally)
            progress.scanned(len(chunk))
            if should_stop():
                difference.add(root, tally)
                return difference
        difference.add(root, tally, 0 if how.rehash else believe_sampled(ledger, scope, root, tally))
        if files == 0 and _is_offline(ledger, root, whole):
            difference.offline.append(root)
            continue
        difference.online.append(root)
        difference.passed_over += walk.passed_over
        difference.beside += walk.beside
        difference.notes += [(join(root.path, quote_path(path)), note) for path, note in walk.notes]
        reached.append(scope)
        for path, reason in walk.unreadable:
            unreadable.append(Scope(root.id, quote_path(path)))
            difference.unreadable.append((join(root.path, quote_path(path)), reason))
    difference.missing = ledger.find_missing(reached, unreadable) if reached else 0
    return difference


def _chunks(records: Iterator[FileRecord]) -> Iterator[list[FileRecord]]:
    while chunk := list(islice(records, _CHUNK)):
        yield chunk


def _is_offline(ledger: Ledger, root: Root, walk: FolderWalk) -> bool:
    """Tell whether a root is out of reach: gone, or without any file where it had some.

    So is the folder of a drive while the drive is not mounted. A single file that is gone from a folder that is there
    was deleted. walk: of the whole root, not begun.
    """
    if not os.path.lexists(root.path):
        return not (ledger.is_single_file(root.id) and os.path.isdir(os.path.dirname(root.path)))
    if any(True for _ in walk):
        return False
    return bool(walk.unreadable) or ledger.has_items(root.id)
