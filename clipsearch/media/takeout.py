"""What the JSON that Google Takeout puts beside a picture says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from clipsearch.media.facts import NOTHING, Facts, read_place
from clipsearch.media.moments import FIRST_YEAR

_MAX_PEOPLE = 1000


@dataclass(frozen=True, slots=True)
class Takeout:
    """What it says: a description, names of people, and when and where the picture was taken."""

    captions: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    facts: Facts = NOTHING


def read_takeout(data: bytes) -> Takeout:
    """Read the JSON beside a picture; nothing of one that is not Takeout's. Never raises.

    Its time is UTC, because it has no other: it counts only where the picture has none of its own.
    """
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return Takeout()
    if not isinstance(said, dict) or not isinstance(said.get("photoTakenTime"), dict):
        return Takeout()
    description, people = said.get("description"), said.get("people")
    named = (
        [each.get("name") for each in islice(people, _MAX_PEOPLE) if isinstance(each, dict)]
        if isinstance(people, list)
        else []
    )
    return Takeout(
        (description,) if isinstance(description, str) else (),
        tuple(name for name in named if isinstance(name, str)),
        Facts(original=_moment(said["photoTakenTime"]), place=_place(said, "geoDataExif") or _place(said, "geoData")),
    )


def _moment(time: Mapping[str, Any]) -> datetime | None:
    stamp = time.get("timestamp")
    with suppress(ValueError, TypeError, OverflowError, OSError):
        moment = datetime.fromtimestamp(int(stamp), UTC).replace(tzinfo=None)  # type: ignore[arg-type]
        return moment if moment.year >= FIRST_YEAR and int(stamp) else None  # type: ignore[arg-type]
    return None


def _place(said: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    where = said.get(name)
    if not isinstance(where, dict):
        return None
    return read_place(_degrees(where.get("latitude")), _degrees(where.get("longitude")))


def _degrees(value: object) -> float | None:
    with suppress(OverflowError):
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return None
