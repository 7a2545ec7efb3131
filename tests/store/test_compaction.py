"""Compaction: what it keeps, what it erases, and what is there when it is cut short or somebody reads meanwhile."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store import compaction, rows
from clipsearch.store import library as library_module
from clipsearch.store.catalog import Generation
from clipsearch.store.compaction import commit, dead_share, is_due, prepare
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, FileRecord, RecordBlock, Scope
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from tests.support.catalogs import raw_catalog
from tests.support.contents import (
    CHANGES,
    DIM,
    PIN,
    Disk,
    add_root,
    apply,
    check,
    hash_of,
    new_library,
    outcome,
    synchronise,
    vectors_of,
)
from tests.support.disk import Cut, Faults, Steps, crash_at_every_step, in_runner, inode
from tests.support.libraries import compact
from tests.support.state import State, read_state

ROW_BYTES = DIM * 2


def run(library: Library, disk: Disk, root: int = 1) -> None:
    with library.writer() as opened:
        synchronise(opened, root, disk, batch=5)


def with_dead_rows(folder: Path) -> tuple[Library, Disk]:
    """Pictures and texts of which some were deleted, some replaced, some forgotten, and some came after that."""
    library = new_library(folder)
    add_root(library)
    disk: Disk = {f"d{i % 3}/{i:02d}": (f"p{i}", 1) for i in range(20)} | {f"t{i}": (f"t{i}", 1) for i in range(8)}
    run(library, disk)
    for path in ("d0/00", "d1/07", "d0/18", "t1", "t7"):
        del disk[path]
    disk |= {"d1/01": ("p77", 2), "t3": ("t90", 2)}
    run(library, disk)
    with library.writer() as opened:
        opened.forget(Scope(1, "d2"))
    disk = {path: what for path, what in disk.items() if not path.startswith("d2")}
    disk |= {"new": ("p55", 1), "t9": ("t9", 1)}
    run(library, disk)
    return library, disk


@pytest.fixture
def holed(tmp_path):
    library, disk = with_dead_rows(tmp_path / "lib")
    yield library, disk
    library.close()


def files(library: Library, modality: Modality = Modality.IMAGE) -> set[Path]:
    return set((library.folder / "vectors").glob(f"{modality}-*"))


def row_order(state: State, modality: str) -> list[int]:
    """The ids of what is live, once for each of its rows, in order of row."""
    live = [(row, e.id) for e in state.entries.values() if e.modality == modality and not e.deleted for row in e.rows]
    return [number for _, number in sorted(live)]


# --- What is kept and what goes


def test_the_live_rows_remain_in_their_order_and_nothing_else(holed):
    library, disk = holed
    before = read_state(library.folder)
    assert before.tombstones["image"] and any(entry.deleted for entry in before.entries.values())
    done = compact(library)
    state = read_state(library.folder)
    check(state, disk)
    assert state.logical() == before.logical()
    assert state.tombstones["image"] == frozenset()
    assert state.committed["image"] == len(row_order(state, "image")) == len(done.rows) == len(done.old_rows)
    assert row_order(state, "image") == row_order(before, "image")
    assert set(before.live) == {entry.path for entry in state.entries.values() if entry.modality == "image"} | {
        path for path, entry in before.live.items() if entry.modality == "text"
    }


def test_the_other_modality_is_left_as_it_is(holed):
    library, _ = holed
    before = read_state(library.folder)
    text_files = {path: path.read_bytes() for path in files(library, Modality.TEXT)}
    compact(library)
    after = read_state(library.folder)
    assert after.tombstones["text"] == before.tombstones["text"] != frozenset()

    def texts(state: State) -> dict:
        return {number: entry for number, entry in state.entries.items() if entry.modality == "text"}

    assert texts(after) == texts(before)
    assert {path: path.read_bytes() for path in files(library, Modality.TEXT)} == text_files
    compact(library, Modality.TEXT)
    final = read_state(library.folder)
    assert final.logical() == before.logical()
    assert final.tombstones == {"image": frozenset(), "text": frozenset()}


def test_what_prepare_shows_is_what_a_reader_sees_after_the_commit(holed):
    library, _ = holed
    with library.writer() as opened, library.read() as old:
        done = prepare(opened, Modality.IMAGE)
        shown = done.rows.gather(np.arange(len(done.rows)))
        assert np.array_equal(shown, old.rows(Modality.IMAGE).gather(done.old_rows))
        assert np.array_equal(done.old_rows, np.flatnonzero(old.live(Modality.IMAGE)))
        commit(opened, done, None)
    with library.read() as snapshot:
        assert snapshot.live(Modality.IMAGE) is None
        assert np.array_equal(snapshot.rows(Modality.IMAGE).gather(np.arange(len(shown))), shown)


def test_files_that_come_back_after_it_are_indexed_again_under_new_ids(holed):
    library, disk = holed
    before = read_state(library.folder)
    compact(library)
    disk |= {"d0/00": ("p0", 1), "d1/07": ("p7", 1), "d2/02": ("p2", 1)}
    run(library, disk)
    state = read_state(library.folder)
    check(state, disk)
    assert {state.live[path].id for path in ("d0/00", "d1/07", "d2/02")}.isdisjoint(before.entries)
    assert min(set(state.entries) - set(before.entries)) > max(before.entries)


def test_one_row_a_segment_and_any_number_of_them(holed, monkeypatch):
    library, disk = holed
    for size in (1, 4, 100):
        monkeypatch.setattr(compaction, "SEGMENT_ROWS", size)
        monkeypatch.setattr(rows, "SEGMENT_ROWS", size)
        monkeypatch.setattr(compaction, "_BLOCK_ROWS", 3)
        compact(library)
        disk[f"more{size}"] = (f"p8{size}", 1)
        run(library, disk)
        state = read_state(library.folder)
        check(state, disk)
        lengths = sorted(path.stat().st_size // ROW_BYTES for path in files(library))
        assert lengths[-1] <= size and sum(lengths) == state.committed["image"]
        assert len(lengths) == -(-state.committed["image"] // size)


def test_nothing_alive_leaves_no_row_and_the_library_goes_on(holed):
    library, disk = holed
    for path in [path for path, (content, _) in disk.items() if content.startswith("p")]:
        del disk[path]
    run(library, disk)
    done = compact(library)
    assert len(done.rows) == len(done.old_rows) == 0
    with library.read() as snapshot:
        assert len(snapshot.rows(Modality.IMAGE)) == 0
    check(read_state(library.folder), disk)
    disk["again"] = ("p3", 1)
    run(library, disk)
    assert len(files(library)) == 1
    check(read_state(library.folder), disk)


def test_nothing_dead_and_nothing_at_all_can_be_compacted(tmp_path):
    library = new_library(tmp_path / "lib")
    assert len(compact(library).rows) == 0
    add_root(library)
    disk: Disk = {"a": ("p1", 1), "t": ("t2", 1)}
    run(library, disk)
    before = read_state(library.folder)
    compact(library)
    assert read_state(library.folder).logical() == before.logical()
    library.close()


def test_the_share_of_dead_rows_counts_deleted_replaced_and_forgotten_ones(holed):
    library, _ = holed
    for modality in Modality:
        state = read_state(library.folder)
        expected = 1 - len(row_order(state, modality)) / state.committed[modality]
        with library.query() as connection:
            assert dead_share(connection, modality) == pytest.approx(expected) and expected > 0.2
        compact(library, modality)
        with library.query() as connection:
            assert dead_share(connection, modality) == 0


def test_it_is_due_when_more_than_a_quarter_and_enough_rows_are_dead(holed, monkeypatch):
    library, _ = holed
    dead = len(read_state(library.folder).tombstones["image"])
    with library.query() as connection:
        assert not is_due(connection, Modality.IMAGE), "so few are not worth it"
        monkeypatch.setattr(compaction, "MIN_DEAD_ROWS", dead)
        assert is_due(connection, Modality.IMAGE)
        monkeypatch.setattr(compaction, "MAX_DEAD_SHARE", dead_share(connection, Modality.IMAGE))
        assert not is_due(connection, Modality.IMAGE)


def test_the_share_of_a_library_without_rows_is_none(tmp_path):
    library = new_library(tmp_path / "lib")
    with library.query() as connection:
        assert dead_share(connection, Modality.IMAGE) == 0
    library.close()


def test_a_record_of_two_modalities_is_erased_whole_or_kept_whole(tmp_path):
    library = new_library(tmp_path / "lib")
    with library.writer() as opened:
        root = opened.add_collection("", "/data/rows.npy")
        names = [f"r{i}" for i in range(4)]
        blocks = {m: np.concatenate([vectors_of(f"{m}{n}") for n in names]).astype(np.float16) for m in Modality}
        opened.commit_records(root, RecordBlock([CollectionRecord(n, "caption") for n in names], blocks))
        opened.ledger.note([FileRecord(root, n, 0, 0) for n in ("r0", "r2", "r3")], retry_failed=False)
        opened.ledger.find_missing([Scope(root)], [])
        assert opened.remove_missing() == 1
    compact(library, Modality.TEXT)
    with raw_catalog(library.folder) as db:
        kept = db.execute("SELECT v.modality, row, path FROM vectors v JOIN items ON items.id = item_id").fetchall()
        assert db.execute("SELECT modality, row FROM tombstones").fetchall() == [("image", 1)]
        assert db.execute("SELECT path FROM items ORDER BY id").fetchall() == [("r0",), ("r2",), ("r3",)]
    image = [("image", 0, "r0"), ("image", 2, "r2"), ("image", 3, "r3")]
    assert sorted(kept) == [*image, ("text", 0, "r0"), ("text", 1, "r2"), ("text", 2, "r3")]
    with library.read() as snapshot:
        for modality, stored in ((Modality.TEXT, [0, 2, 3]), (Modality.IMAGE, [0, 1, 2, 3])):
            found = snapshot.rows(modality).gather(np.arange(len(stored)))
            assert np.array_equal(found, blocks[modality][stored].astype(np.float32))
    library.close()


def test_the_generation_that_was_given_becomes_active_with_the_rows(holed):
    library, _ = holed
    old = [Generation(modality, f"{modality}-01d", "ivfpq", {"m": 4}, 9, {"index": "00"}) for modality in Modality]
    with library.writer() as opened:
        for each in old:
            opened.activate(each)
    new = Generation(Modality.IMAGE, "image-2e3", "ivfpq", {"m": 8}, 3, {"index": "11"})
    compact(library, Modality.IMAGE, new)
    with library.read() as snapshot:
        assert snapshot.generation(Modality.IMAGE) == new
        assert snapshot.generation(Modality.TEXT) == old[1]
    compact(library, Modality.IMAGE)
    with library.read() as snapshot:
        assert snapshot.generation(Modality.IMAGE) is None
        assert snapshot.generation(Modality.TEXT) == old[1]


def test_an_open_engine_gives_the_same_answers_after_it(holed):
    library, _ = holed
    queries = np.concatenate([vectors_of(content) for content in ("p4", "p77", "t90", "t5")])

    def answers() -> list:
        found = engine.search_batch(vectors=queries, k=50)
        return [[(hit.item, hit.score, hit.part, hit.passage) for hit in results] for results in found]

    engine = SearchEngine(library)
    before = answers()
    for modality in Modality:
        compact(library, modality)
        assert answers() == before


STEPS = st.one_of(CHANGES, st.tuples(st.just("compact"), st.sampled_from(Modality)))


@pytest.mark.sqlite  # hundreds of writers: many minutes with a server
@pytest.mark.slow
@given(steps=st.lists(STEPS, min_size=3, max_size=12), segment_rows=st.sampled_from([1, 3, 1 << 20]))
@settings(max_examples=40)
def test_commits_and_compactions_in_any_order_agree_with_a_model(tmp_path_factory, steps, segment_rows):
    folder = tmp_path_factory.mktemp("model")
    disk: Disk = {}
    highest = 0
    with pytest.MonkeyPatch.context() as patch:
        for module in (rows, compaction):
            patch.setattr(module, "SEGMENT_ROWS", segment_rows)
        library = new_library(folder)
        root = add_root(library)
        seen: set[int] = set()
        for clock, step in enumerate(steps):
            if step[0] == "compact":
                compact(library, step[1])
                state = read_state(folder)
                assert not state.tombstones.get(step[1], frozenset())
                assert not [e for e in state.entries.values() if e.deleted and e.modality == step[1]]
            else:
                apply(disk, step, clock)
                run(library, disk, root)
                state = read_state(folder)
            check(state, disk)
            check_reader(library, disk)
            new = set(state.entries) - seen
            assert min(new, default=highest + 1) > highest, "an id was used again"
            seen |= new
            highest = max(seen, default=0)
        library.close()
    shutil.rmtree(folder)


def check_reader(library: Library, disk: Disk) -> None:
    """A reader that has been open all the time sees each picture with its own vector."""
    with library.read() as snapshot:
        found = snapshot.matching(Modality.IMAGE, Filter())
        matches = snapshot.matches(Modality.IMAGE, found.tolist())
        expected = {path: content for path, (content, _) in disk.items() if content.startswith("p")}
        assert {m.item.path.removeprefix("/photos/") for m in matches.values()} == set(expected)
        for row, vector in zip(found.tolist(), snapshot.rows(Modality.IMAGE).gather(found), strict=True):
            content = expected[matches[row].item.path.removeprefix("/photos/")]
            assert np.array_equal(vector, vectors_of(content)[0].astype(np.float16))


# --- Cut short


@pytest.mark.sqlite
def test_a_change_between_the_two_steps_is_told_and_leaves_the_library_as_it_is(holed):
    library, disk = holed
    with library.writer() as opened:
        done = prepare(opened, Modality.IMAGE)
        del disk["d0/03"]
        synchronise(opened, 1, disk, batch=5)
        before = read_state(library.folder)
        with pytest.raises(LibraryError, match="changed while it was compacted"):
            commit(opened, done, None)
        assert read_state(library.folder) == before
        commit(opened, prepare(opened, Modality.IMAGE), None)
    check(read_state(library.folder), disk)


@pytest.mark.sqlite
def test_a_disk_that_refuses_at_any_step_leaves_the_state_before_and_no_files(holed, monkeypatch):
    monkeypatch.setattr(compaction, "SEGMENT_ROWS", 4)
    monkeypatch.setattr(compaction, "_BLOCK_ROWS", 2)
    library, _ = holed
    before, present = read_state(library.folder), files(library)
    with library.writer() as opened:
        for step in range(1, 100):
            with pytest.MonkeyPatch.context() as patch:
                faults = Faults(patch, step)
                try:
                    done = prepare(opened, Modality.IMAGE)
                except LibraryError as error:
                    assert "nothing committed is lost" in str(error)
                else:
                    assert faults.steps < step
                    break
            assert read_state(library.folder) == before
            assert files(library) == present
        assert step > 2 * len(done.segments), "each segment is written and made durable"
        commit(opened, done, None)
    assert read_state(library.folder).logical() == before.logical()


def test_a_disk_that_is_full_at_any_byte_leaves_the_state_before_and_no_files(holed):
    library, _ = holed
    before, present = read_state(library.folder), files(library)
    needed = len(row_order(before, "image")) * ROW_BYTES
    with library.writer() as opened:
        for room in range(0, needed, 7):
            with pytest.MonkeyPatch.context() as patch:
                Cut(patch, room)
                with pytest.raises(LibraryError, match="Free some space"):
                    prepare(opened, Modality.IMAGE)
            assert files(library) == present
        assert read_state(library.folder) == before


@pytest.mark.sqlite
def test_a_disk_that_is_full_for_the_catalog_leaves_the_state_before(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        library, _ = with_dead_rows(disk / "lib")
        before = read_state(library.folder)
        with library.writer() as opened:
            done = prepare(opened, Modality.IMAGE)
            ballast = disk / "ballast"
            with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError, match="space"):
                while file.write(bytes(4096)):
                    pass
            with pytest.raises(LibraryError, match="nothing committed is lost"):
                commit(opened, done, None)
            assert read_state(library.folder) == before
            ballast.unlink()
            commit(opened, done, None)
        after = read_state(library.folder)
        assert after.logical() == before.logical() and not after.tombstones["image"]
        library.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def small_segments() -> None:
    rows.SEGMENT_ROWS = compaction.SEGMENT_ROWS = 4


def crash_runner(prepared: Path, scratch: Path) -> None:
    """Compact, and die at every step of it."""
    small_segments()

    def change(folder: Path) -> None:
        library = Library(folder)
        compact(library)
        library.close()

    crash_at_every_step(prepared, scratch, change)


@pytest.mark.sqlite
@pytest.mark.slow
def test_a_process_that_dies_at_any_step_leaves_the_old_state_or_the_new_one(tmp_path, monkeypatch):
    for module in (rows, compaction):
        monkeypatch.setattr(module, "SEGMENT_ROWS", 4)
    library, disk = with_dead_rows(tmp_path / "prepared")
    library.close()
    before = read_state(library.folder)
    (tmp_path / "scratch").mkdir()
    results = in_runner(__name__, "crash_runner", library.folder, tmp_path / "scratch")
    assert [code for code, _ in results] == [99] * (len(results) - 1) + [0]
    seen = []
    for _, name in results:
        folder = Path(name)
        state = read_state(folder)
        assert state.logical() == before.logical()
        is_new = not state.tombstones["image"]
        assert is_new or state == before
        seen.append(is_new)
        died = Library(folder)
        if not is_new:
            compact(died)
        with died.writer():
            pass
        assert sum(path.stat().st_size for path in files(died)) == read_state(folder).committed["image"] * ROW_BYTES
        check(read_state(folder), disk)
        died.close()
        shutil.rmtree(folder)
    assert seen == sorted(seen) and seen.count(False) > 20 and seen[-1]


def all_pictures() -> Disk:
    return {f"{i:04d}": (f"p{i}", 1) for i in range(600)}


def kill_runner(folder: Path) -> None:
    """Kill processes that forget the first pictures, ten at a time, and compact after each; look after each kill.

    Prints JSON: how many pictures were left, and whether files of no segment were found, after each kill.
    """
    chance = random.Random(7)
    found = []
    longest, before = 0.15, 600
    compaction.SEGMENT_ROWS, compaction._BLOCK_ROWS = 50, 10
    for _ in range(12):
        child = os.fork()
        if child == 0:
            forget_and_compact(folder)
            os._exit(0)
        time.sleep(chance.uniform(0.01, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        state = read_state(folder)  # asserts all invariants
        if len(state.live) == before:  # a slow machine: the next has more time
            longest *= 1.4
        before = len(state.live)
        check(state, dict(list(all_pictures().items())[600 - len(state.live) :]))
        found.append((os.waitstatus_to_exitcode(status), len(state.live), len(list(folder.glob("vectors/*")))))
    sys.stdout.write(json.dumps(found))


def forget_and_compact(folder: Path) -> None:
    library = Library(folder)
    while True:
        with library.writer() as opened:
            with library.read() as snapshot:
                found = snapshot.matches(Modality.IMAGE, snapshot.matching(Modality.IMAGE, Filter())[:10].tolist())
            for match in found.values():
                opened.forget(Scope(1, os.path.basename(match.item.path)))
            if len(found) < 10:
                return
            commit(opened, prepare(opened, Modality.IMAGE), None)


@pytest.mark.sqlite
def test_a_real_kill_at_any_moment_leaves_the_old_state_or_the_new_one(tmp_path):
    library = new_library(tmp_path / "lib")
    add_root(library)
    run(library, all_pictures())
    library.close()
    results = in_runner(__name__, "kill_runner", library.folder)
    left = [count for _, count, _ in results]
    assert left == sorted(left, reverse=True), "what was forgotten came back"
    assert [code for code, _, _ in results].count(-signal.SIGKILL) > 3, "they ended before they could be killed"
    assert left[0] > left[-1]
    library = Library(library.folder)
    with library.writer():
        pass
    state = read_state(library.folder)
    assert sum(path.stat().st_size for path in files(library)) == state.committed["image"] * ROW_BYTES
    library.close()


def test_the_new_rows_are_on_the_disk_before_the_catalog_names_them(holed, monkeypatch):
    monkeypatch.setattr(compaction, "SEGMENT_ROWS", 4)
    monkeypatch.setattr(compaction, "_BLOCK_ROWS", 3)
    library, _ = holed
    old = files(library)
    with library.writer() as opened, pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch)
        try:
            commit(opened, prepare(opened, Modality.IMAGE), None)
        finally:
            steps.stop()
        (counted,) = steps.of("commit", "segments")
        written = files(library) - old
        assert len(written) == 3
        for path in written:
            last = steps.of("write", inode(path))[-1]
            synced = steps.first("fsync", inode(path), after=last)
            assert synced < counted and steps.taken[synced].size == path.stat().st_size
            first = steps.first("write", inode(path))
            assert steps.first("fsync", inode(path.parent), after=first) < counted


# --- Readers meanwhile


def contents(snapshot: Snapshot) -> dict[str, bytes]:
    """What a reader sees of the pictures: the vector of each path."""
    found = snapshot.matching(Modality.IMAGE, Filter())
    vectors = snapshot.rows(Modality.IMAGE).gather(found)
    matches = snapshot.matches(Modality.IMAGE, found.tolist())
    return {matches[row].item.path: vector.tobytes() for row, vector in zip(found.tolist(), vectors, strict=True)}


def test_a_reader_of_the_state_before_goes_on_while_its_files_are_deleted(holed):
    library, _ = holed
    reader = Library(library.folder)
    old = files(library)
    with reader.read() as snapshot:
        compact(library)
        assert old < files(library), "the files are there until the next writer comes"
        with library.writer():
            assert not old & files(library)
        with reader.read() as newer:
            seen = contents(newer)
        assert contents(snapshot) == seen
        assert len(snapshot.rows(Modality.IMAGE)) > len(seen) == np.count_nonzero(snapshot.live(Modality.IMAGE))
    with reader.read() as snapshot:
        assert contents(snapshot) == seen
        assert len(snapshot.rows(Modality.IMAGE)) == len(seen)
    reader.close()


def test_the_disk_space_is_given_back_when_the_next_writer_comes(holed):
    library, _ = holed
    before = sum(path.stat().st_size for path in files(library))
    done = compact(library)
    with library.writer():
        pass
    after = sum(path.stat().st_size for path in files(library))
    assert after == len(done.rows) * ROW_BYTES < before * 0.75
    assert {path.name for path in files(library)} == {segment.name for segment in done.segments}


def test_a_state_whose_files_went_before_they_were_mapped_is_passed_over(holed, monkeypatch):
    library, _ = holed
    reader = Library(library.folder)
    with library.read() as snapshot:
        expected = contents(snapshot)
    opened: list[int] = []

    class Late(Snapshot):
        """A reader that a compaction and another writer overtake right after it has begun."""

        def holds_rows(self) -> bool:
            opened.append(self.revision)
            if len(opened) == 1:
                compact(library)
                with library.writer():
                    pass
            return super().holds_rows()

    monkeypatch.setattr(library_module, "Snapshot", Late)
    with reader.read() as snapshot:
        assert contents(snapshot) == expected
        assert snapshot.revision == opened[1] == opened[0] + 1
    reader.close()


def test_a_segment_that_is_lost_for_good_is_still_told(holed):
    library, _ = holed
    for path in files(library):
        path.unlink()
    with Library(library.folder).read() as snapshot, pytest.raises(StoreCorruptError, match="the catalog has"):
        snapshot.rows(Modality.IMAGE)


@pytest.mark.slow
def test_readers_never_fail_and_never_see_a_wrong_vector_while_others_compact(tmp_path):
    library = new_library(tmp_path / "lib")
    add_root(library)
    disk: Disk = {f"{i:03d}": (f"p{i}", 1) for i in range(60)}
    expected = {
        f"/photos/{p}": vectors_of(c)[0].astype("<f2").astype(np.float32).tobytes() for p, (c, _) in disk.items()
    }
    run(library, disk)
    done = threading.Event()
    problems: list[BaseException] = []
    looks = [0, 0]

    def look(number: int) -> None:
        kept = Library(library.folder)
        while not done.is_set() and not problems:
            reader = kept if number else Library(library.folder)
            try:
                with reader.read() as snapshot:
                    for path, vector in contents(snapshot).items():
                        assert expected[path] == vector
            except BaseException as error:
                problems.append(error)
            if reader is not kept:
                reader.close()
            looks[number] += 1
        kept.close()

    readers = [threading.Thread(target=look, args=(number,)) for number in (0, 1)]
    for reader in readers:
        reader.start()
    ends = time.monotonic() + 2
    for i in range(10**6):
        if time.monotonic() > ends and min(looks) > 20:
            break
        gone = {path: disk.pop(path) for path in random.Random(i).sample(sorted(disk), 20)}
        run(library, disk)
        compact(library)
        disk |= gone
        run(library, disk)
    done.set()
    for reader in readers:
        reader.join(30)
    assert not problems, problems[0]
    library.close()


def test_names_of_segments_are_never_given_twice(tmp_path, monkeypatch):
    """Else a reader that still maps an old file takes its rows for those of the new one."""
    for module in (rows, compaction):
        monkeypatch.setattr(module, "SEGMENT_ROWS", 2)
    library = new_library(tmp_path / "lib")
    reader = Library(library.folder)
    add_root(library)
    names: list[str] = []
    disk: Disk = {}
    for turn in range(3):
        disk = {f"{i}": (f"p{10 * turn + i}", turn) for i in range(6)}
        run(library, disk)
        compact(library)
        with library.writer():
            pass
        names += [path.name for path in files(library)]
        check_reader(reader, disk)
    run(library, {})
    compact(library)
    run(library, {"x": ("p99", 9)})
    check_reader(reader, {"x": ("p99", 9)})
    names += [path.name for path in files(library)]
    assert len(names) == len(set(names)) == 3 * 3 + 1
    for opened in (library, reader):
        opened.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_reader_that_stays_open_lets_go_of_the_files_that_were_replaced(holed):
    library, _ = holed
    reader = Library(library.folder)

    def held() -> set[str]:
        names = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return {name for name in names if f"{library.folder}/vectors/image-" in name}

    with reader.read() as snapshot:
        contents(snapshot)
    gc.collect()
    assert held() == {str(path) for path in files(library)}
    compact(library)
    del snapshot
    with reader.read() as snapshot, library.writer():
        contents(snapshot)
        gc.collect()
        assert held() == {str(path) for path in files(library)}
    reader.close()


def test_a_writer_that_compacted_goes_on_to_commit(holed):
    library, disk = holed
    reader = Library(library.folder)
    check_reader(reader, disk)
    with library.writer() as opened:
        for turn in range(3):
            commit(opened, prepare(opened, Modality.IMAGE), None)
            disk |= {f"turn{turn}": (f"p6{turn}", 1), "copy": (disk["new"][0], turn)}
            one_more_run(opened, disk)
            check_reader(reader, disk)
            check(read_state(library.folder), disk)
    reader.close()


def one_more_run(opened: Writer, disk: Disk) -> None:
    """Commit what a library does not hold, without comparing the rest."""
    known = {path for path, entry in read_state(opened.storage[1].folder.parent).live.items()}
    fresh = [(path, content) for path, (content, _) in disk.items() if path not in known or path == "copy"]
    opened.commit([outcome(FileRecord(1, path, len(content), 1), content) for path, content in fresh])


def test_another_encoder_for_an_emptied_library_is_not_shown_old_rows(holed):
    library, _ = holed
    reader = Library(library.folder)
    with reader.read() as snapshot:
        contents(snapshot)
    with library.writer() as opened:
        opened.forget(Scope(1))
    wide = type(PIN)("wide", "def", 2 * DIM)
    library.pin(wide)
    with library.writer() as opened:
        root = opened.add_root("", "/photos").root_id
        vector = np.ones((1, 2 * DIM), np.float32) / np.sqrt(2 * DIM)
        picture = outcome(FileRecord(root, "w", 1, 1), "p1")
        opened.commit([type(picture)(picture.record, hash_of("w"), Modality.IMAGE, vector)])
    with reader.read() as snapshot:
        assert snapshot.rows(Modality.IMAGE).gather(np.array([0])).tolist() == vector.astype(np.float16).tolist()
    reader.close()
