"""One worker's part of a source, embedded into a folder of finished shards; what is finished costs nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.errors import InvalidInputError
from indexer.embed_shard import EmbedTask, embed_shard
from indexer.embedded import EmbeddedBatch
from indexer.executors.local import LoadedOnce
from indexer.report import Progress, Silent
from indexer.shard_files import Manifest, find_finished, write_shard
from indexer.shard_plan import ShardPlan, read_plan, write_plan
from indexer.sources.base import Source


@dataclass(slots=True)
class PartReport:
    """What one worker did.

    Attributes:
        shards: How many it has.
        finished: How many of them were finished before.
        embedded: Records that were embedded now.
        failed: Rows that could not be, of the shards that were embedded now.
        unreadable: The shards that cannot be read, with the reasons.
        seconds: Wall time.
    """

    shards: int = 0
    finished: int = 0
    embedded: int = 0
    failed: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0


def embed_part(
    directory: Path,
    source: Source,
    plan: ShardPlan,
    number: int,
    settings: Settings,
    *,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
) -> PartReport:
    """Embed the shards of a plan that are one worker's.

    number: of the worker, from 1. encoder: that of the plan where it is loaded already. Raises InvalidInputError for
    a folder of another source or encoder and what `embed_shard` raises, but for a shard that cannot be read.
    """
    started = time.monotonic()
    progress = progress or Silent()
    agree(directory, plan)
    report = PartReport()
    encoders = LoadedOnce(encoder)
    shards = plan.part(number)
    progress.scanned(len(shards))
    for shard in shards:
        report.shards += 1
        task = plan.task(shard, settings)
        if find_finished(directory, task) is not None:
            report.finished += 1
            continue
        try:
            made = _write(directory, task, encoders, source, progress)
        except InvalidInputError as error:
            report.unreadable.append((shard.name, str(error)))
            continue
        report.embedded += made.records
        report.failed += made.failed
    report.seconds = round(time.monotonic() - started, 3)
    return report


def agree(directory: Path, plan: ShardPlan) -> None:
    """Write the plan. Raises InvalidInputError where the folder has shards of something else."""
    present = read_plan(directory)
    if present is not None and not present.agrees(plan):
        raise InvalidInputError(
            f"{directory} has shards of {present.source}, embedded with {present.encoder.name}, and this is another "
            "source, encoder or option. Name another folder."
        )
    if present != plan:
        write_plan(directory, plan)


def _write(directory: Path, task: EmbedTask, encoders: LoadedOnce, source: Source, progress: Progress) -> Manifest:
    def counted() -> Iterator[EmbeddedBatch]:
        for batch in embed_shard(task, lambda: encoders.load(task), source=source):
            yield batch
            progress.advance(len(batch.lines))

    return write_shard(directory, task, counted())
