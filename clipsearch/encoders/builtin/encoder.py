"""The encoder that works on a machine that reaches no hub."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import BATCH_SIZE, Pixels
from clipsearch.encoders.builtin.multilingual import MultilingualTower, unread_share
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.reading import english_share
from clipsearch.encoders.builtin.towers import GRAPH_VERSION, MAX_TOKENS, PictureTower, TextTower
from clipsearch.encoders.builtin.weights import LITE0, LITE2, MINILM, TOKENIZER, Source
from clipsearch.encoders.preprocessing import Squash, Transforms
from clipsearch.errors import InvalidInputError
from clipsearch.forking import abandon, register
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

    Texts that are not English are read by the multilingual sentence encoder, and led into the same space.
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
        self._unload()
        register(self)

    def _unload(self) -> None:
        self._lock = threading.Lock()
        self._text: TextTower | None = None
        self._multilingual: MultilingualTower | None = None
        self._pictures: tuple[PictureTower, ...] | None = None

    def renew_after_fork(self) -> None:
        """Forget the towers, whose threads are those of the parent."""
        abandon(self._text, self._multilingual, self._pictures)
        self._unload()

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
        """Hexadecimal digest of what makes the space of the vectors; reads the projection file only.

        How other languages than English are led into it is no part: libraries made before can be searched in them.
        """
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
        """Count the tokens of a text, special tokens included, without cutting it; the most of the towers that read."""
        share = english_share(text)
        counts = [len(self._text_tower().tokenize(text))] if share > 0 else []
        counts += [len(self._multilingual_tower().tokenize(text))] if share < 1 else []
        return max(counts)

    def tokens_per_letter(self, text: str) -> float:
        """Return the share of letters of scripts that neither tower was trained on, each of which is one token."""
        return unread_share(text)

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
        return self._encode(texts, lambda english: self._text_tower().run(english))

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode search texts into float32 (n, dim), rows of unit length: in English the mean over a few prompts."""
        return self._encode(texts, self._run_prompted)

    def _run_prompted(self, texts: Sequence[str]) -> NDArray[np.float32]:
        prompted = [prompt.format(text) for text in texts for prompt in PROMPTS]
        rows = self._text_tower().run(prompted).reshape(len(texts), len(PROMPTS), -1)
        return unit_rows(rows.mean(axis=1))

    def _encode(self, texts: Sequence[str], run: Callable[[list[str]], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Encode texts, each by the towers that read it. run: embeds English ones, (n, 768) of unit length."""
        rows = np.zeros((len(texts), self.dim - 1), np.float32)
        shares = np.array([english_share(text) for text in texts])
        english, other = np.flatnonzero(shares > 0).tolist(), np.flatnonzero(shares < 1).tolist()
        if english:
            rows[english] = shares[english, None] * self._projection.plain_texts(run([texts[i] for i in english]))
        if other:
            read = self._multilingual_tower().run([texts[i] for i in other], self._variant)
            rows[other] += (1 - shares[other, None]) * self._projection.unit_parts(read)
        return self._projection.complete(rows)

    @cached_property
    def _projection(self) -> Projection:
        return Projection.read(self._variant)

    def _text_tower(self) -> TextTower:
        with self._lock:
            if self._text is None:
                self._text = TextTower(self._threads)
            return self._text

    def _multilingual_tower(self) -> MultilingualTower:
        with self._lock:
            if self._multilingual is None:
                self._multilingual = MultilingualTower(self._threads)
            return self._multilingual

    def _picture_towers(self) -> tuple[PictureTower, ...]:
        with self._lock:
            if self._pictures is None:
                self._pictures = tuple(
                    PictureTower(backbone.source, backbone.side, self._projection.ranges(backbone.name), self._threads)
                    for backbone in self._backbones
                )
            return self._pictures
