"""What a film says of itself: when and where it was taken, and by what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_APPLE = "com.apple.quicktime."
_PLACE = re.compile(r"([+-]\d{2}(?:\d{2}){0,2}(?:\.\d+)?)([+-]\d{3}(?:\d{2}){0,2}(?:\.\d+)?)(?:[+-]|/|CRS|$)")
"""Latitude and longitude of ISO 6709, in degrees, or with minutes and seconds."""

_FIRST_YEAR = 1905
"""Before it lies the start of QuickTime's time, which stands for no date."""


def read_facts(said: Mapping[str, str]) -> dict[str, Any]:
    """Return taken_at (ISO 8601, no zone), camera, latitude and longitude, None where a film does not say.

    said: the metadata of its container, by name. A date with an offset is the local time of the camera;
    creation_time is in UTC, and is kept so.
    """
    words = {name.lower(): value for name, value in said.items() if isinstance(value, str)}
    latitude, longitude = _place(words.get(f"{_APPLE}location.iso6709") or words.get("location") or "")
    names = [_name(words, each) for each in ("make", "model")]
    camera = " ".join(each for each in names if each)[:100] or None
    if names[0] and names[1] and names[1].casefold().startswith(names[0].casefold()):
        camera = names[1][:100]
    taken = _local(words.get(f"{_APPLE}creationdate")) or _utc(words.get("creation_time") or words.get("date"))
    return {"taken_at": taken, "camera": camera, "latitude": latitude, "longitude": longitude}


def _name(words: Mapping[str, str], name: str) -> str:
    value = words.get(f"{_APPLE}{name}") or words.get(f"com.android.{name}") or words.get(name) or ""
    return " ".join(value.split())


def _local(text: str | None) -> str | None:
    found = _parse(text)
    return None if found is None else found.replace(tzinfo=None, microsecond=0).isoformat()


def _utc(text: str | None) -> str | None:
    found = _parse(text)
    if found is None:
        return None
    return (found if found.tzinfo is None else found.astimezone(UTC)).replace(tzinfo=None, microsecond=0).isoformat()


def _parse(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat((text or "").strip())
        return found if found.year >= _FIRST_YEAR else None
    except (ValueError, OverflowError):
        return None


def _place(text: str) -> tuple[float, float] | tuple[None, None]:
    found = _PLACE.match(text.strip())
    if found is None:
        return None, None
    latitude, longitude = _degrees(found[1], 2), _degrees(found[2], 3)
    if abs(latitude) > 90 or abs(longitude) > 180 or (latitude == 0 and longitude == 0):
        return None, None
    return latitude, longitude


def _degrees(text: str, digits: int) -> float:
    """Read degrees that may go on with minutes and seconds. digits: of the degrees."""
    sign, whole = (-1.0 if text[0] == "-" else 1.0), text[1:].partition(".")[0]
    fraction = text[1:].partition(".")[2]
    pieces = [whole[:digits], *(whole[at : at + 2] for at in range(digits, len(whole), 2))]
    values = [float(piece) for piece in pieces]
    values[-1] += float(f"0.{fraction}") if fraction else 0.0
    return sign * float(sum(value / 60.0**place for place, value in enumerate(values)))
