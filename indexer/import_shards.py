"""Finished shards to a library: each is committed once, in any order, as often as that is called."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.paths import printable
from clipsearch.store.library import Library
from clipsearch.store.writer import Writer
from indexer.embedded_commit import EmbeddedCommit
from indexer.importing import refresh_derived
from indexer.report import Progress, Silent
from indexer.shard_files import DamagedShardError, FinishedShard, folder_of
from indexer.shard_plan import ShardPlan, read_plan
from indexer.sources.base import Shard

logger = logging.getLogger("clipsearch")


@dataclass(slots=True)
class ShardImportReport:
    """The outcome of an import.

    Attributes:
        added: Records that are new.
        replaced: Records that took the place of one with the same id.
        unchanged: Records that were there already, as they are.
        failed: The id of each row that could not be embedded, and the reason.
        imported: Shards that were committed now.
        skipped: Shards that were committed before.
        unfinished: The names of shards that were not embedded yet, or whose source has changed since.
        damaged: The names of shards whose files are not as they were written, and what is wrong.
        commands: What embeds the unfinished and damaged shards again.
        interrupted: Whether the run stopped early; all before that is committed.
        seconds: Wall time.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    imported: int = 0
    skipped: int = 0
    unfinished: list[str] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0


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
    try:
        library.pin(plan.encoder)
        with library.writer() as writer:
            library.check_pin(plan.encoder)
            run = _Import(directory, plan, writer, progress or Silent())
            run.perform(should_stop)
            if run.report.imported:
                refresh_derived(library, writer, settings)
    finally:
        library.close()
    run.report.seconds = round(time.monotonic() - started, 3)
    return run.report


class _Import:
    """What the steps of one import share."""

    def __init__(self, directory: Path, plan: ShardPlan, writer: Writer, progress: Progress) -> None:
        self.report = ShardImportReport()
        self._directory = directory
        self._plan = plan
        self._writer = writer
        self._progress = progress
        self._commit = EmbeddedCommit(writer)

    def perform(self, should_stop: Callable[[], bool]) -> None:
        """Commit each shard that is finished."""
        self._progress.start(len(self._plan.shards))
        again: set[int] = set()
        for index, shard in enumerate(self._plan.shards):
            if should_stop():
                self.report.interrupted = True
                break
            if not self._take(shard):
                again.add(self._plan.part_of(index))
            self._progress.advance(1)
        counts = self._commit.counts
        for name in ("added", "replaced", "unchanged", "failed"):
            setattr(self.report, name, getattr(counts, name))
        self.report.commands = [self._command(part) for part in sorted(again)]

    def _take(self, shard: Shard) -> bool:
        """Commit a shard; return whether it is done."""
        progress = self._writer.shard_progress(self._plan.source, shard)
        if progress.done:
            self.report.skipped += 1
            return True
        try:
            with FinishedShard(self._directory, folder_of(self._plan.source, shard)) as found:
                made = found.manifest
                if (made.source, made.shard, made.keep) != (self._plan.source, shard, self._plan.keep):
                    self.report.unfinished.append(shard.name)
                    return False
                if made.encoder != self._plan.encoder:
                    raise DamagedShardError(f"it was embedded with {made.encoder.name}, not with the plan's encoder")
                found.check()
                for batch in found.batches(progress.rows):
                    self._commit.commit(batch, progress.at(batch.stop))
        except FileNotFoundError:
            self.report.unfinished.append(shard.name)
            return False
        except InvalidInputError as error:
            self.report.damaged.append((shard.name, str(error)))
            return False
        self._writer.finish_shard(progress)
        self.report.imported += 1
        return True

    def _command(self, part: int) -> str:
        words = ["clipsearch", "embed", self._plan.source, "--out", str(self._directory)]
        return printable(shlex.join([*words, "--shard", f"{part}/{self._plan.parts}"]))
