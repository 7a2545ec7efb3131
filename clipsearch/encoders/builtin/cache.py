"""Keep the built towers in the user's cache.

A tower is a folder of files that is written whole under another name, fsynced and renamed, so that a kill or a second
process never leaves half of one. `meta.json` is written with it and holds the size and SHA-256 of each file. These
tell damage, not malice: who can write the folder writes them too. So a tower that others can have written is not used.
A large table is left open instead of read: it has a checksum for each block (table.py).
A cache that cannot be written only costs time: the tower is built in memory then.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from clipsearch.durable import fsync_path
from clipsearch.errors import EncoderError
from clipsearch.locations import cache_dir
from clipsearch.private import check_folder, open_private, read_private

logger = logging.getLogger("clipsearch")

Files = Mapping[str, bytes]
T = TypeVar("T")

_META = "meta.json"
TABLE = "table.u8"

_FILES = {"model.onnx", "tokenizer.json", "scales.npz", "pieces.model", "ids.npy", TABLE}
_STALE_SECONDS = 3600.0
_SWAPS = 50


class DamagedTowerError(Exception):
    """A tower in the cache that cannot be used; it never leaves this package."""


def open_tower(key: str, build: Callable[[], Files], load: Callable[[dict[str, Any]], T]) -> T:
    """Load a tower from the cache; build it first where it is missing, and once more where it is damaged.

    key: the folder's name, which changes with whatever the files are made from. build: makes the files.
    load: turns the bytes of the files into a tower, and raises DamagedTowerError where it cannot. Of the file TABLE it
    gets an open io.FileIO, or bytes where it was just built.
    Warns once where the cache cannot be written. Raises EncoderError where a new tower does not load.
    """
    folder, reason = cache_dir() / "encoders" / key, ""
    try:
        if os.path.lexists(folder):
            return load(_read(folder))
    except PermissionError as error:
        reason = f"cannot be used ({error.strerror})"
    except DamagedTowerError as error:
        reason = f"is damaged ({error})"
    files = build()
    try:
        _install(folder, files)
        if reason:
            logger.warning("The cached encoder in %s %s and was built again.", folder, reason)
    except OSError as error:
        _warn_unkept(folder.parent, error)
    try:
        # Not what is on the disk: another process may be putting the same there at this instant.
        return load(dict(files))
    except DamagedTowerError as error:
        raise EncoderError(
            f"The encoder that was built in {folder} does not load: {error}. Install clipsearch and onnxruntime again."
        ) from error


def discard_tower(key: str) -> None:
    """Remove a tower from the cache, so that it is built again; one that cannot be removed stays."""
    shutil.rmtree(cache_dir() / "encoders" / key, ignore_errors=True)


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning("%s", message)


def _warn_unkept(folder: Path, error: OSError) -> None:
    _warn_once(
        f"The built encoder cannot be stored in {folder} "
        f"({error.strerror or error}), so every command builds it again. "
        "Free some space, or set CLIPSEARCH_CACHE to a folder that can be written."
    )


def _read(folder: Path) -> dict[str, Any]:
    """Return the files of a tower, each checked against its size and SHA-256. Raises PermissionError."""
    try:
        check_folder(folder)
        meta: dict[str, dict[str, object]] = json.loads(read_private(folder / _META))
        if not meta.keys() <= _FILES:
            raise DamagedTowerError(f"{_META} names files that do not belong to a tower")
        files: dict[str, Any] = {name: read_private(folder / name) for name in meta if name != TABLE}
        for name, data in files.items():
            if len(data) != meta[name]["size"] or hashlib.sha256(data).hexdigest() != meta[name]["sha256"]:
                raise DamagedTowerError(f"{name} does not match its checksum")
        if TABLE in meta:
            files[TABLE] = _open_table(folder / TABLE, meta[TABLE]["size"])
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedTowerError(str(error)) from error
    return files


def _open_table(path: Path, size: object) -> FileIO:
    file = FileIO(open_private(path))
    if os.fstat(file.fileno()).st_size != size:
        file.close()
        raise DamagedTowerError(f"{path.name} does not have its size")
    return file


def _install(folder: Path, files: Files) -> None:
    """Keep the files of a tower. Raises OSError where the cache cannot be written."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(folder)
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}-{time.time_ns()}")
    temporary.mkdir(mode=0o700)
    try:
        _write(temporary, files)
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a killed build left, but not what another process is writing now."""
    for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):
        try:
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
        except OSError:
            continue


def _write(folder: Path, files: Files) -> None:
    meta = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    for name, data in (*files.items(), (_META, json.dumps(meta, indent=1).encode())):
        with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    fsync_path(folder)


def _swap(temporary: Path, folder: Path) -> None:
    """Rename a complete folder into place; what stands there goes aside first and is removed."""
    for attempt in range(_SWAPS):
        try:
            os.rename(temporary, folder)
            break
        except OSError:
            if attempt == _SWAPS - 1 or not temporary.is_dir():
                raise
        # Another process may rename at the same instant, so the folder may be gone again or exist again.
        aside = temporary.with_name(f"{temporary.name}-old{attempt}")
        try:
            os.rename(folder, aside)
        except OSError:
            continue
        shutil.rmtree(aside, ignore_errors=True)
    fsync_path(folder.parent)
