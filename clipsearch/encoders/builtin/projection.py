"""The fitted matrices that bring pictures and texts into one space.

A vector is two parts of unit length side by side, each with a weight: a canonical-correlation part (Hotelling 1936,
regularised), which knows scenes and actions, and a label part (ConSE, Norouzi et al. 2013, arXiv:1312.5650), which
knows objects. One last number holds what a picture gives up for being near to every text; it is the same for all
texts. `tools/train_builtin.py` fits the matrices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.fitted import read_fitted
from clipsearch.encoders.builtin.quantize import Range
from clipsearch.linalg import rowwise, softmax, unit_rows

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Projection:
    """The shipped matrices of a variant.

    digest: SHA-256 of the file. arrays: as `tools/train_builtin.py` names them.
    """

    digest: str
    arrays: dict[str, NDArray[np.float32]]

    @classmethod
    def read(cls, variant: str) -> Projection:
        """Read the file of a variant from the package.

        Raises EncoderUnavailableError where it is missing or damaged.
        """
        stored, data = read_fitted(f"{variant}.npz")
        arrays = {key: value.astype(np.float32) for key, value in stored.items()}
        return cls(hashlib.sha256(data).hexdigest(), arrays)

    @property
    def dim(self) -> int:
        """Length of a vector: both parts, and one number for how common a picture is."""
        return int(self.arrays["picture_map"].shape[1] + self.arrays["label_map"].shape[1] + 1)

    def ranges(self, backbone: str) -> list[Range]:
        """Return the range of every activation of a backbone, in the order of its layers."""
        return [(float(low), float(high)) for low, high in self.arrays[f"ranges_{backbone}"]]

    def pictures(self, features: Floats, logits: Floats) -> NDArray[np.float32]:
        """Project pictures.

        features: float32 (n, d), those of all backbones side by side. logits: float32 (n, 1000), their mean.
        Returns float32 (n, dim), rows of unit length.
        """
        arrays = self.arrays
        inputs = np.hstack([features, np.sqrt(softmax(logits))])
        seen = ((inputs - arrays["picture_mean"]) * arrays["picture_scale"]) @ arrays["picture_map"]
        rows = self._join(seen, softmax(logits / arrays["temperature"]) @ arrays["label_map"])
        # Some pictures are near to every text (hubs: Radovanovic et al. 2010). As in querybank normalisation
        # (Bogolin et al. 2022, arXiv:2112.12777) each gives up a share of its likeness to a bank of usual texts.
        nearest = np.sort(rows @ arrays["bank"].T, axis=1)[:, -int(arrays["bank_nearest"]) :].mean(axis=1)
        extra = (arrays["bank_mean"] - nearest) * arrays["bank_weight"] / arrays["bank_column"]
        return unit_rows(np.hstack([rows, extra[:, None]])).astype(np.float32)

    def texts(self, embeddings: Floats) -> NDArray[np.float32]:
        """Project text embeddings, float32 (n, 768) of unit length, into float32 (n, dim) of unit length."""
        return self.complete(self.plain_texts(embeddings))

    def complete(self, rows: Floats) -> NDArray[np.float32]:
        """Make vectors of texts, float32 (n, dim) of unit length, of rows (n, dim - 1) whose parts have any length."""
        column = np.full((len(rows), 1), self.arrays["bank_column"])
        return unit_rows(np.hstack([self.unit_parts(rows), column])).astype(np.float32)

    def unit_parts(self, rows: Floats) -> Floats:
        """Give both parts of rows (n, dim - 1) the length that they have in a vector."""
        seen = self.arrays["picture_map"].shape[1]
        return self._join(rows[:, :seen], rows[:, seen:])

    def plain_texts(self, embeddings: Floats) -> Floats:
        """Project text embeddings without the last column, as the rows of the bank are."""
        centred = embeddings - self.arrays["text_mean"]
        label_map = self.arrays["text_label_map"]
        # Labels are compared by the last layer alone, which comes first.
        return self._join(rowwise(centred, self.arrays["text_map"]), rowwise(centred[:, : len(label_map)], label_map))

    def _join(self, seen: Floats, labels: Floats) -> Floats:
        share = self.arrays["label_share"]
        return np.hstack([np.sqrt(1 - share**2) * unit_rows(seen), share * unit_rows(labels)])
