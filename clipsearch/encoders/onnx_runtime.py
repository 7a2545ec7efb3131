"""Run an exported model with ONNX Runtime, tokenizers, numpy and Pillow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import BATCH_SIZE, Pixels
from clipsearch.encoders.export_folder import IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, ExportMeta
from clipsearch.encoders.tokenizing import TextTokenizer
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image

# Beyond these a batch is no faster per item and only takes more memory.
_PICTURES_AT_ONCE = 8
_TEXTS_AT_ONCE = 32


class OnnxEncoder:
    """An exported model; see clipsearch.encoders.base.Encoder for what the methods promise."""

    def __init__(self, folder: Path, meta: ExportMeta, *, threads: int) -> None:
        """Take a verified export; nothing is loaded yet.

        threads: of the image tower, and of the text tower when it gets more than one text at a time.
        """
        self._folder = folder
        self._meta = meta
        self._threads = max(1, threads)
        self._image_lock = threading.Lock()
        self._text_lock = threading.Lock()
        self._tokenizer_lock = threading.Lock()
        self._image: Any = None
        self._text: Any = None
        self._text_threads = 0
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
    def batch_size(self) -> int:
        """Pictures or passages a call had best get."""
        return BATCH_SIZE

    @property
    def streams(self) -> int:
        """One call uses all threads."""
        return 1

    @property
    def max_tokens(self) -> int:
        """The context length of the text tower."""
        return self._meta.text.context_length

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, special tokens included, uncut."""
        return self._load_tokenizer().count(text)

    def preprocess(self, picture: Image) -> Pixels:
        """Resize, crop or pad one upright picture."""
        return (self._meta.picture.apply(picture),)

    def encode_pixels(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Encode prepared pictures into float32 (n, dim)."""
        return self._encode_pictures(iter(batch))

    def encode_images(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Encode upright pictures into float32 (n, dim)."""
        return self._encode_pictures(self.preprocess(picture) for picture in pictures)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode passages into float32 (n, dim), each cut at max_tokens."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        tokenizer = self._load_tokenizer()
        session = self._text_session(len(texts))
        # Rows of like length share a batch, so that a short text is not padded to a long one.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        result = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            chosen = order[start : start + _TEXTS_AT_ONCE]
            result[chosen] = self._run(session, tokenizer.rows([texts[index] for index in chosen]))
        return result

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode search texts into float32 (n, dim), as encode_texts does."""
        return self.encode_texts(texts)

    def _encode_pictures(self, prepared: Iterator[Pixels]) -> NDArray[np.float32]:
        parts = [np.empty((0, self.dim), np.float32)]
        while batch := list(islice(prepared, _PICTURES_AT_ONCE)):
            parts.append(self._run(self._image_session(), np.stack([arrays[0] for arrays in batch])))
        return np.concatenate(parts)

    def _run(self, session: Any, values: NDArray[Any]) -> NDArray[np.float32]:  # noqa: ANN401
        try:
            rows: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0]
        except Exception as error:
            raise EncoderError(f"The encoder {self.name} failed on a batch of {len(values)}: {error}") from error
        return rows

    def _image_session(self) -> Any:  # noqa: ANN401
        with self._image_lock:
            if self._image is None:
                self._image = open_session(self._folder / IMAGE_GRAPH, self._threads)
            return self._image

    def _text_session(self, texts: int) -> Any:  # noqa: ANN401
        # One thread answers a single query as fast as two wake up, and leaves the cores to other queries.
        # The first batch replaces that session for good, so that the weights are never held twice.
        wanted = 1 if texts == 1 else self._threads
        with self._text_lock:
            if wanted > self._text_threads:
                self._text = None
                self._text = open_session(self._folder / TEXT_GRAPH, wanted)
                self._text_threads = wanted
            return self._text

    def _load_tokenizer(self) -> TextTokenizer:
        with self._tokenizer_lock:
            if self._tokenizer is None:
                self._tokenizer = TextTokenizer.from_file(self._folder / TOKENIZER, self._meta.text)
            return self._tokenizer


def open_session(path: Path, threads: int) -> Any:  # noqa: ANN401
    """Open a graph on the CPU with a number of threads that sleep when idle.

    Raises EncoderError when ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EncoderError(
            f"The exported model {path} cannot be loaded: {error}. Delete its folder and try again."
        ) from error
