"""Zip archives of items, made while they are sent: stored, not compressed, a piece at a time."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Generator, Sequence
from contextlib import closing
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from clipsearch.errors import ClipSearchError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.item_files import ItemFile, open_item

MISSING = "missing.txt"
"""The file of an archive that says which items are not in it, and why."""

_PIECE = 1 << 18
_MOST_BYTES = 180
_UNSAFE = frozenset('<>:"/\\|?*')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # of Windows, whatever follows the dot
_FIRST, _LAST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)


def zip_items(engine: SearchEngine, ids: Sequence[int]) -> Generator[bytes, None, None]:
    """Yield a zip archive of the files of items, piece by piece; at most one file is open.

    What cannot be given out is listed in `missing.txt` inside, so the archive ends as one whatever happens. It blocks.
    """
    sink, names, missing = _Sink(), _Names(), []
    with ZipFile(sink, "w", ZIP_STORED) as archive:  # type: ignore[call-overload]
        for item_id in dict.fromkeys(ids):
            try:
                with open_item(engine.library, item_id, engine.settings.max_text_bytes) as found:
                    with closing(_copy(archive, names.choose(found.name), found)) as pieces:
                        for _ in pieces:
                            yield sink.take()
            except (ClipSearchError, OSError) as error:
                missing.append(f"{item_id}: {error}")
        if missing:
            archive.writestr(MISSING, "\n".join(missing).encode("utf-8", "backslashreplace") + b"\n")
    yield sink.take()


def _copy(archive: ZipFile, name: str, found: ItemFile) -> Generator[None, None, None]:
    """Copy a file into an archive; yields after each piece."""
    entry = ZipInfo(name, _date(found.changed))
    entry.external_attr = 0o644 << 16
    entry.file_size = left = found.size  # decides whether its sizes need 64 bits
    with archive.open(entry, "w") as target:
        while left and (data := found.file.read(min(_PIECE, left))):
            target.write(data)
            left -= len(data)
            yield
    if left:
        raise OSError(f"{name} became shorter while it was read, so its end is missing")


class _Sink:
    """What an archive is written to: it keeps what has not been sent."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is written waits to be taken."""

    def take(self) -> bytes:
        """Return what was written since it was called last."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


class _Names:
    """Names in an archive: each once, and such that any system can unpack it, below where it is unpacked."""

    def __init__(self) -> None:
        self._taken = {MISSING}

    def choose(self, name: str) -> str:
        """Return a name like a file's."""
        stem, ending = _parts(name)
        chosen, number = stem + ending, 2
        while (folded := unicodedata.normalize("NFC", chosen).casefold()) in self._taken:
            chosen, number = f"{stem} ({number}){ending}", number + 1
        self._taken.add(folded)
        return chosen


def _parts(name: str) -> tuple[str, str]:
    """Return a safe stem and ending of a name."""
    safe = "".join("_" if c in _UNSAFE or not c.isprintable() else c for c in name).strip(". ")
    stem, dot, ending = safe.rpartition(".")
    if not dot or len(ending) > 10:
        stem, ending = safe, ""
    stem = stem[:_MOST_BYTES]  # the key of a record may be long
    while len(stem.encode()) > _MOST_BYTES:
        stem = stem[:-1]
    stem = stem.rstrip(". ") or "file"
    return f"_{stem}" if _RESERVED.match(stem) else stem, dot + ending if ending else ""


def _date(changed: float | None) -> tuple[int, int, int, int, int, int]:
    """Return a local time as archives have it; the earliest for an unknown one."""
    try:
        found = _FIRST if changed is None else time.localtime(changed)[:6]
    except (OverflowError, OSError, ValueError):
        return _FIRST
    return min(max(found, _FIRST), _LAST)
