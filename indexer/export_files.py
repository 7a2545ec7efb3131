"""The files of an export: a folder that appears whole or not at all, with a checksum of every file.

`manifest.json` says what it is; `items` and `vectors` are tables, of one row an item and one a vector; `image.npy` and
`text.npy` hold the vectors, float16 (n, dim), in the order of their rows in the table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.copy_distance import CopyDistance
from clipsearch.durable import exchange, fsync_path
from clipsearch.errors import ClipSearchError, InvalidInputError, LibraryError
from clipsearch.store.exporting import DECLARED, SETTINGS
from clipsearch.store.folder import open_folder
from clipsearch.store.records import Root, RootKind
from clipsearch.store.spreads import Spreads, read_spreads
from clipsearch.types import EncoderPin, Modality
from indexer.checked_files import MAX_MANIFEST, check_files, describe, open_files, read_pin
from indexer.export_tables import ITEM_COLUMNS, VECTOR_COLUMNS, WRITERS, TableWriter, read_table
from indexer.sources.arrays import read_open_head, write_head

FORMAT, VERSION = "clipsearch-export", 1
MANIFEST, ITEMS, VECTORS = "manifest.json", "items", "vectors"
ARRAYS = {modality: f"{modality}.npy" for modality in Modality}

MAX_TEXT = 1 << 16
"""Characters of a path, a name or a setting in a manifest."""

MAX_DECLARED = 1000
"""Names of metadata that are indexed."""


@dataclass(frozen=True, slots=True)
class ExportManifest:
    """What an export holds.

    table: the format of its tables. vectors: how many of each modality. collections: names by their ids. settings: by
    key. kept: items of which the library keeps pictures, which no export holds. files: size and BLAKE2b-256 of each.
    """

    table: str
    encoder: EncoderPin
    items: int
    vectors: Mapping[str, int]
    roots: Sequence[Root]
    collections: Mapping[int, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    kept: int = 0
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the text of the file."""
        said = asdict(self) | {"collections": [[number, name] for number, name in self.collections.items()]}
        return json.dumps({"format": FORMAT, "version": VERSION, **said}, indent=1).encode() + b"\n"


def is_export(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder looks like an export; whether it is one says reading it."""
    try:
        return FORMAT.encode() in _read_manifest(Path(path))[:200]
    except (OSError, LibraryError, InvalidInputError):
        return False


class ExportWriter:
    """An export as it grows, in a folder of another name beside its own; use it as a context manager.

    Leaving it by an error removes what was written. Raises ClipSearchError where the disk refuses.
    """

    def __init__(self, folder: Path, table: str, dim: int, counts: Mapping[Modality, int]) -> None:
        """Prepare; table: the format. counts: how many vectors there will be of each modality."""
        self._folder = folder
        self._part = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}.part")
        self._table, self._dim, self._counts = table, dim, counts
        self._stack = ExitStack()
        self._arrays: dict[Modality, BinaryIO] = {}

    def __enter__(self) -> Self:
        with self._mapped():
            self._part.mkdir()
            try:
                self._open()
            except BaseException:
                self._discard()
                raise
        return self

    def _open(self) -> None:
        files = [self._new(f"{name}.{self._table}") for name in (ITEMS, VECTORS)]
        kinds = (ITEM_COLUMNS, VECTOR_COLUMNS)
        self._items, self._vectors = (WRITERS[self._table](f, kind) for f, kind in zip(files, kinds, strict=True))
        for modality, count in self._counts.items():
            if count:
                self._arrays[modality] = self._new(ARRAYS[modality])
                write_head(self._arrays[modality], count, self._dim, "<f2")

    def _new(self, name: str) -> BinaryIO:
        return self._stack.enter_context(open(self._part / name, "xb"))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._part.exists():
            self._discard()

    def write_items(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows to the table of items."""
        self._write(self._items, rows)

    def write_vectors(self, modality: Modality, said: Sequence[Mapping[str, Any]], rows: NDArray[np.float16]) -> None:
        """Append vectors, float16 (n, dim), and what they belong to."""
        self._write(self._vectors, said)
        with self._mapped():
            self._arrays[modality].write(rows.astype("<f2", copy=False).tobytes())

    def _write(self, table: TableWriter, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._mapped():
            table.write(rows)

    def finish(self, made: ExportManifest, overwrite: bool) -> int:
        """Make all durable and give the folder its name; return the bytes of its files."""
        with self._mapped():
            self._items.close()
            self._vectors.close()
            self._stack.close()
            files = {path.name: describe(path) for path in sorted(self._part.iterdir())}
            values = {each: getattr(made, each) for each in ExportManifest.__slots__}
            manifest = ExportManifest(**values | {"files": files}).to_json()
            (self._part / MANIFEST).write_bytes(manifest)
            for path in self._part.iterdir():
                fsync_path(path)
            fsync_path(self._part)
            self._rename(overwrite)
            fsync_path(self._folder.parent)
        return len(manifest) + sum(size for size, _ in files.values())

    def _rename(self, overwrite: bool) -> None:
        if not os.path.lexists(self._folder):
            os.rename(self._part, self._folder)
            return
        check_target(self._folder, overwrite)  # again: it may have come meanwhile
        if not exchange(self._part, self._folder):
            aside = self._part.with_suffix(".old")
            os.rename(self._folder, aside)
            os.rename(self._part, self._folder)
            os.rename(aside, self._part)
        _remove(self._part)

    def _discard(self) -> None:
        with suppress(OSError, ValueError):
            self._stack.close()
        _remove(self._part)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ClipSearchError(
                f"The export could not be written to {self._folder}: {error.strerror or error}. Free some space, or "
                "name another folder. Nothing is left of it."
            ) from error


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise InvalidInputError where an export cannot have that folder. overwrite: it may take the place of another."""
    if not folder.name or not folder.parent.is_dir():
        raise InvalidInputError(f"The folder {folder.parent} for the export does not exist. Make it first.")
    if not os.path.lexists(folder):
        return
    is_folder = folder.is_dir() and not folder.is_symlink()
    names = {each.name for each in folder.iterdir()} if is_folder else set()
    if not is_folder or (names and (names - _NAMES or not is_export(folder))):
        raise InvalidInputError(
            f"{folder} is there, and is not an export alone, so it is not overwritten. Name another folder."
        )
    if not overwrite:
        raise InvalidInputError(
            f"{folder} is there. Name another folder, or replace it: --force (in Python: overwrite=True)"
        )


_NAMES = {MANIFEST, *ARRAYS.values(), *(f"{name}.{ending}" for name in (ITEMS, VECTORS) for ending in WRITERS)}


def _remove(folder: Path) -> None:
    """Remove the files of an export and their folder, and nothing else."""
    for name in _NAMES:
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


class ExportReader:
    """An export that is read; use it as a context manager. Links are not followed, and sizes are checked first.

    Raises InvalidInputError for anything that is not as an export is written.
    """

    def __init__(self, folder: Path) -> None:
        """Name it."""
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[str, BufferedReader] = {}

    def __enter__(self) -> Self:
        try:
            with _readable(self._folder):
                self.manifest = read_manifest(self._folder)
                opened = self._stack.enter_context(open_folder(self._folder))
                self._files = open_files(opened, self.manifest.files, self._stack)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Compare every file with its checksum. Raises InvalidInputError."""
        with _readable(self._folder):
            check_files(self._folder, self._files, self.manifest.files)

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the table of items, unchecked."""
        return self._rows(ITEMS, ITEM_COLUMNS)

    def vectors(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the table of vectors, unchecked."""
        return self._rows(VECTORS, VECTOR_COLUMNS)

    def _rows(self, name: str, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        named = f"{name}.{self.manifest.table}"
        descriptor = os.dup(self._files[named].fileno())
        with open(descriptor, "rb") as file:
            file.seek(0)
            yield from read_table(self._folder / named, file, columns)

    def blocks(self, modality: Modality, size: int) -> Iterator[NDArray[np.float16]]:
        """Yield the vectors of a modality, float16 (n, dim), at most `size` at a time."""
        count, dim = self.manifest.vectors[modality], self.manifest.encoder.dim
        if not count:
            return
        name = ARRAYS[modality]
        file = self._files[name]
        with _readable(self._folder):
            file.seek(0)
            head = read_open_head(self._folder / name, file, self.manifest.files[name][0])
            if head.shape != (count, dim) or head.dtype != np.float16 or head.by_column:
                raise InvalidInputError(f"{self._folder / name} does not hold {count:,} vectors of {dim} float16.")
            for start in range(0, count, size):
                rows = min(size, count - start)
                data = file.read(2 * dim * rows)
                if len(data) != 2 * dim * rows:
                    raise InvalidInputError(f"{self._folder / name} became shorter while it was read. Run again.")
                yield np.frombuffer(data, "<f2").reshape(rows, dim).astype(np.float16, copy=False)


def read_manifest(folder: Path) -> ExportManifest:
    """Read the manifest of an export. Raises InvalidInputError for anything that is not one."""
    try:
        said = json.loads(_read_manifest(folder))
        if (said.pop("format"), said.pop("version")) != (FORMAT, VERSION):
            raise ValueError("another version of clipsearch wrote it")
        files = {_text(name): (_count(size), _text(digest)) for name, (size, digest) in said.pop("files").items()}
        made = replace(parse_manifest(said), files=files)
        arrays = {ARRAYS[modality] for modality in Modality if made.vectors[modality]}
        if files.keys() != {f"{ITEMS}.{made.table}", f"{VECTORS}.{made.table}", *arrays}:
            raise ValueError("it names other files")
        return made
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{folder / MANIFEST} is not the manifest of an export: {error}.") from error


def parse_manifest(said: Mapping[str, Any]) -> ExportManifest:
    """Return what an export says of itself, but for its files. Raises ValueError and its like for anything else."""
    roots = tuple(_root(each) for each in said["roots"])
    collections = {_count(number, 1): _text(name) for number, name in said["collections"]}
    pin = read_pin(said["encoder"])
    settings = {_text(key): _text(value) for key, value in said["settings"].items()}
    vectors = {str(modality): _count(said["vectors"][modality]) for modality in Modality}
    items, kept = _count(said["items"]), _count(said["kept"])
    made = ExportManifest(said["table"], pin, items, vectors, roots, collections, settings, kept)
    _check(made)
    return made


def _read_manifest(folder: Path) -> bytes:
    with _readable(folder), open_folder(folder) as opened:
        with open(opened.open(MANIFEST, os.O_RDONLY), "rb") as file:
            data = file.read(MAX_MANIFEST + 1)
    if len(data) > MAX_MANIFEST:
        raise InvalidInputError(f"{folder / MANIFEST} has more than {MAX_MANIFEST:,} bytes.")
    return data


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, LibraryError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise InvalidInputError(f"{folder} cannot be read as an export: {reason}.") from error


def _check(made: ExportManifest) -> None:
    """Raise ValueError where a manifest does not hold together."""
    if made.table not in WRITERS:
        raise ValueError(f"its tables are {made.table!r:.40}")
    if len({root.id for root in made.roots}) != len(made.roots):
        raise ValueError("two roots have one id")
    if made.settings.keys() - {*SETTINGS, DECLARED}:
        raise ValueError("it has other settings")
    spreads, copies = (made.settings.get(key) for key in SETTINGS)
    read_declared(made.settings)
    if spreads is not None and read_spreads(spreads) == Spreads():
        raise ValueError("its spreads cannot be read")
    if copies is not None and CopyDistance.load(copies) is None:
        raise ValueError("its copy distance cannot be read")


def read_declared(settings: Mapping[str, str]) -> list[str]:
    """Return the names of metadata that are to be indexed. Raises ValueError for anything but a list of names."""
    names = json.loads(settings.get(DECLARED, "[]"))
    if not isinstance(names, list) or len(names) > MAX_DECLARED or not all(isinstance(name, str) for name in names):
        raise ValueError("its indexed metadata is no list of names")
    return names


def _root(said: Mapping[str, Any]) -> Root:
    exclude = tuple(_text(each) for each in said["exclude"])
    include_hidden, path = said["include_hidden"], _text(said["path"])
    if type(include_hidden) is not bool or not path:
        raise ValueError("a root is not described")
    kind, options = RootKind(said["kind"]), _text(said["options"])
    if kind is RootKind.FOLDER and not os.path.isabs(path):
        raise ValueError(f"the root {path!r:.80} is not an absolute path")
    if not isinstance(json.loads(options), dict):
        raise ValueError("a root has no options")
    return Root(_count(said["id"], 1, 2**31), path, exclude, include_hidden, False, kind, options)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        raise ValueError(f"{value!r:.40} is not a text")
    return value


def _count(value: object, least: int = 0, most: int = 2**53) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is not a number from {least} to {most}")
    return value
