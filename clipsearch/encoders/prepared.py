"""What every runtime of a prepared open_clip model shares: its description, its tokenizer, its picture transform."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.encoders.base import Pixels
from clipsearch.encoders.export_folder import TOKENIZER, ExportMeta
from clipsearch.encoders.preprocessing import Transforms
from clipsearch.encoders.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from PIL.Image import Image


class PreparedModel:
    """The part of an Encoder that needs no tower; see clipsearch.encoders.base.Encoder for what it promises."""

    def __init__(self, folder: Path, meta: ExportMeta) -> None:
        """Take a verified export; nothing is loaded yet."""
        self._folder = folder
        self._meta = meta
        self._unload_tokenizer()

    def _unload_tokenizer(self) -> None:
        self._tokenizer_lock = threading.Lock()
        self._tokenizer: TextTokenizer | None = None

    @property
    def name(self) -> str:
        """The canonical name of the model."""
        return self._meta.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._meta.dim

    @property
    def logit_scale(self) -> float:
        """What the model learnt to multiply cosines by."""
        return self._meta.logit_scale

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the model."""
        return self._meta.fingerprint

    @property
    def picture_side(self) -> int:
        """The longer side of the image input, in pixels."""
        return self._meta.picture.side

    @property
    def picture_transforms(self) -> Transforms:
        """What `preprocess` does."""
        return (self._meta.picture,)

    @property
    def max_tokens(self) -> int:
        """The context length of the text tower."""
        return self._meta.text.context_length

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, special tokens included, uncut."""
        return self._load_tokenizer().count(text)

    def tokens_per_letter(self, text: str) -> float:
        """Return how finely the tokenizer cuts a text."""
        return self._load_tokenizer().tokens_per_letter(text)

    def preprocess(self, picture: Image) -> Pixels:
        """Resize, crop or pad one upright picture."""
        return (self._meta.picture.apply(picture),)

    def _load_tokenizer(self) -> TextTokenizer:
        with self._tokenizer_lock:
            if self._tokenizer is None:
                self._tokenizer = TextTokenizer.from_file(self._folder / TOKENIZER, self._meta.text)
            return self._tokenizer
