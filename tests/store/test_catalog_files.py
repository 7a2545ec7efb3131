"""The catalog's files: read where nothing can be written, and never followed out of the library."""

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.store import reading
from clipsearch.store.database import writer_engine
from clipsearch.store.library import Library
from clipsearch.store.tags import count_tags
from tests.support.cli import run_cli, run_cli_bound
from tests.support.libraries import index, photos
from tests.support.state import tree_digest

pytestmark = [pytest.mark.sqlite, pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")]

KILLED = """
import os, sys
from pathlib import Path
from clipsearch.store.library import Library
library = Library(Path(sys.argv[1]))
with library.writer() as writer:
    writer.save_labels(["cat"], [1], {1: ("cat", 0.9)})
    os._exit(0)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("catalog")
    photos(folder / "photos", 3, size=(32, 24))
    index(folder / "library", folder / "photos", encoder=encoder)
    return folder / "library"


@pytest.fixture
def library(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "library")


@pytest.fixture
def killed(library):
    """A library whose last commit is in the log alone, as when the writer was killed."""
    subprocess.run([sys.executable, "-c", KILLED, str(library)], check=True)
    assert (library / "catalog.db-wal").stat().st_size
    return library


def tags(folder):
    opened = Library(folder)
    try:
        with opened.query() as connection:
            return count_tags(connection)
    finally:
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_log_that_was_left_is_read_in_a_folder_that_cannot_be_written(killed, shared, tmp_path):
    if not shared:
        (killed / "catalog.db-shm").unlink()
    before = {path: path.read_bytes() for path in killed.iterdir() if path.is_file()}
    killed.chmod(0o555)
    for path in before:
        path.chmod(0o444)
    try:
        for arguments in (["tags"], ["find", "--tag", "cat", "--paths"], ["status"], ["query", "a cat", "--offline"]):
            done = run_cli_bound(*arguments, "--library", killed, cwd=tmp_path)
            assert done.code == 0 and done.out, done.err
            assert b"cat" in done.out or b"p000.jpg" in done.out or arguments[0] != "tags"
        assert b"cat" in run_cli_bound("tags", "--library", killed, cwd=tmp_path).out
    finally:
        killed.chmod(0o755)
    assert {path: path.read_bytes() for path in killed.iterdir() if path.is_file()} == before


def test_a_copy_is_private_made_once_and_made_again_after_a_change(killed, monkeypatch):
    (killed / "catalog.db-shm").unlink()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **k: Path(path) != killed and real(path, mode, **k))
    path = killed / "catalog.db"
    with closing(reading.connect_reader(path)) as connection:
        assert isinstance(connection, reading.Frozen)
        assert connection.execute("SELECT tag FROM tags").fetchall() == [("cat",)]
    copy = Path(reading._copies[path][1])
    assert copy.stat().st_mode & 0o777 == 0o700
    assert tags(killed) == [("cat", 1)] and Path(reading._copies[path][1]) == copy, "it was copied once"
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE tags SET tag = 'dog', folded = 'dog'")
        db.commit()
        monkeypatch.setattr(os, "access", lambda path, mode, **k: Path(path) != killed and real(path, mode, **k))
        (killed / "catalog.db-shm").rename(killed / "aside")
        assert tags(killed) == [("dog", 1)]
        assert not copy.exists(), "of what has changed no copy stays"
        (killed / "aside").rename(killed / "catalog.db-shm")
    shutil.rmtree(reading._copies.pop(path)[1])


def test_a_copy_that_has_no_room_is_refused(killed, monkeypatch):
    (killed / "catalog.db-shm").unlink()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **k: Path(path) != killed and real(path, mode, **k))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(LibraryError, match="Set TMPDIR"):
        Library(killed)


def test_connections_trust_no_schema_and_check_cells(library):
    with closing(reading.connect_reader(library / "catalog.db")) as connection:
        values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("trusted_schema", "cell_size_check")]
        assert values == [0, 1]
    engine = writer_engine(library / "catalog.db")
    with engine.connect() as connection:
        names = ("trusted_schema", "cell_size_check")
        assert [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names] == [0, 1]
    engine.dispose()


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["link", "fifo", "dangling"])
@pytest.mark.parametrize("command", [["index"], ["find"]], ids=lambda words: words[0])
def test_what_stands_for_a_file_of_the_catalog_is_not_followed(library, tmp_path, ending, kind, command):
    name = library / f"catalog.db{ending}"
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "target"
    if kind == "fifo":
        name.unlink(missing_ok=True)
        os.mkfifo(name)
    else:
        content = name.read_bytes() if name.exists() else b"precious" * 1000
        name.unlink(missing_ok=True)
        if kind == "link":
            target.write_bytes(content)
        name.symlink_to(target)
    before = tree_digest(outside)
    done = run_in_process(*command, library=library)
    assert done in (1, 2, 3, 5)
    assert tree_digest(outside) == before and os.listdir(outside) == (["target"] if kind == "link" else [])


def run_in_process(*arguments, library):
    from clipsearch.cli.main import cli
    from clipsearch.errors import ClipSearchError

    try:
        return cli.main([*arguments, "--library", str(library)], standalone_mode=False) or 0
    except ClipSearchError as error:
        assert str(library) in str(error) or error.exit_code == 2
        return error.exit_code


@pytest.mark.slow
def test_a_writer_refuses_a_catalog_with_another_name(library, tmp_path):
    os.link(library / "catalog.db", tmp_path / "other.db")
    before = (tmp_path / "other.db").read_bytes()
    done = run_cli("index", "--library", library)
    assert done.code == 1 and "hard links" in done.err
    assert (tmp_path / "other.db").read_bytes() == before
    assert run_cli("find", "--library", library).code == 0, "a reader changes nothing"
    remedy = done.err.rstrip().rpartition("its own: ")[2]
    subprocess.run(["bash", "-c", remedy], check=True)
    assert run_cli("index", "--library", library).code == 0


def super_journal(database, victim):
    """A rollback journal, hot by its header, that names a file elsewhere as its super-journal."""
    name = os.fsencode(victim)
    page = os.path.getsize(database) // 4096
    head = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 1, 0, page, 512, 4096)
    body = struct.pack(">I", 1) + bytes(4096) + struct.pack(">I", 0)
    end = struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + head[:8]
    return head.ljust(512, b"\0") + body + end


@pytest.mark.parametrize("command", [["index"], ["find"]], ids=lambda words: words[0])
def test_a_journal_that_names_a_file_elsewhere_is_refused(library, tmp_path, command):
    victim = tmp_path / "precious"
    victim.write_bytes(b"")  # one without journals' names in it is deleted once the journal is rolled back
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        db.execute("PRAGMA journal_mode=DELETE")
    journal = library / "catalog.db-journal"
    journal.write_bytes(super_journal(library / "catalog.db", victim))
    with pytest.raises(StoreCorruptError, match="names another file"):
        Library(library)
    assert run_cli(*command, "--library", library).code == 5
    assert victim.exists()


@pytest.mark.slow
def test_what_may_not_be_read_is_no_damage_and_the_remedy_works(library, tmp_path):
    for path in (library, library / "catalog.db", next((library / "vectors").glob("image*"))):
        mode = path.stat().st_mode
        path.chmod(0)
        for command in (["find"], ["query", "a cat"]) if "vectors" not in str(path) else (["query", "a cat"],):
            done = run_cli_bound(*command, "--library", library, cwd=tmp_path)
            assert done.code == 1 and "Permission denied" in done.err, (path, done)
            assert "chmod" in done.err, done.err
        path.chmod(mode)
        assert run_cli_bound("find", "--library", library, cwd=tmp_path).code == 0


def test_a_lock_that_may_not_be_written_is_no_damage(library, tmp_path):
    (library / "lock").chmod(0)
    done = run_cli_bound("index", "--library", library, cwd=tmp_path)
    assert done.code == 1 and "cannot be written" in done.err and "Permission denied" in done.err
