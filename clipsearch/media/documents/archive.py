"""The files in a document that is a zip archive, unpacked within bounds."""

from __future__ import annotations

import zipfile
import zlib
from io import BytesIO

from clipsearch.errors import DocumentError
from clipsearch.media.documents.base import MAX_UNPACKED

_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_MAX_FILES = 20_000
_IS_ENCRYPTED = 1


class Archive:
    """A zip archive. What is unpacked of it is bounded over all files, whatever sizes its directory says."""

    def __init__(self, data: bytes, limit: int = MAX_UNPACKED) -> None:
        """Read its directory; limit: bytes that are unpacked in all. Raises DocumentError."""
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            raise DocumentError("damaged document: its archive cannot be read") from error
        if len(self._zip.filelist) > _MAX_FILES:
            raise DocumentError(f"a document of more than {_MAX_FILES} files")
        self._left = self._limit = limit

    def has(self, name: str) -> bool:
        """Tell whether there is a file of a name."""
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """Unpack a file. Raises DocumentError where it is missing, damaged, encrypted or too large."""
        info = self._zip.NameToInfo.get(name)
        if info is None:
            raise DocumentError(f"damaged document: it has no {name[:100]}")
        if info.flag_bits & _IS_ENCRYPTED:
            raise DocumentError("a document that is protected by a password")
        if info.compress_type not in _METHODS:
            raise DocumentError("a document that is packed in a way that no program for documents uses")
        try:
            with self._zip.open(info) as file:
                data = file.read(self._left + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise DocumentError(f"damaged document: {name[:100]} cannot be unpacked") from error
        self._left -= len(data)
        if self._left < 0:
            raise DocumentError(f"a document that unpacks to more than {self._limit} bytes")
        return data
