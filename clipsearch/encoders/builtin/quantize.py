"""Round weights and activations to 8 bits.

Affine quantisation as in Jacob et al. 2018 (arXiv:1712.05877): real = scale * (integer - zero). Weights are symmetric
with one scale for each output; activations have one scale for each tensor, from ranges that were measured once on the
training pictures and are shipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]
"""The least and the largest value of an activation."""

_LIMIT = 127


def scale_and_zero(limits: Range) -> tuple[np.float32, np.uint8]:
    """Return the scale and the zero point that lay uint8 over a range, which is widened to hold 0."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = np.float32(max(high - low, 1e-6) / 255)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def quantize_filters(
    weight: NDArray[np.float32], least: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round convolution filters (out, in, height, width) to int8.

    least: float32 (out,), the smallest scale allowed. Returns the filters and float32 scales (out,).
    """
    count = len(weight)
    # A kernel may walk the inputs of a filter channel by channel or place by place.
    orders = (weight.reshape(count, -1), weight.transpose(0, 2, 3, 1).reshape(count, -1))
    scales = np.maximum(np.maximum(*(_safe_scales(rows) for rows in orders)), least)
    return np.rint(weight / scales[:, None, None, None]).astype(np.int8), scales.astype(np.float32)


def quantize_columns(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each column of a matrix (d, n) to int8 for products; returns it and float32 scales (n,)."""
    scales = _safe_scales(matrix.T)
    return np.rint(matrix / scales).astype(np.int8), scales


def quantize_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round each row of a table (n, d), which is only looked up, to int8; returns it and float32 scales (n, 1)."""
    scales = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), np.float32(1e-12)) / np.float32(_LIMIT)
    return np.rint(matrix / scales).astype(np.int8), scales.astype(np.float32)


def _safe_scales(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the least scale of each row, float32 (n,), at which no processor clips a product.

    AVX2 without VNNI multiplies uint8 by int8 and adds two neighbours in 16 bits with saturation: two neighbours of
    one sign must not exceed 128 together. Then vectors are the same on all processors.
    """
    rows = np.pad(rows, ((0, 0), (1, 1)))
    together = np.maximum(np.abs(rows[:, 1:] + rows[:, :-1]), np.maximum(np.abs(rows[:, 1:]), np.abs(rows[:, :-1])))
    scales: NDArray[np.float32] = np.maximum(together.max(axis=1) / np.float32(_LIMIT), np.float32(1e-12))
    return scales
