"""The vocabulary of the multilingual tower, in parts: a query in one script loads only the pieces that it can have.

The whole vocabulary takes a tenth of a second to load, which a query in a fresh process would feel
(benchmarks/cold_query.py). A part gives the ids of the whole: a text has no piece with a letter that it lacks.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.cache import DamagedTowerError, Files, open_tower
from clipsearch.encoders.builtin.fitted import DAMAGED
from clipsearch.encoders.builtin.weights import USE_TOKENIZER, read_verified
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

_SIGNS = "\u2581\u0021-\u0040\u005b-\u0060\u007b-\u00bf\u2010-\u2027"
"""In the pieces of all parts: the sign for a blank, digits, punctuation."""

_PARTS = {
    "east": (
        re.compile("[\u4e00-\u9fff\u3041-\u3096\u30a1-\u30fa\u30fc 0-9,.!?，。！？、]*"),
        re.compile(f"[{_SIGNS}\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff]+"),
    ),
    "latin": (
        re.compile("[A-Za-z\u00c0-\u0148\u014a-\u017f 0-9,.!?'-]*"),
        re.compile(f"[{_SIGNS}A-Za-z\u00c0-\u036f\u1e00-\u1eff]+"),
    ),
}
"""Which texts a part is enough for, and its pieces; after normalisation such a text has no other letters."""

_MODEL, _IDS = "pieces.model", "ids.npy"
_NORMAL = 1


class Vocabulary:
    """Cuts texts into tokens as SentencePiece does (Kudo and Richardson 2018, arXiv:1808.06226); safe for threads."""

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[SentencePieceProcessor, NDArray[np.int64] | None]] = {}
        self._lock = threading.Lock()

    def encode(self, text: str) -> Sequence[int]:
        """Return the ids of the pieces of a text; none for a text of blanks."""
        part = next((name for name, (texts, _) in _PARTS.items() if texts.fullmatch(text)), "")
        with self._lock:
            if part not in self._loaded:
                self._loaded[part] = _open_part(part) if part else (_open(read_verified(USE_TOKENIZER)), None)
        processor, ids = self._loaded[part]
        found: list[int] = processor.encode(text)
        return found if ids is None else ids[found].tolist()


def _open_part(part: str) -> tuple[SentencePieceProcessor, NDArray[np.int64] | None]:
    digest = hashlib.sha256(USE_TOKENIZER.sha256.encode())
    digest.update(resources.files(__package__).joinpath("vocabulary.py").read_bytes())
    return open_tower(f"builtin-use-{part}-{digest.hexdigest()[:12]}", lambda: _build(part), _load)


def _build(part: str) -> Files:
    """Keep the pieces of a part, those that are no text, and the rarest, which says what an unknown one costs."""
    from sentencepiece import sentencepiece_model_pb2

    whole: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    whole.ParseFromString(read_verified(USE_TOKENIZER))
    pieces, rarest = list(whole.pieces), min(piece.score for piece in whole.pieces)
    last = max(index for index, piece in enumerate(pieces) if piece.score == rarest)
    own = _PARTS[part][1]
    kept = [
        index
        for index, piece in enumerate(pieces)
        if piece.type != _NORMAL or index == last or own.fullmatch(piece.piece)
    ]
    del whole.pieces[:]
    whole.pieces.extend(pieces[index] for index in kept)
    stored = io.BytesIO()
    np.save(stored, np.array(kept, np.int64))
    return {_MODEL: whole.SerializeToString(), _IDS: stored.getvalue()}


def _load(files: dict[str, Any]) -> tuple[SentencePieceProcessor, NDArray[np.int64] | None]:
    try:
        ids = np.load(io.BytesIO(files[_IDS]), allow_pickle=False)
    except DAMAGED as error:
        raise DamagedTowerError(str(error)) from error
    return _open(files[_MODEL]), ids


def _open(model: bytes) -> SentencePieceProcessor:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=model)
    except Exception as error:  # SentencePiece raises bare RuntimeError, and whatever a broken install raises
        raise EncoderError(
            f"The tokenizer of {USE_TOKENIZER.distribution} does not load: {error}. "
            "Install clipsearch and sentencepiece again."
        ) from error
