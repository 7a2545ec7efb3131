"""Finished shards on disk: a folder each, that appears whole or not at all, with a checksum of every file.

In a shard's folder lie `records.jsonl`, a line for each record or failure; `image.npy` and `text.npy`, their vectors as
float16 (n, dim); and `manifest.json`, which says what the folder was made of and where its batches end. A folder of
shards may come from anyone: names are fixed, links are not followed, and sizes, numbers and texts are checked before
they are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.durable import fsync_path
from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.store.folder import open_folder
from clipsearch.types import EncoderPin, Modality
from indexer.checked_files import MAX_MANIFEST, check_files, describe, open_file, open_files, read_pin
from indexer.embed_shard import EmbedTask
from indexer.embedded import EmbeddedBatch
from indexer.sources.arrays import read_open_head, write_head
from indexer.sources.base import Shard

FORMAT = 1
MANIFEST, RECORDS = "manifest.json", "records.jsonl"
ARRAYS = {modality: f"{modality}.npy" for modality in Modality}
FILES = (RECORDS, *ARRAYS.values())

_MAX_BATCH = 512 << 20
"""Bytes of the lines, and of the vectors of a modality, of one batch."""

_CHUNK = 1 << 20
_NUMBERS = ("first", "stop", "lines", "bytes", *map(str, Modality))


class DamagedShardError(InvalidInputError):
    """A finished shard whose files are not as they were written."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished shard was made of, and what it holds.

    records, failed: how many. batches: of each the rows it reaches, its lines and their bytes, its vectors by modality,
    and its checksum. files: size and BLAKE2b-256 of each.
    """

    source: str
    shard: Shard
    encoder: EncoderPin
    records: int
    failed: int
    batches: tuple[Mapping[str, Any], ...]
    files: Mapping[str, tuple[int, str]]

    def is_of(self, task: EmbedTask) -> bool:
        """Tell whether it is the result of a task."""
        return (self.source, self.shard, self.encoder) == (task.address, task.shard, task.encoder)

    def to_json(self) -> bytes:
        """Return the text of the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode() + b"\n"


def folder_of(address: str, shard: Shard) -> str:
    """Return the name of the folder of a shard: one that any file system takes."""
    named = json.dumps([address, shard.name, shard.first, shard.stop])
    return hashlib.blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def find_finished(directory: Path, task: EmbedTask) -> Manifest | None:
    """Return the manifest of a task that is finished; None if it is not, or another version of its shard is."""
    try:
        with FinishedShard(directory, folder_of(task.address, task.shard)) as found:
            return found.manifest if found.manifest.is_of(task) else None
    except (DamagedShardError, FileNotFoundError):
        return None


def write_shard(directory: Path, task: EmbedTask, batches: Iterable[EmbeddedBatch]) -> Manifest:
    """Write what comes of a task as a finished shard, in place of one that was there.

    Raises what taking the batches raises, and OSError; nothing has the name of a finished shard then.
    """
    name = folder_of(task.address, task.shard)
    new = directory / f".{name}.{os.urandom(8).hex()}.tmp"
    new.mkdir()
    try:
        with _ShardWriter(new, task.encoder.dim) as writer:
            for batch in batches:
                writer.write(batch)
        made = Manifest(
            task.address, task.shard, task.encoder, writer.records, writer.failed, tuple(writer.batches),
            {each: describe(new / each) for each in FILES},
        )  # fmt: skip
        (new / MANIFEST).write_bytes(made.to_json())
        for each in (*FILES, MANIFEST):
            fsync_path(new / each)
        fsync_path(new)
        _replace(directory, new, name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return made


def _replace(directory: Path, new: Path, name: str) -> None:
    """Give a folder its name; what has it goes away first, since no system replaces a folder that holds files."""
    if os.path.lexists(directory / name):
        old = directory / f".{name}.{os.urandom(8).hex()}.tmp"
        os.rename(directory / name, old)
        shutil.rmtree(old, ignore_errors=True)
    os.rename(new, directory / name)
    fsync_path(directory)
    for left in directory.glob(f".{name}.*.tmp"):  # by runs that were killed
        shutil.rmtree(left, ignore_errors=True)


class _ShardWriter:
    """The files of a shard as they grow."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.records = self.failed = 0
        self.batches: list[dict[str, Any]] = []
        self._rows = dict.fromkeys(Modality, 0)
        self._dim = dim
        self._stack = ExitStack()
        self._files = {name: self._stack.enter_context(open(folder / name, "xb")) for name in FILES}
        for name in ARRAYS.values():
            write_head(self._files[name], 0, dim, "<f2")

    def write(self, batch: EmbeddedBatch) -> None:
        """Append a batch."""
        failed = sum(line.startswith(b'{"failed"') for line in batch.lines)
        self.failed += failed
        self.records += len(batch.lines) - failed
        self._files[RECORDS].writelines(batch.lines)
        for modality, rows in batch.vectors.items():
            self._files[ARRAYS[modality]].write(rows.astype("<f2", copy=False).tobytes())
            self._rows[modality] += len(rows)
        sizes = {str(modality): len(rows) for modality, rows in batch.vectors.items()}
        self.batches.append({
            "first": batch.first, "stop": batch.stop, "lines": len(batch.lines), "bytes": sum(map(len, batch.lines)),
            **sizes, "checksum": batch.checksum,
        })  # fmt: skip

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            for modality, name in ARRAYS.items():
                self._files[name].seek(0)
                write_head(self._files[name], self._rows[modality], self._dim, "<f2")


class FinishedShard:
    """A finished shard that is read; use it as a context manager. Its name says that it was written whole.

    Raises FileNotFoundError where there is no such folder, DamagedShardError for anything else that is not as it was
    written.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Name it; directory: the folder that holds it."""
        self._directory = directory
        self._name = name
        self._stack = ExitStack()
        self._files: dict[str, BufferedReader] = {}

    def __enter__(self) -> FinishedShard:
        self._path = self._directory / self._name
        try:
            outer = self._stack.enter_context(open_folder(self._directory))
            if outer.status(self._name) is None:
                raise FileNotFoundError(self._path)
            folder = self._stack.enter_context(outer.child(self._name))
            with _damage(self._path):
                self.manifest = read_manifest(open_file(folder, MANIFEST, self._stack), self._path)
                self._files = open_files(folder, self.manifest.files, self._stack)
        except BaseException as error:
            self._stack.close()
            if isinstance(error, FileNotFoundError) and error.filename is None:
                raise FileNotFoundError(self._path) from error
            if isinstance(error, OSError | LibraryError) and not isinstance(error, FileNotFoundError):
                raise DamagedShardError(f"{self._path} cannot be read: {error}") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Compare every file with its checksum. Raises DamagedShardError."""
        with _damage(self._path):
            check_files(self._path, self._files, self.manifest.files)

    def batches(self, start: int = 0) -> Iterator[EmbeddedBatch]:
        """Yield the batches whose rows reach beyond the number `start`. Raises DamagedShardError."""
        for file in self._files.values():
            file.seek(0)
        with _damage(self._path):
            self._check_heads()
        for said in self.manifest.batches:
            with _damage(self._path):
                batch = self._read(said)
            if batch.stop > start:
                yield batch

    def _check_heads(self) -> None:
        for modality, name in ARRAYS.items():
            if not any(said[modality] for said in self.manifest.batches):
                continue
            head = read_open_head(self._path / name, self._files[name], self.manifest.files[name][0])
            if head.shape[1] != self.manifest.encoder.dim or head.dtype != np.float16 or head.by_column:
                raise DamagedShardError(f"{self._path / name} does not hold the vectors of its encoder.")

    def _read(self, said: Mapping[str, Any]) -> EmbeddedBatch:
        lines = self._take(RECORDS, said["bytes"]).splitlines(keepends=True)
        vectors = {modality: self._rows(modality, said[str(modality)]) for modality in Modality}
        batch = EmbeddedBatch(said["first"], said["stop"], lines, vectors, said["checksum"])
        if len(lines) != said["lines"]:
            raise DamagedShardError(f"{self._path / RECORDS} does not have the lines that its manifest says.")
        batch.check()
        return batch

    def _rows(self, modality: Modality, count: int) -> NDArray[np.float16]:
        dim = self.manifest.encoder.dim
        return (
            np.frombuffer(self._take(ARRAYS[modality], 2 * dim * count), "<f2").reshape(count, dim).astype(np.float16)
        )

    def _take(self, name: str, size: int) -> bytes:
        found = self._files[name].read(size)
        if len(found) != size:
            raise DamagedShardError(f"{self._path / name} is shorter than its manifest says.")
        return found


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what the content of a shard's files raises into DamagedShardError."""
    try:
        yield
    except DamagedShardError:
        raise
    except InvalidInputError as error:
        raise DamagedShardError(f"{path} is damaged: {error}") from error


def read_manifest(file: BufferedReader, path: Path) -> Manifest:
    """Read the manifest of the shard in `path`. Raises DamagedShardError for anything that is not one."""
    try:
        said = json.loads(_read_all(file))
        if said.pop("format") != FORMAT:
            raise ValueError("another version of clipsearch wrote it")
        shard, encoder = Shard(**said.pop("shard")), read_pin(said.pop("encoder"))
        files = {name: (size, digest) for name, (size, digest) in said.pop("files").items()}
        made = Manifest(shard=shard, encoder=encoder, files=files, batches=tuple(said.pop("batches")), **said)
        _check(made)
        return made
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedShardError(f"{path / MANIFEST} is not the manifest of a finished shard: {error}.") from error


def _read_all(file: BufferedReader) -> bytes:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise ValueError("it is not a regular file")
    data = file.read(MAX_MANIFEST + 1)
    if len(data) > MAX_MANIFEST:
        raise ValueError(f"it has more than {MAX_MANIFEST:,} bytes")
    return data


def _check(made: Manifest) -> None:
    """Raise ValueError where the manifest of a shard does not hold together."""
    shard, encoder = made.shard, made.encoder
    texts = (made.source, shard.name, shard.fingerprint)
    counts = (shard.first, shard.stop or 0, made.records, made.failed)
    if not all(isinstance(each, str) for each in texts) or not all(_is_count(each) for each in counts):
        raise ValueError("a value is of another type")
    if made.files.keys() != set(FILES):
        raise ValueError("it names other files")
    if not all(_is_count(size) and isinstance(digest, str) for size, digest in made.files.values()):
        raise ValueError("a file has no size and checksum")
    reached = shard.first
    for batch in made.batches:
        if not all(_is_count(batch[name]) for name in _NUMBERS) or not isinstance(batch["checksum"], str):
            raise ValueError("a batch is not described")
        if max(batch["bytes"], *(2 * encoder.dim * batch[each] for each in Modality)) > _MAX_BATCH:
            raise ValueError("a batch is too large")
        if batch["stop"] < reached:
            raise ValueError("batches are not in order")
        reached = batch["stop"]
    if made.files[RECORDS][0] != sum(batch["bytes"] for batch in made.batches):
        raise ValueError("batches do not cover the records")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53
