"""What the metadata of a picture says of it besides words, and which block counts where several say it.

The order is that of docs/metadata.md: a time of taking before one of digitising before one of change, and within each
of these EXIF before XMP before IPTC before the texts of a PNG; likewise the place, the camera and the orientation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from clipsearch.types import PictureInfo

MAX_CAMERA = 120
"""Characters of make and model that are kept."""

MAX_LABEL = 60
"""Characters of a color label that are kept."""

_MOST_STARS = 5


@dataclass(frozen=True, slots=True)
class Facts:
    """Checked facts, None where nothing says them.

    orientation: 1 to 8. original, digitized, changed: local times, of taking, of digitising, and of the last change.
    camera: make and model. place: latitude and longitude in degrees. rating: 1 to 5 stars, 0 for none, -1 for rejected.
    label: the name of a color, as programs that sort pictures give it.
    """

    orientation: int | None = None
    original: datetime | None = None
    digitized: datetime | None = None
    changed: datetime | None = None
    camera: str | None = None
    place: tuple[float, float] | None = None
    rating: int | None = None
    label: str | None = None

    @property
    def taken_at(self) -> datetime | None:
        """The best of the times."""
        return self.original or self.digitized or self.changed

    def of_picture(self, width: int, height: int) -> PictureInfo:
        """Return these facts with the size of a picture in pixels."""
        latitude, longitude = self.place or (None, None)
        return PictureInfo(width, height, self.taken_at, self.camera, latitude, longitude)


NOTHING = Facts()


def merge(found: Sequence[Facts]) -> Facts:
    """Return one of all facts: of each, what the first says that says it."""
    return Facts(
        first(each.orientation for each in found),
        first(each.original for each in found),
        first(each.digitized for each in found),
        first(each.changed for each in found),
        first(each.camera for each in found),
        first(each.place for each in found),
        first(each.rating for each in found),
        first(each.label for each in found),
    )


_Value = TypeVar("_Value")


def first(values: Iterable[_Value | None]) -> _Value | None:
    """Return the first value that is not None."""
    return next((value for value in values if value is not None), None)


def read_place(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    """Return a place in degrees; None for what is none, and for exactly 0, 0: programs write it without a fix."""
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None
    if not (math.isfinite(latitude) and abs(latitude) <= 90 and math.isfinite(longitude) and abs(longitude) <= 180):
        return None
    return latitude, longitude


def read_rating(value: float) -> int | None:
    """Return a rating of XMP, -1 to 5, without its fraction; None for an invalid value."""
    return int(value) if -1 <= value <= _MOST_STARS else None


def read_percents(value: float) -> int | None:
    """Return the stars that Windows writes as percents: 1, 25, 50, 75 and 99 for 1 to 5."""
    if not 0 <= value <= 100:
        return None
    return 0 if value == 0 else min(_MOST_STARS, 1 + int(value + 1) // 25)


def read_label(text: str) -> str | None:
    """Return the name of a color label on one line; None for what has no letter."""
    name = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * MAX_LABEL]).split())[:MAX_LABEL].strip()
    return name if any(c.isalpha() for c in name) else None


def read_orientation(value: int) -> int | None:
    """Return an orientation of EXIF, or None."""
    return value if 1 <= value <= 8 else None


def name_camera(make: str, model: str) -> str | None:
    """Join make and model; `NIKON CORPORATION` and `NIKON D70` are one NIKON, not two."""
    doubled = make and model.lower().startswith(make.split()[0].lower())
    joined = model if doubled else f"{make} {model}".strip()
    return joined[:MAX_CAMERA] if any(c.isalnum() for c in joined) else None
