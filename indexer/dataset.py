"""One data set, shard by shard, to a library: what was read is skipped, and each commit says how far it reaches."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.records import Record
from clipsearch.store.library import Library
from clipsearch.store.shards import Found, Mark, Reached, State
from clipsearch.store.writer import Writer
from indexer.adding import Adding
from indexer.calibration import LoadEncoder
from indexer.executors.base import Executor
from indexer.record_stage import AddOptions
from indexer.report import MAX_FAILED, IndexReport, Progress
from indexer.sources.base import BadRow, BrokenShardError, IsWhole, Shard, Source
from indexer.sources.registry import SourceOptions, open_source

logger = logging.getLogger("clipsearch")

_SHARDS = 1000
"""Shards that the catalog is asked for together."""

_LAYOUT = 1
"""Rises when the same shard makes other records than before."""


class UnreachableError(InvalidInputError):
    """A data set cannot be reached, or is empty."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set of a library. root_id: of its rows in the catalog."""

    root_id: int
    source: Source
    options: SourceOptions

    def is_whole(self, writer: Writer) -> IsWhole:
        """Return what tells whether a library has all of a file as one shard: it is not read again for being cut."""
        return lambda name: writer.has_read_shard(self.root_id, name)


@dataclass(frozen=True, slots=True)
class DataSetOptions:
    """How a run treats data sets. should_stop: asked between rows; those that were taken are committed.

    executor: what embeds their shards; None for this process.
    """

    load_encoder: LoadEncoder
    progress: Progress
    should_stop: Callable[[], bool]
    retry_failed: bool = False
    executor: Executor | None = None


@dataclass(slots=True)
class _Taken:
    """A row that was taken, or the end of a shard if it has no name. number: of the row after it."""

    state: State
    number: int
    name: str | None = None
    broken: bool = False


def to_json(options: SourceOptions) -> str:
    """Write how a data set is read; the inverse of `from_json`."""
    return json.dumps(asdict(options), sort_keys=True)


def from_json(text: str) -> SourceOptions:
    """Read what `to_json` wrote. Raises InvalidInputError for anything else."""
    try:
        options = SourceOptions.of_json(json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"The library says {text!r:.80} of how a data set is read. Name it again.") from error
    options.check()
    return options


def open_data_set(writer: Writer, base: str, address: str, options: SourceOptions) -> DataSet:
    """Open a data set and note it in the library. Raises InvalidInputError for an address that cannot be opened."""
    source = open_source(address, options)
    return DataSet(writer.add_source(base, address, to_json(options)), source, options)


class DataSetRun:
    """Brings a library up to date with one data set."""

    def __init__(
        self, library: Library, writer: Writer, settings: Settings, data_set: DataSet, how: DataSetOptions
    ) -> None:
        self._writer = writer
        self._data_set = data_set
        self._retry_failed = how.retry_failed
        self._should_stop = how.should_stop
        self._journal = _Journal()
        self._unchanged = 0
        self._is_whole = True
        self._problems: list[tuple[str, str]] = []
        options = AddOptions(fetch_urls=data_set.options.fetch_urls, lines=True)
        self._adding = Adding(
            library, writer, settings, options, load_encoder=how.load_encoder, progress=how.progress,
            root_id=data_set.root_id, journal=self._journal,
        )  # fmt: skip

    def run(self, report: IndexReport) -> None:
        """Read what is new of it, commit that, remove what is gone, and add to the report what that was.

        Raises what `Adding.run` does, and UnreachableError, before anything is changed, where nothing can be reached.
        """
        shards = self._data_set.source.shards(self._data_set.is_whole(self._writer))
        try:
            first = next(shards, None)
        except InvalidInputError as error:
            raise UnreachableError(str(error)) from error
        done = self._adding.take(self._records(() if first is None else _chain(first, shards)))
        if self._journal.ends:
            self._journal.flush(self._writer, self._data_set.root_id)
        report.added += done.added
        report.changed += done.replaced
        report.unchanged += done.unchanged + self._unchanged
        report.encoded += self._adding.encoded
        report.unfetched += self._adding.unfetched
        report.failed += [*self._problems, *done.failed]
        report.failed_rows += self._journal.failed
        if self._is_whole and first is not None and not self._should_stop():
            report.removed += self._writer.remove_unseen(self._data_set.root_id)

    def _records(self, shards: Iterable[Shard]) -> Iterator[Record | BadRow]:
        """Yield the rows that are to be read, of all shards."""
        for shard, state in self._begun(shards):
            if state.done:
                self._unchanged += count_done(shard, state)
                continue
            yield from self._rows(shard, state)
            if self._should_stop():
                return

    def _begun(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, State]]:
        """Yield each shard with how far it was read, some looked up together."""
        options = to_json(self._data_set.options)
        iterator = iter(shards)
        while not self._should_stop():
            try:
                some = list(islice(iterator, _SHARDS))
            except InvalidInputError as error:  # nothing is removed where not all could be listed
                self._is_whole = False
                self._problem(self._data_set.source.address, str(error))
                return
            if not some:
                return
            found = [Found(shard.name, shard_fingerprint(shard, options)) for shard in some]
            states = self._writer.begin_shards(self._data_set.root_id, found, retry_failed=self._retry_failed)
            yield from zip(some, states, strict=True)

    def _rows(self, shard: Shard, state: State) -> Iterator[Record | BadRow]:
        number = state.rows
        try:
            for row in self._data_set.source.read(shard, state.rows):
                if self._should_stop():
                    return
                number = row.number + 1
                name = row.content.name if isinstance(row.content, BadRow) else row.content.id
                self._journal.take(_Taken(state, number, name))
                yield row.content
        except BrokenShardError as error:
            self._problem(shard.name, str(error))
            self._journal.take(_Taken(state, number, broken=True))
        except InvalidInputError as error:
            self._problem(shard.name, str(error))
        else:
            self._journal.take(_Taken(state, number))

    def _problem(self, name: str, reason: str) -> None:
        if len(self._problems) < MAX_FAILED:
            self._problems.append((name, reason))


def count_done(shard: Shard, state: State) -> int:
    """Count the rows of a shard that were read and did not fail."""
    return max(0, state.rows - shard.first - state.failed)


def _chain(first: Shard, rest: Iterator[Shard]) -> Iterator[Shard]:
    yield first
    yield from rest


def shard_fingerprint(shard: Shard, options: str) -> str:
    """Return what changes when a shard is to be read again: with what it holds, and how it is read."""
    said = repr((_LAYOUT, shard.fingerprint, shard.first, shard.stop, options))
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(slots=True)
class _Journal:
    """The rows that were taken and are not in a block yet, and the ends of shards between them."""

    failed: int = 0
    ends: deque[_Taken] = field(default_factory=deque)

    def take(self, entry: _Taken) -> None:
        """Note a row as it is taken, or the end of a shard."""
        self.ends.append(entry)

    def cut(self, taken: int) -> _Cut:
        """Return the position after the next block of `taken` rows, and the ends of shards behind it."""
        entries: list[_Taken] = []
        while self.ends and (taken or self.ends[0].name is None):
            entry = self.ends.popleft()
            taken -= entry.name is not None
            entries.append(entry)
        return _Cut(self, entries)

    def flush(self, writer: Writer, root_id: int) -> None:
        """Commit the ends of shards after the last block, or of shards without any rows."""
        writer.commit_additions(root_id, (), self.cut(0).reached(None, ()))


class _Cut:
    """The rows of one block, and how many of them are committed."""

    def __init__(self, journal: _Journal, entries: list[_Taken]) -> None:
        self._journal = journal
        self._entries = entries
        self._done = 0
        self._failed: set[str | None] = set()
        rows = [(index, entry) for index, entry in enumerate(entries) if entry.name is not None]
        self._places = {entry.name: index for index, entry in rows}  # of a name that comes twice the last one counts
        self._owners = {entry.name: entry.state for _, entry in rows if entry.name is not None}

    def reached(self, before: str | None, failed: Iterable[str]) -> Reached:
        """Return the marks of the shards whose rows stand before a record, or of all for None."""
        self._failed.update(failed)
        stop = len(self._entries) if before is None else self._places[before]
        marks: dict[int, Mark] = {}
        for entry in self._entries[self._done : stop]:
            failures = marks[entry.state.id].failed if entry.state.id in marks else 0
            failures += entry.name in self._failed
            self._journal.failed += entry.name in self._failed
            marks[entry.state.id] = Mark(entry.state, entry.number, failures, entry.name is None, entry.broken)
        self._done = max(self._done, stop)
        return Reached(list(marks.values()), self._owners)
