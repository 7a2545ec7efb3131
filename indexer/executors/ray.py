"""Embedding on a Ray cluster: Ray Data streams tasks to a pool of actors, and their results to this process.

Each actor loads the encoder once. Ray Data holds back the actors while results are not taken, restarts those of a
machine that is lost, and runs again what they had under way (https://docs.ray.io/en/latest/data/data.html).
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from clipsearch.config import Settings
from clipsearch.errors import (
    ClipSearchError,
    ClusterError,
    DeviceError,
    EncoderError,
    EncoderMismatchError,
    EncoderUnavailableError,
    InvalidInputError,
    WorkerUnavailableError,
)
from clipsearch.store.records import Outcome
from clipsearch.types import EncoderPin, Modality
from indexer.embed_files import FileTask, embed_files
from indexer.embed_shard import EmbedTask, embed_shard
from indexer.embedded import EmbeddedBatch
from indexer.executors.base import Embedded, Ended
from indexer.executors.local import LoadedOnce
from indexer.outcome_codec import pack, unpack

logger = logging.getLogger("clipsearch")

BLOCK_BYTES = 4 << 20
"""Bytes of results from which on an actor sends them; Ray Data waits for 128 MiB unless it is given another size."""

_SECONDS = 10.0
"""Seconds in which a cluster has to take a connection."""

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""What Ray reads when it starts, unless the user says otherwise: nothing is sent to its makers."""

_STOPPING = {
    kind.__name__: kind
    for kind in (EncoderMismatchError, EncoderUnavailableError, DeviceError, EncoderError, WorkerUnavailableError)
}
"""Errors of an actor that concern all tasks, by name."""

_BATCH, _END, _BROKEN = "batch", "end", "broken"


@dataclass(frozen=True, slots=True)
class RayOptions:
    """How a Ray cluster is used.

    address: of its head, None for $RAY_ADDRESS or a cluster on this machine, which is started if none runs.
    workers: actors at most, 0 for what the cluster has room for. cpus, gpus: of each actor; a fraction of a GPU lets
    several share it. gpus is 0 where the cluster has none, or Settings.device is `cpu`.
    """

    address: str | None = None
    workers: int = 0
    cpus: int = 1
    gpus: float = 1.0


class RayExecutor:
    """An Executor on a Ray cluster, whose machines need clipsearch and reach the source by the same address."""

    def __init__(self, options: RayOptions | None = None) -> None:
        """Prepare; nothing is connected to before it is needed."""
        self._options = options or RayOptions()

    def run(self, tasks: Sequence[EmbedTask]) -> Generator[Embedded | Ended]:
        """Yield what comes of the tasks, those of several mixed; each batch is checked against its checksum."""
        if not tasks:
            return
        ray = _import_ray()
        with _mapped_errors(ray), _connected(ray, self._options.address), _context(ray):
            expected = [0] * len(tasks)
            for row in self._rows(ray, tasks):
                number = row["task"]
                if row["number"] < expected[number]:  # run again after a machine was lost
                    continue
                if row["number"] > expected[number]:
                    raise ClusterError("The Ray cluster lost a result. Run again; what is committed stays.")
                expected[number] += 1
                yield _result(row, tasks[number])

    def run_files(self, tasks: Sequence[FileTask]) -> Generator[tuple[int, list[Outcome]]]:
        """Yield the number of each task, and what came of its files; in any order. Raises what `run` raises."""
        if not tasks:
            return
        ray = _import_ray()
        with _mapped_errors(ray), _connected(ray, self._options.address), _context(ray):
            done: set[int] = set()
            adapt = self._adapter(ray, tasks[0].settings)
            items = [_pack_files(replace(task, settings=adapt(task.settings))) for task in tasks]
            for row in self._stream(ray, FileEmbedder, items, tasks[0].settings):
                if row["kind"] != _BATCH:
                    raise _STOPPING.get(row["kind"], ClusterError)(row["said"])
                if row["task"] not in done:  # else run again after a machine was lost
                    done.add(row["task"])
                    yield row["task"], _unpack_outcomes(row, tasks[row["task"]])
            if len(done) != len(tasks):
                raise ClusterError("The Ray cluster lost a result. Run again; what is committed stays.")

    def _rows(self, ray: Any, tasks: Sequence[EmbedTask]) -> Iterator[dict[str, Any]]:  # noqa: ANN401
        """Yield the rows of results as they arrive."""
        adapt = self._adapter(ray, tasks[0].settings)
        items = [{"json": replace(task, settings=adapt(task.settings)).to_json()} for task in tasks]
        return self._stream(ray, Embedder, items, tasks[0].settings)

    def _adapter(self, ray: Any, settings: Settings) -> Callable[[Settings], Settings]:  # noqa: ANN401
        """Return what makes settings those of an actor: its share of the processor, and no GPU where it has none."""
        gpus, cpus = _gpus(ray, self._options, settings), self._options.cpus
        return lambda each: replace(
            each, library=None, threads=cpus, device=each.device if gpus else "cpu", isolate=bool(each.isolate)
        )

    def _stream(
        self,
        ray: Any,  # noqa: ANN401
        actor: type,
        items: Sequence[dict[str, Any]],
        settings: Settings,
    ) -> Iterator[dict[str, Any]]:
        """Have actors work on items, each with its number as `task`; yield the rows that they give."""
        gpus, cpus = _gpus(ray, self._options, settings), self._options.cpus
        most = self._options.workers or _room(ray, cpus, gpus)
        numbered = [{"task": number, **item} for number, item in enumerate(items)]
        found = ray.data.from_items(numbered, override_num_blocks=len(items)).map_batches(
            actor, batch_size=1, batch_format="pyarrow", num_cpus=cpus, num_gpus=gpus,
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=max(1, min(most, len(items))), max_tasks_in_flight_per_actor=2
            ),
        )  # fmt: skip
        for table in found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            yield from table.to_pylist()


class Embedder:
    """What an actor does: embed tasks, one after the other, with an encoder that it loads once."""

    def __init__(self) -> None:
        """Start without an encoder."""
        logging.getLogger("clipsearch").setLevel(logging.ERROR)
        self.encoders = LoadedOnce()

    def __call__(self, table: Any) -> Iterator[Any]:  # noqa: ANN401
        """Yield a pyarrow table of one row for each batch of the tasks in a table, for each end, and for an error."""
        import pyarrow

        for item in table.to_pylist():
            for row in self._results(item["task"], EmbedTask.from_json(item["json"])):
                yield pyarrow.Table.from_pylist([row], schema=_schema(pyarrow))

    def _results(self, task_number: int, task: EmbedTask) -> Iterator[dict[str, Any]]:
        said = count()
        try:
            for batch in embed_shard(task, lambda: self.encoders.load(task)):
                yield {"task": task_number, "number": next(said), "kind": _BATCH, **_pack(batch)}
            end = {"kind": _END, "said": ""}
        except InvalidInputError as error:
            ended = Ended.by(task_number, error)
            end = {"kind": _BROKEN if ended.is_broken else _END, "said": ended.reason}
        except ClipSearchError as error:
            end = {"kind": type(error).__name__, "said": str(error)}
        yield {"task": task_number, "number": next(said), **end}


class FileEmbedder:
    """What an actor does with files: encode tasks, one after the other, with an encoder that it loads once."""

    def __init__(self) -> None:
        """Start without an encoder."""
        logging.getLogger("clipsearch").setLevel(logging.ERROR)
        self.encoders = LoadedOnce()

    def __call__(self, table: Any) -> Iterator[Any]:  # noqa: ANN401
        """Yield a pyarrow table of one row for each task in a table: what came of its files, or an error."""
        import pyarrow

        for item in table.to_pylist():
            task = _unpack_files(item)
            try:
                lines, vectors = pack(embed_files(task, self.encoders.load(task)))
                row = {"kind": _BATCH, "lines": lines, str(Modality.IMAGE): vectors}
            except ClipSearchError as error:
                row = {"kind": type(error).__name__, "said": str(error)}
            yield pyarrow.Table.from_pylist([{"task": item["task"], **row}], schema=_schema(pyarrow))


def _pack_files(task: FileTask) -> dict[str, Any]:
    """Return a task as an actor gets it."""
    said = {"roots": list(task.roots.items()), "encoder": asdict(task.encoder), "settings": asdict(task.settings)}
    return {"json": json.dumps(said), "files": pack(task.records)[0]}


def _unpack_files(item: Mapping[str, Any]) -> FileTask:
    said = json.loads(item["json"])
    records, roots = unpack(item["files"], b""), dict(said["roots"])
    return FileTask(records, roots, EncoderPin(**said["encoder"]), Settings(**said["settings"]))


def _unpack_outcomes(row: Mapping[str, Any], task: FileTask) -> list[Outcome]:
    """Return what came of the files of a task. Raises ClusterError for what came of other files."""
    found: list[Outcome] = unpack(row["lines"], row[str(Modality.IMAGE)])
    own = {(record.root_id, record.path) for record in task.records}
    if any((each.record.root_id, each.record.path) not in own for each in found):
        raise ClusterError("The Ray cluster answers for files that were not asked for. Run again.")
    return found


def _pack(batch: EmbeddedBatch) -> dict[str, Any]:
    return {
        "first": batch.first,
        "stop": batch.stop,
        "lines": b"".join(batch.lines),
        **{str(modality): rows.tobytes() for modality, rows in batch.vectors.items()},
        "said": batch.checksum,
    }


def _result(row: dict[str, Any], task: EmbedTask) -> Embedded | Ended:
    """Turn a row back into a result. Raises what an actor says that concerns all tasks."""
    if row["kind"] in (_END, _BROKEN):
        return Ended(row["task"], row["said"], row["kind"] == _BROKEN)
    if row["kind"] != _BATCH:
        raise _STOPPING.get(row["kind"], ClusterError)(row["said"])
    vectors = {each: np.frombuffer(row[each], np.float16).reshape(-1, task.encoder.dim) for each in Modality}
    lines = row["lines"].splitlines(keepends=True)
    batch = EmbeddedBatch(row["first"], row["stop"], lines, vectors, row["said"])
    batch.check()
    return Embedded(row["task"], batch)


def _schema(pyarrow: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    numbers, texts = ("task", "number", "first", "stop"), ("kind", "said")
    columns = [(name, pyarrow.int64()) for name in numbers] + [(name, pyarrow.large_string()) for name in texts]
    data = ("lines", *map(str, Modality))
    return pyarrow.schema([*columns, *((name, pyarrow.large_binary()) for name in data)])


def _gpus(ray: Any, options: RayOptions, settings: Settings) -> float:  # noqa: ANN401
    return options.gpus if settings.device != "cpu" and ray.cluster_resources().get("GPU", 0) else 0


def _room(ray: Any, cpus: int, gpus: float) -> int:  # noqa: ANN401
    """Return how many actors the nodes of the cluster have room for; none is spread over two nodes."""
    room = 0
    for found in (node["Resources"] for node in ray.nodes() if node["Alive"]):
        on_node = found.get("CPU", 0) / cpus
        room += int(min(on_node, found.get("GPU", 0) / gpus) if gpus else on_node)
    return max(1, room)


def _import_ray() -> Any:  # noqa: ANN401 - it has no types here
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data

        return ray
    except ModuleNotFoundError as error:
        raise ClusterError(
            "Embedding on a cluster needs Ray, which is not installed. Run: pip install 'clipsearch[ray]'"
        ) from error


@contextmanager
def _mapped_errors(ray: Any) -> Iterator[None]:  # noqa: ANN401
    """Turn what Ray raises into ClusterError."""
    try:
        yield
    except ClipSearchError:
        raise
    except (ray.exceptions.RayError, ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
        logger.debug("Ray failed", exc_info=error)
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ClusterError(
            f"The Ray cluster failed: {lines[-1] if lines else type(error).__name__:.300}. What is committed stays. "
            "See that the cluster runs (`ray status`), then run again."
        ) from error


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:  # noqa: ANN401
    """Connect to a cluster for the time of a run, unless this process is connected already."""
    if ray.is_initialized():
        yield
        return
    _check_reachable(address or os.environ.get("RAY_ADDRESS", ""))
    ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise ClusterError where nothing listens at an address, for which Ray itself would wait for minutes."""
    host, found, port = address.removeprefix("ray://").rpartition(":")
    if not found or not port.isdecimal():  # such as `auto`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"There is no Ray cluster at {address}: {error}. Start one, or name its address.") from error


@contextmanager
def _context(ray: Any) -> Iterator[None]:  # noqa: ANN401
    """Set what Ray Data does in this process for the time of a run: small blocks, and nothing on the screen."""
    context = ray.data.DataContext.get_current()
    values = {"target_max_block_size": BLOCK_BYTES, "enable_progress_bars": False, "print_on_execution_start": False}
    before = {name: getattr(context, name) for name in values}
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [each.level for each in loggers]
    try:
        for name, value in values.items():
            setattr(context, name, value)
        for each in loggers:
            each.setLevel(logging.CRITICAL)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
