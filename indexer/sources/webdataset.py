"""Tar files in WebDataset's layout: members of one name but for their endings are a sample, and lie side by side.

The layout is that of https://github.com/webdataset/webdataset: the name up to the first dot of its last part is the key
of a sample; `jpg`, `png`, `webp`... hold its picture, `txt` its caption, `json` fields, `cls` a class. It is read here
and not by that library, whose streams run shell commands (`pipe:`), whose decoders include pickle, and whose samples
have no bound. Nothing is written to disk, so that the names of members lead nowhere.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from clipsearch.errors import InvalidInputError
from clipsearch.types import PICTURE_SUFFIXES
from indexer.sources.base import BadRow, BrokenShardError, Row, Shard
from indexer.sources.files import MAX_PICTURE, FileSource, Storage
from indexer.sources.rows import RowReader

MAX_MEMBERS = 64
"""Members of one sample."""

MAX_TEXT = 1 << 20
"""Bytes of a caption, of fields, or of a class."""

MAX_NAME = 400
"""Characters of a key."""

_MAX_HEADERS = 2 << 20
"""Bytes of the headers before one member; a long name or extended attributes are headers too."""

_CHUNK = 1 << 20
_CAPTION, _FIELDS, _CLASS = "txt", "json", "cls"
_TEXTS = frozenset({_CAPTION, _FIELDS, _CLASS})
_PICTURES = frozenset(kind.lstrip(".") for kind in PICTURE_SUFFIXES)


class WebDataset(FileSource):
    """The samples of one tar file, or of each of those that a pattern stands for, which are its shards."""

    def __init__(self, address: str, storage: Storage, columns: tuple[tuple[str, str], ...] = ()) -> None:
        """Open; columns: those of the fields in `json` members that have a role, as in SourceOptions."""
        super().__init__(address, storage)
        self._rows = RowReader(columns)

    def read(self, shard: Shard, start: int = 0) -> Iterator[Row]:
        """Yield the samples of a tar file from a number on; what lies before is read past.

        Raises BrokenShardError for a file that ends too soon, after what is whole.
        """
        name = shard.name.rstrip("/").rpartition("/")[2]
        start = max(start, shard.first)
        try:
            with self._storage.open(shard.name) as file:
                for number, sample in enumerate(_samples(file, start)):
                    if shard.stop is not None and number >= shard.stop:
                        return
                    if number >= start:
                        yield self._row(number, name, sample)
        except (tarfile.TarError, RecursionError, ValueError, EOFError) as error:
            if isinstance(error, InvalidInputError):
                raise
            reason = str(error)[:200] or type(error).__name__
            raise BrokenShardError(f"{shard.name} is damaged or cut off: {reason}. What is whole was read.") from error
        except OSError as error:
            raise InvalidInputError(f"{shard.name} cannot be read: {error.strerror or error}.") from error

    def _row(self, number: int, name: str, sample: Sample) -> Row:
        row_id = f"{name}/{sample.key}"
        if sample.problem:
            return Row(number, BadRow(row_id, sample.problem))
        fields = dict(sample.fields)
        for unused in ("id", "key", "__key__"):  # the key of the tar file is what names it
            fields.pop(unused, None)
        return self._rows.read(number, row_id, fields, _no_picture)


class Sample:
    """Members of one key. fields: what they hold, by column. problem: why it cannot be used, "" if it can."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.fields: dict[str, object] = {}
        self.problem = (
            "" if len(key) <= MAX_NAME else f"its key has {len(key)} characters, over the limit of {MAX_NAME}"
        )
        self.members = 0

    def add(self, kind: str, data: bytes) -> None:
        """Add what a member holds."""
        if kind in _PICTURES:
            self.fields["image"] = data
            return
        text = data.decode("utf-8", "replace").strip()
        if kind == _FIELDS:
            self._add_fields(text)
        elif kind == _CAPTION:
            self.fields["caption"] = text
        else:
            self.fields[_CLASS] = int(text) if text.isdecimal() and len(text) < 18 else text

    def _add_fields(self, text: str) -> None:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            self.problem = f"its json is not JSON: {error}"[:200]
            return
        if isinstance(fields, dict):
            self.fields = fields | self.fields


def _samples(file: BinaryIO, start: int) -> Iterator[Sample]:
    """Yield samples in order; of those before `start` nothing is kept."""
    sample: Sample | None = None
    number = -1
    bounded = _BoundedReader(file)
    with tarfile.open(fileobj=cast(Any, bounded), mode="r|") as archive:
        for member in _members(archive, bounded):
            key, kind = _split(member.name)
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                sample, number = Sample(key), number + 1
            if number >= start:
                _take(archive, member, kind, sample)
    if sample is not None:
        yield sample


def _members(archive: tarfile.TarFile, file: _BoundedReader) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of an archive, with bounds on what lies between them.

    Links, devices and sparse files hold nothing that is read: they are passed over.
    """
    while True:
        file.left = _MAX_HEADERS
        member = archive.next()
        file.left = None
        if member is None:
            return
        cast(Any, archive).members = []  # which would hold every header
        if member.isreg() and not member.issparse():
            yield member
        if (data := archive.fileobj) is not None:
            end = cast(int, cast(Any, archive).offset)  # of the next header; a sparse member says another size
            while data.tell() < end:  # in pieces, so that a header after it is bounded by itself
                if not data.read(min(_CHUNK, end - data.tell())):
                    raise tarfile.ReadError("unexpected end of data")


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, kind: str, sample: Sample) -> None:
    """Read a member into its sample, if it is of a kind that counts."""
    sample.members += 1
    if sample.members > MAX_MEMBERS:
        sample.problem = f"it has more than {MAX_MEMBERS} members"
        sample.fields.clear()
    is_picture = kind in _PICTURES
    if sample.problem or (kind not in _TEXTS and not is_picture) or (is_picture and "image" in sample.fields):
        return
    most = MAX_PICTURE if is_picture else MAX_TEXT
    if member.size > most:
        sample.problem = f"its {kind} has {member.size:,} bytes, over the limit of {most:,}"
        return
    content = archive.extractfile(member)
    data = b"" if content is None else content.read()
    if len(data) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    sample.add(kind, data)


def _split(name: str) -> tuple[str, str]:
    """Return the key of a member and its kind, which is what follows the last dot; the key ends at the first one."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.rpartition(".")[2].lower()


def _no_picture(reference: str) -> str | bytes:
    """Refuse a picture outside of the archive."""
    raise ValueError("it has no picture in the tar file")


class _BoundedReader:
    """A file that gives `left` more bytes, and then an error; None for as many as there are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.left: int | None = _MAX_HEADERS  # an archive is opened by reading its first header

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        data = self._file.read(size)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise tarfile.ReadError("its headers are too long")
        return data
