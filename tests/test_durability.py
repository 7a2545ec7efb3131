"""Kills and full disks, through the installed command."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers import COMMAND, checked, environment, paths_found, photo, photos, read_state, run_cli, start_cli

KILLS = 20
BATCH = 4
ROW_BYTES = 2 * 4096  # more than any encoder's


def committed(library: Path) -> dict[str, int]:
    """Live items and ids, by path; empty before there is a catalog."""
    if not (library / "catalog.db").exists():
        return {}
    with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchone():
            return {}
        return dict(db.execute("SELECT path, id FROM items WHERE NOT deleted"))


def wait_for_more(process: subprocess.Popen[bytes], library: Path, count: int) -> None:
    """Wait until more than `count` items are committed, or the process ends."""
    while process.poll() is None and len(committed(library)) <= count:
        time.sleep(0.002)


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
    with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
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
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=440k", "tmpfs", disk], capture_output=True).returncode:
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
