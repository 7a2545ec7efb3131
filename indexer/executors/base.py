"""The seam between a run and where its shards are embedded."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from clipsearch.errors import InvalidInputError
from clipsearch.store.records import Outcome
from indexer.embed_files import FileTask
from indexer.embed_shard import EmbedTask
from indexer.embedded import EmbeddedBatch
from indexer.sources.base import BrokenShardError


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch of the task with this number, from 0."""

    task: int
    batch: EmbeddedBatch


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of the task with this number.

    reason: why the rest of its shard cannot be read, "" if all of it was. is_broken: that lies in what the shard holds.
    """

    task: int
    reason: str = ""
    is_broken: bool = False

    @classmethod
    def by(cls, task: int, error: InvalidInputError) -> Ended:
        """Return the end of a task that an error brings."""
        return cls(task, str(error), isinstance(error, BrokenShardError))


class Executor(Protocol):
    """Embeds shards somewhere, and hands the results to the one process that writes.

    The batches of a task come in the order of its rows, each once, and then its end; those of several tasks may be
    mixed. Nothing is written, and results wait in bounded memory until they are taken. What a lost machine had under
    way is embedded again elsewhere.
    """

    def run(self, tasks: Sequence[EmbedTask]) -> Generator[Embedded | Ended]:
        """Yield what comes of the tasks. Closing the generator ends the work.

        Raises EncoderError for an encoder that is unavailable or fails for all, ClusterError where the executor itself
        fails.
        """

    def run_files(self, tasks: Sequence[FileTask]) -> Generator[tuple[int, list[Outcome]]]:
        """Yield the number of each task, and what came of its files; each once, in any order. Raises as `run` does."""
