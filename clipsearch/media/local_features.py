"""Where a picture lies in another one, told by points that both have: crops, screenshots, edits, mirror images.

Points and their surroundings are SIFT (Lowe, IJCV 2004), compared as RootSIFT (Arandjelović and Zisserman, CVPR 2012)
with Lowe's ratio test; RANSAC (Fischler and Bolles, CACM 1981) finds the similarity transform that most of them agree
on. By OpenCV, extra `match`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError, PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE, WHOLE_SIDE = 400, 320
"""Pixels of the longer side at which a picture is looked at, and one in which it may lie (benchmarks/match.py)."""

MIN_POINTS = 8
"""Points that must agree before one picture counts as a part of another; benchmarks/match.py counts how many agree by
chance."""

MAX_POINTS = 500
"""Of one picture: those that stand out most."""

_CONTRAST = 0.02  # half of OpenCV's default: crops of small pictures have few points
_RATIO = 0.8
_ERROR = 6.0  # pixels of the whole
_TRIALS = 2000
_CERTAIN = 0.999
_MOST_ENLARGED = 4.0
_CV_NO_MEMORY = -4


@dataclass(frozen=True, slots=True, eq=False)
class LocalFeatures:
    """The points of a picture.

    Attributes:
        points: float32 (n, 2), x and y in pixels at which the picture was looked at.
        descriptors: float32 (n, 128), unit rows.
        size: Width and height of the picture as it was looked at.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in another one.

    Attributes:
        points: How many points agree on it.
        box: Left, top, width and height, from 0 to 1 of the other picture's width and height.
    """

    points: int
    box: tuple[float, float, float, float]


def require_opencv() -> None:
    """Load OpenCV. Raises InvalidInputError where the extra is not installed."""
    _opencv()


def describe(picture: Image, side: int) -> LocalFeatures:
    """Find the points of an upright RGB picture, looked at with `side` pixels on its longer side.

    Safe to call from several threads. Raises PictureError where OpenCV cannot look at it, MemoryError where there is
    not enough memory.
    """
    cv2 = _opencv()
    grey = np.asarray(_scaled(picture, side).convert("L"))
    try:
        finder = cv2.SIFT_create(nfeatures=MAX_POINTS, contrastThreshold=_CONTRAST)
        found, rows = finder.detectAndCompute(grey, None)
    except cv2.error as error:
        if error.code == _CV_NO_MEMORY:
            raise MemoryError(str(error)[:100]) from error
        raise PictureError(f"its points cannot be found ({str(error)[:100]})") from error
    size = (grey.shape[1], grey.shape[0])
    if rows is None:
        return LocalFeatures(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32), size)
    points: NDArray[np.float32] = cv2.KeyPoint.convert(found[:MAX_POINTS])
    descriptors = np.sqrt(rows[:MAX_POINTS] / np.maximum(rows[:MAX_POINTS].sum(axis=1, keepdims=True), 1e-7))
    return LocalFeatures(points, descriptors.astype(np.float32), size)


def locate(part: LocalFeatures, whole: LocalFeatures) -> Placement | None:
    """Find where a picture lies in another one; None where fewer than MIN_POINTS points agree."""
    cv2 = _opencv()
    ours, theirs = _pairs(part.descriptors, whole.descriptors)
    if len(ours) < MIN_POINTS:
        return None
    one, other = part.points[ours], whole.points[theirs]
    transform, agree = cv2.estimateAffinePartial2D(
        one, other, method=cv2.RANSAC, ransacReprojThreshold=_ERROR, maxIters=_TRIALS, confidence=_CERTAIN
    )
    if transform is None:
        return None
    kept = agree.ravel().astype(bool)
    # A place may have several points, one for each direction in which it can be seen.
    count = min(len(np.unique(points[kept].round(), axis=0)) for points in (one, other))
    return Placement(count, _box(transform, part.size, whole.size)) if count >= MIN_POINTS else None


def _pairs(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which rows belong together by the ratio test, each once: int64 (pairs,) twice."""
    if not len(ours) or len(theirs) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    cosines = ours @ theirs.T
    rows = np.arange(len(ours))
    nearest = cosines.argmax(axis=1)
    best = cosines[rows, nearest]
    cosines[rows, nearest] = -1
    second = cosines.max(axis=1)
    chosen = np.flatnonzero(1 - best < _RATIO**2 * (1 - second))  # of squared distances
    chosen = chosen[np.argsort(-best[chosen], kind="stable")]
    _, first = np.unique(nearest[chosen], return_index=True)
    kept = chosen[np.sort(first)]
    return kept, nearest[kept]


def _box(
    transform: NDArray[np.float64], part: tuple[int, int], whole: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return what the corners of the part span in the whole, as far as it lies there."""
    width, height = part
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64) @ transform.T
    low, high = (np.clip(edge / np.array(whole), 0, 1) for edge in (corners.min(axis=0), corners.max(axis=0)))
    left, top = low.tolist()
    across, down = (high - low).tolist()
    return round(left, 4), round(top, 4), round(across, 4), round(down, 4)


def _scaled(picture: Image, side: int) -> Image:
    """Return a picture whose longer side has `side` pixels; a small one is enlarged, up to _MOST_ENLARGED times."""
    from PIL.Image import Resampling

    scale = min(side / max(picture.size), _MOST_ENLARGED)
    width, height = (max(1, round(scale * edge)) for edge in picture.size)
    return picture.resize((width, height), Resampling.BICUBIC, reducing_gap=2.0)


def _opencv() -> Any:  # noqa: ANN401
    try:
        import cv2
    except ImportError as error:
        raise InvalidInputError(
            "Matching pictures needs OpenCV, which is not installed. Run: pip install 'clipsearch[match]'"
        ) from error
    cv2.setNumThreads(1)  # pictures are looked at side by side
    return cv2
