"""Asking the daemon a query. Whatever is not as it should be there, the query is answered in this process."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import asdict
from pathlib import Path

from clipsearch import __version__
from clipsearch.cli.daemon.protocol import ask
from clipsearch.cli.requests import Answer, SearchRequest
from clipsearch.config import Settings
from clipsearch.locations import cache_dir
from clipsearch.paths import is_url


def ask_daemon(asked: SearchRequest, library: Path, settings: Settings) -> Answer | None:
    """Let the daemon answer; None where it does not."""
    if not settings.daemon or os.environ.get("CLIPSEARCH_DEBUG"):
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        question = {
            "do": "query",
            "version": __version__,
            "cache": str(cache_dir()),
            "library": str(library),
            "settings": asdict(settings),
            "asked": asked.to_values(),
            "picture": None if asked.image is None else identify(asked.image),
        }
        reply = ask(question)
        if reply and "out" in reply:
            notes = tuple(map(str, reply["notes"]))
            return Answer(reply["out"].encode("latin-1"), notes, reply["payload"], bool(reply["confident"]))
    return None


def identify(path: str) -> list[int]:
    """Return what tells a regular file from all others, so that the daemon can tell that it sees the same.

    It does not for a URL or the likes of /dev/stdin. Raises OSError or ValueError for anything that is not a file.
    """
    if is_url(path):
        raise ValueError(f"{path} is no file")
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no file")
    return [status.st_dev, status.st_ino]
