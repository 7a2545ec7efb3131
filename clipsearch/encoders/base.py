"""The seam between the engine and the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import EncoderError
from clipsearch.types import EncoderPin

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = tuple[NDArray[np.uint8], ...]
"""One prepared picture: a uint8 (height, width, 3) array per input of the image tower."""


BATCH_SIZE = 64
"""What a processor prefers at a time: more is no faster, and a commit after each loses little to a crash."""


_TOLERANCE = 1e-2


@runtime_checkable
class Encoder(Protocol):
    """Pictures and texts to vectors.

    All methods are safe to call from several threads. Rows come back in the order of the input, float32
    of unit length, and a row does not depend on what else is in its batch (to 1e-3 in cosine; int8 towers
    round by the range of one row, never of a batch). A tower is loaded when it is first used: encoding a text never
    loads the image tower.

    An encoder may also have `picture_transforms`, a `preprocessing.Transforms` that gives what `preprocess` gives, to
    the bit: then pictures are preprocessed where they are decoded, which may be another process.
    """

    @property
    def name(self) -> str:
        """The canonical name, such as `builtin-base` or `openclip:ViT-B-32/laion2b_s34b_b79k`."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def logit_scale(self) -> float:
        """What cosines of pictures and texts are multiplied by before a softmax tells chances from them.

        A bias that a model learnt beside it, for a sigmoid, cancels out in the softmax.
        """

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of weights, preprocessing and projection: equal means interchangeable vectors."""

    @property
    def picture_side(self) -> int:
        """Pixels: a picture whose shorter side was reduced to no less than this while decoding loses nothing."""

    @property
    def batch_size(self) -> int:
        """How many pictures or passages preferred for a call, and for a commit."""

    @property
    def streams(self) -> int:
        """How many calls at a time keep it busy: 1 where one uses the whole device, more for GPUs."""

    @property
    def max_tokens(self) -> int:
        """The longest text, in tokens as `count_tokens` counts, that is encoded without being cut."""

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, special tokens included, without cutting it."""

    def tokens_per_letter(self, text: str) -> float:
        """Return how finely the tokenizer cuts a text: the tokens that its language needs, per letter.

        Some 0.3 to 0.8 for a language that it learnt, about 1 and more for one that it spells out in letters or bytes.
        What stands for an unknown word counts as one token a letter. Marks that combine are no letters.
        """

    def preprocess(self, picture: Image) -> Pixels:
        """Prepare one upright RGB picture for `encode_pixels`; pure, for decode threads."""

    def encode_pixels(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Encode prepared pictures into float32 (n, dim); (0, dim) for none."""

    def encode_images(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Encode upright RGB pictures into float32 (n, dim); equals preprocess, then encode_pixels."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode passages into float32 (n, dim), each cut at max_tokens."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode search texts into float32 (n, dim); differs from encode_texts where a prompt helps."""


def check_unit_rows(vectors: NDArray[np.float32]) -> None:
    """Raise EncoderError for a row of (n, dim) that is not of unit length, such as one that holds NaN."""
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(lengths - 1) < _TOLERANCE):
        raise EncoderError("the encoder returned a vector that is not of unit length")


def fitting(encoder: Encoder | None, pin: EncoderPin) -> Encoder | None:
    """Return an encoder if it is the one that a library is pinned to, as far as the pin tells; else None."""
    if encoder is None or pin.is_imported or encoder.fingerprint == pin.fingerprint:
        return encoder
    return None
