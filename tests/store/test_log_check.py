"""The check of SQLite's write-ahead log: damage is told from what a crash leaves."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clipsearch.store.log_check import examine_log

pytestmark = pytest.mark.sqlite

PAGE, FRAME = 512, 24 + 512


def log_of(folder: Path, commits: int = 4, *, after_reset: bool = False) -> bytes:
    """The log of a database that is still open, after some commits; after_reset: over the rest of a longer one."""
    folder.mkdir()
    path = folder / "catalog.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
        if after_reset:
            for number in range(60):
                db.execute("INSERT INTO t VALUES (?)", (f"{number}" * 40,))
                db.commit()
            db.execute("PRAGMA wal_checkpoint(RESTART)")
        for number in range(commits):
            db.execute("INSERT INTO t VALUES (?)", (f"{number}" * 90,))
            db.commit()
        return path.with_name("catalog.db-wal").read_bytes()


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return {"new": log_of(folder / "new"), "reset": log_of(folder / "reset", after_reset=True)}


def valid_frames(log: bytes) -> int:
    """Frames that bear the salts of the header."""
    return sum(log[at + 8 : at + 16] == log[16:24] for at in range(32, len(log), FRAME))


def is_damaged(folder: Path, log: bytes) -> bool:
    path = folder / "log"
    path.write_bytes(log)
    return examine_log(path) is not None


@pytest.mark.parametrize("kind", ["new", "reset"])
def test_a_whole_log_is_not_damaged(tmp_path, logs, kind):
    assert valid_frames(logs[kind]) >= 4
    assert (valid_frames(logs[kind]) * FRAME + 32 < len(logs[kind])) == (kind == "reset"), "no rest of a longer one"
    assert not is_damaged(tmp_path, logs[kind])


def test_no_log_and_an_empty_one_are_not_damaged(tmp_path):
    assert examine_log(tmp_path / "none") is None
    assert not is_damaged(tmp_path, b"")


@pytest.mark.parametrize("kind", ["new", "reset"])
def test_any_flipped_bit_of_what_counts_is_seen(tmp_path, logs, kind, monkeypatch):
    monkeypatch.setattr("clipsearch.store.log_check._PAUSE_SECONDS", 0)
    monkeypatch.setattr("clipsearch.store.log_check._LOOKS", 2)
    log, size = logs[kind], 32 + FRAME * valid_frames(logs[kind])
    chance = random.Random(1)
    last = range(8 * (size - FRAME), 8 * size)  # the one frame that no commit follows
    bits = [*range(0, 256, 5), *chance.sample(range(8 * size), 60), *chance.sample(last, 40), *last[:192:2]]
    for bit in bits:
        flipped = bytearray(log)
        flipped[bit // 8] ^= 1 << bit % 8
        assert is_damaged(tmp_path, bytes(flipped)), f"bit {bit} of {8 * size}"


def test_a_frame_that_is_lost_as_a_whole_is_seen_by_the_commits_behind_it(tmp_path, logs):
    log = bytearray(logs["new"])
    log[32 + FRAME : 32 + 2 * FRAME] = bytes(FRAME)
    assert is_damaged(tmp_path, bytes(log))


@pytest.mark.parametrize("kind", ["new", "reset"])
def test_a_log_that_a_crash_cut_at_any_byte_is_not_damaged(tmp_path, logs, kind):
    """A new log ends there; one that is written over a longer one goes on with what the file held before."""
    log, size = logs[kind], 32 + FRAME * valid_frames(logs[kind])
    older = log[:32] + (log[size:] * (size // max(len(log) - size, 1) + 1) if kind == "reset" else b"")
    for cut in [*range(32, size, 37), *range(size - FRAME, size)]:
        assert not is_damaged(tmp_path, log[:cut] + older[cut:]), cut


def test_a_log_that_changes_while_it_is_read_is_read_again(tmp_path, logs, monkeypatch):
    log = bytearray(logs["new"])
    log[40] ^= 1
    path = tmp_path / "log"
    path.write_bytes(log)
    monkeypatch.setattr("time.sleep", lambda seconds: path.write_bytes(logs["new"]))
    assert examine_log(path) is None
