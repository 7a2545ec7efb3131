"""What a library holds, read past the code under test, and a full check of it; what a folder holds."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.catalogs import connect_marker, marker_of


@dataclass(frozen=True)
class Entry:
    """One item as it stands on disk."""

    id: int
    root_id: int
    path: str
    content_hash: str
    modality: str
    deleted: bool
    rows: tuple[int, ...]
    vectors: bytes
    texts: tuple[str | None, ...]
    caption: str | None
    caption_rows: tuple[int, ...]
    caption_vectors: bytes


@dataclass(frozen=True)
class State:
    """All that a library holds, read past the code under test."""

    entries: dict[int, Entry]
    failures: dict[tuple[int, str], str]
    committed: dict[str, int]
    tombstones: dict[str, frozenset[int]]
    pins: dict[str, str] = field(default_factory=dict)

    @property
    def live(self) -> dict[str, Entry]:
        """Live items by stored path; only for libraries with one root, or distinct names."""
        return {entry.path: entry for entry in self.entries.values() if not entry.deleted}

    def logical(self) -> frozenset[tuple[Any, ...]]:
        """What a user can see of it: no numbers of rows."""
        items = {
            (e.id, e.root_id, e.path, e.content_hash, e.vectors, e.texts, e.caption, e.caption_vectors)
            for e in self.live.values()
        }
        return frozenset(items | {("failed", *key, reason) for key, reason in self.failures.items()})


def read_state(library: Path, *, complete: bool = True) -> State:
    """Read a library with plain sqlite3 and numpy, and assert every invariant of the store on the way.

    complete: every item has vectors, as it has unless another encoder took the place of its own.
    """
    if (marker := marker_of(library)) is not None:
        with connect_marker(marker) as connection:
            return _read_state(library, connection, complete)
    with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert not db.execute("PRAGMA foreign_key_check").fetchall()
        return _read_state(library, db, complete)


def _read_state(library: Path, db: Any, complete: bool) -> State:
    pins = {r["key"]: r["value"] for r in db.execute("SELECT key, value FROM settings")}
    segments = db.execute("SELECT * FROM segments ORDER BY modality, first_row").fetchall()
    items = db.execute("SELECT * FROM items").fetchall()
    rows = db.execute("SELECT * FROM vectors ORDER BY item_id, part").fetchall()
    dead = db.execute("SELECT modality, row FROM tombstones").fetchall()
    failed = {(r["root_id"], r["path"]): r["reason"] for r in db.execute("SELECT * FROM failures")}
    _check_words(words_of(db), items, rows)
    dim = int(pins.get("dim", 0))
    matrices, committed = _read_segments(library / "vectors", segments, dim)
    tombstones = {m: frozenset(r["row"] for r in dead if r["modality"] == m) for m in committed}
    assert sum(map(len, tombstones.values())) == len(dead)
    by_item: dict[int, list[sqlite3.Row]] = {}
    for row in rows:
        by_item.setdefault(row["item_id"], []).append(row)
    entries = {item["id"]: _entry(item, by_item.get(item["id"], []), matrices) for item in items}
    assert not complete or all(entry.vectors for entry in entries.values()), "an item has no vectors"
    _check_rows(entries, committed, tombstones)
    return State(entries, failed, committed, tombstones, pins)


def words_of(db: Any) -> dict[int, list[str]]:
    """The words that full text search has of each item, in order."""
    if not isinstance(db, sqlite3.Connection):
        return {item: tokens.split() for item, tokens in db.execute("SELECT item_id, tokens FROM full_text")}
    db.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, full_text, instance)")
    found: dict[int, list[str]] = {}
    for doc, term in db.execute("SELECT doc, term FROM temp.words ORDER BY doc, offset"):
        found.setdefault(doc, []).append(term)
    return found


def _check_words(found: dict[int, list[str]], items: list[sqlite3.Row], rows: list[sqlite3.Row]) -> None:
    """Full text search has the words of every item, deleted ones too, and no others."""
    texts = {item["id"]: [item["caption"]] if item["caption"] else [] for item in items}
    captioned = {number for number, parts in texts.items() if parts}
    for row in rows:
        if row["item_id"] not in captioned:
            texts[row["item_id"]].append(row["text"] or "")
    expected = {number: re.findall("[a-z0-9]+", "\n".join(parts).lower()) for number, parts in texts.items()}
    assert found == {number: words for number, words in expected.items() if words}


def _read_segments(folder: Path, segments: Any, dim: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    parts: dict[str, list[np.ndarray]] = {}
    committed: dict[str, int] = {}
    for segment in segments:
        modality, count = segment["modality"], segment["committed_rows"]
        assert segment["first_row"] == committed.get(modality, 0), "segments leave a gap or overlap"
        data = (folder / segment["name"]).read_bytes()
        assert len(data) >= count * dim * 2, "a segment is shorter than what is committed"
        parts.setdefault(modality, []).append(np.frombuffer(data[: count * dim * 2], "<f2").reshape(count, dim))
        committed[modality] = committed.get(modality, 0) + count
    return {modality: np.concatenate(found) for modality, found in parts.items()}, committed


def _entry(item: sqlite3.Row, rows: list[sqlite3.Row], matrices: dict[str, np.ndarray]) -> Entry:
    own = [row for row in rows if row["modality"] == item["modality"]]
    said = [row for row in rows if row["modality"] != item["modality"]]
    for part in (own, said):
        assert [row["part"] for row in part] == list(range(len(part)))
    assert {row["modality"] for row in said} <= {"text"}
    if item["caption"]:
        assert "".join("".join(row["text"] for row in said).split()) == "".join(item["caption"].split())
    else:
        assert not said
    numbers, spoken = (tuple(row["row"] for row in part) for part in (own, said))
    vectors = matrices[item["modality"]][list(numbers)].tobytes()
    captions = matrices["text"][list(spoken)].tobytes() if spoken else b""
    texts = tuple(row["text"] for row in own)
    where = (item["id"], item["root_id"], item["path"])
    what = (item["content_hash"], item["modality"], bool(item["deleted"]))
    return Entry(*where, *what, numbers, vectors, texts, item["caption"], spoken, captions)


def _check_rows(entries: dict[int, Entry], committed: dict[str, int], tombstones: dict[str, frozenset[int]]) -> None:
    """Every row belongs to one item at most, and the tombstones are exactly the rows of no live item."""
    places = [(entry.root_id, entry.path) for entry in entries.values()]
    assert len(places) == len(set(places))
    for modality, count in committed.items():
        owned = [row for e in entries.values() for row in _rows_in(e, modality)]
        assert len(owned) == len(set(owned)), "two items share a row"
        live = {row for e in entries.values() if not e.deleted for row in _rows_in(e, modality)}
        assert tombstones[modality] == set(range(count)) - live


def _rows_in(entry: Entry, modality: str) -> tuple[int, ...]:
    return (*(entry.rows if entry.modality == modality else ()), *(entry.caption_rows if modality == "text" else ()))


def tree_digest(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder, but for what SQLite's readers leave beside a catalog."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_readers(path))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _is_readers(path: Path) -> bool:
    return path.name.endswith("-shm") or (path.name.endswith("-wal") and path.stat().st_size == 0)
