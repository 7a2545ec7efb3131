"""One indexing run, from paths to a committed library."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from clipsearch.config import Settings
from clipsearch.encoders import languages, names, registry
from clipsearch.encoders.base import Encoder, fitting
from clipsearch.encoders.compute import Compute
from clipsearch.errors import ClipSearchError, InvalidInputError
from clipsearch.paths import join, quote_path
from clipsearch.store import catalog
from clipsearch.store.library import Library
from clipsearch.store.reading import catalog_file
from clipsearch.store.records import FileRecord, Root, Scope
from clipsearch.store.roots import RulesChange, find_scope
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin
from indexer import build
from indexer.background import BackgroundBuild
from indexer.calibration import encoder_loader
from indexer.commit import CommitStage
from indexer.copy_distance import refresh_copy_distance
from indexer.data_sets import OptionsChange, check_addresses, split_paths, update_data_sets
from indexer.dataset import DataSetOptions
from indexer.decode import Decoder, batches, load_all
from indexer.diff import Comparison, Difference, compare
from indexer.documents import weigh
from indexer.doubts import hash_of
from indexer.embed_files import FILES, FileTask, SharedContent
from indexer.encode import EncodedBatch, EncodeStage
from indexer.executors.base import Executor
from indexer.isolation import IsolatedReader, make_reader
from indexer.live_photos import is_live
from indexer.moved_roots import find_moved_root, retire
from indexer.place_names import refresh_places
from indexer.plan import IndexPlan
from indexer.recognition import OCR_KEY, Plan, plan, recognise
from indexer.renames import follow_renames
from indexer.report import IndexReport, Progress, Silent
from indexer.spreads import refresh_spreads

logger = logging.getLogger("clipsearch")


@dataclass(slots=True)
class KeptEncoder:
    """An encoder that stays loaded from one run to the next."""

    encoder: Encoder | None = None


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How to run. rules: changes those of the roots in question. model: None keeps the library's encoder.

    rehash: read every file, though its size and time are the same.
    ocr: whether the text in pictures is recognised, now and from now on; None for what the library does so far.
    source: changes how data sets are read, now and from now on.
    executor: what embeds the shards of data sets; None for this process.
    timeout: seconds to wait for another writer. within: folders, which with the roots are all that links may lead to;
    None follows all links. catalog: the PostgreSQL server of a new library's catalog; see `clipsearch.open`. keep: the
    encoder that earlier runs loaded, which gets that of this one.
    """

    rules: RulesChange | None = None
    model: str | None = None
    retry_failed: bool = False
    rehash: bool = False
    dry_run: bool = False
    ocr: bool | None = None
    source: OptionsChange | None = None
    executor: Executor | None = None
    timeout: float = 0.0
    within: tuple[str, ...] | None = None
    catalog: str | None = None
    keep: KeptEncoder | None = None


def index(
    folder: Path,
    paths: Sequence[str],
    settings: Settings,
    options: IndexOptions | None = None,
    *,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> IndexReport:
    """Bring the library in `folder` up to date with folders, files and data sets; with none, with all its roots.

    A batch is committed as soon as it is encoded. should_stop is asked between batches: the run then ends early
    with what is committed. encoder: use this one instead of loading it by name. Raises InvalidInputError for a path
    that is nowhere, EncoderMismatchError, EncoderUnavailableError, LibraryLockedError, LibraryError for a full disk.
    """
    options = options or IndexOptions()
    started = time.monotonic()
    files, addresses = split_paths(paths)
    _check_paths(folder, files)
    check_addresses(folder, addresses, options.source or OptionsChange())
    Compute(settings.device, settings.precision, settings.cores)  # a word that means nothing must not wait for work
    catalog_url = options.catalog
    with ExitStack() as stack:
        if not catalog_file(folder).exists():
            if not paths:
                raise InvalidInputError("Say what to index: clipsearch index FOLDER")
            if options.dry_run:
                folder, catalog_url = Path(stack.enter_context(tempfile.TemporaryDirectory())), ""
            else:  # before anything is made: an encoder that is unavailable must leave no library behind
                encoder = encoder or _choose_first(options.model, settings, notify)
        library = Library.create(folder, catalog_url=catalog_url, timeout=options.timeout)
        stack.callback(library.close)
        keep = options.keep or KeptEncoder()
        if encoder is None and (pin := library.encoder) is not None:
            encoder = fitting(keep.encoder, pin)
        run = _Run(library, settings, options, progress, notify, should_stop, encoder)
        stack.callback(run.reader.close)
        report = run.rehearse(files, addresses) if options.dry_run else run.perform(files, addresses)
        keep.encoder = run.encoder
    report.seconds = round(time.monotonic() - started, 3)
    return report


class _Run:
    """What the steps of one run share."""

    def __init__(
        self,
        library: Library,
        settings: Settings,
        options: IndexOptions,
        progress: Progress | None,
        notify: Callable[[str], None],
        should_stop: Callable[[], bool],
        encoder: Encoder | None,
    ) -> None:
        self.library = library
        self.settings = settings
        self.options = options
        self.progress = progress or Silent()
        self.notify = notify
        self.should_stop = should_stop
        self.encoder = encoder
        self.report = IndexReport()
        self.reader = make_reader(settings)

    def perform(self, paths: Sequence[str], addresses: Sequence[str] = ()) -> IndexReport:
        """Do it: compare, load what needs work, encode, commit, tombstone what is gone, renew the index."""
        reading = plan(self.library, self.options.ocr, retry_failed=self.options.retry_failed)
        self._pin()
        with self.library.writer(timeout=self.options.timeout) as writer:
            self._pin_again()
            if self.options.ocr is not None:
                writer.set_setting(OCR_KEY, "1" if self.options.ocr else None)
            if paths or not addresses:
                self._index_files(writer, paths)
            if addresses or not paths:
                self._index_sources(writer, addresses)
            self.report.interrupted = self.should_stop()
            if not self.report.interrupted:
                if reading is not None:
                    self._recognise(writer, reading)
                refresh_places(self.library, writer, is_changed=self.report.changed > 0)
                self._refresh(writer)
        return self.report

    def _index_files(self, writer: Writer, paths: Sequence[str]) -> None:
        """Bring folders and files up to date; without paths, all that the library has."""
        difference, roots = self._compare(writer, paths)
        self.report.failed += difference.unreadable
        for found, offline in ((difference.offline, True), (difference.online, False)):
            for root in found:
                if root.offline != offline:
                    writer.set_offline(root.id, offline)
        total = writer.ledger.count_todo()
        if total and not self.should_stop():
            follow_renames(writer, {root.id: root.path for root in roots}, self.should_stop)
            self.progress.preparing()
            if isinstance(self.reader, IsolatedReader):
                self.reader.start(min(self.settings.cores, total))  # they get ready while the encoder loads
            encoder = self._pinned_encoder()
            self.progress.start(total)
            self._work(encoder, writer, {root.id: root.path for root in roots})
        if not self.should_stop():
            self.report.removed += writer.remove_missing()
            self._retire(writer, roots)
        self._count_relocated(difference, roots)

    def _index_sources(self, writer: Writer, addresses: Sequence[str]) -> None:
        """Bring data sets up to date; without addresses, all that the library has."""
        update_data_sets(
            self.library, writer, self.settings, addresses, self.options.source or OptionsChange(), self.report,
            DataSetOptions(
                self._pinned_encoder, self.progress, self.should_stop, self.options.retry_failed, self.options.executor
            ),
        )  # fmt: skip

    def _recognise(self, writer: Writer, reading: Plan) -> None:
        """Recognise the text in pictures that were not read yet."""
        self.report.read, self.report.with_text = recognise(
            self.library,
            writer,
            self.settings,
            reading,
            reader=self.reader,
            load_encoder=self._pinned_encoder,
            progress=self.progress,
            should_stop=self.should_stop,
        )
        self.report.interrupted = self.should_stop()

    def _refresh(self, writer: Writer) -> None:
        """Renew the index; what was committed stands whether or not that succeeds."""
        try:
            known = self.encoder
            load = (lambda: known) if known else encoder_loader(self.library, self.settings)
            build.refresh(self.library, writer, load)
            refresh_spreads(self.library, writer, load)
            refresh_copy_distance(self.library, writer, load, self.reader, self.settings)
        except ClipSearchError as error:
            logger.warning("%s", error)

    def rehearse(self, paths: Sequence[str], addresses: Sequence[str] = ()) -> IndexReport:
        """Tell what a run would do, by names, sizes and times; only files that may have moved, or changed, are read."""
        if addresses:
            self.notify("What is in data sets is not looked at by a dry run.")
            if not paths:
                return self.report
        with self.library.writer() as writer, writer.rehearsal():
            difference, roots = self._compare(writer, paths)
            root_paths = {root.id: root.path for root in roots}
            moved = sum(_is_move(writer, record, root_paths) for record in writer.ledger.todo(only_new=True))
            same = sum(_is_same(record, known, root_paths) for record, known in writer.ledger.doubted())
            films = writer.ledger.may_be_live()
            live = Counter(is_new for record, is_new in films if self._is_live(record, root_paths))
        self.report.live_photos += live.total()
        self.report.added = difference.new - moved - live[True]
        self.report.changed = difference.changed + difference.doubted - same - live[False]
        self.report.unchanged += same
        self._count_relocated(difference, roots)
        self.report.moved += moved
        self.report.removed = difference.missing - moved
        return self.report

    def _is_live(self, record: FileRecord, roots: dict[int, str]) -> bool:
        path = join(roots[record.root_id], quote_path(record.path))
        return is_live(record, path, self.reader, self.settings)

    def _compare(self, writer: Writer, paths: Sequence[str]) -> tuple[Difference, list[Root]]:
        scopes = self._scopes(writer, paths)
        roots = writer.roots(self.library.base)
        difference = compare(
            writer.ledger,
            scopes,
            roots,
            library=os.path.realpath(self.library.folder),
            how=Comparison(self.options.retry_failed, self.options.rehash, self.options.within),
            progress=self.progress,
            should_stop=self.should_stop,
        )
        relocated = self._relocated(roots)
        self.report.moved = sum(difference.unchanged_in[root_id] for root_id in relocated)
        self.report.unchanged = difference.unchanged - self.report.moved
        self.report.offline = [root.path for root in difference.offline]
        self.report.notes += difference.notes
        self.report.passed_over = dict(difference.passed_over.most_common())
        self.report.beside = difference.beside
        self.report.live_photos = difference.live_photos
        return difference, roots

    def _scopes(self, writer: Writer, paths: Sequence[str]) -> list[Scope]:
        """Turn paths into roots and parts of roots that do not overlap; without paths, into all roots."""
        base = self.library.base
        found: dict[Scope, None] = {}
        roots = writer.roots(base)
        for path in sorted({os.path.realpath(path) for path in paths}, key=lambda path: (len(path), path)):
            if (moved := find_moved_root(writer, roots, path)) is not None:
                writer.relocate(base, moved.id, path)
                self.report.relocated.append((moved.path, path))
                roots = writer.roots(base)
            scope = writer.add_root(base, path)
            if not any(above in found for above in _covering(scope)):
                found[scope] = None
        if not paths:
            found = {Scope(root.id): None for root in writer.roots(base)}
        if self.options.rules is not None:
            for root_id in {scope.root_id for scope in found}:
                writer.change_rules(root_id, self.options.rules)
        return list(found)

    def _relocated(self, roots: Sequence[Root]) -> list[int]:
        """Return the ids of the roots that have got another path."""
        now = {path for _, path in self.report.relocated}
        return [root.id for root in roots if root.path in now]

    def _count_relocated(self, difference: Difference, roots: Sequence[Root]) -> None:
        """Count the files of roots with another path as moved that were read, and are as they were."""
        read = sum(difference.doubted_in[root_id] for root_id in self._relocated(roots))
        same = min(read, self.report.unchanged)
        self.report.unchanged -= same
        self.report.moved += same

    def _retire(self, writer: Writer, roots: Sequence[Root]) -> None:
        """Forget roots of which nothing is left, and report those that are gone and have files left."""
        self.report.retired, left = retire(writer, roots)
        for root in left:
            writer.set_offline(root.id, True)
        paths = [*self.report.offline, *(root.path for root in left)]
        self.report.offline = [path for path in dict.fromkeys(paths) if path not in self.report.retired]

    def _pin(self) -> None:
        """Make sure of the library's encoder: the one it has, or for a new library the one that was asked for."""
        pin = self.library.encoder
        asked = self.options.model
        if self.encoder is None and pin is not None and (asked in (None, "auto") or names.meant(asked, pin.name)):
            return
        if self.encoder is None:
            if asked is not None:
                self.library.check_encoder(names.resolve(asked, offline=self.settings.offline).name)
            self.encoder = _choose(asked, self.settings, self.notify)
        pin = EncoderPin(self.encoder.name, self.encoder.fingerprint, self.encoder.dim)
        self.library.pin(pin, timeout=self.options.timeout)

    def _pin_again(self) -> None:
        """Take the encoder that the library has now, under the lock: another may have taken its place until then."""
        pin = self.library.encoder
        if pin is None or self.encoder is None or fitting(self.encoder, pin) is not None:
            return
        if self.options.model not in (None, "auto"):
            self.library.check_encoder(self.encoder.name)
        self.encoder = None

    def _pinned_encoder(self) -> Encoder:
        self.encoder = self.encoder or pinned_encoder(self.library, self.settings)
        return self.encoder

    def _work(self, encoder: Encoder, writer: Writer, roots: dict[int, str]) -> None:
        """Load, encode and commit everything on the to-do list, a batch at a time."""
        decoder = Decoder(encoder, self.settings, roots, self.library.known_hashes, self._has_caption, self.reader)
        background = BackgroundBuild(
            self.library, build.Builder(self.library, IndexPlan.of(self.library), lambda: encoder)
        )
        encode: EncodeStage | SharedContent
        commit = CommitStage(writer, encoder, decoder, background, self.report, self.should_stop)
        with ExitStack() as stages:  # closed last first: what is handed over is still committed
            if self.options.executor is None:
                size = self.settings.batch_size or encoder.batch_size
                todo = load_all(
                    writer.ledger.todo(), decoder, self.settings.cores, size, lambda record: weigh(record.path)
                )
                encode = EncodeStage(encoder, self.library.known_hashes, self.should_stop)
                encoded = stages.enter_context(closing(encode.run(batches(stages.enter_context(closing(todo)), size))))
            else:
                encode = SharedContent(self.library.known_hashes, self._has_caption)
                elsewhere = self._encode_elsewhere(self.options.executor, encode, writer.ledger.todo(), roots)
                encoded = stages.enter_context(closing(elsewhere))
            committed = stages.enter_context(closing(commit.run(encoded, roots)))
            for batch in committed:
                encode.release(batch)
                self.progress.advance(batch.files)
                if self.should_stop():
                    return
            background.finish(writer, self.should_stop)

    def _encode_elsewhere(
        self, executor: Executor, shared: SharedContent, todo: Iterable[FileRecord], roots: dict[int, str]
    ) -> Generator[EncodedBatch]:
        """Yield what comes of files that an executor loads and encodes."""
        pin, files = self.library.encoder, iter(todo)
        assert pin is not None, "a library is pinned before anything is encoded"
        tasks: list[FileTask] = []
        while records := tuple(islice(files, FILES)):
            tasks.append(FileTask(records, roots, pin, self.settings))
        with closing(executor.run_files(tasks)) as results:
            for number, outcomes in results:
                yield shared.batch(len(tasks[number].records), outcomes)

    def _has_caption(self, content_hash: str, text: str) -> bool:
        with self.library.query() as connection:
            return catalog.has_caption(connection, content_hash, text)


def _choose(model: str | None, settings: Settings, notify: Callable[[str], None]) -> Encoder:
    """Load the encoder that was asked for, or that the settings name."""
    resolution = names.resolve(model or settings.model, offline=settings.offline)
    if resolution.notice:
        notify(resolution.notice)
    return registry.load(resolution.name, **encoder_options(settings))


def choose_encoder(model: str | None, settings: Settings) -> Encoder:
    """Load the encoder of a library that is made from Python; what the command line prints is logged.

    model: None for what the settings name. Raises EncoderUnavailableError.
    """
    return _choose_first(model, settings, logger.warning)


def _choose_first(model: str | None, settings: Settings, notify: Callable[[str], None]) -> Encoder:
    """Load the encoder of a new library, and advise where another one reads the system's language clearly better."""
    encoder = _choose(model, settings, notify)
    if advice := languages.advise(encoder.name):
        notify(advice)
    return encoder


def pinned_encoder(library: Library, settings: Settings) -> Encoder:
    """Load the encoder that a library is pinned to. Raises EncoderUnavailableError, EncoderMismatchError."""
    pin = library.encoder
    assert pin is not None, "a library is pinned before anything is encoded"
    return registry.load_pinned(pin, **encoder_options(settings), model=settings.model)


def encoder_options(settings: Settings) -> dict[str, Any]:
    """Return how an encoder is loaded for an indexing run, as `registry.load` takes it."""
    fields = ("offline", "device", "precision")
    return {"threads": settings.cores} | {name: getattr(settings, name) for name in fields}


def _covering(scope: Scope) -> Iterator[Scope]:
    """Yield a part of a root, and all parts that it lies in."""
    yield Scope(scope.root_id)
    for end in (place for place, sign in enumerate(scope.prefix) if sign == "/"):
        yield Scope(scope.root_id, scope.prefix[:end])
    yield scope


def _is_move(writer: Writer, record: FileRecord, roots: dict[int, str]) -> bool:
    """Tell whether a file has the content of a missing item; each missing item is claimed once."""
    if not writer.ledger.is_missing(record.size):
        return False
    content_hash = hash_of(record, roots[record.root_id])
    return content_hash is not None and writer.ledger.claim_missing(record.size, content_hash)


def _is_same(record: FileRecord, content_hash: str, roots: dict[int, str]) -> bool:
    """Tell whether a file has the content that is indexed of it."""
    return hash_of(record, roots[record.root_id]) == content_hash


def _check_paths(folder: Path, paths: Sequence[str]) -> None:
    """Raise InvalidInputError for a path that neither exists nor is known to the library."""
    known: Library | None = None
    for path in paths:
        if not path:
            raise InvalidInputError("A path is empty. Name a folder or a file; . is the current folder.")
        if os.path.lexists(path):
            if not (os.path.isdir(path) or os.path.isfile(path)):
                raise InvalidInputError(f"{path} is neither a folder nor a regular file. Name one of these.")
            continue
        if known is None and catalog_file(folder).exists():
            known = Library(folder)
        if known is not None:
            with known.query() as connection:
                if find_scope(connection, known.base, os.path.realpath(path)) is not None:
                    continue
        raise InvalidInputError(f"There is no file or folder {path}. Check the path.")
