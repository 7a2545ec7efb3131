"""Embedding in this process, one shard after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from clipsearch.encoders.base import Encoder
from clipsearch.errors import InvalidInputError
from clipsearch.store.records import Outcome
from indexer.embed_files import FileTask, embed_files
from indexer.embed_shard import EmbedTask, embed_shard, load_encoder
from indexer.executors.base import Embedded, Ended


class LoadedOnce:
    """Gives the encoder of tasks, and loads it again only for another one."""

    def __init__(self, encoder: Encoder | None = None) -> None:
        """Start with an encoder that is loaded, if there is one."""
        self._encoder = encoder

    def load(self, task: EmbedTask | FileTask) -> Encoder:
        """Return the encoder of a task. Raises what `load_encoder` raises."""
        pin, known = task.encoder, self._encoder
        if known is None or (known.name, known.fingerprint) != (pin.name, pin.fingerprint):
            known = self._encoder = load_encoder(task)
        return known


class LocalExecutor:
    """An Executor of this process. encoder: that of the tasks where it is loaded already."""

    def __init__(self, encoder: Encoder | None = None) -> None:
        """Prepare; nothing is loaded before it is needed."""
        self._encoders = LoadedOnce(encoder)

    def run(self, tasks: Sequence[EmbedTask]) -> Generator[Embedded | Ended]:
        """Yield what comes of the tasks, in their order."""
        for number, task in enumerate(tasks):
            try:
                for batch in embed_shard(task, lambda task=task: self._encoders.load(task)):  # type: ignore[misc]
                    yield Embedded(number, batch)
            except InvalidInputError as error:
                yield Ended.by(number, error)
            else:
                yield Ended(number)

    def run_files(self, tasks: Sequence[FileTask]) -> Generator[tuple[int, list[Outcome]]]:
        """Yield what comes of the files, in their order."""
        for number, task in enumerate(tasks):
            yield number, embed_files(task, self._encoders.load(task))
