"""The store by itself: commits against a model, torn segments and logs, crashes at every step, schema, damage."""

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from clipsearch.errors import (
    EncoderMismatchError,
    InvalidInputError,
    LibraryError,
    LibraryLockedError,
    LibraryNotFoundError,
    SchemaVersionError,
    StoreCorruptError,
)
from clipsearch.store import migrations, rows
from clipsearch.store.catalog import Generation
from clipsearch.store.database import writer_engine
from clipsearch.store.forget import forget
from clipsearch.store.library import Library
from clipsearch.store.records import Failed, FileRecord, Outcome, Scope
from clipsearch.store.revision import RevisionCache
from clipsearch.store.summary import summarise
from clipsearch.store.vectors import VectorStore
from clipsearch.types import EncoderPin, Modality
from tests.support.catalogs import copy_library, raw_catalog, set_version
from tests.support.cli import run_cli
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
from tests.support.damage import segment
from tests.support.disk import Cut, Faults, crash_at_every_step, in_runner
from tests.support.state import State, read_state, tree_digest

RUNS = st.lists(
    st.tuples(st.lists(CHANGES, max_size=4), st.integers(1, 5), st.sampled_from(["keep", "reopen", "encode"])),
    min_size=1,
    max_size=7,
)


@pytest.mark.sqlite  # hundreds of writers: many minutes with a server
@given(runs=RUNS, segment_rows=st.sampled_from([1, 3, 1 << 20]))
@settings(max_examples=40)
def test_commits_agree_with_a_model(tmp_path_factory, runs, segment_rows):
    folder = tmp_path_factory.mktemp("model")
    disk: Disk = {}
    clock = 0
    seen: dict[int, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "SEGMENT_ROWS", segment_rows)
        library = new_library(folder)
        root = add_root(library)
        for changes, batch, how in runs:
            for change in changes:
                clock += 1
                apply(disk, change, clock)
            if how == "reopen":
                library.close()
                library = Library(folder)
            with library.writer() as opened:
                synchronise(opened, root, disk, batch=batch, encode_anyway=how == "encode")
            state = read_state(folder)
            check(state, disk)
            new = set(state.entries) - set(seen)
            assert all(number > max(seen, default=0) for number in new), "an id was used again"
            seen |= dict.fromkeys(new, 0)
            if segment_rows < 10:
                sizes = [path.stat().st_size for path in (folder / "vectors").iterdir()]
                assert max(sizes, default=0) <= segment_rows * DIM * 2
        library.close()
    shutil.rmtree(folder)


def test_ids_of_forgotten_items_are_not_given_again(tmp_path):
    library = new_library(tmp_path / "lib")
    root = add_root(library)
    with library.writer() as opened:
        synchronise(opened, root, {"a": ("p1", 1), "b": ("p2", 1)}, batch=9)
        before = set(read_state(library.folder).entries)
        assert opened.forget(Scope(root)) == 2
    root = add_root(library)
    with library.writer() as opened:
        synchronise(opened, root, {"a": ("p1", 1), "b": ("p2", 1)}, batch=9)
    state = read_state(library.folder)
    check(state, {"a": ("p1", 1), "b": ("p2", 1)})
    assert not before & set(state.entries)


def test_a_restored_file_and_its_copy_in_one_batch_are_both_there(tmp_path):
    library = new_library(tmp_path / "lib")
    root = add_root(library)
    for disk in ({"b": ("p1", 1)}, {}, {"a": ("p1", 2), "b": ("p1", 1)}):
        with library.writer() as opened:
            synchronise(opened, root, disk, batch=9)
        check(read_state(library.folder), disk)


def test_content_restored_elsewhere_while_its_old_name_gets_another_content(tmp_path):
    library = new_library(tmp_path / "lib")
    root = add_root(library)
    for disk in ({"b": ("p1", 1)}, {}, {"b": ("p2", 2), "c": ("p1", 1)}):
        with library.writer() as opened:
            synchronise(opened, root, disk, batch=9)
        check(read_state(library.folder), disk)


def test_a_move_to_the_name_of_a_deleted_file_keeps_the_id(tmp_path):
    library = new_library(tmp_path / "lib")
    root = add_root(library)
    with library.writer() as opened:
        synchronise(opened, root, {"a": ("p1", 1), "b": ("p2", 1)}, batch=9)
        moving = read_state(library.folder).live["a"].id
    for disk in ({"a": ("p1", 1)}, {"b": ("p1", 1)}, {"b": ("p1", 1), "c": ("p2", 1)}):
        with library.writer() as opened:
            synchronise(opened, root, disk, batch=9)
        state = read_state(library.folder)
        check(state, disk)
        assert moving == next(e.id for e in state.live.values() if e.content_hash == hash_of("p1"))


# --- Torn and damaged segments


def filled(folder: Path) -> tuple[Library, State]:
    library = new_library(folder)
    root = add_root(library)
    with library.writer() as opened:
        synchronise(opened, root, {f"{i:02d}": (f"p{i}", 1) for i in range(5)} | {"t": ("t2", 1)}, batch=3)
    return library, read_state(folder)


def test_live_rows_are_counted_by_modality_and_in_all(tmp_path):
    library, _ = filled(tmp_path / "lib")
    with library.read() as snapshot:
        before = [snapshot.live_count(modality) for modality in (Modality.IMAGE, Modality.TEXT, None)]
        assert before == [5, 3, 8]
    with library.writer() as opened:
        opened.forget(Scope(1, "03"))
    with library.read() as snapshot:
        assert snapshot.live_count(Modality.IMAGE) == 4 and len(snapshot.rows(Modality.IMAGE)) == 5
        assert snapshot.live_count() == 7


def test_the_json_of_a_status_keeps_its_form(tmp_path):
    library, _ = filled(tmp_path / "lib")
    with library.writer() as opened:
        opened.activate(Generation(Modality.IMAGE, "image-1f", "ivfpq", {"nlist": 4}, 3, {}))
        opened.forget(Scope(1, "03"))
        opened.commit([Failed(FileRecord(1, "bad", 3, 1), "no picture")])
    payload = summarise(library).to_payload()
    assert payload.pop("bytes") > 0
    (problem,) = payload.pop("problems")
    assert "image-1f" in problem, "there are no files of that index"
    assert json.dumps(payload) == json.dumps(
        {
            "library": str(library.folder),
            "encoder": {"name": PIN.name, "fingerprint": PIN.fingerprint, "dim": PIN.dim},
            "modalities": {
                "image": {
                    "files": 4,
                    "vectors": 4,
                    "deleted": 1,
                    "index": {"kind": "ivfpq", "watermark": 3, "nlist": 4},
                },
                "text": {"files": 1, "vectors": 3, "deleted": 0, "index": None},
            },
            "roots": [{"path": "/photos", "kind": "folder", "offline": False, "exclude": [], "include_hidden": False}],
            "failed": [{"path": "/photos/bad", "reason": "no picture"}],
            "second_set": None,
        }
    )


def test_a_cache_keeps_values_of_the_newest_revision_only():
    cache, computed = RevisionCache(), []

    def get(revision: int, value: str) -> str:
        return cache.get(revision, "key", lambda: computed.append(value) or value)

    assert [get(1, "a"), get(1, "b"), get(2, "c"), get(1, "d"), get(2, "e")] == ["a", "a", "c", "d", "c"]
    assert computed == ["a", "c", "d"]


@pytest.mark.parametrize("garbage", [b"\0", b"\xff", b"\x3c"])
def test_bytes_past_the_committed_rows_are_ignored_and_cut_off(tmp_path, garbage):
    library, before = filled(tmp_path / "lib")
    path = segment(library.folder)
    clean = path.read_bytes()
    for extra in range(1, 2 * DIM * 2 + 2):
        path.write_bytes(clean + garbage * extra)
        with Library(library.folder).read() as snapshot:
            assert len(snapshot.rows(Modality.IMAGE)) == 5
            found = snapshot.rows(Modality.IMAGE).gather(np.arange(5))
        assert np.array_equal(found.astype("<f2").tobytes(), clean)
        with library.writer():
            assert path.read_bytes() == clean
    assert read_state(library.folder) == before


def test_an_append_lands_right_after_the_committed_rows_of_a_torn_segment(tmp_path):
    library, before = filled(tmp_path / "lib")
    path = segment(library.folder)
    with library.writer() as opened:
        # Torn after the writer opened: as when a commit before this one failed half-way.
        path.write_bytes(path.read_bytes() + b"x" * 21)
        root = next(iter(before.live.values())).root_id
        opened.commit([outcome(FileRecord(root, "new", 2, 1), "p77")])
    state = read_state(library.folder)
    assert state.live["new"].vectors == vectors_of("p77").astype("<f2").tobytes()
    assert before.logical() < state.logical()


def test_files_that_were_never_committed_go(tmp_path):
    library, before = filled(tmp_path / "lib")
    stray = library.folder / "vectors" / "image-000000000005-1a2b.f16"
    stray.write_bytes(b"abc")
    with library.writer():
        assert not stray.exists()
    assert read_state(library.folder) == before


def test_a_segment_shorter_than_committed_is_an_error_at_every_length(tmp_path):
    library, _ = filled(tmp_path / "lib")
    path = segment(library.folder)
    clean = path.read_bytes()
    for size in range(len(clean)):
        path.write_bytes(clean[:size])
        with pytest.raises(StoreCorruptError, match="holds"), library.writer():
            pass
        with pytest.raises(StoreCorruptError), Library(library.folder).read() as snapshot:
            snapshot.rows(Modality.IMAGE)
        assert path.read_bytes() == clean[:size]
    path.unlink()
    with pytest.raises(StoreCorruptError), library.writer():
        pass


def test_a_lost_segment_stops_the_command_with_code_5(tmp_path):
    library, _ = filled(tmp_path / "lib")
    segment(library.folder).unlink()
    ran = run_cli("build", "--library", library.folder)
    assert ran.code == 5
    assert "catalog has 5" in ran.err


# --- A disk that refuses, at every step


def test_a_disk_that_refuses_leaves_the_state_before_and_the_next_commit_works(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "SEGMENT_ROWS", 4)
    library, before = filled(tmp_path / "lib")
    root = next(iter(before.live.values())).root_id
    batch = [outcome(FileRecord(root, f"n{i}", 1, 1), f"p9{i}") for i in range(6)]
    batch.append(outcome(FileRecord(root, "u", 1, 1), "t4"))
    failed = 0
    with library.writer() as opened:
        for step in range(1, 40):
            with pytest.MonkeyPatch.context() as patch:
                faults = Faults(patch, step)
                try:
                    opened.commit(batch)
                except LibraryError as error:
                    assert "nothing committed is lost" in str(error)
                    failed += 1
                else:
                    assert faults.steps < step
                    break
            assert read_state(library.folder) == before
    assert failed >= 6  # writes and fsyncs of three segments, and of the folder
    after = read_state(library.folder)
    assert len(after.live) == len(before.live) + 7
    assert before.logical() < after.logical()


# --- Writes that are cut at any byte


@pytest.mark.slow
@pytest.mark.sqlite
def test_vectors_cut_at_any_byte_leave_the_state_before_and_the_same_batch_then_commits(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "SEGMENT_ROWS", 6)
    library, before = filled(tmp_path / "lib")
    library.close()
    root = next(iter(before.live.values())).root_id
    batch = [outcome(FileRecord(root, name, 1, 1), name) for name in ("p91", "p92", "t3")]  # p92: in a new segment
    total = 3 * DIM * 2
    logical = set()
    for room in range(total + 1):
        folder = tmp_path / f"cut {room}"
        copy_library(library.folder, folder)
        opened = Library(folder)
        with opened.writer() as at_work:
            with pytest.MonkeyPatch.context() as patch:
                Cut(patch, room)
                if room == total:
                    at_work.commit(batch)
                    break
                with pytest.raises(LibraryError, match="nothing committed is lost"):
                    at_work.commit(batch)
            if room % 2:  # the same run tries again
                assert read_state(folder) == before
                at_work.commit(batch)
        opened.close()
        if room % 2:
            logical.add(read_state(folder).logical())
            continue
        assert sum(len(path.read_bytes()) for path in (folder / "vectors").iterdir()) == 8 * DIM * 2 + room
        assert read_state(folder) == before
        read_all(folder)
        commit_again(folder, batch)
        logical.add(read_state(folder).logical())
        shutil.rmtree(folder)
    assert logical == {read_state(folder).logical()}, "a batch that was cut and one that was not differ"
    assert before.logical() < logical.pop()


def commit_again(folder: Path, batch: Sequence[Outcome]) -> None:
    library = Library(folder)
    with library.writer() as opened:
        opened.commit(batch)
    library.close()


@pytest.fixture(scope="module")
def committed_twice(tmp_path_factory):
    """A library as it lies on disk after two commits that are only in SQLite's log, and its three states."""
    folder = tmp_path_factory.mktemp("wal")
    library, before = filled(folder / "lib")
    library.close()
    root = next(iter(before.live.values())).root_id
    batches = [
        [outcome(FileRecord(root, f"n{i}", 1, 1), f"p9{i}") for i in range(3)],
        [outcome(FileRecord(root, "00", 9, 9), "p77"), outcome(FileRecord(root, "u", 1, 1), "t4")],
    ]
    states = [before]
    reopened = Library(folder / "lib")
    with reopened.writer() as opened:
        for batch in batches:
            opened.commit(batch)
            states.append(read_state(folder / "lib"))
        copy_library(folder / "lib", folder / "cut", ignore=shutil.ignore_patterns("*-shm", "lock"))
    reopened.close()
    assert (folder / "cut" / "catalog.db-wal").stat().st_size > 2 * 4096
    return folder / "cut", batches, states


@pytest.mark.slow
@pytest.mark.sqlite
@pytest.mark.parametrize("rest", ["cut", "zeroed"])
def test_a_log_that_is_torn_anywhere_gives_the_state_before_or_after_a_commit(tmp_path, committed_twice, rest):
    torn, batches, states = committed_twice
    folder = tmp_path / "lib"
    log = (torn / "catalog.db-wal").read_bytes()
    odd = {1, 31, 33, 55, 57, 4151, 4153, len(log) // 2 + 1, len(log) - 1, len(log)}
    found = []
    step = 512 if rest == "cut" else 2048
    for size in sorted({*range(0, len(log), step), *odd}):
        copy_library(torn, folder)
        lost = len(log) - size
        (folder / "catalog.db-wal").write_bytes(log[:size] + (bytes(lost) if rest == "zeroed" else b""))
        if size % 1024:
            read_all(folder)
        state = read_state(folder)
        assert state in states, f"neither before nor after a commit with {size} of {len(log)} bytes"
        found.append(states.index(state))
        if size % 4096 == 0:
            for batch in batches[found[-1] :]:
                commit_again(folder, batch)
            assert read_state(folder).logical() == states[-1].logical()
        shutil.rmtree(folder)
    assert found == sorted(found)
    assert set(found) == {0, 1, 2}
    assert found[-1] == 2


# --- A process that dies, at every step


def scenario_before(folder: Path) -> None:
    """A library with a deleted item, texts and pictures, and small segments."""
    rows.SEGMENT_ROWS = 3
    library = new_library(folder)
    root = add_root(library)
    old: Disk = {"a": ("p1", 1), "b": ("p2", 1), "c": ("p3", 1), "gone": ("p4", 1), "t": ("t2", 1), "x": ("bad0", 1)}
    with library.writer() as opened:
        synchronise(opened, root, old, batch=9)
    del old["gone"]
    with library.writer() as opened:
        synchronise(opened, root, old, batch=9)
    library.close()


CHANGED: Disk = {
    "a": ("p5", 2),
    "b2": ("p2", 1),
    "b3": ("p2", 2),
    "back": ("p4", 1),
    "n1": ("p6", 1),
    "n2": ("p7", 1),
    "t": ("t4", 2),
    "x": ("p8", 2),
    "y": ("bad1", 1),
}
"""What is on disk after the change."""


def scenario_change(folder: Path) -> None:
    """One run of one batch: changed, moved, copied, restored, added, repaired, failed, deleted."""
    rows.SEGMENT_ROWS = 3
    library = Library(folder)
    with library.writer() as opened:
        synchronise(opened, 1, CHANGED, batch=20)
    library.close()


def crash_runner(prepared: Path, scratch: Path) -> None:
    """Run the change, and die at every step of it."""
    crash_at_every_step(prepared, scratch, scenario_change)


@pytest.mark.sqlite
@pytest.mark.slow
def test_a_process_that_dies_at_any_step_leaves_the_state_before_or_after(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "SEGMENT_ROWS", 3)
    prepared, complete = tmp_path / "prepared", tmp_path / "complete"
    scenario_before(prepared)
    copy_library(prepared, complete)
    scenario_change(complete)
    before, final = read_state(prepared).logical(), read_state(complete).logical()
    assert before != final
    results = in_runner(__name__, "crash_runner", prepared, tmp_path)
    assert [code for code, _ in results] == [99] * (len(results) - 1) + [0]
    seen = []
    for step, (_, folder) in enumerate(results):
        state = read_state(Path(folder)).logical()
        seen.append("before" if state == before else "final" if state == final else "committed")
        if seen[-1] == "committed":
            # Between the commit of the batch and the tombstones of what is gone: c is still there, all else is new.
            assert {e for e in state if e[0] != "failed" and e[2] == "c"}
            assert {e for e in state if e[0] == "failed" or e[2] != "c"} == final
        if step % 2 == 0 or seen[-1] != "before":
            scenario_change(Path(folder))
            completed = read_state(Path(folder))
            assert completed.logical() == final
            check(completed, CHANGED)
        shutil.rmtree(folder)
    assert seen == sorted(seen)  # before, committed, final: never back
    assert seen.count("before") > 20
    assert "committed" in seen


# --- Schema


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_library_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    library, _ = filled(tmp_path / "lib")
    library.close()
    set_version(library.folder, "99")
    before = tree_digest(library.folder)
    for use in (lambda: Library(library.folder), lambda: Library.create(library.folder)):
        with pytest.raises(SchemaVersionError, match="99"):
            use()
    for command in (["status"], ["query", "x"], ["index", tmp_path]):
        ran = run_cli(*command, "--library", library.folder)
        assert ran.code == 5, ran
        assert "version 99" in ran.err
    assert tree_digest(library.folder) == before


@pytest.mark.sqlite
def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path):
    library, before = filled(tmp_path / "lib")
    folder = library.folder

    def add_column(connection: Any) -> None:
        connection.execute(text("ALTER TABLE items ADD COLUMN colour TEXT"))

    def break_down(connection: Any) -> None:
        connection.execute(text("ALTER TABLE items ADD COLUMN shape TEXT"))
        connection.execute(text("DELETE FROM vectors"))
        raise RuntimeError("power cut")

    engine = writer_engine(folder / "catalog.db")
    with pytest.raises(RuntimeError, match="power cut"):
        migrations.migrate(engine, (*migrations.MIGRATIONS, add_column, break_down))
    assert migrations.schema_version(engine) == len(migrations.MIGRATIONS) + 1
    engine.dispose()
    with raw_catalog(folder) as db:
        columns = {row[1] for row in db.execute("PRAGMA table_info(items)")}
    assert "colour" in columns
    assert "shape" not in columns
    set_version(folder, str(len(migrations.MIGRATIONS)))
    assert read_state(folder).logical() == before.logical()


@pytest.mark.sqlite
def test_a_process_that_dies_in_a_migration_leaves_an_empty_catalog(tmp_path):
    engine = writer_engine(tmp_path / "catalog.db")

    def die(connection: Any) -> None:
        migrations.MIGRATIONS[0](connection)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrations.migrate(engine, (die,))
    engine.dispose()
    with pytest.raises(LibraryNotFoundError, match="empty"):
        Library(tmp_path)
    assert Library.create(tmp_path).encoder is None


# --- A damaged catalog


def damaged(data: bytes) -> dict[str, bytes]:
    return {
        "garbage": b"these are no pages of a database, " * 500,
        "zeroed head": bytes(4096) + data[4096:],
        "zeroed schema": data[:100] + bytes(8092) + data[8192:],
        "cut in the first page": data[:1000],
        "cut after the first page": data[:4096],
        "cut in the middle": data[: len(data) // 2 // 4096 * 4096],
        "cut to nothing": b"",
    }


@pytest.mark.sqlite
@pytest.mark.parametrize("kind", list(damaged(b"")))
def test_a_damaged_catalog_is_told_and_nothing_is_thrown_away(tmp_path, kind):
    library, _ = filled(tmp_path / "lib")
    library.close()
    catalog = library.folder / "catalog.db"
    catalog.write_bytes(damaged(catalog.read_bytes())[kind])
    vectors = tree_digest(library.folder / "vectors")
    with pytest.raises(StoreCorruptError, match="damaged"):
        read_all(library.folder)
    with pytest.raises(StoreCorruptError, match="damaged"), Library.create(library.folder).writer() as opened:
        opened.add_root("", "/other")
        opened.ledger.find_missing([Scope(1)], [])
        opened.remove_missing()
    assert tree_digest(library.folder / "vectors") == vectors


def read_all(folder: Path) -> None:
    """Read all that a search or a status reads."""
    opened = Library(folder)
    summarise(opened)
    with opened.read() as snapshot:
        for modality in Modality:
            snapshot.live(modality)
            snapshot.matches(modality, list(range(len(snapshot.rows(modality)))))


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["garbage", "cut to nothing"])
def test_the_command_tells_of_a_damaged_catalog_with_code_5(tmp_path, kind):
    library, _ = filled(tmp_path / "lib")
    library.close()
    catalog = library.folder / "catalog.db"
    catalog.write_bytes(damaged(catalog.read_bytes())[kind])
    for command in (["status"], ["index", tmp_path], ["query", "x"]):
        ran = run_cli(*command, "--library", library.folder)
        assert ran.code == 5, (command, ran)
        assert "damaged" in ran.err


@pytest.mark.sqlite
def test_a_lost_catalog_does_not_cost_the_vectors(tmp_path):
    library, _ = filled(tmp_path / "lib")
    library.close()
    (library.folder / "catalog.db").unlink()
    vectors = tree_digest(library.folder / "vectors")
    with pytest.raises(StoreCorruptError, match="catalog"):
        Library.create(library.folder)
    assert tree_digest(library.folder / "vectors") == vectors


# --- The lock and the pin


def test_a_second_writer_is_refused_at_once_in_the_same_process(tmp_path):
    library = new_library(tmp_path)
    with library.writer():
        with pytest.raises(LibraryLockedError, match="Another process"), library.writer():
            pass
        with pytest.raises(LibraryLockedError), Library(tmp_path).writer():
            pass
        with pytest.raises(LibraryLockedError):
            Library.create(tmp_path)
    with library.writer():
        pass


def test_the_first_pin_that_has_vectors_wins(tmp_path, monkeypatch):
    late = Library.create(tmp_path)
    filled(tmp_path)
    look = Library._is_empty
    looks: list[int] = []

    def look_too_early(self: Library) -> bool:
        """Both of two first runs look before either holds the lock, and see nothing in it."""
        looks.append(1)
        return look(self) if len(looks) > 1 else True

    monkeypatch.setattr(Library, "_is_empty", look_too_early)
    with pytest.raises(EncoderMismatchError, match="other"):
        late.pin(EncoderPin("other", "def", 16))
    assert len(looks) == 2
    assert late.encoder == PIN


def test_a_library_that_holds_nothing_can_be_pinned_anew(tmp_path):
    library = new_library(tmp_path)
    library.pin(EncoderPin("other", "def", 16))
    assert Library(tmp_path).encoder == EncoderPin("other", "def", 16)


def test_a_rehearsal_undoes_everything(tmp_path):
    library, before = filled(tmp_path / "lib")
    library.close()
    digest = tree_digest(tmp_path)
    library = Library(library.folder)
    with library.writer() as opened, opened.rehearsal():
        scope = opened.add_root("", "/other")
        opened.ledger.note([FileRecord(scope.root_id, "n", 1, 1)], retry_failed=False)
        opened.ledger.find_missing([Scope(1)], [])
        assert opened.remove_missing() == 6
    assert read_state(library.folder) == before
    assert tree_digest(tmp_path) == digest


def test_forget_takes_paths_by_name_and_refuses_what_it_does_not_cover(tmp_path):
    library, _ = filled(tmp_path / "lib")
    with pytest.raises(InvalidInputError, match="nothing"):
        forget(library, ["/photos/00", "/elsewhere"])
    assert forget(library, ["/photos/00"]) == 1
    assert forget(library, ["/photos"]) == 5
    assert not read_state(library.folder).entries


# --- Very many scopes


def test_thousands_of_roots_and_unreadable_folders_fit_one_run(tmp_path):
    library, before = filled(tmp_path / "lib")
    root = next(iter(before.live.values())).root_id
    with library.writer() as opened:
        scopes = [Scope(root, f"none{i}") for i in range(3000)]
        assert opened.ledger.find_missing(scopes, []) == 0
    with library.writer() as opened:
        hidden = [Scope(root, f"none{i}") for i in range(3000)] + [Scope(root, "00")]
        assert opened.ledger.find_missing([Scope(root)], hidden) == 5


def test_a_writer_that_is_closed_waits_for_the_commit_of_another_thread(tmp_path, monkeypatch):
    library = new_library(tmp_path / "lib")
    root_id = add_root(library)
    append, entered, go_on = VectorStore.append, threading.Event(), threading.Event()

    def slow(store, segment, rows):
        entered.set()
        assert go_on.wait(60)
        append(store, segment, rows)

    monkeypatch.setattr(VectorStore, "append", slow)
    batch = [outcome(FileRecord(root_id, "a", 1, 1), "p1")]
    with pytest.raises(KeyboardInterrupt), library.writer() as writer:
        thread = threading.Thread(target=writer.commit, args=(batch,))
        thread.start()
        assert entered.wait(60)
        threading.Timer(0.1, go_on.set).start()
        raise KeyboardInterrupt
    assert set(read_state(tmp_path / "lib").live) == {"a"}
    thread.join()
    with pytest.raises(LibraryError, match="closed"):
        writer.commit(batch)


def test_of_two_outcomes_for_one_place_the_last_counts(tmp_path):
    library = new_library(tmp_path / "lib")
    root_id = add_root(library)
    with library.writer() as writer:
        writer.commit([outcome(FileRecord(root_id, "a", 1, number), f"p{number}") for number in (1, 2)])
    state = read_state(tmp_path / "lib")
    assert {path: entry.content_hash for path, entry in state.live.items()} == {"a": hash_of("p2")}
