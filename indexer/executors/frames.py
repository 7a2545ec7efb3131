"""Embedding where rows of pandas come in and go out, as Spark's mapInPandas has them: a task a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.config import Settings
from clipsearch.encoders import names, registry
from clipsearch.errors import InvalidInputError
from clipsearch.types import EncoderPin
from indexer.embed_part import agree
from indexer.embed_shard import EmbedTask, embed_shard
from indexer.executors.local import LoadedOnce
from indexer.shard_files import find_finished, write_shard
from indexer.shard_plan import ShardPlan, read_plan
from indexer.sources.registry import SourceOptions, canonical, open_source

if TYPE_CHECKING:
    import pandas

SCHEMA = "shard string, records long, failed long, reason string"
"""The columns that `embed_frames` gives, as Spark writes them."""

_ENCODERS = LoadedOnce()
"""Of this process, which Spark uses for many tasks."""


def write_tasks(
    source: str,
    out: str,
    *,
    model: str | None = None,
    options: SourceOptions | None = None,
    settings: Settings | None = None,
) -> list[str]:
    """Prepare a folder for the shards of a data set, and return a task for each.

    Args:
        source: Its address, which every worker reaches.
        out: The folder, on storage that every worker shares.
        model: The encoder; None for that of the settings.
        options: How the data set is read.
        settings: For the workers: threads, device, precision...

    Raises:
        InvalidInputError: There is no such data set, or the folder has shards of another source or encoder.
        EncoderError: The encoder is unavailable.
    """
    settings, options = settings or Settings(), options or SourceOptions()
    opened = open_source(canonical(source), options)
    name = names.resolve(model or settings.model, offline=settings.offline).name
    encoder = registry.load(name, threads=settings.cores, offline=settings.offline)
    pin = EncoderPin(encoder.name, encoder.fingerprint, encoder.dim)
    present = read_plan(Path(out))
    shards = tuple(opened.shards(present.is_whole) if present else opened.shards())
    plan = ShardPlan(opened.address, pin, shards, options)
    agree(Path(out), plan)
    return [plan.task(shard, settings).to_json() for shard in plan.shards]


def embed_frames(frames: Iterable[pandas.DataFrame], out: str) -> Iterator[pandas.DataFrame]:
    """Embed tasks into finished shards in a folder; pass it to mapInPandas. One that is finished costs nothing.

    frames: with the column `task`, of what `write_tasks` returns. Yields a frame for each, of a row for each task: its
    shard, how many records it has and how many rows failed, and the reason if the shard cannot be read, else "".
    Raises EncoderError for an encoder that is unavailable, OSError where the folder cannot be written.
    """
    import pandas

    for frame in frames:
        rows = [_embed(EmbedTask.from_json(task), Path(out)) for task in frame["task"]]
        yield pandas.DataFrame(rows, columns=["shard", "records", "failed", "reason"])


def _embed(task: EmbedTask, directory: Path) -> dict[str, Any]:
    try:
        made = find_finished(directory, task)
        if made is None:
            made = write_shard(directory, task, embed_shard(task, lambda: _ENCODERS.load(task)))
    except InvalidInputError as error:
        return {"shard": task.shard.name, "records": 0, "failed": 0, "reason": str(error)}
    return {"shard": task.shard.name, "records": made.records, "failed": made.failed, "reason": ""}
