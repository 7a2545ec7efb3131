"""Run an exported model with ONNX Runtime, tokenizers, numpy and Pillow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import BATCH_SIZE, Pixels
from clipsearch.encoders.export_folder import IMAGE_GRAPH, TEXT_GRAPH, ExportMeta
from clipsearch.encoders.onnx_session import open_session
from clipsearch.encoders.prepared import PreparedModel
from clipsearch.errors import EncoderError, EncoderUnavailableError
from clipsearch.forking import abandon, register

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("clipsearch")

# Beyond these a batch is no faster per item and only takes more memory.
_PICTURES_AT_ONCE = 8
_TEXTS_AT_ONCE = 16
# Texts that are sorted by length together: enough that runs of like length come about, few enough to hold.
_TEXTS_SORTED = 4096
# Prepared rows that wait for a thread, in int8.
_ROWS_AHEAD = 256


class OnnxEncoder(PreparedModel):
    """An exported model; see clipsearch.encoders.base.Encoder for what the methods promise."""

    def __init__(self, folder: Path, meta: ExportMeta, *, threads: int, int8: bool = False) -> None:
        """Take a verified export; nothing is loaded yet.

        threads: of the image tower, and of the text tower when it gets more than one text at a time.
        int8: encode pictures and passages in 8 bits; queries stay in float32.
        """
        super().__init__(folder, meta)
        self._threads = max(1, threads)
        self._int8 = int8
        self._unload()
        register(self)

    def _unload(self) -> None:
        self._image_lock = threading.Lock()
        self._text_lock = threading.Lock()
        self._image: Any = None
        self._text: Any = None
        self._text_threads = -1
        self._text_int8: Any = None
        self._exact_texts = False

    def renew_after_fork(self) -> None:
        """Forget the sessions, whose threads are those of the parent."""
        abandon(self._image, self._text, self._text_int8, self._tokenizer)
        self._unload()
        self._unload_tokenizer()

    @property
    def batch_size(self) -> int:
        """Pictures or passages preferred for a call."""
        return BATCH_SIZE

    @property
    def streams(self) -> int:
        """One call uses all threads."""
        return 1

    def encode_pixels(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Encode prepared pictures into float32 (n, dim)."""
        return self._encode_pictures(iter(batch))

    def encode_images(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Encode upright pictures into float32 (n, dim)."""
        return self._encode_pictures(self.preprocess(picture) for picture in pictures)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode passages into float32 (n, dim), each cut at max_tokens."""
        parts = [np.empty((0, self.dim), np.float32)]
        if self._int8 and texts and (session := self._int8_text_session()):
            tokenizer = self._load_tokenizer()
            return self._encode_apart(session, (tokenizer.rows([text]) for text in texts))
        for start in range(0, len(texts), _TEXTS_SORTED):
            parts.append(self._encode_sorted(texts[start : start + _TEXTS_SORTED]))
        return np.concatenate(parts)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode search texts into float32 (n, dim), as encode_texts does, but always in float32."""
        return self._encode_sorted(texts)

    def load_pictures(self) -> Any:  # noqa: ANN401
        """Load the image tower now rather than when it is first used, and return its session.

        Raises EncoderUnavailableError where int8 does not serve the model.
        """
        with self._image_lock:
            if self._image is None:
                self._image = self._open_image()
            return self._image

    def _encode_sorted(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        tokenizer = self._load_tokenizer()
        session = self._text_session(len(texts))
        ids = [tokenizer.ids(text) for text in texts]
        # Rows of like length share a run, so that a short text is not padded to a long one.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        result = np.empty((len(ids), self.dim), np.float32)
        at_once = _rows_at_once(session, _TEXTS_AT_ONCE)
        for start in range(0, len(order), at_once):
            chosen = order[start : start + at_once]
            result[chosen] = self._run(session, tokenizer.pad([ids[index] for index in chosen]))
        return result

    def _encode_pictures(self, prepared: Iterator[Pixels]) -> NDArray[np.float32]:
        if self._int8:
            return self._encode_apart(self.load_pictures(), (arrays[0][None] for arrays in prepared))
        parts = [np.empty((0, self.dim), np.float32)]
        while batch := list(islice(prepared, _PICTURES_AT_ONCE)):
            session, pixels = self.load_pictures(), np.stack([arrays[0] for arrays in batch])
            at_once = _rows_at_once(session, len(batch))
            parts += [self._run(session, pixels[start : start + at_once]) for start in range(0, len(batch), at_once)]
        return np.concatenate(parts)

    def _encode_apart(self, session: Any, rows: Iterator[NDArray[Any]]) -> NDArray[np.float32]:  # noqa: ANN401
        # The range by which a run rounds must be that of one row; runs of one thread go side by side instead.
        parts = [np.empty((0, self.dim), np.float32)]
        with ThreadPoolExecutor(self._threads, thread_name_prefix="int8") as pool:
            while ahead := list(islice(rows, _ROWS_AHEAD)):
                parts.extend(pool.map(lambda row: self._run(session, row), ahead))
        return np.concatenate(parts)

    def _run(self, session: Any, values: NDArray[Any]) -> NDArray[np.float32]:  # noqa: ANN401
        try:
            rows: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0]
        except Exception as error:
            raise EncoderError(f"The encoder {self.name} failed on a batch of {len(values)}: {error}") from error
        return rows

    def _open_image(self) -> Any:  # noqa: ANN401
        if not self._int8:
            return open_session(self._folder / IMAGE_GRAPH, self._threads)
        from clipsearch.encoders.int8 import open_int8, trial_pictures

        trials = trial_pictures(self._meta.picture.height, self._meta.picture.width)
        return open_int8(self._folder, self._meta, IMAGE_GRAPH, trials)

    def _int8_text_session(self) -> Any:  # noqa: ANN401
        """Return the text tower in 8 bits, or None where 8 bits do not serve it."""
        from clipsearch.encoders.int8 import open_int8
        from clipsearch.encoders.tokenizer_export import DIFFICULT_TEXTS

        tokenizer = self._load_tokenizer()
        with self._text_lock:
            if self._text_int8 is None and not self._exact_texts:
                try:
                    trials = [tokenizer.rows([text]) for text in DIFFICULT_TEXTS]
                    self._text_int8 = open_int8(self._folder, self._meta, TEXT_GRAPH, trials)
                except EncoderUnavailableError as error:
                    log.warning("Texts are encoded in fp32: %s", error)
                    self._exact_texts = True
            return self._text_int8

    def _text_session(self, texts: int) -> Any:  # noqa: ANN401
        # For a single query, 0, the weights are not packed: that takes ten times as long as it saves. One thread
        # answers it as fast as two wake up, and leaves the cores to other queries. The first batch replaces that
        # session for good, so that weights are never held twice.
        wanted = 0 if texts == 1 else self._threads
        with self._text_lock:
            if wanted > self._text_threads:
                self._text = None
                self._text = open_session(self._folder / TEXT_GRAPH, max(wanted, 1), pack=wanted > 0)
                self._text_threads = wanted
            return self._text


def _rows_at_once(session: Any, most: int) -> int:  # noqa: ANN401
    """Return how many rows a run takes at most: one where the graph was made for one, as some from elsewhere are."""
    return 1 if session.get_inputs()[0].shape[0] == 1 else most
