"""File paths as text that any database and any JSON reader can hold.

A path on disk is bytes; os.fsdecode turns what is not UTF-8 into lone surrogates, which SQLite and UTF-8 refuse.
Here such a byte is written %XX, and a literal % is written %25, so the mapping is reversible and keeps prefixes.
"""

from __future__ import annotations

import os
import re

_SURROGATE = re.compile("[\udc80-\udcff]")
_ESCAPE = re.compile("%([0-9A-F]{2})")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|data:[^\s,]*,", re.IGNORECASE)


RECORDS = "record:"
"""Stands before the id of a record that has no file: it is no absolute path, and nothing is opened by it."""


_ID = "://"
"""Prefix of the stored name of an imported record that is named by an id, not by a path or URL. No path begins so."""


def name_of_id(given: str) -> str:
    """Return the stored name of an imported record that is named by an id."""
    return _ID + given


def without_mark(name: str) -> str:
    """Return the name of an imported record as it was given: the id, or else the path or URL."""
    return name.removeprefix(_ID)


def quote_path(path: str) -> str:
    """Turn a path as os.fsdecode gives it into storable text."""
    if path.isascii() and "%" not in path:  # the usual case, without two substitutions
        return path
    return _SURROGATE.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", path.replace("%", "%25"))


def unquote_path(stored: str) -> str:
    """Turn stored text back into the path; the inverse of quote_path."""
    if "%" not in stored:
        return stored
    return _ESCAPE.sub(lambda match: "%" if match[1] == "25" else chr(0xDC00 + int(match[1], 16)), stored)


def quote_source(source: str) -> str:
    """Turn the path or URL of a picture into storable text; a URL stays as it is."""
    return source if is_url(source) else quote_path(source)


def unquote_source(stored: str) -> str:
    """Turn stored text back into a path or a URL; the inverse of quote_source."""
    return stored if is_url(stored) else unquote_path(stored)


def join(root: str, stored: str) -> str:
    """Return the absolute path of a stored relative one; a record's name that is absolute or a URL stays as it is.

    So does the id of an imported record. The id of a record that was added from Python, whose root is RECORDS, follows
    that.
    """
    path = unquote_path(stored)
    if root == RECORDS:
        return root + path
    if path.startswith(_ID):
        return without_mark(path)
    if "://" in path or os.path.isabs(path):
        return path
    return os.path.join(root, *path.split("/")) if path else root


def suffix(path: str) -> str:
    """Return what follows the last dot of a file's name, with the dot, in lower case; "" for a name like `.txt`.

    It equals `PurePath(path).suffix.lower()` for the path of a file, but builds no object.
    """
    name = path[path.rfind("/") + 1 :] if os.sep == "/" else os.path.basename(path)
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def printable(text: str) -> str:
    """Escape what could steer a terminal or break a line: control characters, surrogates, direction marks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def is_url(source: object) -> bool:
    """Tell a URL, of any kind, from the path of a file."""
    return isinstance(source, str) and _URL.match(source) is not None


def may_be_opened(path: str) -> bool:
    """Tell whether the path of an item is that of a file or a URL. That of a record may be just its id."""
    return os.path.isabs(path) or is_url(path)


def real_path(path: str | os.PathLike[str]) -> str:
    """Return what two names of one file have in common; a URL, which records may have for a path, as it is."""
    return str(path) if is_url(path) else os.path.realpath(path)
