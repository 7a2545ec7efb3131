"""How far apart an encoder puts a picture and its copies, as 1 less the cosine. Pure functions.

Encoders differ: one puts two pictures at random at a cosine of 0.02 and another at 0.8, so no cosine means "the same
picture" for all. A few pictures of the library, cut a little and encoded again, tell how far this encoder moves what
looks the same (indexer/copy_distance.py); where that was not measured, a share of the typical distance of two pictures
stands in for it. benchmarks/copy_distance.py has figures for several encoders.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.linalg import unit_rows

COPY_DISTANCE_KEY = "copy_distance"
"""The setting of a library that holds it."""

SAME_TIMES, NEAR_TIMES = 1.5, 8.0
"""Pictures nearer than this multiple of the distance are, or may be, the same picture."""

USUAL_SHARE = 0.018
"""The distance in units of that of two pictures at random, where it was not measured: that of builtin-base."""

MAX_SHARE = 0.0625
"""The same at most: then half the distance of two pictures at random is near."""

MIN_DISTANCE = 1e-6
"""What rounding does to a cosine."""

_ROWS, _MIN_ROWS = 128, 8


@dataclass(frozen=True, slots=True)
class CopyDistance:
    """How far a cut that hardly shows moves a picture, typically.

    distance: 1 less the cosine. rows: how many pictures the library had when it was measured; 0 if it was not.
    """

    distance: float
    rows: int = 0

    @property
    def same(self) -> float:
        """The cosine from which two pictures are taken for one without looking at them."""
        return 1 - SAME_TIMES * self.distance

    @property
    def near(self) -> float:
        """The cosine from which two pictures may be copies: by their looks, or because they are of one burst."""
        return 1 - NEAR_TIMES * self.distance

    def dump(self) -> str:
        """Return the JSON of it."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, stored: str | None) -> CopyDistance | None:
        """Read a distance from its JSON; None if it is missing or cannot be used."""
        try:
            found = json.loads(stored or "null")
            distance, rows = float(found["distance"]), int(found["rows"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        return cls(distance, rows) if 0 < distance <= 2 * MAX_SHARE and rows > 0 else None


def measure(moved: NDArray[np.floating], sample: NDArray[np.float32], rows: int) -> CopyDistance:
    """Learn the distance from pictures that were cut.

    moved: float (n,), n > 0, how far each was moved by that. sample: vectors of pictures of the library,
    (m, dim), which has `rows` in all.
    """
    distance = min(float(np.median(moved)), MAX_SHARE * _typical_distance(sample))
    return CopyDistance(round(max(distance, MIN_DISTANCE), 7), rows)


def estimate(sample: NDArray[np.float32]) -> CopyDistance:
    """Estimate the distance from vectors of pictures alone, float32 (m, dim)."""
    return CopyDistance(max(USUAL_SHARE * _typical_distance(sample), MIN_DISTANCE))


def _typical_distance(sample: NDArray[np.float32]) -> float:
    """Return the median distance of two pictures: copies are few among all pairs. For a few pictures it is 1."""
    rows = unit_rows(np.unique(sample[:: max(1, -(-len(sample) // _ROWS))], axis=0))
    if len(rows) < _MIN_ROWS:
        return 1.0
    return 1 - float(np.median((rows @ rows.T)[np.triu_indices(len(rows), 1)]))
