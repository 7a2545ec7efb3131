"""Wrong tokens, counted by who brought them, so that nobody can try many."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict

MOST, WINDOW = 10, 60.0
"""Wrong tokens that one address may bring within so many seconds."""

_KEPT = 4096
"""Addresses that are remembered; the oldest are forgotten first."""


class FailedTokens:
    """When each address last brought wrong tokens; for one event loop."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Return the seconds until an address may bring a token again; 0 if it may."""
        now = time.monotonic()
        times = [each for each in self._times.get(_network(address), ()) if each > now - WINDOW]
        return math.ceil(times[0] + WINDOW - now) if len(times) >= MOST else 0

    def record(self, address: str) -> None:
        """Count a wrong token."""
        name, now = _network(address), time.monotonic()
        self._times[name] = [*(each for each in self._times.pop(name, ()) if each > now - WINDOW), now]
        while len(self._times) > _KEPT:
            self._times.popitem(last=False)


def _network(address: str) -> str:
    """Return what one client has: an address, or of IPv6 the network of 64 bits, all of which it may use."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False)) if found.version == 6 else address
