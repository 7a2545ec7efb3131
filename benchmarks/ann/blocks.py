"""Made vectors in numbers at which a generator for each family would take hours: families are drawn block by block."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from vectors import HETEROGENEITY, Maker

FAMILIES = 1000
"""How many families are drawn at once."""


class BlockMaker(Maker):
    """Makes the same kind of pictures and texts as Maker, from another sequence of random numbers."""

    def pictures(self, families: int = FAMILIES) -> Iterator[NDArray[np.float32]]:
        """Yield all the pictures as unit rows, block by block."""
        size = FAMILIES * self.kin
        for block in range(-(-self.count // size)):
            yield self._picture(self._positions(block)[: self.count - block * size])

    def texts(self, count: int, *, seed: int = 0, among: int | None = None) -> NDArray[np.float32]:
        """Make texts, each about one of the pictures; among: only about the first `among` pictures."""
        rng = np.random.default_rng((self._seed, 2, seed))
        chosen = np.sort(rng.integers(0, among or self.count, count))
        positions = self._positions_of(chosen)[rng.permutation(count)]
        noise = rng.standard_normal(positions.shape, np.float32)
        p = self.profile
        return self._unit(np.float32(p.text_mean) + positions * np.float32(p.follow) + noise * np.float32(p.stray))

    def unseen(self, count: int, *, seed: int = 0, among: int | None = None) -> NDArray[np.float32]:
        """Make more pictures of the same families, as queries; among: only of families of the first `among`."""
        rng = np.random.default_rng((self._seed, 1, seed))
        chosen = np.sort(rng.integers(0, among or self.count, count)) // self.kin * self.kin
        shared = self._positions_of(chosen, own=False)
        own = self._own * rng.standard_normal((count, self.dim), np.float32)
        return self._picture(shared + own)[rng.permutation(count)]

    def _positions_of(self, chosen: NDArray[np.int64], *, own: bool = True) -> NDArray[np.float32]:
        """Return the standardised positions of pictures by number, int64 (n,) ascending: float32 (n, dim)."""
        blocks = chosen // (FAMILIES * self.kin)
        parts = [
            self._positions(block, own=own)[chosen[blocks == block] % (FAMILIES * self.kin)]
            for block in np.unique(blocks).tolist()
        ]
        return np.concatenate(parts)

    def _positions(self, block: int, *, own: bool = True) -> NDArray[np.float32]:
        """Return the positions of a block, the same at every call; without `own` those that families share."""
        rng = np.random.default_rng((self._seed, 3, block))
        topics = self._topic_of[block * FAMILIES : (block + 1) * FAMILIES]
        share = np.float32(self._topic_share)
        shared = np.sqrt(1 - share) * rng.standard_normal((len(topics), 1, self.dim), np.float32)
        shared += np.sqrt(share) * self._topics[topics][:, None]
        shared *= self._shared
        if not own:
            return np.repeat(shared, self.kin, axis=1).reshape(-1, self.dim)
        drawn = rng.standard_normal((len(topics), self.kin, 1), np.float32)
        closeness = np.exp(HETEROGENEITY * drawn - HETEROGENEITY**2)
        apart = rng.standard_normal((len(topics), self.kin, self.dim), np.float32)
        apart *= closeness * self._own
        return (shared + apart).reshape(-1, self.dim)
