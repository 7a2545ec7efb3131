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


@dataclass(frozen=True, slots=True)
class Facts:
    """Checked facts, None where nothing says them.

    orientation: 1 to 8. original, digitized, changed: local times, of taking, of digitising, and of the last change.
    camera: make and model. place: latitude and longitude in degrees.
    """

    orientation: int | None = None
    original: datetime | None = None
    digitized: datetime | None = None
    changed: datetime | None = None
    camera: str | None = None
    place: tuple[float, float] | None = None

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


def read_orientation(value: int) -> int | None:
    """Return an orientation of EXIF, or None."""
    return value if 1 <= value <= 8 else None


def name_camera(make: str, model: str) -> str | None:
    """Join make and model; `NIKON CORPORATION` and `NIKON D70` are one NIKON, not two."""
    doubled = make and model.lower().startswith(make.split()[0].lower())
    joined = model if doubled else f"{make} {model}".strip()
    return joined[:MAX_CAMERA] if any(c.isalnum() for c in joined) else None
