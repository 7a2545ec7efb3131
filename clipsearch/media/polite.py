"""Fetching many pictures from the web without being a burden to any host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from clipsearch.errors import PictureError
from clipsearch.media.fetch import BusyError, fetch_bytes

CONCURRENCY = 8
"""Pictures that are fetched at the same time."""

PER_HOST = 2
"""Of these, how many from one host."""

MAX_BYTES = 64 << 20
"""Bytes of one picture; a lower limit of the settings counts."""

TRIES = 3
"""How often a host is asked for a picture that says that it is busy."""

MAX_WAIT = 30.0
"""Seconds that a busy host is waited for; one that asks for more has failed."""

_MAX_HOSTS = 10_000


class PoliteFetcher:
    """Fetches pictures from several threads, of each host a few at a time, and waits where a host asks for it."""

    def __init__(self, max_bytes: int, allow_private: bool, sleep: Callable[[float], None] = time.sleep) -> None:
        """Prepare; the arguments are as of `fetch_bytes`. sleep: waits for a number of seconds."""
        self._max_bytes = min(max_bytes, MAX_BYTES)
        self._allow_private = allow_private
        self._sleep = sleep
        self._lock = threading.Lock()
        self._all = threading.Semaphore(CONCURRENCY)
        self._hosts: dict[str, threading.Semaphore] = {}

    def fetch(self, url: str) -> bytes:
        """Return the file of a picture. Raises what `fetch_bytes` raises."""
        with self._host(url):
            for _ in range(TRIES - 1):
                try:
                    return self._fetch(url)
                except PictureError as error:
                    seconds = _asked_for(error)
                    if seconds is None or seconds > MAX_WAIT:
                        raise
                self._sleep(seconds)  # with the host's place held, so that others of this host wait too
            return self._fetch(url)

    def _fetch(self, url: str) -> bytes:
        with self._all:
            return fetch_bytes(url, max_bytes=self._max_bytes, allow_private=self._allow_private)

    def _host(self, url: str) -> threading.Semaphore:
        host = (urlsplit(url).hostname or "").lower()
        with self._lock:
            if len(self._hosts) >= _MAX_HOSTS:
                self._hosts.clear()  # those that are in use go on as they are
            return self._hosts.setdefault(host, threading.Semaphore(PER_HOST))


def _asked_for(error: BaseException | None) -> float | None:
    """Return the seconds after which a busy host wants to be asked again; None for any other error."""
    while error is not None and not isinstance(error, BusyError):
        error = error.__cause__
    return None if error is None else error.seconds
