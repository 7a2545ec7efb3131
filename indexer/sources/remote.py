"""Data sets that fsspec reaches: objects of S3, members of zip and tar files, files by address, memory.

Only the protocols in PROTOCOLS are opened, each part of a chained address alike. Over HTTP fsspec would connect to
whatever a name leads to, also to this machine and its networks; the pictures that rows name by URLs are fetched by
clipsearch.media.fetch, which checks addresses. The others of fsspec run commands, keep caches, or were never tried.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from clipsearch.errors import InvalidInputError
from clipsearch.paths import is_url, suffix
from clipsearch.records import Record
from clipsearch.types import PICTURE_SUFFIXES
from indexer.sources.base import BadRow, IsWhole, Row, Shard, never
from indexer.sources.files import MAX_FILES, MAX_PICTURE, DataFile, expand

PROTOCOLS = {"file", "local", "memory", "s3", "s3a", "zip", "tar"}
"""What may stand before `://` in an address."""

_FACTS = ("ETag", "LastModified", "last_modified", "mtime", "created", "size", "CRC", "chksum", "offset_data")
"""What of a file's description changes with what it holds."""

_LOCKS: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
"""One for each file system: the members of a tar file share the position of the file, and so do all who opened it."""

_BUFFER = 1 << 16
_MAX_CAPTION = 8192
_CAPTION = ".txt"


class RemoteStorage:
    """The files of one address."""

    is_disk = False

    def __init__(self, address: str) -> None:
        """Open a file system. Raises InvalidInputError for a protocol that is not allowed or not installed."""
        self._address = address
        *parts, last = address.split("::")
        for part in parts:
            _check_protocol(part.partition("://")[0], address)
        _check_protocol(last.partition(":")[0] if is_url(last) else "file", address)
        self._protocol = address.partition("://")[0].lower()
        self._chain = "".join(f"::{part}" for part in address.split("::")[1:])
        try:
            import fsspec

            self._files, self._path = fsspec.core.url_to_fs(address)
        except ImportError as error:
            extra = "s3" if "s3" in address.partition("://")[0] else "fsspec"
            raise InvalidInputError(
                f"Reading {address} needs a package that is not installed ({error}). Run: pip install "
                f"'clipsearch[{extra}]'"
            ) from error
        except Exception as error:  # of any file system
            raise _unreadable(address, error) from error

    def path_of(self, address: str) -> str:
        """Return the path in the first file system of an address."""
        return address.partition("::")[0].partition("://")[2]

    def address_of(self, path: str) -> str:
        """Return the whole address of a file."""
        return f"{self._protocol}://{path.lstrip('/') if self._protocol == 'memory' else path}{self._chain}"

    def find(self, address: str) -> Iterator[DataFile]:
        """Yield the files that an address or a pattern stands for."""
        found = 0
        for path in expand(self._path):
            for each, facts in self._listed(path):
                found += 1
                if found > MAX_FILES:
                    raise InvalidInputError(f"{address} stands for more than {MAX_FILES:,} files. Name a part of it.")
                yield DataFile(each, _fingerprint(facts), int(facts.get("size") or 0))
        if not found:
            raise InvalidInputError(f"There is nothing at {address}. Check the address.")

    def _listed(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            self._files.invalidate_cache()
            if "*" in path or "?" in path:
                found = self._files.glob(path, detail=True)
            elif self._files.isfile(path):
                found = {path: self._files.info(path)}
            else:
                found = self._files.find(path, detail=True)
        except FileNotFoundError:
            return
        except Exception as error:
            raise _unreadable(self._address, error) from error
        yield from ((each, found[each]) for each in sorted(found) if _is_plain(found[each]))

    def open(self, path: str) -> io.BufferedReader:
        """Open a file of the address."""
        lock = _LOCKS.setdefault(self._files, threading.Lock())
        with _as_os_errors(), lock:
            return io.BufferedReader(_Raw(self._files.open(path, "rb"), lock), _BUFFER)

    @contextmanager
    def on_disk(self, path: str) -> Iterator[str]:
        """Copy a file to a temporary one."""
        with tempfile.NamedTemporaryFile(prefix="clipsearch-", suffix=suffix(path)) as copy:
            with self.open(path) as file:
                shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            yield copy.name

    def picture(self, table: str, reference: str, folder: str | None) -> str | bytes:
        """Return the bytes of a picture at or below the folder of the table, in the same file system."""
        start = posixpath.dirname(table)
        path = posixpath.normpath(posixpath.join(start, reference))
        if reference.startswith("/") or not path.startswith(f"{start}/" if start else "") or path.startswith(".."):
            raise ValueError(f"its picture {reference!r:.80} lies outside of the folder of the table")
        return self.read(path, MAX_PICTURE)

    def read(self, path: str, most: int) -> bytes:
        """Read a whole file. Raises OSError, ValueError for a longer one."""
        with self.open(path) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"it has more than {most:,} bytes, which is the limit")
        return data


class _Raw(io.RawIOBase):
    """A file of any file system, whose errors are OSErrors, and of which lines are read with a bound by its reader."""

    def __init__(self, file: Any, lock: threading.Lock) -> None:  # noqa: ANN401
        self._file = file
        self._lock = lock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        with _as_os_errors(), self._lock:
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


class RemoteFolder:
    """The pictures at an address that is a folder or a pattern; a text of the same name is the caption of each.

    Each picture is a shard of its own, so that only those that change are read again.
    """

    def __init__(self, address: str, storage: RemoteStorage) -> None:
        """Open."""
        self._address = address
        self._storage = storage

    @property
    def address(self) -> str:
        """The address."""
        return self._address

    def shards(self, is_whole: IsWhole = never) -> Iterator[Shard]:
        """Yield a shard for each picture."""
        captions: dict[str, str] = {}
        pictures: list[DataFile] = []
        for file in self._storage.find(self._address):
            kind = suffix(file.path)
            if kind == _CAPTION:
                captions[file.path[: -len(_CAPTION)]] = file.fingerprint
            elif kind in PICTURE_SUFFIXES:
                pictures.append(file)
        if not pictures:
            raise InvalidInputError(f"There is no picture at {self._address}. Check the address.")
        for file in pictures:
            beside = captions.get(posixpath.splitext(file.path)[0])
            yield Shard(file.path, file.fingerprint + (f"+{beside}" if beside else ""))

    def read(self, shard: Shard, start: int = 0) -> Iterator[Row]:
        """Yield the picture of a shard."""
        if start:
            return
        name = self._storage.address_of(shard.name)
        try:
            data = self._storage.read(shard.name, MAX_PICTURE)
            caption = None
            if "+" in shard.fingerprint:
                text = self._storage.read(posixpath.splitext(shard.name)[0] + _CAPTION, _MAX_CAPTION)
                caption = " ".join(text.decode("utf-8", "replace").split()) or None
            yield Row(0, Record(name, data, caption=caption))
        except ValueError as error:
            yield Row(0, BadRow(name, str(error)))
        except OSError as error:
            raise InvalidInputError(f"{shard.name} cannot be read: {error.strerror or error}.") from error


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn whatever a file system raises into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(str(error)[:200] or type(error).__name__) from error


def _check_protocol(protocol: str, address: str) -> None:
    if protocol.lower() in PROTOCOLS:
        return
    advice = f"The protocols are {', '.join(sorted(PROTOCOLS))}"
    if protocol in ("http", "https"):
        advice = "Download it and name the file; pictures whose URLs are in a table are fetched if you ask for it"
    raise InvalidInputError(f"The address {address} is read over {protocol}, which is not allowed. {advice}.")


def _is_plain(facts: dict[str, Any]) -> bool:
    """Tell a file from a folder, and from a link, which might lead elsewhere."""
    return facts.get("type") == "file" and not facts.get("islink")


def _fingerprint(facts: dict[str, Any]) -> str:
    known = {name: str(facts[name]) for name in _FACTS if facts.get(name) is not None}
    if "date_time" in facts:
        known["date_time"] = str(facts["date_time"])
    return hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=16).hexdigest()


def _unreadable(address: str, error: Exception) -> InvalidInputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InvalidInputError(f"{address} cannot be read: {reason}. Check the address, and who may read it.")
