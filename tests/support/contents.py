"""Libraries of made-up contents: p1 is a picture, t2 a text of three passages, bad0 fails; no files, no encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from sqlalchemy import text

from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, Encoded, Failed, FileRecord, Known, Outcome, RecordBlock, Scope
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin, Modality, Passage
from tests.support.state import State

DIM = 8
PIN = EncoderPin("test", "abc", DIM)


def vectors_of(content: str, parts: int = 1) -> np.ndarray:
    """Unit vectors that only this content has."""
    seed = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")
    rows = np.random.default_rng(seed).standard_normal((parts, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def hash_of(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=20).hexdigest()


def parts_of(content: str) -> int:
    """How many passages a content has; 0 for a picture."""
    return int(content[1:]) % 3 + 1 if content.startswith("t") else 0


def outcome(record: FileRecord, content: str, *, known: bool = False) -> Outcome:
    """What the pipeline would say of a file; contents that start with `bad` fail."""
    if content.startswith("bad"):
        return Failed(record, f"reason {content}")
    if known:
        return Known(record, hash_of(content))
    if parts := parts_of(content):
        passages = tuple(Passage(f"{content} {i}", i + 1, i + 1) for i in range(parts))
        return Encoded(record, hash_of(content), Modality.TEXT, vectors_of(content, parts), passages=passages)
    return Encoded(record, hash_of(content), Modality.IMAGE, vectors_of(content))


def new_library(folder: Path) -> Library:
    library = Library.create(folder)
    library.pin(PIN)
    return library


def add_root(library: Library, path: str = "/photos") -> int:
    with library.writer() as opened:
        return opened.add_root(library.base, path).root_id


Disk = dict[str, tuple[str, int]]
"""Path -> (content, mtime)."""


def synchronise(opened: Writer, root: int, disk: Disk, *, batch: int, encode_anyway: bool = False) -> None:
    """Do what an indexing run does, without files: compare, commit in batches, tombstone."""
    records = [FileRecord(root, path, len(content), mtime) for path, (content, mtime) in sorted(disk.items())]
    if records:
        opened.ledger.note(records, retry_failed=False)
    opened.ledger.find_missing([Scope(root)], [])
    todo = list(opened.ledger.todo())
    for start in range(0, len(todo), batch):
        known = known_contents(opened)
        outcomes: list[Outcome] = []
        for record in todo[start : start + batch]:
            content = disk[record.path][0]
            outcomes.append(outcome(record, content, known=hash_of(content) in known and not encode_anyway))
        committed = opened.commit(outcomes)
        again = [outcome(record, disk[record.path][0]) for record in committed.unresolved]
        if again:
            assert not opened.commit(again).unresolved
    opened.remove_missing()


def known_contents(opened: Writer) -> set[str]:
    connection = opened._connection
    with connection.begin():
        return set(connection.execute(text("SELECT content_hash FROM items")).scalars())


def check(state: State, disk: Disk) -> None:
    """Every good file is live with exactly its vectors, every bad one is a failure, nothing else is there."""
    good = {path: content for path, (content, _) in disk.items() if not content.startswith("bad")}
    bad = {path: content for path, (content, _) in disk.items() if content.startswith("bad")}
    live = state.live
    assert {path: entry.content_hash for path, entry in live.items()} == {p: hash_of(c) for p, c in good.items()}
    for path, content in good.items():
        expected = vectors_of(content, parts_of(content) or 1).astype("<f2").tobytes()
        assert live[path].vectors == expected, f"{path} does not have the vectors of {content}"
        texts = tuple(f"{content} {i}" for i in range(parts_of(content))) or (None,)
        assert live[path].texts == texts
    assert {path: reason for (_, path), reason in state.failures.items()} == {p: f"reason {c}" for p, c in bad.items()}


PATHS = st.sampled_from(["a", "b", "c", "sub/a"])
CONTENTS = st.sampled_from(["p0", "p1", "t1", "bad0"])
CHANGES = st.one_of(
    st.tuples(st.just("write"), PATHS, CONTENTS),
    st.tuples(st.just("touch"), PATHS),
    st.tuples(st.just("delete"), PATHS),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("copy"), PATHS, PATHS),
    st.tuples(st.just("swap"), PATHS, PATHS),
)


def apply(disk: Disk, change: Sequence[str], clock: int) -> None:
    kind, path, *rest = change
    if kind == "write":
        disk[path] = (rest[0], clock)
    elif path in disk and kind == "touch":
        disk[path] = (disk[path][0], clock)
    elif path in disk and kind == "delete":
        del disk[path]
    elif path in disk and kind == "move":
        disk[rest[0]] = disk.pop(path)
    elif path in disk and kind == "copy":
        disk[rest[0]] = (disk[path][0], clock)
    elif kind == "swap" and path in disk and rest[0] in disk:
        disk[path], disk[rest[0]] = disk[rest[0]], disk[path]


def block(captions: list[str | None], *, first: int = 0) -> RecordBlock:
    rows = np.zeros((len(captions), DIM), np.float16)
    rows[:, 0] = 1
    records = [CollectionRecord(f"r{first + i}", caption) for i, caption in enumerate(captions)]
    return RecordBlock(records, {Modality.IMAGE: rows})
