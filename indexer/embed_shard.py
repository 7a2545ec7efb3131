"""A shard of a data set to vectors, metadata and checksums: a pure function that knows no library and no engine.

The same task gives the same result wherever it runs, but for the rounding of another processor, so that one that was
lost is simply run again. Records are read, decoded, cut into passages and refused by the stages of `Adding`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from clipsearch.config import Settings
from clipsearch.encoders.base import BATCH_SIZE, Encoder
from clipsearch.errors import InvalidInputError
from clipsearch.records import Record
from clipsearch.types import EncoderPin
from indexer.embed_files import FileTask
from indexer.embedded import EmbeddedBatch, EmbeddedRecord
from indexer.record_stage import AddOptions, RecordStage
from indexer.sources.base import BadRow, Row, Shard, Source
from indexer.sources.records import BLOCK_RECORDS, Block, RecordSource
from indexer.sources.registry import SourceOptions, open_source

_BLOCK_BATCHES = 32
"""Batches of the encoder in a block: where it ends, the encoder waits for the first batch of the next."""


@dataclass(frozen=True, slots=True)
class EmbedTask:
    """All that the vectors of a shard depend on, and that a worker anywhere needs.

    address, options: of the source. start: the row to begin with.
    """

    address: str
    shard: Shard
    encoder: EncoderPin
    options: SourceOptions = field(default_factory=SourceOptions)
    settings: Settings = field(default_factory=Settings)
    start: int = 0

    def to_json(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EmbedTask:
        """Read what `to_json` wrote. Raises InvalidInputError for anything else."""
        try:
            said: dict[str, Any] = json.loads(text)
            options = SourceOptions.of_json(said.pop("options"))
            parts: dict[str, Callable[..., Any]] = {"shard": Shard, "encoder": EncoderPin, "settings": Settings}
            made = {name: parts[name](**each) if name in parts else each for name, each in said.items()}
            return cls(**made, options=options)
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidInputError(f"This is not a task that clipsearch wrote: {text:.80}") from error


def load_encoder(task: EmbedTask | FileTask) -> Encoder:
    """Load the encoder of a task, which has to be the same to the bit.

    Raises EncoderUnavailableError, EncoderMismatchError for other weights under that name.
    """
    from clipsearch.encoders import registry

    settings = task.settings
    return registry.load_pinned(
        task.encoder, model=settings.model, threads=settings.cores, offline=settings.offline,
        device=settings.device, precision=settings.precision,
    )  # fmt: skip


def embed_shard(
    task: EmbedTask, load: Callable[[], Encoder] | None = None, *, source: Source | None = None
) -> Generator[EmbeddedBatch]:
    """Yield what comes of the rows of a shard, block after block; memory is bounded by a block.

    Args:
        task: What to embed, and how.
        load: Gives the encoder of the task where a worker has loaded it already; called when it is first needed.
        source: That of the task where it is open already.

    Raises:
        InvalidInputError: The source cannot be opened, or the rest of the shard cannot be read.
        EncoderError: The encoder is unavailable, or fails for all records.
    """
    opened = source or open_source(task.address, task.options)
    options = AddOptions(fetch_urls=task.options.fetch_urls, lines=True)
    numbers: deque[int] = deque()
    size = min(BLOCK_RECORDS, _BLOCK_BATCHES * (task.settings.batch_size or BATCH_SIZE))
    records = RecordSource(task.encoder.dim, task.settings, size, fetch_urls=options.fetch_urls)
    first = max(task.start, task.shard.first)
    with closing(RecordStage(task.settings, options, load or (lambda: load_encoder(task)))) as stage:
        for block in records.blocks(_contents(opened.read(task.shard, task.start), numbers)):
            stop = [numbers.popleft() for _ in range(block.taken)][-1] + 1
            yield EmbeddedBatch.of(first, stop, *_encode(stage, block), task.encoder.dim)
            first = stop


def _contents(rows: Iterable[Row], numbers: deque[int]) -> Iterator[Record | BadRow]:
    """Yield what rows make, and note their numbers."""
    for row in rows:
        numbers.append(row.number)
        yield row.content


def _encode(stage: RecordStage, block: Block) -> tuple[list[EmbeddedRecord], list[tuple[str, str]]]:
    """Encode a block; return its records, and the ids of those that failed with the reasons."""
    records: list[EmbeddedRecord] = []
    failed = [*block.failed]
    with closing(stage.run(block, {})) as done:
        for batch in done:
            failed += batch.failed
            made = [(task.checked, each) for task, each in zip(batch.done, batch.additions, strict=True) if each]
            records += [EmbeddedRecord(addition, checked.has_picture) for checked, addition in made]
    return records, failed
