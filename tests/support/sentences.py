"""A library of captioned pictures and texts of several passages, whose words and vectors agree, without a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, Encoded, FileRecord, RecordBlock
from clipsearch.types import EncoderPin, Modality, Passage
from indexer import build
from indexer.plan import IndexPlan
from indexer.spreads import refresh_spreads
from tests.support.contents import hash_of

WHO = "dog cat horse child woman cyclist fisherman bird".split()
HOW = "red small wet happy old striped".split()
WHERE = "on a beach|in the snow|beside a river|on a sofa|in a crowded street|under a tree".split("|")
SENTENCES = [f"a {how} {who} {where}" for who in WHO for where in WHERE for how in HOW]
"""288 of them, as captions have it."""


def rows_near(vectors: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Unit rows that differ from others by noise."""
    moved = vectors + noise * np.random.default_rng(seed).standard_normal(vectors.shape) / np.sqrt(vectors.shape[1])
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def sentence_library(folder: Path, encoder: Any, kind: str = "flat") -> SearchEngine:
    """Make a library of 288 pictures, half of them with a caption, some of them copies, and of 40 texts."""
    library = Library.create(folder)
    library.pin(EncoderPin(encoder.name, encoder.fingerprint, encoder.dim))
    words = encoder.encode_texts(SENTENCES)
    pictures = rows_near(words, 0.8, 1).astype(np.float16)
    pictures[5::40] = pictures[4::40]  # copies
    captioned, plain = np.arange(0, len(words), 2), np.arange(1, len(words), 2)
    with library.writer() as writer:
        source = writer.add_root("", "/pictures").root_id
        said = [CollectionRecord(f"{i}.jpg", SENTENCES[i]) for i in captioned]
        both = {Modality.IMAGE: pictures[captioned], Modality.TEXT: words[captioned].astype(np.float16)}
        writer.commit_records(source, RecordBlock(said, both))
        writer.commit_records(
            source, RecordBlock([CollectionRecord(f"{i}.jpg") for i in plain], {Modality.IMAGE: pictures[plain]})
        )
        texts = writer.add_root("", "/texts").root_id
        writer.commit([_text(texts, i, words[7 * i : 7 * i + 7]) for i in range(40)])
        refresh_spreads(library, writer, lambda: encoder)
        if kind != "flat":
            build.build(library, writer, IndexPlan(kind))
    return SearchEngine(library, encoder=encoder)


def _text(root: int, number: int, rows: np.ndarray) -> Encoded:
    passages = tuple(Passage(SENTENCES[7 * number + i], i + 1, i + 1) for i in range(len(rows)))
    record = FileRecord(root, f"{number}.txt", 1, 1)
    return Encoded(record, hash_of(f"text {number}"), Modality.TEXT, rows, passages=passages)
