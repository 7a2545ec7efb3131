"""The rotation after which every sub-quantiser codes dimensions of the same product of variances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balancing_rotation(residuals: NDArray[np.float32], m: int) -> NDArray[np.float32]:
    """Return the orthonormal columns that give m sub-quantisers the same product of variances: (dim, padded dim).

    Eigenvalue allocation (Ge et al. 2014, section 4.2): principal axes, largest first, go one by one to the
    sub-quantiser with the smallest product so far that has room. Padding dimensions count as axes of no variance.
    """
    dim = residuals.shape[1]
    variances, axes = np.linalg.eigh(np.cov(residuals.T, bias=True).astype(np.float64).reshape(dim, dim))
    variances, axes = variances[::-1], axes[:, ::-1]
    each = -(-dim // m)
    logs = np.log(np.maximum(variances, 1e-9 * max(variances[0], 1e-30)))
    logs -= logs[-1]
    taken: list[list[int]] = [[] for _ in range(m)]
    product = np.zeros(m)
    for axis in range(dim):
        chosen = int(np.argmin(product))
        taken[chosen].append(axis)
        product[chosen] = np.inf if len(taken[chosen]) == each else product[chosen] + logs[axis]
    rotation = np.zeros((dim, each * m), np.float32)
    for number, group in enumerate(taken):
        rotation[:, number * each : number * each + len(group)] = axes[:, group]
    return rotation
