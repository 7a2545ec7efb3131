"""The encoder that works on a machine that reaches no hub."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import BATCH_SIZE, Pixels
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.towers import GRAPH_VERSION, MAX_TOKENS, PictureTower, TextTower
from clipsearch.encoders.builtin.weights import LITE0, LITE2, MINILM, TOKENIZER, Source
from clipsearch.encoders.preprocessing import Squash, Transforms
from clipsearch.errors import InvalidInputError
from clipsearch.linalg import unit_rows

if TYPE_CHECKING:
    from PIL.Image import Image

PROMPTS = ("{}", "a photo of a {}")
"""A query is the mean of these; titles of classes and captions are worded in both ways."""

LOGIT_SCALE = 15.0

REDUCING_GAP = 3.0
"""Pillow shrinks by whole boxes first, down to so many times the side; at 3 its result is close to the plain one."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen picture network. name: as in the projection file. side: pixels of its input."""

    name: str
    source: Source
    side: int


VARIANTS: dict[str, tuple[Backbone, ...]] = {
    "small": (Backbone("lite0", LITE0, 224),),
    "base": (Backbone("lite0", LITE0, 224), Backbone("lite2", LITE2, 260)),
}

BUILTIN_VARIANTS: tuple[str, ...] = tuple(VARIANTS)


class BuiltinEncoder:
    """EfficientNet-Lite for pictures and MiniLM for texts, brought together by fitted matrices.

    It follows `clipsearch.encoders.base.Encoder`. Nothing is loaded before it is used, and each tower is built in the
    cache on its first use. MODEL_CARD.md beside this file says what it can and cannot do.
    """

    def __init__(self, variant: str, *, threads: int) -> None:
        """Make an encoder.

        variant: one of BUILTIN_VARIANTS. threads: cores that one call may use, at least 1.
        Raises InvalidInputError for another variant or number.
        """
        if variant not in VARIANTS:
            raise InvalidInputError(
                f"The builtin encoder has no variant {variant!r}. Use one of: {', '.join(VARIANTS)}."
            )
        if threads < 1:
            raise InvalidInputError(f"The builtin encoder cannot use {threads} threads. Use 1 or more.")
        self._variant = variant
        self._threads = threads
        self._backbones = VARIANTS[variant]
        self._lock = threading.Lock()
        self._text: TextTower | None = None
        self._pictures: tuple[PictureTower, ...] | None = None

    @property
    def name(self) -> str:
        """The canonical name, `builtin-small` or `builtin-base`."""
        return f"builtin-{self._variant}"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._projection.dim

    @property
    def logit_scale(self) -> float:
        """What makes the chances of labels likeliest (benchmarks/labels.py)."""
        return LOGIT_SCALE

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digest of all that makes a vector; reads the projection file only."""
        backbones = [(backbone.source.sha256, backbone.side) for backbone in self._backbones]
        recipe = (GRAPH_VERSION, self._projection.digest, backbones, MINILM.sha256, TOKENIZER.sha256, MAX_TOKENS)
        return hashlib.sha256(repr((*recipe, PROMPTS, REDUCING_GAP)).encode()).hexdigest()[:32]

    @property
    def picture_side(self) -> int:
        """Pixels: the side of the largest input."""
        return max(backbone.side for backbone in self._backbones)

    @cached_property
    def picture_transforms(self) -> Transforms:
        """What `preprocess` does, for each backbone."""
        return tuple(Squash(backbone.side, REDUCING_GAP) for backbone in self._backbones)

    @property
    def batch_size(self) -> int:
        """Pictures or passages preferred for a call."""
        return BATCH_SIZE

    @property
    def streams(self) -> int:
        """One call uses all threads."""
        return 1

    @property
    def max_tokens(self) -> int:
        """The longest text that is not cut, in tokens."""
        return MAX_TOKENS

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, special tokens included, without cutting it."""
        return len(self._text_tower().tokenize(text))

    def tokens_per_letter(self, text: str) -> float:
        """Return how finely the tokenizer cuts a text."""
        return self._text_tower().tokens_per_letter(text)

    def preprocess(self, picture: Image) -> Pixels:
        """Squash an upright RGB picture to a uint8 (side, side, 3) array for each backbone."""
        return tuple(transform.apply(picture) for transform in self.picture_transforms)

    def encode_pixels(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Encode prepared pictures into float32 (n, dim), rows of unit length; (0, dim) for none."""
        if not batch:
            return np.zeros((0, self.dim), np.float32)
        runs = [tower.run([pixels[index] for pixels in batch]) for index, tower in enumerate(self._picture_towers())]
        features = np.hstack([seen for seen, _ in runs])
        logits: NDArray[np.float32] = np.stack([labels for _, labels in runs]).mean(axis=0)
        return self._projection.pictures(features, logits)

    def encode_images(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Encode upright RGB pictures into float32 (n, dim), rows of unit length."""
        return self.encode_pixels([self.preprocess(picture) for picture in pictures])

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode passages into float32 (n, dim), rows of unit length, each cut at max_tokens."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return self._projection.texts(self._text_tower().run(texts))

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode search texts into float32 (n, dim), rows of unit length: the mean over a few prompts."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        prompted = [prompt.format(text) for text in texts for prompt in PROMPTS]
        rows = self._text_tower().run(prompted).reshape(len(texts), len(PROMPTS), -1)
        return self._projection.texts(unit_rows(rows.mean(axis=1)))

    @cached_property
    def _projection(self) -> Projection:
        return Projection.read(self._variant)

    def _text_tower(self) -> TextTower:
        with self._lock:
            if self._text is None:
                self._text = TextTower(self._threads)
            return self._text

    def _picture_towers(self) -> tuple[PictureTower, ...]:
        with self._lock:
            if self._pictures is None:
                self._pictures = tuple(
                    PictureTower(backbone.source, backbone.side, self._projection.ranges(backbone.name), self._threads)
                    for backbone in self._backbones
                )
            return self._pictures
