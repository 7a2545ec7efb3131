"""Wrong tokens, counted by who brought them, so that nobody can try many."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections import OrderedDict

MOST, WINDOW = 10, 60.0
"""Wrong tokens that one address may bring within so many seconds."""

_KEPT = 4096
"""Addresses that are remembered; the oldest are forgotten first."""


class FailedTokens:
    """What each address last brought in vain, and when; for one event loop."""

    def __init__(self) -> None:
        self._tried: OrderedDict[str, dict[bytes, float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Return the seconds until an address may bring a token again; 0 if it may."""
        now = time.monotonic()
        times = [each for each in self._tried.get(_network(address), {}).values() if each > now - WINDOW]
        return math.ceil(min(times) + WINDOW - now) if len(times) >= MOST else 0

    def record(self, address: str, token: str) -> None:
        """Count a wrong token. The same one again is no new guess: a page may ask often with an old session."""
        name, now = _network(address), time.monotonic()
        tried = {each: when for each, when in self._tried.pop(name, {}).items() if when > now - WINDOW}
        tried.setdefault(hashlib.sha256(token.encode("utf-8", "replace")).digest(), now)
        self._tried[name] = tried
        while len(self._tried) > _KEPT:
            self._tried.popitem(last=False)


def _network(address: str) -> str:
    """Return what one client has: an address, or of IPv6 the network of 64 bits, all of which it may use."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False)) if found.version == 6 else address
