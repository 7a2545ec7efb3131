"""Texts to embed, one a line, and the pictures that a path stands for. Both are read as a stream."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from clipsearch.errors import InvalidInputError
from clipsearch.paths import suffix
from clipsearch.store.roots import Rules
from clipsearch.types import PICTURE_SUFFIXES
from indexer.sources.folder import FolderWalk

logger = logging.getLogger("clipsearch")

STDIN = "-"
MAX_LINE = 1 << 20
"""Bytes of a line."""

_JSON_LINES = {".jsonl", ".ndjson"}


class TextLine(NamedTuple):
    """A text and what it is called; text: None for a line that cannot be used, and then why."""

    key: str
    text: str | None
    reason: str = ""


def is_pictures(source: str) -> bool:
    """Tell whether a source stands for pictures: a folder, or a file whose name is that of a picture."""
    return source != STDIN and (os.path.isdir(source) or suffix(source) in PICTURE_SUFFIXES)


def find_pictures(source: str) -> Iterator[str]:
    """Yield the absolute paths of the pictures of a source: itself, or all below a folder.

    Raises InvalidInputError for a path that is nowhere.
    """
    if not os.path.isdir(source):
        if not os.path.lexists(source):
            raise InvalidInputError(f"There is no file or folder {source!r}. Check the path.")
        yield os.path.abspath(source)
        return
    root = os.path.realpath(source)
    walk = FolderWalk(0, root, "", Rules(), covered=[root])
    for record in walk:
        if suffix(record.path) in PICTURE_SUFFIXES:
            yield os.path.join(root, *record.path.split("/"))
    for path, reason in walk.unreadable:
        logger.warning("%s %s", os.path.join(root, path), reason)


def read_texts(source: str) -> Iterator[TextLine]:
    """Yield the texts of a file, or of stdin for `-`: a line each; of .jsonl, the `text` of an object each.

    Texts are called by the `id` or `key` of their object, else by the name of the file and the number of the line.
    Raises InvalidInputError for a file that cannot be read, and for a line of more than MAX_LINE bytes.
    """
    name = "stdin" if source == STDIN else os.path.basename(source)
    read = _read_object if suffix(source) in _JSON_LINES else _read_plain
    try:
        with _open(source) as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise InvalidInputError(f"{name}, line {number}: longer than {MAX_LINE:,} bytes. Split the text.")
                yield read(f"{name}:{number}", line)
    except OSError as error:
        raise InvalidInputError(f"{source} cannot be read: {error.strerror or error}.") from error


def _open(source: str) -> BinaryIO:
    return open(sys.stdin.fileno() if source == STDIN else source, "rb", closefd=source != STDIN)


def _read_plain(key: str, line: bytes) -> TextLine:
    try:
        return _checked(key, line.decode("utf-8-sig" if key.endswith(":1") else "utf-8").strip())
    except UnicodeDecodeError:
        return TextLine(key, None, "not UTF-8")


def _read_object(key: str, line: bytes) -> TextLine:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return TextLine(key, None, "not a JSON object")
    if not isinstance(fields, dict):
        return TextLine(key, None, "not a JSON object")
    named = next((fields[name] for name in ("id", "key") if fields.get(name) not in (None, "")), key)
    if isinstance(named, bool) or not isinstance(named, str | int):
        return TextLine(key, None, "its id is neither a string nor a whole number")
    return _checked(str(named), fields.get("text"))


def _checked(key: str, text: object) -> TextLine:
    if not isinstance(text, str) or not text.strip():
        return TextLine(key, None, "it has no text")
    return TextLine(key, text)
