"""Finished shards to a library: each is committed once, in any order, as often as that is called."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable
from clipsearch.store.library import Library
from clipsearch.store.shards import State
from clipsearch.store.writer import Writer
from indexer.dataset import to_json
from indexer.embedded_commit import EmbeddedCommit
from indexer.executed import begin_all
from indexer.importing import refresh_derived
from indexer.report import IndexReport, Progress, Silent
from indexer.shard_files import FinishedShard, folder_of
from indexer.shard_plan import ShardPlan, read_plan
from indexer.sources.base import Shard


@dataclass(slots=True)
class ShardImportReport(IndexReport):
    """The outcome of an import: what came of records as of an indexing run, and what of shards.

    Attributes:
        imported: Shards that were committed now.
        skipped: Shards that were committed before.
        unfinished: The names of shards that were not embedded yet, or whose source has changed since.
        damaged: The names of shards whose files are not as they were written, and what is wrong.
        commands: What embeds the unfinished and damaged shards.
    """

    imported: int = 0
    skipped: int = 0
    unfinished: list[str] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def import_shards(
    folder: Path,
    directory: Path,
    settings: Settings,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ShardImportReport:
    """Commit the finished shards in a directory that `clipsearch embed --shard` wrote to the library in `folder`.

    A batch is committed together with how far its shard is, so that a run that was killed goes on where it was.
    Raises InvalidInputError for a directory without a plan, EncoderMismatchError for a library of another encoder,
    LibraryLockedError, LibraryError for a full disk.
    """
    started = time.monotonic()
    plan = read_plan(directory)
    if plan is None:
        raise InvalidInputError(
            f"{directory} holds no shards. Name the folder that `clipsearch embed SOURCE --out DIR --shard 1/1` wrote."
        )
    library = Library.create(folder)
    report = ShardImportReport()
    try:
        library.pin(plan.encoder)
        with library.writer() as writer:
            library.check_pin(plan.encoder)
            root_id = writer.add_source(library.base, plan.source, to_json(plan.options))
            _Import(directory, plan, writer, root_id, report).perform(progress or Silent(), should_stop)
            if report.imported:
                refresh_derived(library, writer, settings)
    finally:
        library.close()
    report.seconds = round(time.monotonic() - started, 3)
    return report


class _Import:
    """What the steps of one import share."""

    def __init__(
        self, directory: Path, plan: ShardPlan, writer: Writer, root_id: int, report: ShardImportReport
    ) -> None:
        self._directory = directory
        self._plan = plan
        self._writer = writer
        self._root_id = root_id
        self._report = report
        self._commit = EmbeddedCommit(writer, root_id, report)

    def perform(self, progress: Progress, should_stop: Callable[[], bool]) -> None:
        """Commit each shard that is finished; once all are, remove what an earlier version of the data set had more."""
        progress.start(len(self._plan.shards))
        again: set[int] = set()
        for index, (shard, state) in enumerate(
            begin_all(self._writer, self._root_id, self._plan.shards, self._plan.options)
        ):
            if should_stop():
                self._report.interrupted = True
                break
            if state.done:
                self._report.skipped += 1
            elif self._take(shard, state):
                self._report.imported += 1
            else:
                again.add(self._plan.part_of(index))
            progress.advance(1)
        self._report.commands = [self._command(part) for part in sorted(again)]
        if not again and not self._report.interrupted and self._plan.shards:
            self._report.removed = self._writer.remove_unseen(self._root_id)

    def _take(self, shard: Shard, state: State) -> bool:
        """Commit a shard; return whether it is done."""
        rows = state.rows
        try:
            with FinishedShard(self._directory, folder_of(self._plan.source, shard)) as found:
                if not found.manifest.is_of(self._plan.task(shard, Settings())):
                    self._report.unfinished.append(shard.name)
                    return False
                found.check()
                for batch in found.batches(rows):
                    self._commit.commit(batch, state)
                    rows = batch.stop
        except FileNotFoundError:
            self._report.unfinished.append(shard.name)
            return False
        except InvalidInputError as error:
            self._report.damaged.append((shard.name, str(error)))
            return False
        self._commit.end(state, rows)
        return True

    def _command(self, part: int) -> str:
        words = ["clipsearch", "embed", self._plan.source, "--out", str(self._directory)]
        return printable(shlex.join([*words, "--shard", f"{part}/{self._plan.parts}"]))
