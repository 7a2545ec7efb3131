"""When a picture was taken, as cameras and photo programs write it: EXIF, ISO 8601, and what some make of these."""

from __future__ import annotations

import re
from datetime import datetime

FIRST_YEAR = 1800

_SEPARATOR = r"[ ]?[:\-/.][ ]?"
_MOMENT = re.compile(
    rf"""\s*(?P<year>\d{{4}}){_SEPARATOR}(?P<month>\d{{1,2}}){_SEPARATOR}(?P<day>\d{{1,2}})
    (?:(?:[ ]+|T)(?P<hour>\d{{1,2}}):[ ]?(?P<minute>\d{{1,2}})
        (?::[ ]?(?P<second>\d{{1,2}}))?
        (?:[.,]\d+)?
        (?:[ ]?(?P<half>[AP])\.?M\b)?)?
    """,
    re.VERBOSE | re.IGNORECASE,
)


def read_moment(text: str) -> datetime | None:
    """Read a local time without its zone; None for what is not a time.

    A date alone is its midnight. Hour 24 is hour 0 of the same day, as the cameras mean that write it; second 60 is
    second 59. Numbers may be padded by blanks, and the hour may be one of twelve with AM or PM.
    """
    match = _MOMENT.match(text)
    if match is None:
        return None
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    if match["half"]:
        hour = _of_day(hour, match["half"].upper())
    try:
        moment = datetime(
            int(match["year"]),
            int(match["month"]),
            int(match["day"]),
            0 if hour == 24 else hour,
            minute,
            59 if second == 60 else second,
        )
    except ValueError:
        return None
    return moment if moment.year >= FIRST_YEAR else None


def _of_day(hour: int, half: str) -> int:
    """Return the hour of a day of 24; some programs write `15:04 PM`."""
    if hour > 12:
        return hour
    return hour % 12 + (12 if half == "P" else 0)
