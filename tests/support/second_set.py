"""A second set of vectors, by another encoder, for the contents of tests.support.contents."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from clipsearch.store import second_items
from clipsearch.store.library import Library
from clipsearch.store.resolve import Part
from clipsearch.store.second_flip import flip
from clipsearch.store.second_writer import SecondItem, SecondWriter
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin, Modality, Passage
from tests.support.contents import Disk, hash_of, parts_of, synchronise, vectors_of
from tests.support.state import State
from tests.support.state import read_state as read_complete

DIM = 5
OTHER = EncoderPin("other", "def", DIM)

read_state = partial(read_complete, complete=False)
"""Of what was deleted before the flip, the second set has no vectors."""

CONTENTS = [f"{kind}{i}" for kind in "pt" for i in range(100)]
BY_HASH = {hash_of(content): content for content in CONTENTS}
FILES: Disk = {f"{i:02d}": (f"p{i}", 1) for i in range(12)} | {f"t{i}": (f"t{i}", 1) for i in range(6)}


def others_of(content: str) -> np.ndarray:
    """Unit vectors of the other encoder; it cuts a text into one passage more."""
    parts = parts_of(content) + 1 if parts_of(content) else 1
    seed = int.from_bytes(hashlib.blake2b(f"other {content}".encode(), digest_size=8).digest(), "little")
    found = np.random.default_rng(seed).standard_normal((parts, DIM)).astype(np.float32)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def encoded(item: second_items.StoredItem, encoder: EncoderPin = OTHER) -> SecondItem:
    content = BY_HASH[item.content_hash]
    made = others_of(content) if encoder == OTHER else vectors_of(content, parts_of(content) or 1).astype(np.float16)
    if parts_of(content):
        words = "ab" if encoder == OTHER else f"{content} "
        parts = [Part.of_passage(i, Passage(f"{words}{i}", i + 1, i + 1)) for i in range(len(made))]
        return SecondItem(item.id, item.stamp, parts, {Modality.TEXT: made})
    return SecondItem(item.id, item.stamp, [Part(Modality.IMAGE, 0)], {Modality.IMAGE: made})


def sync(library: Library, disk: Disk) -> None:
    with library.writer() as writer:
        synchronise(writer, 1, disk, batch=5)


def prepare(writer: Writer, encoder: EncoderPin = OTHER, batch: int = 4) -> SecondWriter:
    """Encode all that the second set lacks."""
    second = SecondWriter(writer)
    second.begin(encoder)
    found, _ = second_items.pending(second.connection, 0, retry=True)
    second.connection.rollback()
    for start in range(0, len(found), batch):
        second.commit(encoder, [encoded(item, encoder) for item in found[start : start + batch]])
    return second


def reindexed(folder: Path, encoder: EncoderPin = OTHER) -> None:
    library = Library(folder)
    with library.writer() as writer:
        flip(prepare(writer, encoder), encoder)
    library.close()


def check_other(state: State, disk: Disk) -> None:
    """All that is live has exactly its vectors by the other encoder."""
    assert state.pins["encoder"] == "other"
    assert {path: entry.content_hash for path, entry in state.live.items()} == {
        p: hash_of(c) for p, (c, _) in disk.items()
    }
    for path, (content, _) in disk.items():
        assert state.live[path].vectors == others_of(content).tobytes(), path
