"""Reading float16 numbers as float32, fast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EXPONENT_AND_FRACTION = np.int32(-0x70002000)  # 0x8FFFE000: sign, eight bits of exponent, ten of fraction
_REBIAS = np.float32(2.0**112)


def widen(rows: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return finite float16 numbers as float32, exactly; several times as fast as astype.

    The bits of a half, shifted to where a float has them, are that number times 2 ** -112 (the difference of the
    exponents' biases), for subnormal ones too. Shifting the sign-extended integer leaves copies of the sign in two
    bits of the exponent; the mask clears them.
    """
    bits = rows.view("<i2" if rows.dtype.byteorder == "<" else np.int16).astype(np.int32)
    bits <<= 13
    bits &= _EXPONENT_AND_FRACTION
    floats = bits.view(np.float32)
    floats *= _REBIAS
    return floats
