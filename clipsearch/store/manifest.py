"""What a backup consists of: `backup.json` in its folder.

It names the library, and for each catalog that may stand beside it the files that belong to it. That is one, but for
the moment in which a backup replaces the one before: the new state is written down first, then the catalog is
renamed into place, which is the step that counts. So whatever instant a process dies at, the catalog that is there
has all its files: segments only ever grow, and a state says how much of each is its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from clipsearch.errors import InvalidInputError, StoreCorruptError
from clipsearch.store.copying import FileEntry, file_entry, new_digest
from clipsearch.store.folder import Folder
from clipsearch.store.names import is_generation_name, is_index_file_name, is_segment_name
from clipsearch.store.reading import CATALOG

MANIFEST = "backup.json"
VECTORS = "vectors"
_FORMAT = 1
_MOST_BYTES = 1 << 28

_TEMPORARY = re.compile(r"\.(?:catalog|backup)-[0-9a-f]{16}\.tmp(?:-wal|-shm|-journal)?")


@dataclass(frozen=True, slots=True)
class BackupState:
    """A backed-up state of a library. made: UTC, ISO 8601. files: by path below the backup, with `/`."""

    made: str
    revision: int
    catalog: FileEntry
    files: Mapping[str, FileEntry]

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return self.catalog.size + sum(entry.size for entry in self.files.values())


@dataclass(slots=True)
class Manifest:
    """The content of `backup.json`. library: where it was; states: by the digest of their catalog."""

    library_id: str
    library: str
    states: dict[str, BackupState] = field(default_factory=dict)

    def is_of(self, library_id: str, library: str) -> bool:
        """Tell whether it is about that library; one without an id is known by its place."""
        return library_id == self.library_id if library_id and self.library_id else library == self.library

    def write(self, folder: Folder) -> None:
        """Write it whole, durably, in the place of the one before. Raises OSError."""
        content: dict[str, Any] = {"format": _FORMAT, **asdict(self)}
        data = json.dumps({**content, "checksum": _checksum(content)}, indent=1, sort_keys=True).encode()
        name = temporary_name("backup")
        with open(folder.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL), "r+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        folder.rename(name, MANIFEST)
        folder.sync()


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of a backup. Raises StoreCorruptError if it is damaged, InvalidInputError if it is missing."""
    try:
        with open(folder.open(MANIFEST, os.O_RDONLY), "rb") as file:
            data = file.read(_MOST_BYTES)
    except FileNotFoundError:
        raise InvalidInputError(
            f"{folder.path} is not a backup: it has no {MANIFEST}. Name the folder that you gave to clipsearch backup."
        ) from None
    try:
        content = json.loads(data)
        if content.pop("checksum") != _checksum(content):
            raise ValueError("it does not match its checksum")
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']}, this version of clipsearch reads {_FORMAT}")
        if "\0" in (library := str(content["library"])):
            raise ValueError("it names no path")
        return Manifest(
            str(content["library_id"]),
            library,
            {digest: _state(state) for digest, state in content["states"].items()},
        )
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StoreCorruptError(
            f"{folder.path / MANIFEST} cannot be used: {error}. The library itself is untouched: back it up into "
            "another folder."
        ) from error


def read_backup(folder: Folder) -> tuple[Manifest, BackupState]:
    """Return the manifest of a complete backup, and the state that its catalog belongs to.

    Raises StoreCorruptError where the catalog is not one that was backed up, as read_manifest otherwise.
    """
    manifest = read_manifest(folder)
    found = folder.status(CATALOG)
    state = manifest.states.get(file_entry(folder, CATALOG).blake2b) if found is not None else None
    log = folder.status(f"{CATALOG}-wal")
    if state is None or (log is not None and log.st_size):
        what = "missing" if found is None else "damaged, or was changed after the backup"
        raise StoreCorruptError(
            f"The backup in {folder.path} cannot be used: its {CATALOG} is {what}. The library itself is untouched: "
            "back it up into another folder."
        )
    return manifest, state


def temporary_name(kind: str) -> str:
    """Return a name for a file that is not finished; kind: `catalog` or `backup`."""
    return f".{kind}-{os.urandom(8).hex()}.tmp"


def is_temporary(name: str) -> bool:
    """Tell whether a name is one of `temporary_name`."""
    return _TEMPORARY.fullmatch(name) is not None


def _is_file(path: str) -> bool:
    """Tell whether a path is that of a segment or of a file of an index, below a library."""
    match path.split("/"):
        case ["vectors", name]:
            return is_segment_name(name)
        case ["ann", generation, name]:
            return is_generation_name(generation) and is_index_file_name(name)
    return False


def _state(content: Mapping[str, Any]) -> BackupState:
    files = {str(path): _entry(entry) for path, entry in content["files"].items()}
    for path in files:
        if not _is_file(path):
            raise ValueError(f"it names {path!r}, which is not a file of a library")
    return BackupState(str(content["made"]), int(content["revision"]), _entry(content["catalog"]), files)


def _entry(content: Mapping[str, Any]) -> FileEntry:
    size = int(content["size"])
    if size < 0:
        raise ValueError(f"it has a file of {size} bytes")
    return FileEntry(size, str(content["blake2b"]))


def _checksum(content: Mapping[str, Any]) -> str:
    digest = new_digest()
    digest.update(json.dumps(content, sort_keys=True).encode())
    return digest.hexdigest()
