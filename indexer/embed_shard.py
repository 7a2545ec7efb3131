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
from clipsearch.types import EncoderPin, Modality
from indexer.embedded import EmbeddedBatch, EmbeddedRecord
from indexer.record_stage import AddOptions, RecordBatch, RecordStage
from indexer.sources.base import BadRow, Row, Shard, Source
from indexer.sources.records import BLOCK_RECORDS, Block, RecordSource
from indexer.sources.registry import SourceOptions, open_source

_MOST_HELD = 32 << 20
"""Bytes of texts and kept pictures from which on they are handed over."""

_BLOCK_BATCHES = 32
"""Batches of the encoder in a block: where it ends, the encoder waits for the first batch of the next."""


@dataclass(frozen=True, slots=True)
class EmbedTask:
    """All that the vectors of a shard depend on, and that a worker anywhere needs.

    address, options: of the source. keep: of pictures, as in AddOptions. start: the row to begin with.
    """

    address: str
    shard: Shard
    encoder: EncoderPin
    options: SourceOptions = field(default_factory=SourceOptions)
    settings: Settings = field(default_factory=Settings)
    keep: str | None = None
    start: int = 0

    def to_json(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EmbedTask:
        """Read what `to_json` wrote. Raises InvalidInputError for anything else."""
        try:
            said: dict[str, Any] = json.loads(text)
            parts: dict[str, Callable[..., Any]] = {
                "shard": Shard, "encoder": EncoderPin, "options": read_options, "settings": Settings,
            }  # fmt: skip
            return cls(**{name: parts[name](**each) if name in parts else each for name, each in said.items()})
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidInputError(f"This is not a task that clipsearch wrote: {text:.80}") from error


def read_options(**said: Any) -> SourceOptions:  # noqa: ANN401 - what JSON has
    """Return the options of a source from JSON, which has lists for tuples. Raises TypeError, ValueError."""
    columns = tuple((str(role), str(name)) for role, name in said.pop("columns", ()))
    return SourceOptions(columns=columns, **said)


def load_encoder(task: EmbedTask) -> Encoder:
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
    numbered = _Numbered(opened.read(task.shard, task.start), task.start)
    blocks = RecordSource(task.encoder.dim, task.settings, _block_size(task.settings)).blocks(numbered.records())
    with closing(RecordStage(task.settings, AddOptions(task.keep), load or (lambda: load_encoder(task)))) as stage:
        for block in blocks:
            first, stop = numbered.advance(block.taken)
            gathered = _Gathered(first, task.encoder.dim, [*numbered.failed_before(stop), *block.failed])
            with closing(stage.run(block, {})) as done:
                for batch in done:
                    yield from gathered.add(batch, block)
            yield gathered.finish(stop)
        first, stop = numbered.finish()
        if stop > first:
            yield _Gathered(first, task.encoder.dim, numbered.failed_before(stop)).finish(stop)


def _block_size(settings: Settings) -> int:
    return min(BLOCK_RECORDS, _BLOCK_BATCHES * (settings.batch_size or BATCH_SIZE))


class _Gathered:
    """What has come of a block so far; it is handed over before it takes much memory."""

    def __init__(self, first: int, dim: int, failed: list[tuple[str, str]]) -> None:
        self._first = first
        self._dim = dim
        self._failed = failed
        self._records: list[EmbeddedRecord] = []
        self._held = 0

    def add(self, batch: RecordBatch, block: Block) -> Iterator[EmbeddedBatch]:
        """Take what came of some records of a block, and yield what is held if it is much."""
        self._failed += batch.failed
        for addition in batch.additions:
            assert addition is not None, "nothing is known, so nothing is unchanged"
            checked = block.records[addition.name]
            has_vector = checked.vector is not None and checked.stands_for is Modality.IMAGE
            self._records.append(EmbeddedRecord(addition, checked.has_picture, has_vector))
            self._held += len(addition.text or "") + (len(addition.kept[0]) if addition.kept else 0)
            if self._held >= _MOST_HELD:
                yield self.finish(self._first)

    def finish(self, stop: int) -> EmbeddedBatch:
        """Return what is held. stop: the row up to which all is done with it."""
        done = EmbeddedBatch.of(self._first, stop, self._records, self._failed, self._dim)
        self._records, self._failed, self._held = [], [], 0
        return done


class _Numbered:
    """Rows on their way into blocks: which rows a block covers, bad ones included."""

    def __init__(self, rows: Iterable[Row], first: int) -> None:
        self._rows = rows
        self._first = first
        self._next = first
        self._taken: deque[int] = deque()
        self._bad: deque[tuple[int, BadRow]] = deque()

    def records(self) -> Iterator[Record]:
        """Yield the records."""
        for row in self._rows:
            self._next = row.number + 1
            if isinstance(row.content, BadRow):
                self._bad.append((row.number, row.content))
            else:
                self._taken.append(row.number)
                yield row.content

    def advance(self, count: int) -> tuple[int, int]:
        """Return the first row of the next block of `count` records, and the one after its last."""
        first = self._first
        for _ in range(count):
            self._first = self._taken.popleft() + 1
        return first, self._first

    def finish(self) -> tuple[int, int]:
        """Return the rows after the last block, all of them bad."""
        return self._first, self._next

    def failed_before(self, stop: int) -> list[tuple[str, str]]:
        """Return the bad rows before a number that were not returned yet."""
        found = []
        while self._bad and self._bad[0][0] < stop:
            row = self._bad.popleft()[1]
            found.append((row.name, row.reason))
        return found
