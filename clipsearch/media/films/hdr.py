"""Frames of high dynamic range as an ordinary screen shows them.

Transfer functions and luminance: ITU-R BT.2100-2 tables 4 and 5 (PQ, HLG), with the nominal peak of 1,000 cd/m2. Tone
curve: the EETF of ITU-R BT.2390-11 section 5.4.1, without its black level, applied to the largest component, so that
hues stay. The white of the screen is the diffuse white of ITU-R BT.2408-7, 203 cd/m2; all up to about 90 cd/m2 is as in
the film. BT.2020 to BT.709: ITU-R BT.2087-0. Encoding: IEC 61966-2-1 (sRGB), which encoders of pictures expect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18
"""Transfer functions of high dynamic range, in the numbers of ITU-T H.273."""

BT2020 = 9
"""Primaries, as above."""

_PEAK, _WHITE = 1000.0, 203.0
_WHOLE = 0xFF00
"""What swscale makes of the value 1.0 when it converts fewer bits to 16."""

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)

Levels = NDArray[np.float32]


def to_sdr(codes: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Map the tones of a frame.

    codes: uint16 (height, width, 3), RGB as the film encodes it. transfer: PQ or HLG. primaries: of BT2020, else taken
    for those of BT.709. Returns uint8 of the same shape, sRGB.
    """
    encoded = np.minimum(codes.astype(np.float32) / _WHOLE, 1.0)
    light = _pq_to_light(encoded) if transfer == PQ else _hlg_to_light(encoded)
    largest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    shown = light * (_compress(largest) / (largest * _WHITE))
    if primaries == BT2020:
        shown = shown @ _TO_BT709.T
    return np.rint(255 * _to_srgb(np.clip(shown, 0.0, 1.0))).astype(np.uint8)


def _pq_to_light(encoded: Levels) -> Levels:
    """Return cd/m2."""
    root = encoded ** np.float32(1 / _M2)
    return np.asarray(10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** np.float32(1 / _M1), np.float32)


def _light_to_pq(light: Levels) -> Levels:
    root = (light / 10_000) ** np.float32(_M1)
    return np.asarray(((_C1 + _C2 * root) / (1 + _C3 * root)) ** np.float32(_M2), np.float32)


def _hlg_to_light(encoded: Levels) -> Levels:
    """Return cd/m2 on a screen of the nominal peak, whose gamma is 1.2."""
    scene = np.where(encoded <= 0.5, encoded**2 / 3, (np.exp((encoded - _C) / _A) + _B) / 12).astype(np.float32)
    luminance = np.maximum(scene @ _LUMA, 1e-6)[..., np.newaxis]
    return np.asarray(_PEAK * luminance ** np.float32(0.2) * scene, np.float32)


def _compress(light: Levels) -> Levels:
    """Return what a screen of _WHITE shows of light up to _PEAK, both in cd/m2."""
    peak = float(_light_to_pq(np.array(_PEAK, np.float32)))
    most = float(_light_to_pq(np.array(_WHITE, np.float32))) / peak
    knee = 1.5 * most - 0.5
    level = np.minimum(_light_to_pq(light) / peak, 1.0)
    t = (level - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return _pq_to_light(np.where(level < knee, level, spline).astype(np.float32) * np.float32(peak))


def _to_srgb(light: Levels) -> Levels:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055).astype(np.float32)
