"""One data set, embedded by an executor and committed here, by the only process that writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.store.shards import Found, State
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin
from indexer.dataset import DataSet, DataSetOptions, UnreachableError, count_done, shard_fingerprint, to_json
from indexer.embed_shard import EmbedTask
from indexer.embedded_commit import EmbeddedCommit
from indexer.executors.base import Embedded, Ended, Executor
from indexer.report import IndexReport
from indexer.sources.base import Shard
from indexer.sources.registry import SourceOptions

_SHARDS = 1000
"""Shards that the catalog is asked for together."""


def begin_all(
    writer: Writer, root_id: int, shards: Iterable[Shard], options: SourceOptions, *, retry_failed: bool = False
) -> Iterator[tuple[Shard, State]]:
    """Yield shards with how far they were read, some looked up together; one that has changed starts again."""
    iterator, said = iter(shards), to_json(options)
    while some := list(islice(iterator, _SHARDS)):
        found = [Found(shard.name, shard_fingerprint(shard, said)) for shard in some]
        yield from zip(some, writer.begin_shards(root_id, found, retry_failed=retry_failed), strict=True)


def execute(
    writer: Writer,
    data_set: DataSet,
    pin: EncoderPin,
    settings: Settings,
    executor: Executor,
    how: DataSetOptions,
    report: IndexReport,
) -> None:
    """Bring a library up to date with a data set, as `DataSetRun` does; rows of changed shards are embedded again.

    pin: of the library. report: gets what was done. Raises UnreachableError, before anything is changed, for a data set
    that is not there, and what the executor raises; what is committed stays.
    """
    try:
        shards = list(data_set.source.shards(data_set.is_whole(writer)))
    except InvalidInputError as error:
        raise UnreachableError(str(error)) from error
    begun = list(begin_all(writer, data_set.root_id, shards, data_set.options, retry_failed=how.retry_failed))
    report.unchanged += sum(count_done(shard, state) for shard, state in begun if state.done)
    states = [state for _, state in begun if not state.done]
    tasks = [
        EmbedTask(data_set.source.address, shard, pin, data_set.options, settings, state.rows)
        for shard, state in begun if not state.done
    ]  # fmt: skip
    with closing(executor.run(tasks)) as results:
        _commit_all(results, states, EmbeddedCommit(writer, data_set.root_id, report), how, report)
    if shards and not how.should_stop():
        report.removed += writer.remove_unseen(data_set.root_id)


def _commit_all(
    results: Iterable[Embedded | Ended],
    states: Sequence[State],
    commit: EmbeddedCommit,
    how: DataSetOptions,
    report: IndexReport,
) -> None:
    rows = [state.rows for state in states]
    for result in results:
        state = states[result.task]
        if isinstance(result, Embedded):
            how.progress.advance(commit.commit(result.batch, state))
            rows[result.task] = result.batch.stop
        else:
            if result.reason:
                report.failed.append((state.name, result.reason))
            if not result.reason or result.is_broken:
                commit.end(state, rows[result.task], broken=result.is_broken)
        if how.should_stop():
            return
