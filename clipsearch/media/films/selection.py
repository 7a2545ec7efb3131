"""Which frames of a film stand for it: the first of each scene, and one every few seconds, none twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.media.phash import distance, perceptual_hash

_SIDE = 16
_SCENE_BITS, _SAME_BITS = 18, 6
"""Bits of 63 in which the perceptual hashes of frames differ from which they are of two scenes; up to which they are
the same picture."""

_SCENE_LEVEL, _SAME_LEVEL = 40.0, 6.0
"""Levels of colour (of 255), on average, for the same: hashes say nothing of colours and of flat pictures."""

_AHEAD = 8


class Selection:
    """Chooses frames as they come, in order of time; what was chosen is remembered by its hash alone."""

    def __init__(self, seconds: float, most: int, duration: float | None) -> None:
        """Choose at most `most` frames, spread over the duration in seconds, with at most `seconds` between two."""
        self._duration = duration
        self._most = most
        self._seconds = max(seconds, (duration or 0.0) / most)
        self._hashes = np.empty(most, np.uint64)
        self._colours = np.empty((most, 3 * _SIDE * _SIDE), np.int16)
        self._times: list[float] = []

    @property
    def is_full(self) -> bool:
        """Whether no more frames are chosen."""
        return len(self._times) >= self._most

    def takes(self, time: float, picture: Image.Image) -> bool:
        """Tell whether a frame is one of those that stand for the film. time: in seconds."""
        if len(self._times) >= self._allowed(time):
            return False
        value = perceptual_hash(picture) or 0
        colours = np.asarray(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.int16).ravel()
        if self._times:
            bits, levels = self._differences(value, colours)
            is_scene = bits[-1] >= _SCENE_BITS or levels[-1] >= _SCENE_LEVEL
            is_due = time - self._times[-1] >= self._seconds
            is_same = ((bits <= _SAME_BITS) & (levels <= _SAME_LEVEL)).any()
            if is_same or not (is_scene or is_due):
                return False
        self._hashes[len(self._times)], self._colours[len(self._times)] = value, colours
        self._times.append(time)
        return True

    def _differences(self, value: int, colours: NDArray[np.int16]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return how far a frame is from each that was chosen: bits of its hash, and levels of colour."""
        count = len(self._times)
        levels = np.abs(self._colours[:count] - colours).mean(axis=1)
        return distance(self._hashes[:count], np.array(value, np.uint64)), levels

    def _allowed(self, time: float) -> int:
        """Return how many frames there may be by a time, so that those of a film are spread over all of it."""
        if not self._duration:
            return self._most
        return min(self._most, _AHEAD + int(self._most * time / self._duration))
