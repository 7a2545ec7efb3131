"""Kills and full disks, through the installed command; and what is on the disk before what."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection

from clipsearch.store import rows
from clipsearch.store.database import writer_engine
from clipsearch.store.generations import generation_path
from clipsearch.store.library import Library
from clipsearch.store.records import Encoded, FileRecord
from clipsearch.types import EncoderPin, Modality
from indexer.build import build
from indexer.plan import IndexPlan
from tests.support.catalogs import raw_catalog
from tests.support.cli import COMMAND, checked, environment, run_cli, start_cli
from tests.support.contents import add_root, hash_of, new_library, outcome
from tests.support.disk import Steps, inode
from tests.support.libraries import paths_found, photo, photos
from tests.support.state import read_state

pytestmark = pytest.mark.sqlite

KILLS = 20
BATCH = 4
ROW_BYTES = 2 * 4096  # more than any encoder's


def committed(library: Path) -> dict[str, int]:
    """Live items and ids, by path; empty before there is a catalog."""
    if not (library / "catalog.db").exists():
        return {}
    with raw_catalog(library) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchone():
            return {}
        return dict(db.execute("SELECT path, id FROM items WHERE NOT deleted"))


def wait_for_more(process: subprocess.Popen[bytes], library: Path, count: int) -> None:
    """Wait until more than `count` items are committed, or the process ends."""
    while process.poll() is None and len(committed(library)) <= count:
        time.sleep(0.002)


@pytest.mark.slow
def test_kill_at_random_moments_loses_nothing_that_was_committed(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    total = 0
    command = ("index", root, "--library", library, "--model", "builtin-small", "--batch-size", BATCH, "--threads", 1)
    chance = random.Random(20)
    kept: dict[str, int] = {}
    killed = 0
    while killed < KILLS:
        if total - len(kept) < 200:  # whatever the machine's speed, a kill must come before the end
            photos(root, 120, first=total, size=(48, 32))
            total += 120
            continue
        process = start_cli(*command)
        if killed % 5:  # most kills while batches run, the others anywhere, from the start of Python on
            wait_for_more(process, library, len(kept))
            time.sleep(chance.uniform(0, 0.12))
        else:
            time.sleep(chance.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        now = committed(library)
        assert kept.items() <= now.items(), "what was committed is lost"
        kept = now
        if now:
            state = read_state(library)  # asserts all invariants
            torn = sum(path.stat().st_size for path in (library / "vectors").iterdir())
            dim = int(state.pins["dim"])
            assert 0 <= torn // (2 * dim) - state.committed["image"] <= BATCH, "more than one batch was under way"
    assert 0 < len(kept) < total
    final = run_cli(*command, "--json")
    assert final.code == 0
    assert final.json["encoded"] == final.json["added"] == total - len(kept)
    state = read_state(library)
    assert kept.items() <= committed(library).items()
    assert len(state.live) == total
    assert state.committed["image"] == total, "a picture was encoded and committed twice"
    assert state.tombstones["image"] == frozenset()
    assert len(paths_found(library, encoder)) == total
    assert run_cli(*command, "--json").json["unchanged"] == total


@pytest.mark.slow
def test_kill_while_files_move_change_and_go(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root / "a", 40, size=(48, 32))
    command = ("index", root, "--library", library, "--model", "builtin-small", "--batch-size", 2, "--threads", 1)
    assert run_cli(*command).code == 0
    before = {entry.content_hash: entry.id for entry in read_state(library).live.values()}
    os.rename(root / "a", root / "b")
    photos(root / "c", 20, first=100, size=(48, 32))
    for path in sorted((root / "b").iterdir())[:10]:
        path.unlink()
    chance = random.Random(3)
    for _ in range(4):
        revision = read_state(library).pins["revision"]
        process = start_cli(*command)
        while process.poll() is None and current_revision(library) == revision:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        read_state(library)
    run_cli(*command)
    state = read_state(library)
    after = {entry.content_hash: entry.id for entry in state.live.values()}
    assert len(state.live) == 50
    kept = before.keys() & after.keys()
    assert len(kept) == 30
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}, "a moved file lost its id"
    assert state.committed["image"] == 60


def current_revision(library: Path) -> str:
    with raw_catalog(library) as db:
        return str(db.execute("SELECT value FROM settings WHERE key = 'revision'").fetchone()[0])


# --- A disk that is full


def fill_up(library: Path, run: Callable[[int], object], more_room: Callable[[], None], total: int) -> None:
    """Index into a disk without room, then with room, and check what is said and what is kept."""
    first = run(1)
    assert first.code == 1, first
    assert "run again" in first.err
    assert "nothing committed is lost" in first.err
    assert "damaged" not in first.err
    kept = committed(library)
    assert 0 < len(kept) < total, "the disk was full too early or never"
    read_state(library)
    second = run(2)
    assert second.code == 1, second
    assert committed(library).items() >= kept.items()
    more_room()
    third = run(3)
    assert third.code == 0, third
    now = committed(library)
    assert len(now) == total
    assert kept.items() <= now.items()
    assert read_state(library).committed["image"] == total


def test_a_full_disk_is_told_and_loses_nothing(tmp_path, encoder):
    root, disk = tmp_path / "photos", tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    total = 280
    photos(root, total, size=(16, 16))
    library = disk / "lib"
    command = ("index", root, "--library", library, "--model", "builtin-small", "--batch-size", 16, "--threads", 1)
    try:
        fill_up(
            library,
            lambda _: run_cli(*command),
            lambda: subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True) and None,
            total,
        )
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [40_000, 200_000])
def test_a_limit_on_the_size_of_files_is_told_and_loses_nothing(tmp_path, encoder, limit):
    """As on a disk with a quota: EFBIG in the segment with the small limit or in SQLite's log with the other."""
    root, library = tmp_path / "photos", tmp_path / "lib"
    total = 60
    photos(root, total, size=(16, 16))
    command = ["index", root, "--library", library, "--model", "builtin-small", "--batch-size", 4, "--threads", 1]
    assert run_cli("index", photo(tmp_path / "one.jpg", 999), *command[2:]).code == 0
    limits = {"now": (limit, limit)}

    def run(_: int) -> object:
        def bound() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits["now"])

        arguments = [str(part) for part in (COMMAND, *command)]
        done = subprocess.run(arguments, env=environment(), capture_output=True, timeout=120, preexec_fn=bound)
        return checked(done)

    first = run(1)
    assert first.code == 1, first
    assert "run again" in first.err
    assert "damaged" not in first.err
    kept = committed(library)
    read_state(library)
    limits["now"] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert run(2).code == 0
    assert kept.items() <= committed(library).items()
    assert len(read_state(library).live) == total + 1


def test_a_disk_without_room_for_a_library_is_told(tmp_path, encoder):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    photos(tmp_path / "photos", 1)
    try:
        ran = run_cli("index", tmp_path / "photos", "--library", disk / "lib", "--model", "builtin-small")
        assert ran.code == 1, ran
        assert "full" in ran.err or "space" in ran.err
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# --- What is on the disk before what: a kill cannot show this, only a power cut


def pragmas(connection: Connection) -> tuple[int, str]:
    """How careful SQLite is: (synchronous, journal_mode)."""
    synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    return synchronous, connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()


def test_a_writer_waits_for_the_disk_at_each_commit(tmp_path):
    engine = writer_engine(tmp_path / "catalog.db")
    with engine.connect() as connection:
        assert pragmas(connection) == (2, "wal")  # 2: FULL
    engine.dispose()
    library = new_library(tmp_path / "lib")
    with library.writer() as opened:
        assert pragmas(opened._connection) == (2, "wal")
        opened._connection.rollback()


@pytest.fixture
def steps(monkeypatch):
    noted = Steps(monkeypatch)
    yield noted
    noted.stop()


def test_vectors_are_on_the_disk_before_the_commit_that_counts_them(tmp_path, monkeypatch, steps):
    monkeypatch.setattr(rows, "SEGMENT_ROWS", 4)
    library = new_library(tmp_path / "lib")
    root = add_root(library)
    folder = library.folder / "vectors"
    old: dict[Path, int] = {}
    contents = [["p1", "p2"], ["p3", "t1", "t2"], ["p4", "p5", "p6", "p7", "p8", "p9"]]  # new files, old ones, both
    for number, batch in enumerate(contents):
        with library.writer() as opened:
            del steps.taken[: number and len(steps.taken)]  # the first time, the folder itself is new
            opened.commit([outcome(FileRecord(root, content, 1, 1), content) for content in batch])
            sizes = {path: path.stat().st_size for path in sorted(folder.iterdir())}
            (counted,) = steps.of("commit", "segments")
            grown = [path for path, size in sizes.items() if size != old.get(path, 0)]
            assert grown
            for path in grown:
                writes = steps.of("write", inode(path))
                assert sum(steps.taken[i].size for i in writes) == sizes[path] - old.get(path, 0)
                synced = steps.first("fsync", inode(path), after=writes[-1])
                assert synced < counted, f"{path.name} counts before it is on the disk"
                assert steps.taken[synced].size == sizes[path]
                if path not in old:
                    synced = steps.first("fsync", inode(folder), after=writes[-1])
                    assert synced < counted, f"the name {path.name} counts before it is on the disk"
            if not old:
                made = steps.first("mkdir", inode(folder))
                assert steps.first("fsync", inode(library.folder), after=made) < counted
            old = sizes
    assert len(old) == 5
    library.close()


def test_an_index_is_on_the_disk_before_its_name_and_its_name_before_the_catalog_says_so(tmp_path, steps):
    library = Library.create(tmp_path / "lib")
    library.pin(EncoderPin("test", "abc", 32))
    root = add_root(library)
    rows = np.random.default_rng(1).standard_normal((300, 1, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    batch = [
        Encoded(FileRecord(root, f"{i}", 1, 1), hash_of(f"{i}"), Modality.IMAGE, row) for i, row in enumerate(rows)
    ]
    with library.writer() as opened:
        opened.commit(batch)
        for _ in range(2):  # the first index of a library, and one that replaces another
            steps.taken.clear()
            assert build(library, opened, IndexPlan("ivfpq"))[Modality.IMAGE].kind == "ivfpq"
            with library.read() as snapshot:
                generation = snapshot.generation(Modality.IMAGE)
            folder = generation_path(library.folder, generation.name)
            files = sorted(folder.iterdir())
            assert sorted(generation.checksums) == [path.name for path in files]
            (renamed,) = steps.of("rename", inode(folder))
            for path in files:
                synced = steps.first("fsync", inode(path))
                assert steps.taken[synced].size == path.stat().st_size > 0
                assert synced < renamed, f"{path.name} gets its name before it is on the disk"
            assert steps.first("fsync", inode(folder)) < renamed
            assert steps.first("fsync", inode(folder)) > max(steps.first("fsync", inode(path)) for path in files)
            (counted,) = steps.of("commit", "generations")
            assert renamed < steps.first("fsync", inode(folder.parent), after=renamed) < counted
    library.close()
