"""Repairing a library: what is damaged is encoded again from its files; what has no file is taken out and listed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.errors import ClipSearchError, StoreCorruptError
from clipsearch.paths import join, quote_path, unquote_path
from clipsearch.store import repairs
from clipsearch.store.damage import Damage, DamagedItem, damaged_items, find_damage
from clipsearch.store.library import Library
from clipsearch.store.records import ARRAY_SUFFIX, Encoded, Failed, FileRecord, Known, Outcome, Root, RootKind
from clipsearch.store.roots import Rules, get_roots
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from indexer import build
from indexer.calibration import encoder_loader
from indexer.captioning import attach, encode_captions
from indexer.decode import Decoded, Decoder, Loaded, Vanished, batches, load_all
from indexer.encode import captions_of, encode_batch
from indexer.pipeline import pinned_encoder
from indexer.report import Progress, Silent
from indexer.sources.folder import FolderWalk, SiblingCache

logger = logging.getLogger("clipsearch")

Find = Callable[[Library], Damage]


@dataclass(frozen=True, slots=True)
class Lost:
    """A file that could not be repaired, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class RepairReport:
    """What a repair did. damage, remaining: what was damaged, and what still is, a line each.

    encoded: files whose vectors were made again; changed: those of them that have other content now. dropped: what was
    taken out; forgotten: damaged remains of files that had been deleted before. unreachable: left as it is, because
    its folder cannot be reached now.
    """

    damage: list[str] = field(default_factory=list)
    encoded: int = 0
    changed: int = 0
    forgotten: int = 0
    dropped: list[Lost] = field(default_factory=list)
    unreachable: list[Lost] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class _Plan:
    """What is to be done about damaged items. records: to encode again, with the item of each; erase: ids."""

    records: dict[FileRecord, DamagedItem] = field(default_factory=dict)
    erase: list[int] = field(default_factory=list)
    deleted: int = 0
    dropped: list[Lost] = field(default_factory=list)
    unreachable: list[Lost] = field(default_factory=list)


def repair(
    folder: Path,
    settings: Settings,
    *,
    dry_run: bool = False,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
    find: Find = find_damage,
) -> RepairReport:
    """Repair the library in a folder; every commit on the way stands.

    encoder: use this one instead of the library's own. Raises StoreCorruptError for a catalog that cannot be read,
    EncoderUnavailableError before any item is changed, LibraryLockedError, LibraryError when the disk refuses.
    """
    started = time.monotonic()
    with closing(_open(folder)) as library:
        try:
            damage = find(library)
        except StoreCorruptError as error:
            raise beyond_repair(folder) from error
        report = RepairReport(damage.describe())
        if dry_run or not damage:
            _rehearse(library, damage, report)
        else:
            _Run(library, settings, damage, report, encoder, progress or Silent(), find).perform()
            report.remaining = find(library).describe()
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _open(folder: Path) -> Library:
    try:
        return Library(folder)
    except StoreCorruptError as error:
        raise beyond_repair(folder) from error


def _rehearse(library: Library, damage: Damage, report: RepairReport) -> None:
    plan = _Planner(library).plan(damage)
    report.encoded, report.forgotten = len(plan.records), plan.deleted
    report.dropped, report.unreachable = plan.dropped, plan.unreachable
    report.remaining = report.damage


class _Run:
    """What the steps of one repair share."""

    def __init__(
        self,
        library: Library,
        settings: Settings,
        damage: Damage,
        report: RepairReport,
        encoder: Encoder | None,
        progress: Progress,
        find: Find,
    ) -> None:
        self._find = find
        self._library = library
        self._settings = settings
        self._damage = damage
        self._report = report
        self._encoder = encoder
        self._progress = progress

    def perform(self) -> None:
        """Repair catalog and segments, encode again what has a file, then remove the rest."""
        with self._library.writer(repair=True) as writer:
            self._damage = self._find(self._library)  # under the lock: a compaction gives rows other numbers
            planner = _Planner(self._library)
            plan = planner.plan(self._damage)
            if plan.records and self._encoder is None:
                self._progress.preparing()
                self._encoder = pinned_encoder(self._library, self._settings)
            self._mend_catalog(writer)
            self._encode(writer, plan, {root.id: root.path for root in planner.roots.values()})
            repairs.erase(writer, plan.erase)
            self._refresh(writer)
        self._report.forgotten = plan.deleted
        self._report.dropped += plan.dropped
        self._report.unreachable = plan.unreachable

    def _mend_catalog(self, writer: Writer) -> None:
        """Make again what the catalog can derive from its tables. Raises StoreCorruptError if that is not enough."""
        if self._damage.catalog:
            try:
                repairs.rebuild_indexes(writer)
            except StoreCorruptError as error:
                raise beyond_repair(self._library.folder, "; ".join(self._damage.catalog)) from error
            if still := self._find(self._library).catalog:
                raise beyond_repair(self._library.folder, "; ".join(still))
        damage = self._damage
        rows = (damage.generations, damage.failures, damage.tags, damage.texts, damage.contents, damage.collected)
        if any((*rows, damage.sharded, damage.metadata)):
            repairs.drop_notes(writer, self._damage)
        if self._damage.second:
            repairs.mend_second(self._library, writer)
        # Words are taken out by naming them once more, so those that are there must be those of the tables.
        if self._damage.words or self._damage.items or len(self._damage.rows.get(Modality.TEXT, ())):
            repairs.rebuild_words(writer)

    def _encode(self, writer: Writer, plan: _Plan, roots: dict[int, str]) -> None:
        if not plan.records:
            return
        assert self._encoder is not None, "loaded before anything was changed"
        decoder = Decoder(self._encoder, self._settings, roots)
        size = self._settings.batch_size or self._encoder.batch_size
        self._progress.start(len(plan.records))
        known = {(record.root_id, record.path): item for record, item in plan.records.items()}
        with closing(load_all(iter(plan.records), decoder, self._settings.cores, size)) as loaded:
            for batch in batches(loaded, size):
                outcomes = _encode_batch(self._encoder, batch)
                writer.commit(outcomes)
                for outcome in (*outcomes, *(entry for entry in batch if isinstance(entry, Vanished))):
                    path = join(roots[outcome.record.root_id], quote_path(outcome.record.path))
                    self._note(outcome, known[outcome.record.root_id, outcome.record.path], path, plan)
                self._progress.advance(len(batch))

    def _note(self, outcome: Outcome | Vanished, item: DamagedItem, path: str, plan: _Plan) -> None:
        if isinstance(outcome, Encoded):
            self._report.encoded += 1
            self._report.changed += outcome.content_hash != item.content_hash
        else:
            reason = outcome.reason if isinstance(outcome, Failed) else "the file is gone"
            plan.erase.append(item.id)
            plan.dropped.append(Lost(path, reason))

    def _refresh(self, writer: Writer) -> None:
        """Renew the approximate index; what was repaired stays whether or not that succeeds."""
        try:
            encoder = self._encoder
            load = (lambda: encoder) if encoder else encoder_loader(self._library, self._settings)
            build.refresh(self._library, writer, load)
        except ClipSearchError as error:
            logger.warning("%s", error)


class _Planner:
    """Finds out what can be done about each damaged item; nothing is changed."""

    def __init__(self, library: Library) -> None:
        self._library = library
        try:
            with library.query() as connection:
                self.roots = {root.id: root for root in get_roots(connection, library.base)}
        except StoreCorruptError as error:  # where its files are is not known
            raise beyond_repair(library.folder, "the folders that it covers are damaged") from error
        pin = library.encoder
        self._encoder = pin.name if pin else "NAME"
        self._covered = [root.path for root in self.roots.values()]
        self._siblings = SiblingCache()
        self._reached: dict[int, bool] = {}

    def plan(self, damage: Damage) -> _Plan:
        """Plan the repair of a library."""
        plan = _Plan()
        for item in damaged_items(self._library, damage):
            self._add(plan, item)
        return plan

    def _add(self, plan: _Plan, item: DamagedItem) -> None:
        root = self.roots.get(item.root_id)
        path = join(root.folder, item.path) if root else item.path
        if item.deleted:
            plan.deleted += 1
            plan.erase.append(item.id)
        elif root is None or root.kind is not RootKind.FOLDER:
            plan.erase.append(item.id)
            plan.dropped.append(Lost(path, _no_file(root, self._encoder)))
        elif not self._is_reached(root, item):
            plan.unreachable.append(Lost(path, f"{root.path} cannot be reached; mount it and run again"))
        else:
            self._look(plan, root, item, path)

    def _look(self, plan: _Plan, root: Root, item: DamagedItem, path: str) -> None:
        """Look for the file of an item."""
        walk = self._walk(root, unquote_path(item.path), Rules(root.exclude, root.include_hidden))
        record = next((record for record in walk if quote_path(record.path) == item.path), None)
        if record is not None:
            plan.records[record] = item
        elif walk.unreadable:
            plan.unreachable.append(Lost(path, walk.unreadable[0][1]))
        else:
            plan.erase.append(item.id)
            reason = f"the file is gone; if it was moved, index it again: clipsearch index {quote(root.path)}"
            plan.dropped.append(Lost(path, reason))

    def _is_reached(self, root: Root, item: DamagedItem) -> bool:
        """Tell whether a root is there and not suddenly empty, as the folder of a drive that is not mounted."""
        if root.id not in self._reached:
            if os.path.lexists(root.path):
                walk = self._walk(root, "", Rules((), True), SiblingCache())
                self._reached[root.id] = any(True for _ in walk)
            else:  # a single file that is gone from a folder that is there was deleted
                self._reached[root.id] = not item.path and os.path.isdir(os.path.dirname(root.path))
        return self._reached[root.id]

    def _walk(self, root: Root, prefix: str, rules: Rules, siblings: SiblingCache | None = None) -> FolderWalk:
        skip = os.path.realpath(self._library.folder)
        siblings = siblings or self._siblings
        return FolderWalk(root.id, root.path, prefix, rules, covered=self._covered, skip=skip, siblings=siblings)


def beyond_repair(folder: Path, found: str = "it cannot be read") -> StoreCorruptError:
    """Build the error for a catalog that cannot be repaired."""
    return StoreCorruptError(
        f"The catalog in {folder} cannot be repaired: {found}. Restore a backup: clipsearch restore DIR --library "
        f"{quote(str(folder))}. Without one, move the library away and index again: mv {quote(str(folder))} "
        f"{quote(f'{folder}.damaged')}; clipsearch index --library {quote(str(folder))} FOLDER"
    )


def _no_file(root: Root | None, encoder: str) -> str:
    if root is None:
        return "its folder is no longer known; to index it again: clipsearch index FOLDER"
    if root.kind is RootKind.SOURCE:
        return f"its row is read again by the next run: clipsearch index {quote(root.path)}"
    if root.kind is RootKind.RECORDS:
        return "it was added from Python; add it again"
    command = f"clipsearch import-embeddings {quote(root.path)} --encoder {quote(encoder)}"
    items = " --items FILE" if root.path.endswith(ARRAY_SUFFIX) else ""
    return f"its vector was imported, so there is no file to encode; import again: {command}{items}"


def _encode_batch(encoder: Encoder, batch: Sequence[Loaded]) -> list[Outcome]:
    """Encode decoded files; each has vectors of its own, also where several have the same content."""
    fresh = [entry for entry in batch if isinstance(entry, Decoded)]
    outcomes = encode_batch(encoder, fresh, works=True) if fresh else []
    twins = {outcome.content_hash: outcome for outcome in outcomes if isinstance(outcome, Encoded)}
    done: list[Outcome] = [entry for entry in batch if isinstance(entry, Failed)]
    for outcome in outcomes:
        if isinstance(outcome, Known):  # a copy of another one: the library's own vectors of it are not to be trusted
            twin = twins[outcome.content_hash]
            outcome = replace(twin, record=outcome.record, captions=outcome.captions)
        done.append(outcome)
    return attach(done, encode_captions(encoder, captions_of(batch)) if fresh else {})
