"""Vectors that show the gap between text and picture queries: real ones, and any number of made ones like them.

A profile holds what was measured on real embeddings: the means of both modalities, and along the principal axes of
the pictures how far these spread, how much of that a caption follows, and how far it strays by itself. Made pictures
are drawn from a tree of clusters with those spreads; a made text follows a picture as captions do. `gap.py` checks
that an index suffers from the made ones as from the real ones.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROFILES = Path(__file__).parent / "profiles"
HETEROGENEITY = np.float32(0.7)
"""How unlike the members of a family are in how far they lie from its middle: standard deviation of the logarithm."""

KEPT_AT_MOST = 0.95
"""What the members of a family differ by, as a share of what all pictures do, is at most this."""


@dataclass(frozen=True)
class Profile:
    """What real embeddings are like, along the principal axes of the pictures: lists of one number an axis.

    picture_mean, text_mean: along the axes. spread: standard deviation of pictures. follow: by how much a text moves
    with its picture's standardised position. stray: standard deviation of a text around that. kept: the
    standard deviation among pictures of one family, such as crops of one photograph.
    """

    source: str
    picture_mean: list[float]
    text_mean: list[float]
    spread: list[float]
    follow: list[float]
    stray: list[float]
    kept: list[float]

    @classmethod
    def read(cls, name: str) -> "Profile":
        """Read a profile that is kept here."""
        return cls(**json.loads((PROFILES / f"{name}.json").read_text()))

    def write(self, name: str) -> None:
        """Keep a profile here."""
        (PROFILES / f"{name}.json").write_text(json.dumps(asdict(self)) + "\n")

    def stretched(self, dim: int) -> "Profile":
        """Return the profile over another number of axes, with the same total variances and norms of the means."""

        def stretch(values: list[float]) -> list[float]:
            old = np.asarray(values)
            new = np.interp(np.linspace(0, 1, dim), np.linspace(0, 1, len(old)), old)
            return (new * np.sqrt((old**2).sum() / (new**2).sum())).tolist()

        arrays = {name: stretch(value) for name, value in asdict(self).items() if isinstance(value, list)}
        # over few axes each is scaled by itself, so that kin could lie farther apart than all pictures do
        arrays["kept"] = np.minimum(arrays["kept"], KEPT_AT_MOST * np.asarray(arrays["spread"])).tolist()
        return Profile(source=self.source, **arrays)


def fit(source: str, pictures: NDArray, texts: NDArray, picture_of: NDArray, crops: NDArray) -> Profile:
    """Measure a profile: pictures (n, d), texts (m, d), the picture of each text, crops (n, c, d) of each picture."""
    mean, text_mean = pictures.mean(0), texts.mean(0)
    variance, axes = np.linalg.eigh(np.cov(pictures.T, bias=True))
    axes = axes[:, ::-1]
    spread = np.sqrt(np.maximum(variance[::-1], 1e-8))
    position = ((pictures - mean) @ axes / spread)[picture_of]
    moved = (texts - text_mean) @ axes
    follow = (position * moved).mean(0)
    # a correlation of chance alone has this size: what is below it is none
    follow = np.sign(follow) * np.sqrt(np.maximum(follow**2 - (moved**2).mean(0) / len(pictures), 0))
    stray = np.sqrt(np.maximum((moved**2).mean(0) - follow**2, 1e-8))
    kept = ((crops - crops.mean(1, keepdims=True)) @ axes).std((0, 1))
    kept = np.minimum(kept, KEPT_AT_MOST * spread)
    arrays = (mean @ axes, text_mean @ axes, spread, follow, stray, kept)
    return Profile(source, *(np.round(values.astype(float), 6).tolist() for values in arrays))


class Maker:
    """Makes pictures in blocks, and texts that belong to some of them.

    Pictures come in families of kin (shots of one scene) that differ by `kept`; families share topics.
    """

    def __init__(self, profile: Profile, count: int, *, seed: int = 0, kin: int = 10, topic_share: float = 0.6) -> None:
        """count: pictures in all. topic_share: share of a family's variance that is its topic's."""
        self.profile, self.count, self.kin = profile, count, kin
        self.dim = len(profile.spread)
        self._seed, self._topic_share = seed, topic_share
        rng = np.random.default_rng(seed)
        topics = max(50, count // 1000)
        kept = np.asarray(profile.kept) / np.asarray(profile.spread)
        self._own = kept.astype(np.float32)
        self._shared = np.sqrt(1 - kept**2).astype(np.float32)
        self._topics = rng.standard_normal((topics, self.dim), np.float32)
        popularity = 1 / (np.arange(topics) + 10.0)  # few topics are common, most are rare
        self._topic_of = rng.choice(topics, -(-count // kin), p=popularity / popularity.sum())
        self._rotation = np.linalg.qr(rng.standard_normal((self.dim, self.dim)))[0].astype(np.float32)

    def pictures(self, families: int = 5000) -> Iterator[NDArray[np.float32]]:
        """Yield all the pictures as unit rows, block by block."""
        for start in range(0, len(self._topic_of), families):
            stop = min(start + families, len(self._topic_of))
            positions = np.concatenate([self._family(number) for number in range(start, stop)])
            yield self._picture(positions[: self.count - start * self.kin])

    def unseen_pictures(self, count: int) -> NDArray[np.float32]:
        """Make more pictures of the same families: queries by picture."""
        rng = np.random.default_rng((self._seed, 1))
        families = rng.integers(0, len(self._topic_of), count)
        own = rng.standard_normal((count, self.dim), np.float32)
        shared = np.stack([self._family(number, own=False)[0] for number in families])
        return self._picture(shared + self._own * own)

    def texts(self, count: int, *, seed: int = 0) -> NDArray[np.float32]:
        """Make texts, each of one of the pictures: queries by text."""
        rng = np.random.default_rng((self._seed, 2, seed))
        chosen = rng.integers(0, self.count, count)
        positions = np.stack([self._family(number // self.kin)[number % self.kin] for number in chosen])
        noise = rng.standard_normal(positions.shape, np.float32)
        p = self.profile
        return self._unit(np.float32(p.text_mean) + positions * np.float32(p.follow) + noise * np.float32(p.stray))

    def _family(self, number: int, *, own: bool = True) -> NDArray[np.float32]:
        """Return the standardised positions (kin, dim) of a family, the same at every call; or what they share."""
        rng = np.random.default_rng((self._seed, 0, int(number)))
        share = np.float32(self._topic_share)
        shared = np.sqrt(1 - share) * rng.standard_normal((1, self.dim), np.float32)
        shared += np.sqrt(share) * self._topics[self._topic_of[number]]
        shared *= self._shared
        if not own:
            return shared
        # some shots of a scene are almost the same, others far off
        closeness = np.exp(HETEROGENEITY * rng.standard_normal((self.kin, 1), np.float32) - HETEROGENEITY**2)
        return shared + closeness * self._own * rng.standard_normal((self.kin, self.dim), np.float32)

    def _picture(self, positions: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._unit(np.float32(self.profile.picture_mean) + positions * np.float32(self.profile.spread))

    def _unit(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = rows @ self._rotation
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
