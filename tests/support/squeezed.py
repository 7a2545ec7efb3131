"""An encoder whose scores have another range: the vectors of a real one, with large constant parts added."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTH, _BETWEEN = 3.0, 0.1


class Squeezed:
    """A real encoder, its cosines a tenth as wide: near 0.1 between words and pictures, near 0.9 between two of a kind.

    To a vector x of unit length a constant of length 3 is added in dimensions of its own, (3, 0) to that of a picture
    and (0.3, 2.98) to that of a text, so that a cosine c of two of one kind becomes (c + 9) / 10 and one of two kinds
    (c + 0.9) / 10.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.name = f"{encoder.name}-squeezed"
        self.fingerprint = encoder.fingerprint[::-1]
        self.dim = encoder.dim + 2
        self.logit_scale = encoder.logit_scale * (1 + _LENGTH**2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_pixels(self, batch: Any) -> NDArray[np.float32]:
        return _add(self._encoder.encode_pixels(batch), 1.0)

    def encode_images(self, pictures: Any) -> NDArray[np.float32]:
        return _add(self._encoder.encode_images(pictures), 1.0)

    def encode_texts(self, texts: Any) -> NDArray[np.float32]:
        return _add(self._encoder.encode_texts(texts), _BETWEEN)

    def encode_queries(self, texts: Any) -> NDArray[np.float32]:
        return _add(self._encoder.encode_queries(texts), _BETWEEN)


def _add(rows: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    constant = np.array([share, np.sqrt(1 - share**2)]) * _LENGTH
    added = np.hstack([rows, np.broadcast_to(constant, (len(rows), 2))])
    return (added / np.sqrt(1 + _LENGTH**2)).astype(np.float32)
