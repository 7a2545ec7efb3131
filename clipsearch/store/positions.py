"""Where the parts of films and documents lie, as the catalog holds it: a fragment, as an address has behind its #.

`t=12.5` is a time in seconds (W3C Media Fragments 1.0), `page=3` a page (RFC 8118).
"""

from __future__ import annotations

import math

from clipsearch.types import PartPosition

_TIME, _PAGE = "t=", "page="


def dump_position(position: PartPosition | None) -> str | None:
    """Return the form in which a position is stored, a time in thousandths of a second."""
    if position is None:
        return None
    if position.page is not None:
        return f"{_PAGE}{position.page}"
    return f"{_TIME}{position.time or 0.0:.3f}"


def load_position(stored: object) -> PartPosition | None:
    """Read a stored position; None where there is none, or where it is none of ours."""
    if not isinstance(stored, str):
        return None
    try:
        if stored.startswith(_PAGE):
            return PartPosition(page=int(stored.removeprefix(_PAGE)))
        time = float(stored.removeprefix(_TIME))
    except ValueError:
        return None
    return PartPosition(time=time) if stored.startswith(_TIME) and math.isfinite(time) else None
