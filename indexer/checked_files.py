"""Files that a manifest describes, each by its size and checksum, and the encoder that it names.

A manifest may come from anyone: links are not followed, and nothing is believed before it is checked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.store.folder import Folder
from clipsearch.types import EncoderPin
from indexer.sources.arrays import MAX_DIM

MAX_MANIFEST = 64 << 20
"""Bytes of a manifest, and of the plan of a folder of shards."""

MAX_NAME = 1 << 16
"""Characters of the name of an encoder."""

Described = Mapping[str, tuple[int, str]]
"""By the names of files, their sizes and BLAKE2b-256."""


def describe(path: Path) -> tuple[int, str]:
    """Return the size and the checksum of a file."""
    with open(path, "rb") as file:
        return os.fstat(file.fileno()).st_size, _checksum(file)


def open_file(folder: Folder, name: str, stack: ExitStack) -> BufferedReader:
    """Open a file, which the stack closes. Raises InvalidInputError where it is missing; OSError, LibraryError."""
    try:
        return stack.enter_context(open(folder.open(name, os.O_RDONLY), "rb"))
    except FileNotFoundError as error:
        raise InvalidInputError(f"{folder.path / name} is missing.") from error


def open_files(folder: Folder, described: Described, stack: ExitStack) -> dict[str, BufferedReader]:
    """Open files as `open_file` does. Raises InvalidInputError for one of another size too."""
    opened = {}
    for name, (size, _) in described.items():
        opened[name] = open_file(folder, name, stack)
        if os.fstat(opened[name].fileno()).st_size != size:
            raise InvalidInputError(f"{folder.path / name} does not have its {size:,} bytes.")
    return opened


def check_files(path: Path, opened: Mapping[str, BufferedReader], described: Described) -> None:
    """Compare the files of a folder with their checksums. Raises InvalidInputError."""
    for name, (_, checksum) in described.items():
        opened[name].seek(0)
        if _checksum(opened[name]) != checksum:
            raise InvalidInputError(f"{path / name} does not have its checksum: it is damaged.")


def read_pin(said: Mapping[str, Any]) -> EncoderPin:
    """Read the encoder of a manifest. Raises ValueError, TypeError for anything but one whose name can be shown."""
    pin = EncoderPin(**said)
    for text in (pin.name, pin.fingerprint):
        if not isinstance(text, str) or len(text) > MAX_NAME or not text.isprintable():
            raise ValueError(f"its encoder has {text!r:.40}, which is no text that can be printed")
    if type(pin.dim) is not int or not 0 < pin.dim <= MAX_DIM:
        raise ValueError(f"its encoder has {pin.dim!r:.40} dimensions, which must be from 1 to {MAX_DIM:,}")
    return pin


def _checksum(file: BufferedReader) -> str:
    return hashlib.file_digest(file, _digest).hexdigest()


def _digest() -> Any:  # noqa: ANN401 - the type of hashlib's objects is private
    return hashlib.blake2b(digest_size=32)
