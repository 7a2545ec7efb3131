"""The second set of vectors: what a flip keeps, and what is there when it is cut short."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest

from clipsearch.errors import EncoderMismatchError, InvalidInputError, LibraryError
from clipsearch.filtering import Filter
from clipsearch.store import rows, second_items
from clipsearch.store.library import Library
from clipsearch.store.records import CaptionSource, FileRecord, Known, Scope
from clipsearch.store.second_flip import flip
from clipsearch.store.second_library import SecondLibrary
from clipsearch.store.second_set import Role
from clipsearch.store.second_writer import SecondItem, SecondWriter
from clipsearch.types import EncoderPin, Modality
from tests.support.catalogs import raw_catalog
from tests.support.contents import PIN, Disk, add_root, check, hash_of, new_library
from tests.support.disk import crash_at_every_step, die_at, in_runner
from tests.support.libraries import compact
from tests.support.second_set import DIM, FILES, OTHER, check_other, prepare, read_state, reindexed, sync


@pytest.fixture
def filled(tmp_path):
    """A library of pictures and texts, some of which were deleted or replaced."""
    library = new_library(tmp_path / "lib")
    add_root(library)
    disk = dict(FILES)
    sync(library, disk | {"gone": ("p80", 1), "tg": ("t80", 1)})
    disk["03"] = ("p70", 2)
    sync(library, disk)
    yield library, disk
    library.close()


def test_the_sets_change_places_and_back(filled):
    library, disk = filled
    before = read_state(library.folder)
    reindexed(library.folder)
    check_other(read_state(library.folder), disk)
    second = library.second
    assert (second.encoder, second.role, second.items, second.missing) == (PIN, Role.KEPT, 18, 0)
    reindexed(library.folder, PIN)
    after = read_state(library.folder)
    assert after.logical() == before.logical() and after.tombstones == before.tombstones
    assert after.pins["encoder"] == "test"


def test_the_first_set_stays_as_it_is_until_the_flip(filled):
    library, _ = filled
    before = read_state(library.folder)
    with library.writer() as writer:
        prepare(writer)
    assert read_state(library.folder) == before
    with closing(SecondLibrary(library.folder)) as second, second.read() as snapshot:
        assert second.encoder == OTHER
        assert snapshot.live_count(Modality.IMAGE) == 12
        assert snapshot.rows(Modality.IMAGE).dim == DIM
        with pytest.raises(LibraryError, match="only read"), second.writer():
            pass


def test_what_is_done_meanwhile_holds_after_the_flip(filled):
    library, disk = filled
    with library.writer() as writer:
        prepare(writer)
    del disk["05"], disk["t2"]
    disk |= {"06": ("p71", 3), "new": ("p72", 1), "tnew": ("t73", 1)}
    sync(library, disk)
    with library.writer() as writer:
        writer.forget(Scope(1, "07"))
        del disk["07"]
        with pytest.raises(LibraryError, match="Run again"):
            flip(SecondWriter(writer), OTHER)
        flip(prepare(writer), OTHER)
    check_other(read_state(library.folder), disk)


def test_a_file_that_was_deleted_meanwhile_and_is_back_is_found(filled):
    library, disk = filled
    with library.writer() as writer:
        prepare(writer)
    less = {path: what for path, what in disk.items() if path != "05"}
    sync(library, less)
    reindexed(library.folder)
    assert read_state(library.folder).live.keys() == less.keys()
    sync(library, disk)  # it has its vectors from before it was deleted
    check_other(read_state(library.folder), disk)


def test_a_file_that_was_deleted_before_the_set_was_made_does_not_count_as_known(filled):
    library, disk = filled
    sync(library, {path: what for path, what in disk.items() if path not in ("04", "t4")})
    reindexed(library.folder)
    asked = [hash_of(content) for content in ("p4", "t4", "p5", "t5")]
    assert library.known_hashes(asked) == {*asked[2:]}
    known = [
        Known(FileRecord(1, path, 2, 1), hash_of(content)) for path, content in (("04", "p4"), ("elsewhere", "p4"))
    ]
    with library.writer() as writer:
        assert writer.commit(known).unresolved == [each.record for each in known]


def test_an_item_that_cannot_be_encoded_stays_and_its_file_is_read_again(filled):
    library, disk = filled
    with library.writer() as writer:
        second = prepare(writer)
        with library.query() as connection:
            stamp = second_items.stamps(connection, [1])[1]
        second.commit(OTHER, [SecondItem(1, stamp, reason="its file is gone")])
        flip(second, OTHER)
    del disk["00"]
    state = read_state(library.folder)
    assert state.live["00"].vectors == b"" and state.live["00"].id == 1
    with library.writer() as writer:
        beside = CaptionSource(stamp=None)
        files = [FileRecord(1, path, 2, 1, beside) for path in ("00", "01")]
        found = writer.ledger.note(files, retry_failed=False)
        assert (found.changed, found.unchanged) == (1, 1)
    reindexed(library.folder, PIN)
    check(read_state(library.folder), FILES | {"03": ("p70", 2)})


def test_compaction_and_forgetting_leave_the_other_set_whole(filled):
    library, disk = filled
    with library.writer() as writer:
        prepare(writer)
    del disk["01"], disk["t1"]
    sync(library, disk)
    for modality in Modality:
        compact(library, modality)
    check(read_state(library.folder), disk)
    reindexed(library.folder)
    check_other(read_state(library.folder), disk)
    for modality in Modality:
        compact(library, modality)
    check_other(read_state(library.folder), disk)
    reindexed(library.folder, PIN)
    check(read_state(library.folder), disk)


def test_discarding_leaves_nothing(filled):
    library, disk = filled
    reindexed(library.folder)
    with library.writer() as writer:
        SecondWriter(writer).discard()
    assert library.second is None
    state = read_state(library.folder)
    check_other(state, disk)
    size = sum(path.stat().st_size for path in library.folder.glob("vectors/*"))
    assert size == sum(state.committed.values()) * DIM * 2
    with raw_catalog(library.folder) as db:
        tables = ("vectors", "tombstones", "segments", "generations", "settings", "items")
        assert [db.execute(f"SELECT count(*) FROM second_{table}").fetchone()[0] for table in tables] == [0] * 6


def test_there_is_one_second_set_at_a_time(filled):
    library, _ = filled
    with library.writer() as writer:
        second = prepare(writer)
        third = EncoderPin("third", "fff", 3)
        with pytest.raises(InvalidInputError, match=r"of other, which is being prepared.*--discard"):
            second.begin(third)
        with pytest.raises(EncoderMismatchError, match="not of third any more: it is of other"):
            second.commit(third, [])
        with pytest.raises(EncoderMismatchError):
            flip(second, third)


def crash_runner(prepared: Path, scratch: Path) -> None:
    """Make a second set and flip, and die at every step of it."""
    rows.SEGMENT_ROWS = 3
    crash_at_every_step(prepared, scratch, reindexed)


def flip_crash_runner(prepared: Path, scratch: Path) -> None:
    """Flip, and die at every step of it."""
    crash_at_every_step(prepared, scratch, reindexed)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A library of five pictures, one of which was deleted, and two texts, in several segments."""
    monkeypatch.setattr(rows, "SEGMENT_ROWS", 3)
    library = new_library(tmp_path / "lib")
    add_root(library)
    disk: Disk = {f"{i}": (f"p{i}", 1) for i in range(4)} | {"t1": ("t1", 1), "t2": ("t2", 1)}
    sync(library, disk | {"gone": ("p80", 1)})
    sync(library, disk)
    (tmp_path / "scratch").mkdir()
    yield library, disk
    library.close()


@pytest.mark.slow
@pytest.mark.sqlite  # a copy of the library for each step; of a server, see below
def test_a_process_that_dies_at_any_step_of_the_flip_leaves_one_set_or_the_other(small, tmp_path):
    library, disk = small
    with library.writer() as writer:
        prepare(writer)
    library.close()
    check_crashes(library.folder, "flip_crash_runner", tmp_path / "scratch", disk)


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_process_that_dies_at_any_step_loses_no_batch_and_the_next_goes_on(small, tmp_path):
    library, disk = small
    library.close()
    known = check_crashes(library.folder, "crash_runner", tmp_path / "scratch", disk)
    assert known == sorted(known) and {*known} == {0, 4, 6}, "a batch that was committed was lost"


def check_crashes(prepared: Path, runner: str, scratch: Path, disk: Disk) -> list[int]:
    """Look at what is there after each crash, and go on; return how many items the second set had after each."""
    before = read_state(prepared)
    results = in_runner(__name__, runner, prepared, scratch)
    assert [code for code, _ in results] == [99] * (len(results) - 1) + [0]
    flipped, known = [], []
    for _, name in results:
        folder = Path(name)
        state = read_state(folder)
        flipped.append(state.pins["encoder"] == "other")
        if flipped[-1]:
            check_other(state, disk)
        else:
            assert state == before
            died = Library(folder)
            known.append(died.second.items if died.second else 0)
            died.close()
            reindexed(folder)
            check_other(read_state(folder), disk)
        reindexed(folder, PIN)
        assert read_state(folder).logical() == before.logical()
        shutil.rmtree(folder)
    assert flipped == sorted(flipped) and flipped.count(False) > 10 and flipped[-1]
    return known


def deaths(folder: Path) -> None:
    """Make a second set and flip, in a process that dies at each step in turn, until one gets through."""
    rows.SEGMENT_ROWS = 3
    found = []
    for fail_at in range(1, 1000):
        child = os.fork()
        if child == 0:
            die_at(fail_at)
            reindexed(folder)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        opened = Library(folder)
        with opened.read() as snapshot:
            found.append((code, snapshot.encoder.name if snapshot.encoder else "", snapshot.count_items(Filter())))
        opened.close()
        if code == 0:
            break
    sys.stdout.write(json.dumps(found))


@pytest.mark.slow
@pytest.mark.postgres
def test_a_process_that_dies_at_any_step_leaves_one_set_or_the_other_on_a_server(small, tmp_path):
    library, disk = small
    before = read_state(library.folder)
    library.close()
    found = in_runner(__name__, "deaths", library.folder)
    assert [code for code, _, _ in found] == [99] * (len(found) - 1) + [0] and len(found) > 20
    assert {count for _, _, count in found} == {len(disk)}
    encoders = [name for _, name, _ in found]
    assert encoders == sorted(encoders, reverse=True) and {*encoders} == {"test", "other"}
    check_other(read_state(library.folder), disk)
    reindexed(library.folder, PIN)
    assert read_state(library.folder).logical() == before.logical()
