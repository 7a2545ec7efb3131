"""Where the parts of films and documents lie, as the catalog holds it: a fragment, as an address has behind its #.

`t=12.5` is a time in seconds (W3C Media Fragments 1.0), `page=3` a page (RFC 8118).
"""

from __future__ import annotations

import re

from clipsearch.types import PartPosition

MAX_TIME, MAX_PAGE = 10_000_000, 1_000_000
"""Seconds of a film, and pages of a document: a catalog that says more is not believed."""

_TIME, _PAGE = "t=", "page="
_STORED = re.compile(r"(?:t=(\d{1,8}(?:\.\d{1,3})?)|page=(\d{1,7}))", re.ASCII)


def dump_position(position: PartPosition | None) -> str | None:
    """Return the form in which a position is stored, a time in thousandths of a second."""
    if position is None:
        return None
    if position.page is not None:
        return f"{_PAGE}{position.page}"
    return f"{_TIME}{position.time or 0.0:.3f}"


def load_position(stored: object) -> PartPosition | None:
    """Read a stored position; None where there is none, or where it is none of ours."""
    match = _STORED.fullmatch(stored) if isinstance(stored, str) else None
    if match is None:
        return None
    if match[2]:
        page = int(match[2])
        return PartPosition(page=page) if 0 < page <= MAX_PAGE else None
    time = float(match[1])
    return PartPosition(time=time) if time <= MAX_TIME else None
