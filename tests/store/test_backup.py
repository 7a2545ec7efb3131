"""Backup and restore: what is copied, what survives a kill at every step, what is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import InvalidInputError, LibraryError, LibraryLockedError, StoreCorruptError
from clipsearch.progress import SilentStages
from clipsearch.store import manifest as manifests
from clipsearch.store import restore as restoring
from clipsearch.store import rows, source
from clipsearch.store.backup import back_up
from clipsearch.store.folder import open_folder
from clipsearch.store.forget import forget
from clipsearch.store.generations import verify
from clipsearch.store.library import Library
from clipsearch.store.records import FileRecord
from clipsearch.store.restore import restore
from clipsearch.types import Modality
from indexer.build import build
from indexer.plan import IndexPlan
from tests.support.cli import COMMAND, environment, run_cli, start_cli
from tests.support.contents import add_root, new_library, outcome
from tests.support.damage import edit, segment
from tests.support.libraries import compact, index, photo, photos
from tests.support.paths import ROOT
from tests.support.state import read_state, tree_digest
from tests.support.vectors import approximate

pytestmark = pytest.mark.sqlite

needs_links = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def fill(library: Library, contents: str, root: int = 0) -> None:
    """Commit files of these contents, such as "p1 p2 t3"."""
    root = root or add_root(library)
    with library.writer() as opened:
        opened.commit([outcome(FileRecord(root, name, 1, 1), name) for name in contents.split()])


@pytest.fixture
def library(tmp_path):
    opened = new_library(tmp_path / "lib")
    fill(opened, "p1 p2 p3 t1 t2 t5")
    yield opened
    opened.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "backup"


def logical(folder: Path):
    return read_state(folder).logical()


def restored(target: Path, place: Path):
    """Restore to a new place and return what is there."""
    restore(target, place)
    return logical(place)


# --- What a backup is


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("backup")
    photos(folder / "photos", 4)
    (folder / "photos" / "p001.txt").write_text("a red ball on a lawn")
    (folder / "photos" / "note.txt").write_text("How to prune roses.\n")
    index(folder / "lib", folder / "photos", encoder=encoder)
    return folder


def ask(library: Path) -> bytes:
    ran = run_cli("query", "a red ball", "--json", "--library", library, "--no-cache")
    assert ran.code == 0, ran
    return ran.out


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True])
def test_a_restored_library_answers_byte_for_byte_as_before(prepared, tmp_path, copied):
    lib, target = tmp_path / "lib", tmp_path / "backup"
    shutil.copytree(prepared / "lib", lib)
    before, state = ask(lib), logical(lib)
    ran = run_cli("backup", target, "--library", lib, "--json")
    assert ran.code == 0, ran
    assert (
        ran.json["copied_bytes"]
        == ran.json["bytes"]
        == sum(path.stat().st_size for path in (target / "catalog.db", *target.glob("vectors/*")))
    )
    shutil.rmtree(lib)
    if copied:
        shutil.copytree(target, lib)
    else:
        assert run_cli("restore", target, "--library", lib).code == 0
    assert ask(lib) == before
    assert logical(lib) == state
    assert run_cli("index", prepared / "photos", "--library", lib, "--json").json["unchanged"] == 5


@pytest.mark.slow
def test_a_backup_can_be_searched_and_a_portable_library_keeps_its_paths(tmp_path, encoder):
    home, target = tmp_path / "home", tmp_path / "backup"
    photo(home / "cat.jpg", 1)
    (home / ".clipsearch").mkdir()
    index(home / ".clipsearch", home, encoder=encoder)
    assert run_cli("backup", "../backup", cwd=home).code == 0
    asked = ("query", "a cat", "--paths", "--library")
    assert run_cli(*asked, target, cwd=tmp_path).out == f"{home / 'cat.jpg'}\n".encode()
    moved = tmp_path / "elsewhere" / "home"
    moved.parent.mkdir()
    os.rename(home, moved)
    shutil.rmtree(moved / ".clipsearch")
    assert run_cli("restore", target, "--library", moved / ".clipsearch").code == 0
    assert run_cli("query", "a cat", "--paths", cwd=moved).out == f"{moved / 'cat.jpg'}\n".encode()


@pytest.mark.slow
def test_restore_without_a_place_takes_the_one_that_was_backed_up_and_no_other(tmp_path, encoder):
    for name in ("one", "two"):
        photo(tmp_path / name / "a.jpg", 1)
        (tmp_path / name / ".clipsearch").mkdir()
        index(tmp_path / name / ".clipsearch", tmp_path / name, encoder=encoder)
    assert run_cli("backup", tmp_path / "backup", cwd=tmp_path / "one").code == 0
    before = tree_digest(tmp_path / "two")
    ran = run_cli("restore", tmp_path / "backup", cwd=tmp_path / "two")
    assert ran.code == 2 and "--library" in ran.err
    assert tree_digest(tmp_path / "two") == before
    assert run_cli("restore", tmp_path / "backup", cwd=tmp_path / "one").code == 0


# --- Only what is new


def test_only_new_segments_and_the_grown_end_of_the_last_are_copied(tmp_path, target, monkeypatch):
    monkeypatch.setattr(rows, "SEGMENT_ROWS", 4)
    library = new_library(tmp_path / "lib")
    root = add_root(library)
    fill(library, "p1 p2 p3 p4 p5 p6", root)
    first = back_up(library, target)
    assert first.copied_files == first.files == 3
    full, partial = sorted(target.glob("vectors/*"))
    stamps = [path.stat().st_mtime_ns for path in (full, partial)]
    again = back_up(library, target)
    catalog = (target / "catalog.db").stat().st_size
    assert (again.copied_files, again.copied_bytes) == (1, catalog)
    assert [path.stat().st_mtime_ns for path in (full, partial)] == stamps
    fill(library, "p7 p8 p9", root)
    grown = back_up(library, target)
    catalog = (target / "catalog.db").stat().st_size
    assert (grown.copied_files, grown.copied_bytes) == (3, catalog + 3 * 16)
    assert full.stat().st_mtime_ns == stamps[0]
    assert logical(target) == logical(tmp_path / "lib")
    library.close()


def test_what_a_compaction_replaced_goes_from_the_backup(library, target):
    back_up(library, target)
    before = segment(target)
    forget(library, ["/photos/p2"])
    compact(library)
    back_up(library, target)
    assert not before.exists()
    assert logical(target) == logical(library.folder)


def test_other_files_in_the_backup_are_left_alone(library, target):
    back_up(library, target)
    for name in ("notes.txt", "vectors/mine.f16"):
        (target / name).write_text("mine")
    back_up(library, target)
    assert all((target / name).read_text() == "mine" for name in ("notes.txt", "vectors/mine.f16"))


def test_the_index_is_copied_where_it_is_asked_for(tmp_path, target):
    library = approximate(tmp_path / "lib")
    back_up(library, target)
    assert not (target / "ann").exists()
    with Library(target).read() as snapshot:
        assert snapshot.generation(Modality.IMAGE) is None  # nothing is missed, so nothing is warned of
    back_up(library, target, with_index=True)
    restore(target, tmp_path / "new")
    with Library(tmp_path / "new").read() as snapshot:
        generation = snapshot.generation(Modality.IMAGE)
        verify(tmp_path / "new", generation)
    with library.writer() as opened:
        build(library, opened, IndexPlan("ivfpq"))
    back_up(library, target, with_index=True)
    assert not (target / "ann" / generation.name).exists()
    assert len([*(target / "ann").iterdir()]) == 1
    library.close()


# --- While others write


@pytest.mark.slow
def test_a_backup_while_an_indexer_commits_is_always_one_state(tmp_path, encoder):
    root, lib, target = tmp_path / "photos", tmp_path / "lib", tmp_path / "backup"
    photos(root, 60, size=(16, 16))
    process = start_cli("index", root, "--library", lib, "--model", "builtin-small", "--batch-size", 1)
    while not (lib / "catalog.db").exists() and process.poll() is None:
        time.sleep(0.01)
    sizes = []
    while True:
        is_over = process.poll() is not None
        try:
            back_up(Library(lib), target)
        except LibraryError as error:
            assert "empty" in str(error) or "no library" in str(error), error
            continue
        sizes.append(len(read_state(target).live))
        if is_over:
            break
    process.communicate()
    assert process.returncode == 0
    assert sizes == sorted(sizes) and sizes[-1] == 60
    assert len(set(sizes)) > 2, "nothing was committed meanwhile"
    assert logical(target) == logical(lib)


class Meanwhile(SilentStages):
    """Does something when a backup begins a stage."""

    def __init__(self, name, act):
        self._name, self._act = name, act

    def stage(self, name, total):
        if name == self._name:
            self._act()


@pytest.mark.parametrize("stage", ["copying vectors", "copying the catalog"])
def test_segments_that_are_deleted_while_they_are_copied(library, target, stage):
    before = logical(library.folder)
    other = Library(library.folder)

    def replace() -> None:
        forget(other, ["/photos/p2"])
        compact(other)
        with other.writer():
            pass  # which deletes what the compaction replaced

    back_up(library, target, progress=Meanwhile(stage, replace))
    assert logical(target) == before != logical(library.folder)
    back_up(library, target)
    assert logical(target) == logical(library.folder)


def test_segments_that_are_deleted_before_they_are_opened(library, target, monkeypatch):
    other = Library(library.folder)
    real, calls = source._open_segments, []

    def replaced_first(*arguments):
        if not calls:
            forget(other, ["/photos/p2"])
            compact(other)
            with other.writer():
                pass
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(source, "_open_segments", replaced_first)
    back_up(library, target)
    assert len(calls) == 2
    assert logical(target) == logical(library.folder)


def test_two_backups_into_one_folder_do_not_meet(library, target):
    def second() -> None:
        with pytest.raises(LibraryLockedError):
            back_up(Library(library.folder), target)

    back_up(library, target, progress=Meanwhile("copying vectors", second))
    assert logical(target) == logical(library.folder)


# --- Kills


def die_at(fail_at: int) -> None:
    """End this process before, after, or half-way through its n-th change of a file."""
    steps = 0
    reals = {name: getattr(os, name) for name in ("write", "fsync", "ftruncate", "rename", "unlink", "mkdir", "rmdir")}

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == fail_at:
            os._exit(99)

    def patch(name):
        def call(*arguments, **options):
            step()
            if name == "write" and len(arguments[1]) > 1:
                return reals[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
            return reals[name](*arguments, **options)

        setattr(os, name, call)

    for name in reals:
        patch(name)


def kill_runner(what: str, prepared: Path, scratch: Path, every: int) -> None:
    """Back up, or restore, once for every n-th step, in a process that dies right there. Prints the exit codes."""
    codes = []
    for fail_at in range(1, 500, every):
        folder = scratch / str(fail_at)
        shutil.copytree(prepared, folder)
        child = os.fork()
        if child == 0:
            rows.SEGMENT_ROWS = 4
            if what == "restore":
                restoring.Library(folder / "lib").close()  # SQLite's own files are made before the count begins
            die_at(fail_at)
            if what == "backup":
                back_up(Library(folder / "lib"), folder / "backup")
            else:
                restore(folder / "backup", folder / "lib", replace=True)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if codes[-1] != 99:
            break
    sys.stdout.write(json.dumps(codes))


def run_kills(what: str, prepared: Path, scratch: Path, every: int = 1) -> list[Path]:
    """Return the folders that the processes left, the last of one that was not killed."""
    scratch.mkdir()
    run = f"import sys, {__name__} as t; t.kill_runner(sys.argv[1], *map(t.Path, sys.argv[2:]), every={every})"
    command = [sys.executable, "-c", run, what, str(prepared), str(scratch)]
    codes = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120).stdout)
    assert codes == [99] * (len(codes) - 1) + [0]
    return [scratch / str(1 + i * every) for i in range(len(codes))]


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """A folder with a library, and a backup of it from before it grew, was compacted and grew again."""
    monkeypatch.setattr(rows, "SEGMENT_ROWS", 4)
    folder = tmp_path / "prepared"
    folder.mkdir()
    library = new_library(folder / "lib")
    root = add_root(library)
    fill(library, "p1 p2 p3 p4 p5 p6 t1 t2", root)
    back_up(library, folder / "backup")
    before = logical(folder / "lib")
    forget(library, ["/photos/t1"])
    with library.writer() as opened:
        from clipsearch.store import compaction

        compaction.commit(opened, compaction.prepare(opened, Modality.TEXT), None)
    fill(library, "p7 p8 p9 t3", root)
    library.close()
    return folder, before, logical(folder / "lib")


@pytest.mark.slow
def test_a_backup_that_is_killed_at_any_step_leaves_the_one_before_or_the_new_one(tmp_path, changed):
    prepared, before, after = changed
    folders = run_kills("backup", prepared, tmp_path / "scratch")
    assert len(folders) > 25
    found = []
    for step, folder in enumerate(folders):
        found.append(logical(folder / "backup"))
        assert found[-1] in (before, after)
        with open_folder(folder / "backup") as root:
            manifests.read_backup(root)
        if step % 4 and folder != folders[-1]:
            continue
        assert restored(folder / "backup", folder / "new") == found[-1]
        again = Library(folder / "lib")
        back_up(again, folder / "backup")
        again.close()
        assert restored(folder / "backup", folder / "newer") == after
        state = json.loads((folder / "backup" / "backup.json").read_text())["states"]
        assert len(state) == 1 and not [*(folder / "backup").glob(".*")]
        named = {path for each in state.values() for path in each["files"]}
        assert named == {f"vectors/{path.name}" for path in (folder / "backup" / "vectors").iterdir()}
    assert found.count(before) > 15 and after in found
    assert found == sorted(found, key=lambda state: state == after), "the new state came and went"


def test_a_damaged_index_is_left_out(tmp_path, target):
    library = approximate(tmp_path / "lib")
    edit(next((tmp_path / "lib").glob("ann/*/index.faiss")), lambda data: data.__setitem__(50, data[50] ^ 1))
    assert back_up(library, target, with_index=True).indexes == 0
    with Library(target).read() as snapshot:
        assert snapshot.generation(Modality.IMAGE) is None
    library.close()


@pytest.mark.slow
def test_a_first_backup_that_is_killed_is_begun_again(tmp_path, changed):
    prepared, _, after = changed
    shutil.rmtree(prepared / "backup")
    for folder in run_kills("backup", prepared, tmp_path / "scratch", every=3):
        again = Library(folder / "lib")
        back_up(again, folder / "backup")
        again.close()
        assert restored(folder / "backup", folder / "new") == after
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_restore_that_is_killed_at_any_step_leaves_a_whole_library(tmp_path, changed):
    prepared, before, after = changed
    folders = run_kills("restore", prepared, tmp_path / "scratch")
    found = []
    for step, folder in enumerate(folders):
        found.append(logical(folder / "lib"))
        if step % 4 == 0:
            restore(folder / "backup", folder / "lib", replace=True)
            assert logical(folder / "lib") == before
            assert not [*folder.glob("lib.new-*")]
    assert found == [after] * found.count(after) + [before] * found.count(before)
    assert found.count(after) > 10 and before in found


class Order:
    """Notes each fsync and rename, by inode, and each deletion; all of them are still done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.taken: list[tuple[str, object]] = []
        fsync, rename, unlink = os.fsync, os.rename, os.unlink

        def synced(descriptor):
            fsync(descriptor)
            self.taken.append(("fsync", os.fstat(descriptor).st_ino))

        def renamed(old, new, **handles):
            inode = os.stat(old, dir_fd=handles.get("src_dir_fd")).st_ino
            rename(old, new, **handles)
            self.taken.append(("rename", inode))

        def deleted(path, **handles):
            unlink(path, **handles)
            self.taken.append(("unlink", os.fspath(path)))

        for name, call in (("fsync", synced), ("rename", renamed), ("unlink", deleted)):
            patch.setattr(os, name, call)

    def at(self, what: str, path: Path | str) -> list[int]:
        target = path.stat().st_ino if isinstance(path, Path) else path
        return [i for i, step in enumerate(self.taken) if step == (what, target)]


def test_a_state_counts_when_all_of_it_is_on_the_disk_and_is_on_the_disk_before_the_one_before_goes(
    library, target, monkeypatch
):
    back_up(library, target)
    old = segment(target).name
    forget(library, ["/photos/p2"])
    compact(library)
    order = Order(monkeypatch)
    back_up(library, target)
    (flip,) = order.at("rename", target / "catalog.db")
    for path in (segment(target), target / "vectors", target / "catalog.db"):
        assert min(order.at("fsync", path)) < flip, path
    written = [i for i, (what, inode) in enumerate(order.taken) if what == "rename" and i < flip]
    assert written and any(written[-1] < i < flip for i in order.at("fsync", target)), "the manifest comes first"
    named = next(i for i, (what, _) in enumerate(order.taken) if what == "rename" and i > flip)
    assert any(flip < i < named for i in order.at("fsync", target)), "the state before is forgotten too early"
    (gone,) = order.at("unlink", old)
    assert named < gone


def test_a_restored_library_is_on_the_disk_before_it_takes_its_place(library, target, tmp_path, monkeypatch):
    back_up(library, target)
    order = Order(monkeypatch)
    place = tmp_path / "new"
    restore(target, place)
    (renamed,) = order.at("rename", place)
    for path in (place / "catalog.db", segment(place), segment(place, "text"), place / "vectors", place):
        assert min(order.at("fsync", path)) < renamed, path
    assert max(order.at("fsync", tmp_path)) > renamed


# --- Restoring


def test_the_library_that_was_there_is_kept_or_deleted(library, target):
    old = logical(library.folder)
    back_up(library, target)
    fill(library, "p9", 1)
    library.close()
    new = logical(library.folder)
    report = restore(target, library.folder)
    assert logical(library.folder) == old
    assert logical(Path(report.kept)) == new
    (library.folder / "notes.txt").write_text("mine")
    report = restore(target, library.folder, replace=True)
    assert logical(library.folder) == old
    assert [path.name for path in Path(report.kept).iterdir()] == ["notes.txt"]
    report = restore(target, library.folder, replace=True)
    assert report.kept == "" and len([*library.folder.parent.glob("lib*")]) == 3


def test_where_folders_cannot_be_exchanged_two_renames_do_it_or_nothing(library, target, monkeypatch):
    back_up(library, target)
    fill(library, "p9", 1)
    library.close()
    new = logical(library.folder)
    monkeypatch.setattr(restoring, "exchange", lambda first, second: False)
    real = os.rename

    def refuse(old, new):
        if ".new-" in str(old):
            raise OSError(28, "No space left on device")
        real(old, new)

    with monkeypatch.context() as patch, pytest.raises(LibraryError, match="Nothing was changed"):
        patch.setattr(os, "rename", refuse)
        restore(target, library.folder)
    assert logical(library.folder) == new
    assert not [*library.folder.parent.glob("lib.*")]
    report = restore(target, library.folder)
    assert logical(library.folder) != new == logical(Path(report.kept))


def test_a_restored_library_is_as_private_as_the_one_before(library, target):
    back_up(library, target)
    library.close()
    library.folder.chmod(0o700)
    restore(target, library.folder)
    assert library.folder.stat().st_mode & 0o777 == 0o700


def test_a_reader_that_has_the_old_library_open_goes_on(library, target):
    back_up(library, target)
    fill(library, "p9", 1)
    with library.read() as snapshot:
        restore(target, library.folder, replace=True)
        numbers = np.arange(4)
        assert np.allclose(np.linalg.norm(snapshot.rows(Modality.IMAGE).gather(numbers), axis=1), 1, atol=0.01)
        assert len(snapshot.matches(Modality.IMAGE, numbers.tolist())) == 4


def test_nothing_is_restored_under_a_writer(library, target):
    back_up(library, target)
    before = tree_digest(library.folder)
    with library.writer(), pytest.raises(LibraryLockedError):
        restore(target, library.folder)
    assert tree_digest(library.folder) == before


@pytest.mark.parametrize("lost", ["catalog.db", "vectors"])
def test_a_library_that_is_half_lost_is_restored(library, target, lost):
    old = logical(library.folder)
    back_up(library, target)
    library.close()
    path = library.folder / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    restore(target, library.folder)
    assert logical(library.folder) == old


def test_a_place_that_is_something_else_is_not_replaced(library, target, tmp_path):
    back_up(library, target)
    other = new_library(tmp_path / "other")
    for place in (tmp_path / "mine", tmp_path / "other", target, target / "in", tmp_path / "none" / "lib"):
        if place.name == "mine":
            place.mkdir()
            (place / "notes.txt").write_text("mine")
        with pytest.raises(InvalidInputError):
            restore(target, place)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    other.close()


def each_damage():
    def at(name, change):
        return lambda target: edit(next(target.glob(name)), change)

    def flip(data):
        data[len(data) // 2] ^= 1

    def cut(data):
        del data[-1:]

    for name in ("catalog.db", "backup.json", "vectors/image-*", "vectors/text-*"):
        yield pytest.param(at(name, flip), id=f"{name} flipped")
        yield pytest.param(at(name, cut), id=f"{name} cut")
        yield pytest.param(lambda target, name=name: next(target.glob(name)).unlink(), id=f"{name} gone")


@pytest.mark.parametrize("spoil", [*each_damage()])
def test_a_damaged_backup_is_refused_and_nothing_is_changed(library, target, spoil):
    back_up(library, target)
    library.close()
    spoil(target)
    before = tree_digest(library.folder.parent)
    with pytest.raises(StoreCorruptError if (target / "backup.json").exists() else InvalidInputError) as error:
        restore(target, library.folder)
    assert "back" in str(error.value)
    assert tree_digest(library.folder.parent) == before


def test_the_command_tells_of_a_damaged_backup_with_code_5(library, target):
    back_up(library, target)
    edit(segment(target), lambda data: data.__setitem__(0, data[0] ^ 1))
    ran = run_cli("restore", target, "--library", library.folder)
    assert ran.code == 5 and "clipsearch repair" in ran.err


# --- What is refused


def test_a_damaged_library_is_not_backed_up_over_a_good_backup(library, target):
    back_up(library, target)
    fill(library, "p9", 1)
    good = tree_digest(target)
    edit(segment(library.folder), lambda data: data.__setitem__(slice(16, 32), bytes(16)))
    ran = run_cli("backup", target, "--library", library.folder)
    assert ran.code == 5 and "clipsearch repair" in ran.err
    assert tree_digest(target) == good
    segment(library.folder).unlink()
    assert run_cli("backup", target, "--library", library.folder).code == 5
    assert tree_digest(target) == good


def test_a_segment_that_is_not_what_was_backed_up_is_not_appended_to(library, target, tmp_path):
    """A library that went back to an earlier state has other rows under the same numbers."""
    library.close()
    shutil.copytree(library.folder, tmp_path / "earlier")
    library = Library(library.folder)
    fill(library, "p8", 1)
    back_up(library, target)
    good = tree_digest(target)
    library.close()
    shutil.rmtree(library.folder)
    shutil.copytree(tmp_path / "earlier", library.folder)
    again = Library(library.folder)
    fill(again, "p9 p7", 1)
    with pytest.raises(StoreCorruptError, match="new folder"):
        back_up(again, target)
    found = tree_digest(target)
    assert {name: found[name] for name in ("catalog.db", *(n for n in good if n.startswith("vectors")))} == {
        name: good[name] for name in good if name not in ("backup.json", "lock")
    }
    again.close()


@pytest.mark.parametrize("more", ["", "p9"])
def test_a_backup_whose_segment_was_cut_is_not_appended_to(library, target, more):
    back_up(library, target)
    if more:
        fill(library, more, 1)
    edit(segment(target), lambda data: data.__delitem__(slice(-8, None)))
    with pytest.raises(StoreCorruptError, match="shorter"):
        back_up(library, target)


def test_a_flipped_bit_of_a_manifest_is_seen_wherever_it_is(library, target):
    back_up(library, target)
    path = target / "backup.json"
    data = path.read_bytes()
    with open_folder(target) as folder:
        whole = manifests.read_manifest(folder)
        for bit in range(0, 8 * len(data), 7):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                assert manifests.read_manifest(folder) == whole  # such as a blank that is another blank now
            except StoreCorruptError:
                continue


def test_a_library_that_went_back_and_has_less_is_backed_up(library, target, tmp_path):
    library.close()
    shutil.copytree(library.folder, tmp_path / "earlier")
    library = Library(library.folder)
    fill(library, "p8", 1)
    back_up(library, target)
    library.close()
    shutil.rmtree(library.folder)
    shutil.copytree(tmp_path / "earlier", library.folder)
    again = Library(library.folder)
    back_up(again, target)
    assert restored(target, tmp_path / "new") == logical(library.folder)
    fill(again, "p9", 1)
    back_up(again, target)
    assert restored(target, tmp_path / "newer") == logical(library.folder)
    again.close()


def test_folders_that_are_no_place_for_a_backup(library, target, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    other = new_library(tmp_path / "other")
    back_up(other, tmp_path / "of-other")
    before = tree_digest(tmp_path)
    (tmp_path / "file").write_text("")
    inside = [library.folder, library.folder / "backup", tmp_path, tmp_path / "x" / ".clipsearch"]
    for folder in (*inside, tmp_path / "mine", tmp_path / "other", tmp_path / "of-other", tmp_path / "file"):
        with pytest.raises(InvalidInputError):
            back_up(library, folder)
    (tmp_path / "file").unlink()
    assert tree_digest(tmp_path) == before
    other.close()


def test_a_backup_that_was_written_to_is_not_written_over(library, target):
    back_up(library, target)
    used = Library(target)
    fill(used, "p9", 1)
    used.close()
    before = logical(target)
    with pytest.raises(StoreCorruptError, match="another folder"):
        back_up(library, target)
    with pytest.raises(StoreCorruptError):
        restore(target, library.folder)
    assert logical(target) == before


def test_a_log_beside_the_catalog_of_a_backup_is_refused(library, target, tmp_path):
    """SQLite would read it together with whatever catalog is there."""
    back_up(library, target)
    (target / "catalog.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(StoreCorruptError):
        back_up(library, target)
    with pytest.raises(StoreCorruptError):
        restore(target, tmp_path / "new")


def test_a_library_without_an_id_is_known_by_its_place(library, target, tmp_path):
    def drop_id(folder):
        with closing(sqlite3.connect(folder / "catalog.db")) as db, db:
            db.execute("DELETE FROM settings WHERE key = 'library_id'")

    other = new_library(tmp_path / "other")
    for each in (library, other):
        drop_id(each.folder)
    back_up(library, target)
    back_up(library, target)
    with pytest.raises(InvalidInputError, match="another library"):
        back_up(other, target)
    other.close()


# --- A full disk


@pytest.mark.slow
def test_a_disk_without_room_is_told_and_leaves_the_backup_before(tmp_path, encoder):
    root, lib, target = tmp_path / "photos", tmp_path / "lib", tmp_path / "backup"
    photos(root, 4, size=(16, 16))
    index(lib, root, encoder=encoder)
    assert run_cli("backup", target, "--library", lib).code == 0
    before = logical(target)
    photos(root, 40, first=10, size=(16, 16))
    index(lib, root, encoder=encoder)
    for limit in (4_000, 30_000):  # in a segment, in the catalog
        command = [str(part) for part in (COMMAND, "backup", target, "--library", lib)]

        def bound(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = subprocess.run(command, env=environment(), capture_output=True, timeout=60, preexec_fn=bound, text=True)
        assert done.returncode == 1, done
        assert "run again" in done.stderr and "Traceback" not in done.stderr
        assert restored(target, tmp_path / f"new{limit}") == before
    assert run_cli("backup", target, "--library", lib).code == 0
    assert logical(target) == logical(lib)


# --- A hostile backup


@needs_links
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, name) for kind in ("symlink", "fifo") for name in ("catalog.db", "backup.json", "vectors")),
        *((kind, name) for kind in ("symlink", "fifo", "hard link") for name in ("lock", "image")),
        ("hard link", "catalog.db"),
        ("hard link", "backup.json"),
    ],
)
def test_links_and_special_files_in_a_backup_are_not_followed(library, target, tmp_path, kind, name):
    back_up(library, target)
    fill(library, "p9", 1)
    path = segment(target) if name == "image" else target / name
    outside = tmp_path / "outside"
    os.rename(path, outside)
    if kind == "symlink":
        path.symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.link(outside, path)
    before = tree_digest(outside) if outside.is_dir() else outside.read_bytes()
    reads_only = kind == "hard link" and name in ("catalog.db", "backup.json")  # which are renamed over, never written
    if reads_only:
        back_up(library, target)
    else:
        with pytest.raises(LibraryError):
            back_up(library, target)
    if kind != "hard link" and name != "lock":
        with pytest.raises(LibraryError):
            restore(target, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    assert (tree_digest(outside) if outside.is_dir() else outside.read_bytes()) == before


@pytest.mark.parametrize("name", ["../evil", "vectors/../../evil", "/tmp/evil", "vectors/x.py", "ann/image-1/../x", ""])
def test_names_of_a_manifest_never_lead_out(library, target, tmp_path, name):
    back_up(library, target)
    with open_folder(target) as folder:
        manifest, state = manifests.read_backup(folder)
        state.files[name] = next(iter(state.files.values()))
        manifest.write(folder)
    for act in (lambda: restore(target, tmp_path / "new"), lambda: back_up(library, target)):
        with pytest.raises(StoreCorruptError, match="not a file of a library"):
            act()
    assert not (tmp_path / "new").exists() and not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b'{"checksum": 1}', b"\xff\xfe"])
def test_a_manifest_that_is_none_is_damage(library, target, content):
    back_up(library, target)
    (target / "backup.json").write_bytes(content)
    with pytest.raises(StoreCorruptError):
        restore(target, library.folder)
    with pytest.raises(StoreCorruptError):
        back_up(library, target)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(library="\0"),
        lambda content: content.update(format=99),
        lambda content: content.update(states=[]),
        lambda content: next(iter(content["states"].values()))["catalog"].update(size=float("inf")),
        lambda content: next(iter(content["states"].values()))["catalog"].update(size=-1),
    ],
)
def test_values_of_a_manifest_that_make_no_sense_are_damage(library, target, change):
    back_up(library, target)
    content = json.loads((target / "backup.json").read_text())
    del content["checksum"]
    change(content)
    (target / "backup.json").write_text(json.dumps({**content, "checksum": manifests._checksum(content)}))
    before = tree_digest(library.folder)
    for act in (lambda: restore(target, library.folder), lambda: back_up(library, target)):
        with pytest.raises(StoreCorruptError):
            act()
    assert tree_digest(library.folder) == before


@needs_links
def test_links_in_the_library_that_is_replaced_are_not_followed(library, target, tmp_path):
    back_up(library, target)
    library.close()
    outside = tmp_path / "outside"
    os.rename(library.folder / "vectors", outside)
    (library.folder / "vectors").symlink_to(outside)
    before = tree_digest(outside)
    report = restore(target, library.folder, replace=True)
    assert tree_digest(outside) == before
    assert [path.name for path in Path(report.kept).iterdir()] == ["vectors"]


def test_a_segment_name_in_the_catalog_never_leads_out(library, target, tmp_path):
    secret = tmp_path / "secret.f16"
    secret.write_bytes(segment(library.folder).read_bytes())
    with closing(sqlite3.connect(library.folder / "catalog.db")) as db, db:
        db.execute("UPDATE segments SET name = '../../secret.f16' WHERE modality = 'image'")
    with pytest.raises(LibraryError):
        back_up(library, target)
    assert not [*target.glob("**/*secret*")]
