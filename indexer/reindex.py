"""A change of the encoder without downtime: a second set of vectors is filled while the first answers, then flipped.

Items are read and encoded without the writer lock, which is taken to commit each batch alone, so that other runs add,
change and delete meanwhile; what they change is encoded before the flip. Whatever a run dies of, the next one goes on
with the items that lack their vectors. The set that answered before is kept, until it is discarded, for a way back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.encoders import names, registry
from clipsearch.encoders.base import Encoder, fitting
from clipsearch.errors import InvalidInputError, LibraryLockedError, StoreCorruptError
from clipsearch.paths import RECORDS
from clipsearch.progress import SilentStages, Stages
from clipsearch.store import catalog, second_items
from clipsearch.store.library import Library
from clipsearch.store.records import Root
from clipsearch.store.roots import get_roots
from clipsearch.store.second_flip import flip
from clipsearch.store.second_items import StoredItem
from clipsearch.store.second_library import SecondLibrary
from clipsearch.store.second_set import Role, SecondSet
from clipsearch.store.second_writer import SecondWriter, other_set
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin, Modality
from indexer.build import Builder, sweep_generations
from indexer.copy_distance import refresh_copy_distance
from indexer.decode import load_all
from indexer.isolation import make_reader
from indexer.pipeline import choose_encoder, encoder_options
from indexer.plan import IndexPlan
from indexer.reencoding import ItemReader, ReadItem, encode_items
from indexer.report import Progress, Silent
from indexer.spreads import refresh_spreads

logger = logging.getLogger("clipsearch")

_WAIT_SECONDS = 1.0

_DAMAGED = SecondSet(EncoderPin("an encoder that is not known any more", "", 0), Role.PREPARED, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ReindexOptions:
    """How to run. model: the new encoder; None for that of the set that is being prepared.

    back: return to the set that is kept. flip: let the second set answer once it is complete. allow_missing: also
    where items lack vectors that cannot be made.
    """

    model: str | None = None
    back: bool = False
    flip: bool = True
    allow_missing: bool = False


@dataclass(slots=True)
class ReindexReport:
    """What came of a change of the encoder.

    Attributes:
        before: The encoder that answered when it began.
        encoder: The encoder of the second set.
        encoded: How many items this run encoded.
        items: How many have all their vectors by that encoder, of `total`.
        total: How many items there are.
        missing: The key of each item that lacks vectors, and the reason.
        flipped: Whether that encoder answers now.
        interrupted: Whether the run stopped early; all before that is committed.
        seconds: Wall time.
    """

    before: str
    encoder: str
    encoded: int = 0
    items: int = 0
    total: int = 0
    missing: list[tuple[str, str]] = field(default_factory=list)
    flipped: bool = False
    interrupted: bool = False
    seconds: float = 0.0


class _StoppedError(Exception):
    """The run is to stop while it waits for another writer."""


def reindex(
    folder: Path,
    settings: Settings,
    options: ReindexOptions | None = None,
    *,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
    stages: Stages | None = None,
    notify: Callable[[str], None] = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ReindexReport:
    """Prepare a second set of vectors, by another encoder, and let it take the place of the first.

    encoder: use this one instead of loading it by name. should_stop is asked between batches. Raises InvalidInputError
    where there is nothing to do, or a second set of another encoder; EncoderUnavailableError, EncoderMismatchError,
    StoreCorruptError for damaged vectors, LibraryError when the disk refuses. The first set answers on then.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        library = stack.enter_context(closing(Library(folder)))
        run = _Run(library, settings, options or ReindexOptions(), encoder, progress, stages, notify, should_stop)
        stack.callback(run.reader.close)
        with suppress(_StoppedError):
            run.perform()
        report = run.finished()
    report.seconds = round(time.monotonic() - started, 3)
    return report


def discard(folder: Path, *, timeout: float = 0.0) -> SecondSet | None:
    """Delete the second set of the library in a folder; return what it was, as far as that is known; None for none.

    Raises LibraryLockedError, LibraryError when the disk refuses.
    """
    with closing(Library(folder)) as library:
        present: SecondSet | None = _DAMAGED
        with suppress(StoreCorruptError):  # a damaged set can be discarded too
            if (present := library.second) is None:
                return None
        with library.writer(timeout=timeout) as writer:
            SecondWriter(writer).discard()
            sweep_generations(library)
        return present


class _Run:
    """What the steps of one run share."""

    def __init__(
        self,
        library: Library,
        settings: Settings,
        options: ReindexOptions,
        encoder: Encoder | None,
        progress: Progress | None,
        stages: Stages | None,
        notify: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._library = library
        self._settings = settings
        self._options = options
        self._encoder = encoder
        self._progress = progress or Silent()
        self._stages = stages or SilentStages()
        self._notify = notify
        self._should_stop = should_stop
        self._held: Writer | None = None
        self._works = False
        self.reader = make_reader(settings)
        self._pin = self._target()
        present = library.encoder
        self._report = ReindexReport(present.name if present else "", self._pin.name)

    def perform(self) -> None:
        """Fill the second set, complete it under the lock, and flip. Raises _StoppedError."""
        with self._locked() as writer:
            SecondWriter(writer).begin(self._pin)
        self._progress.start(self._count())
        retry = True
        while self._fill(retry=retry):
            retry = False
        with self._locked() as writer:
            self._held = writer
            self._fill(retry=True)  # files may have been moved since they were looked for
            second = SecondWriter(writer)
            second.require(self._pin)
            self._complete(second)
            if self._may_flip():
                flip(second, self._pin)
                self._report.flipped = True
            sweep_generations(self._library)

    def finished(self) -> ReindexReport:
        """Return the report of a run that has ended."""
        self._report.interrupted = self._should_stop() and not self._report.flipped
        if not self._report.flipped:
            self._count_all()
        return self._report

    def _target(self) -> EncoderPin:
        """Return the encoder of the second set: the one that is there, or that was asked for."""
        present, second, asked = self._library.encoder, self._library.second, self._options.model
        if present is None:
            raise InvalidInputError(
                "The library is empty, so there is nothing to encode again. Index: clipsearch index FOLDER"
            )
        if self._options.back:
            return self._kept(second)
        if asked is None and self._encoder is None:
            if second is None or second.role is Role.KEPT:
                raise InvalidInputError(
                    "Name the new encoder: clipsearch reindex --model NAME (see `clipsearch models`)."
                )
            return second.encoder
        return self._asked(asked, present, second)

    def _asked(self, asked: str | None, present: EncoderPin, second: SecondSet | None) -> EncoderPin:
        known = self._encoder
        name = known.name if known else names.resolve(asked or "", offline=self._settings.offline).name
        if second is not None:
            is_other = known is not None and fitting(known, second.encoder) is None
            if second.encoder.name != name or is_other:
                raise other_set(second.encoder, second.role, name)
            return second.encoder
        if known is None:
            self._progress.preparing()
            known = self._encoder = choose_encoder(asked, self._settings)
        pin = EncoderPin(known.name, known.fingerprint, known.dim)
        if pin == present or (present.is_imported and pin.name == present.name):
            raise InvalidInputError(f"The library has the vectors of {present.name} already. Name another encoder.")
        return pin

    def _kept(self, second: SecondSet | None) -> EncoderPin:
        if second is None or second.role is not Role.KEPT:
            raise InvalidInputError(
                "The library keeps no vectors of an encoder before, so there is no way back. See: clipsearch status"
            )
        return second.encoder

    def _load(self) -> Encoder:
        """Return the encoder of the second set, loaded when first needed."""
        if fitting(self._encoder, self._pin) is None:
            self._progress.preparing()
            self._encoder = registry.load_pinned(
                self._pin, **encoder_options(self._settings), model=self._options.model or self._settings.model
            )
        assert self._encoder is not None
        return self._encoder

    def _count(self) -> int:
        """Count the items that lack their vectors, as far as that is known without looking at each."""
        second = self._library.second
        return max(0, second.total - second.items) if second else 0

    def _fill(self, *, retry: bool) -> int:
        """Encode what the second set lacks now; return how many items that were. Raises _StoppedError."""
        waiting = self._pending(retry)
        first = next(waiting, None)
        if first is None:
            return 0
        encoder = self._load()
        size = self._settings.batch_size or encoder.batch_size
        read_items = ItemReader(self._library, encoder, self._settings, self._roots(), self.reader)
        count = 0
        wanted = _chain(first, waiting)
        with closing(load_all(wanted, read_items, self._settings.cores, size)) as read:
            for batch in _batches(read, size):
                if self._should_stop():
                    raise _StoppedError
                count += len(batch)
                self._commit(encoder, batch)
                self._progress.advance(len(batch))
        return count

    def _pending(self, retry: bool) -> Iterator[StoredItem]:
        after: int | None = 0
        while after is not None:
            with self._library.query() as connection:
                found, after = second_items.pending(connection, after, retry=retry)
            yield from found

    def _commit(self, encoder: Encoder, batch: list[ReadItem]) -> None:
        made = encode_items(encoder, batch, works=self._works)
        self._works = self._works or any(item.rows for item in made)
        with self._locked() as writer:
            SecondWriter(writer).commit(self._pin, made)
        self._report.encoded += sum(item.reason is None for item in made)

    @contextmanager
    def _locked(self) -> Iterator[Writer]:
        """Give the writer, however long another one is at work. Raises _StoppedError once the run is to stop."""
        if self._held is not None:
            yield self._held
            return
        with ExitStack() as stack:
            writer: Writer | None = None
            waits = 0
            while writer is None:
                try:
                    writer = stack.enter_context(self._library.writer(timeout=_WAIT_SECONDS))
                except LibraryLockedError:
                    waits += 1
                    if waits == 5:
                        self._notify("Waiting for another process that writes to the library.")
                    if self._should_stop():
                        raise _StoppedError from None
            yield writer

    def _complete(self, second: SecondWriter) -> None:
        """Verify the vectors, and make all that belongs to the encoder: indexes, spreads, the distance of copies."""
        with closing(SecondLibrary(self._library.folder)) as library:
            builder = Builder(library, IndexPlan.of(library), self._load, self._stages)
            with library.read() as snapshot:
                for modality in Modality:
                    self._stages.stage(f"{modality}: verifying", 0)
                    snapshot.require_all_sound(modality)
                due = [modality for modality in Modality if builder.is_due(snapshot, modality)]
                made = {modality: builder.make(snapshot, modality) for modality in due}
            for modality, generation in made.items():
                second.activate(modality, generation)
            refresh_spreads(library, second, self._load)
            refresh_copy_distance(library, second, self._load, self.reader, self._settings)

    def _may_flip(self) -> bool:
        self._count_all()
        report = self._report
        if report.total and len(report.missing) == report.total:
            return False
        return self._options.flip and (self._options.allow_missing or not report.missing)

    def _count_all(self) -> None:
        """Fill the counts of the report, and what is missing."""
        if (second := self._library.second) is None:
            return
        self._report.items, self._report.total = second.items, second.total
        roots = {root.id: root.folder for root in self._roots()}
        with self._library.query() as connection:
            found = dict(second_items.reasons(connection))
            named = catalog.live_items(connection, found)
        self._report.missing = [
            (catalog.path_of(roots, row.root_id, row.path).removeprefix(RECORDS), found[row.id]) for row in named
        ]

    def _roots(self) -> list[Root]:
        with self._library.query() as connection:
            return get_roots(connection, self._library.base)


def _chain(first: StoredItem, others: Iterator[StoredItem]) -> Iterator[StoredItem]:
    yield first
    yield from others


def _batches(read: Iterator[ReadItem], size: int) -> Iterator[list[ReadItem]]:
    """Cut the stream so that a batch has about `size` vectors to compute, or four times as many items without any."""
    batch: list[ReadItem] = []
    parts = 0
    for item in read:
        batch.append(item)
        parts += item.size
        if parts >= size or len(batch) >= 4 * size:
            yield batch
            batch, parts = [], 0
    if batch:
        yield batch
