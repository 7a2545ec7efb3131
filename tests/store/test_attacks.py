"""A library that a stranger made: whatever its names are, nothing outside of it is read, cut, written or deleted."""

import os
import shutil
import sqlite3
import stat
from contextlib import closing

import numpy as np
import pytest

from clipsearch.errors import ClipSearchError, LibraryError, StoreCorruptError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.folder import open_folder
from clipsearch.store.forget import forget
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.summary import summarise
from clipsearch.types import Modality
from indexer import build
from indexer.plan import IndexPlan
from tests.support.libraries import index, photos
from tests.support.state import tree_digest
from tests.support.vectors import DIM, built, fill, unit

pytestmark = pytest.mark.sqlite

needs_links = pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no links that are not followed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A library of 300 vectors with an IVF-PQ index."""
    return built(fill(tmp_path_factory.mktemp("attacks") / "library", unit(300)), "ivfpq")


@pytest.fixture
def library(made, tmp_path):
    return shutil.copytree(made, tmp_path / "library")


@pytest.fixture
def victim(tmp_path):
    """A folder of somebody's, with the names that a library has, too."""
    folder = tmp_path / "victim"
    for name in ("image-1a2b", ".new-image-1a2b", "holiday"):
        (folder / name).mkdir(parents=True)
        (folder / name / "index.faiss").write_bytes(b"precious")
    for name in ("image-000000000000-1a2b.f16", "text-000000000000-9.f16", "letter.txt", "catalog.db"):
        (folder / name).write_bytes(b"precious " * 99)
    return folder


def attempt(library):
    """Do all that reads and writes a library, whatever fails of it; return the errors."""
    failed = []

    def search():
        with SearchEngine(Library(library)) as engine:
            engine.search(vector=unit(1)[0], k=5)

    def write():
        opened = Library(library)
        try:
            with opened.writer() as writer:
                writer.set_setting("probe", "1")
                build.build(opened, writer, IndexPlan("ivfpq"))
                build.sweep_generations(opened)
        finally:
            opened.close()

    def drop():
        opened = Library(library)
        try:
            forget(opened, [str(library.parent.parent / "nowhere")])
        finally:
            opened.close()

    def look():
        opened = Library(library)
        try:
            list(examine(opened, "clipsearch build"))
            summarise(opened)
        finally:
            opened.close()

    for step in (search, write, drop, look, lambda: Library.create(library)):
        try:
            step()
        except ClipSearchError as error:
            failed.append(error)
    return [error for error in failed if "has nothing at" not in str(error)]


def catalog(library, statement, *values):
    """Change the catalog as a stranger would who knows how its digests are made."""
    from clipsearch.store.checksums import COVERED, digest

    with closing(sqlite3.connect(library / "catalog.db")) as db:
        for table, columns in COVERED.items():
            db.execute(f"DROP TRIGGER {table.name}_changed")
            names = ", ".join(f'"{c.name}"' for c in columns)
            db.create_function("seal", -1, digest)
            db.execute(f"UPDATE {table.name} SET digest = seal({names})")
        db.execute(statement, values)
        for table, columns in COVERED.items():
            names = ", ".join(f'"{c.name}"' for c in columns)
            db.execute(f"UPDATE {table.name} SET digest = seal({names})")
        db.commit()


@needs_links
@pytest.mark.parametrize("name", ["ann", "vectors"])
def test_a_folder_that_is_a_link_is_refused_and_its_target_untouched(library, victim, name):
    before = tree_digest(victim)
    shutil.rmtree(library / name)
    (library / name).symlink_to(victim)
    failed = attempt(library)
    assert tree_digest(victim) == before
    assert any(isinstance(error, LibraryError) and f"{name} is not a folder" in str(error) for error in failed)


@needs_links
def test_verify_calls_a_linked_folder_of_vectors_damage(library, tmp_path):
    shutil.move(library / "vectors", tmp_path / "elsewhere")
    (library / "vectors").symlink_to(tmp_path / "elsewhere")
    opened = Library(library)
    found = {finding.check: finding for finding in examine(opened, "clipsearch build") if finding.modality == "image"}
    opened.close()
    assert found["segments"].severity == "problem" and "not a regular file" in found["segments"].found


@needs_links
def test_a_user_who_linked_the_index_elsewhere_still_gets_answers(library, tmp_path):
    shutil.move(library / "ann", tmp_path / "bigger-disk")
    (library / "ann").symlink_to(tmp_path / "bigger-disk")
    with SearchEngine(Library(library)) as engine:
        found = engine.search(vector=unit(300)[7], k=1)
    assert found[0].item.id == 8 and "cannot be used" in found.warnings[0]


@needs_links
def test_a_library_that_is_reached_through_a_link_works(library, tmp_path):
    (tmp_path / "link").symlink_to(library)
    assert attempt(tmp_path / "link") == []


@needs_links
@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "directory"])
@pytest.mark.parametrize("torn", [False, True], ids=["whole", "longer than committed"])
def test_a_segment_that_is_no_file_of_its_own_is_refused(library, tmp_path, kind, torn):
    (segment,) = (library / "vectors").glob("image-*.f16")
    victim = tmp_path / "victim.bin"
    victim.write_bytes(segment.read_bytes() + b"precious" * torn)
    before = victim.read_bytes()
    segment.unlink()
    if kind == "symlink":
        segment.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, segment)
    elif kind == "fifo":
        os.mkfifo(segment)
    else:
        segment.mkdir()
    failed = attempt(library)
    assert victim.read_bytes() == before
    if kind != "hard link" or torn:
        assert failed, "nothing was refused"


@pytest.mark.parametrize(
    "name", ["../victim.f16", "/etc/victim.f16", "..", "image-000000000000-1a.f16/../../x", "a\0b"]
)
def test_a_segment_with_a_name_outside_the_library_is_refused(library, tmp_path, name):
    victim = tmp_path / "library" / "victim.f16"
    victim.write_bytes(b"precious" * 9999)
    catalog(library, "UPDATE segments SET name = ?", name)
    failed = attempt(library)
    assert victim.read_bytes() == b"precious" * 9999
    assert isinstance(failed[0], StoreCorruptError) and "as a file of vectors" in str(failed[0])


@pytest.mark.parametrize("column", ["name", "checksums"])
def test_an_index_with_a_name_outside_the_library_is_not_read(library, victim, column):
    before = tree_digest(victim)
    value = "../../victim/holiday" if column == "name" else '{"../../../victim/letter.txt": "00"}'
    catalog(library, f"UPDATE generations SET {column} = ?", value)
    with SearchEngine(Library(library)) as engine:
        found = engine.search(vector=unit(300)[7], k=1)
    assert found[0].item.id == 8 and "cannot be used" in found.warnings[0]
    attempt(library)
    assert tree_digest(victim) == before


@needs_links
@pytest.mark.parametrize("link", ["symlink", "hard link"])
def test_the_lock_is_not_taken_through_a_link(library, tmp_path, link):
    victim = tmp_path / "diary.txt"
    victim.write_bytes(b"precious")
    (library / "lock").unlink(missing_ok=True)
    (library / "lock").symlink_to(victim) if link == "symlink" else os.link(victim, library / "lock")
    failed = attempt(library)
    assert victim.read_bytes() == b"precious"
    assert any("lock is not" in str(error) for error in failed)


def test_what_is_not_the_librarys_own_is_never_swept(library):
    kept = {}
    vectors = ("vectors/notes.f16", "vectors/image-1.f16", "vectors/x.txt")
    indexes = ("ann/mine/file", "ann/image-zz/index.faiss", "ann/image-77/deeper/file", "ann/.new-photos/index.faiss")
    for name in vectors + indexes:
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
        kept[path] = b"precious"
    assert attempt(library) == []
    assert {path: path.read_bytes() for path in kept} == kept


@needs_links
def test_links_inside_a_generation_that_is_swept_are_not_followed(library, victim):
    before = tree_digest(victim)
    (library / "ann" / "image-77").mkdir()
    (library / "ann" / "image-77" / "index.faiss").symlink_to(victim / "letter.txt")
    (library / "ann" / "image-78").symlink_to(victim / "image-1a2b")
    assert attempt(library) == []
    assert tree_digest(victim) == before and not (library / "ann" / "image-77").exists()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE settings SET value = '99999999999999' WHERE key = 'dim'",
     "UPDATE settings SET value = 'x' WHERE key = 'dim'",
     "UPDATE settings SET value = '0' WHERE key = 'dim'", "UPDATE segments SET first_row = -5",
     "UPDATE segments SET committed_rows = 4611686018427387904", "UPDATE segments SET modality = 'sound'",
     "UPDATE vectors SET row = 99999999 WHERE row = 5", "INSERT INTO tombstones VALUES ('image', 99999999)",
     "UPDATE settings SET value = 'x' WHERE key = 'revision'", "UPDATE generations SET watermark = 99999999",
     "UPDATE generations SET params = '[[[['", "UPDATE roots SET rules = '{'", "UPDATE roots SET kind = 'cloud'",
     "UPDATE items SET taken_at = 'soon', width = 1", "UPDATE items SET root_id = 1, modality = 'sound'"],
)  # fmt: skip
def test_values_that_make_no_sense_are_an_error_and_no_crash(library, statement):
    catalog(library, statement)
    for error in attempt(library):
        assert isinstance(error, ClipSearchError)


def test_names_are_plain_in_a_folder(tmp_path):
    with open_folder(tmp_path) as folder:
        for name in ("", ".", "..", "a/b", "/a", "a\0"):
            for act in (folder.unlink, folder.make, folder.status, lambda name: folder.open(name, os.O_RDONLY)):
                with pytest.raises(LibraryError):
                    act(name)


@needs_links
def test_only_regular_files_are_opened_in_a_folder(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with open_folder(tmp_path) as folder:
        for name in ("fifo", "folder"):
            with pytest.raises(LibraryError, match="is not a regular file"):
                folder.open(name, os.O_RDONLY)


def test_files_are_written_with_usual_modes(tmp_path, encoder):
    photos(tmp_path / "photos", 2)
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o111 for path in (tmp_path / "library" / "vectors").iterdir()}
    assert modes == {0}


def test_rows_of_a_whole_library_are_all_there(library):
    opened = Library(library)
    with opened.read() as snapshot:
        assert np.isfinite(snapshot.rows(Modality.IMAGE).gather(np.arange(300))).all()
        assert snapshot.rows(Modality.IMAGE).dim == DIM
    opened.close()
