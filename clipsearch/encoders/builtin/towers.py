"""The two kinds of tower as ONNX Runtime sessions."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.cache import DamagedTowerError, Files, open_tower
from clipsearch.encoders.builtin.quantize import Range
from clipsearch.encoders.builtin.weights import (
    MINILM,
    TOKENIZER,
    Source,
    read_pth,
    read_safetensors,
    read_verified,
)
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

logger = logging.getLogger("clipsearch")

GRAPH_VERSION = 5
"""Raise it whenever graph.py, graph_builder.py or quantize.py makes other numbers; it changes the fingerprint."""

MAX_TOKENS = 256

_MODEL = "model.onnx"
_TOKENS = "tokenizer.json"
_PICTURES_A_RUN = 8


class PictureTower:
    """An EfficientNet-Lite in int8; safe to call from several threads."""

    def __init__(self, source: Source, side: int, ranges: Sequence[Range], threads: int) -> None:
        """Open it, building it where needed.

        source: its weights. side: pixels. ranges: of its activations. threads: that one call may use.
        """

        def build() -> Files:
            from clipsearch.encoders.builtin.graph import picture_tower

            model = picture_tower(read_pth(read_verified(source)), side, ranges)
            return {_MODEL: model.SerializeToString()}

        key = _key(source.package.split("_")[1], source.sha256, side, list(ranges))
        self._session = open_tower(
            key, timed(f"picture ({side} pixels)", build), lambda files: open_session(files[_MODEL], threads)
        )

    def run(self, pixels: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return features, float32 (n, width), and logits, float32 (n, 1000), of pictures (side, side, 3)."""
        runs = [
            run_session(self._session, {"pixels": np.stack(pixels[start : start + _PICTURES_A_RUN])})
            for start in range(0, len(pixels), _PICTURES_A_RUN)
        ]
        features, logits = zip(*runs, strict=True)
        return np.concatenate(features), np.concatenate(logits)


class TextTower:
    """MiniLM in int8 and its tokenizer; safe to call from several threads.

    Its activations are rounded by their range in each run, so each run takes one text, and a row cannot depend on
    what else is encoded with it. Several texts run side by side instead.
    """

    def __init__(self, threads: int) -> None:
        """Open it, building it where needed. threads: that one call may use."""
        key = _key("minilm", MINILM.sha256, TOKENIZER.sha256)
        self._threads = threads
        self._tokenizer, self._session = open_tower(key, timed("text", _build_text), _load_text)

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, the two special ones included, without cutting it."""
        # A lone surrogate, from a file name that is no UTF-8, has no encoding.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._tokenizer.encode(clean).ids
        return ids

    def run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return embeddings, float32 (n, 768) of unit length, each text cut at MAX_TOKENS."""
        return np.concatenate(map_texts(self._embed, texts, self._threads))

    def _embed(self, text: str) -> NDArray[np.float32]:
        ids = self.tokenize(text)
        if len(ids) > MAX_TOKENS:
            ids = [*ids[: MAX_TOKENS - 1], ids[-1]]
        (row,) = run_session(self._session, {"ids": np.array([ids], np.int64)})
        return row / np.linalg.norm(row)


def _build_text() -> Files:
    from clipsearch.encoders.builtin.graph import text_tower

    model = text_tower(read_safetensors(read_verified(MINILM)), int8=True)
    return {_MODEL: model.SerializeToString(), _TOKENS: read_verified(TOKENIZER)}


def _load_text(files: dict[str, bytes]) -> tuple[Tokenizer, InferenceSession]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(files[_TOKENS])
    except Exception as error:  # The tokenizers package raises bare Exception.
        raise DamagedTowerError(str(error)) from error
    # The file asks for 128 tokens exactly; both cutting and padding are done here instead.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, open_session(files[_MODEL], 1)


def _key(name: str, *parts: object) -> str:
    digest = hashlib.sha256(repr((GRAPH_VERSION, parts)).encode())
    # A change of the code that builds must never meet an older build, even where the version was not raised.
    for file in ("graph.py", "graph_builder.py", "quantize.py"):
        digest.update(resources.files(__package__).joinpath(file).read_bytes())
    return f"builtin-{name}-v{GRAPH_VERSION}-{digest.hexdigest()[:12]}"


def map_texts(
    embed: Callable[[str], NDArray[np.float32]], texts: Sequence[str], threads: int
) -> list[NDArray[np.float32]]:
    """Embed each text by itself, several side by side if there are threads for it; in the order of the texts."""
    if threads == 1 or len(texts) < 4:
        return [embed(text) for text in texts]
    rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(texts)
    rest = iter(range(len(texts)))  # which the threads share: a text costs little more than handing it to one would

    def embed_rest(_: int) -> None:
        for number in rest:
            rows[number] = embed(texts[number])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(embed_rest, range(threads)))
    return rows


def timed(name: str, build: Callable[[], Files]) -> Callable[[], Files]:
    """Let a build log that it happens, and how long it took. name: of the part."""

    def timed() -> Files:
        logger.info("Building the %s part of the builtin encoder; this happens once.", name)
        begun = time.perf_counter()
        files = build()
        logger.info("Built the %s part of the builtin encoder in %.1f s.", name, time.perf_counter() - begun)
        return files

    return timed


def open_session(model: bytes, threads: int) -> InferenceSession:
    """Open a model. Raises DamagedTowerError where ONNX Runtime does not take it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads that spin would take the cores from the decoder and from other runtimes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has one class a status and no common base but Exception.
        raise DamagedTowerError(str(error)) from error


def run_session(session: InferenceSession, inputs: dict[str, Any]) -> list[NDArray[np.float32]]:
    """Run a model on named arrays. Raises EncoderError where it fails."""
    try:
        outputs: list[NDArray[np.float32]] = session.run(None, inputs)
    except Exception as error:
        raise EncoderError(f"The builtin encoder failed: {error}. If memory is short, use a smaller batch.") from error
    return outputs
