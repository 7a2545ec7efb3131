"""Moving a catalog to a PostgreSQL server and back: what it keeps, who notices, what a death costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from clipsearch.errors import InvalidInputError, LibraryError, LibraryLockedError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.store import moving
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.moving import move_catalog
from clipsearch.store.postgres import address
from clipsearch.store.postgres import home as server_home
from clipsearch.store.schema import metadata
from clipsearch.store.second_flip import flip
from clipsearch.store.second_writer import SecondWriter
from clipsearch.types import Modality
from tests.support import disk as disks
from tests.support import postgres
from tests.support.catalogs import raw_catalog
from tests.support.cli import run_here
from tests.support.contents import Disk, add_root, block, check, new_library, synchronise
from tests.support.paths import ROOT
from tests.support.second_set import OTHER, check_other, prepare
from tests.support.state import read_state

pytestmark = pytest.mark.postgres

FILES: Disk = (
    {f"{i:02d}": (f"p{i}", 1) for i in range(6)} | {f"t{i}": (f"t{i}", 1) for i in range(4)} | {"x": ("bad0", 1)}
)


@pytest.fixture
def url(monkeypatch):
    """A database for catalogs, which nothing but the test names."""
    monkeypatch.delenv("CLIPSEARCH_CATALOG")
    return postgres.running().new_database()


@pytest.fixture
def library(tmp_path, url):
    """A library whose catalog is a file."""
    made = new_library(tmp_path / "lib")
    root = add_root(made)
    with made.writer() as opened:
        synchronise(opened, root, FILES | {"gone": ("p80", 1)}, batch=3)
    with made.writer() as opened:
        synchronise(opened, root, FILES, batch=3)
        opened.tag_items([1, 2], ["one", "größe"], [])
        opened.collect_items("set", [2, 1], [], create=True)
        opened.set_setting("note", "kept")
        opened.commit_records(opened.add_collection(made.base, "/source"), block(["a cat", "a dog", None]))
    yield made
    made.close()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} & {"catalog.db", "catalog.json", "catalog.db-wal", "catalog.db-shm"}


def answers(library: Library) -> tuple:
    with library.read() as snapshot:
        found = snapshot.list_items(Filter(), None)[0]
        some = [Filter(tags=("größe",)), Filter(collections=("set",)), Filter(caption="cat"), Filter(caption='"t3 0"')]
        return found, [snapshot.matching_ids(each).tolist() for each in some], snapshot.live_count(Modality.IMAGE)


def dump(folder: Path) -> dict[str, list[tuple]]:
    """Every row of every table that is not derived from others, past the code under test."""
    tables = [table.name for table in metadata.sorted_tables if table.name != "metadata_values"]
    with raw_catalog(folder) as db:
        found = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    return {
        name: sorted((tuple(int(v) if isinstance(v, bool) else v for v in row) for row in rows), key=repr)
        for name, rows in found.items()
    }


def schemas(url: str) -> list[str]:
    with postgres.running().connect(address.parse(url).parameters()["dbname"]) as session:
        found = session.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'clipsearch%'").fetchall()
    return [name for (name,) in found]


def test_a_catalog_moves_to_a_server_and_back_with_all_that_it_has(library, url):
    before, state = answers(library), dump(library.folder)
    report = move_catalog(library, url)
    assert names_in(library.folder) == {"catalog.json"} and len(schemas(url)) == 1
    assert report.rows > 30 and not report.left and report.after.startswith(url.split("?")[0])
    assert answers(library) == before == answers(Library(library.folder))
    assert dump(library.folder) == state
    assert not [f for f in examine(Library(library.folder), "build") if f.severity == "problem"]
    move_catalog(library, None)
    assert "catalog.json" not in names_in(library.folder) and schemas(url) == []
    assert answers(library) == before == answers(Library(library.folder))
    assert dump(library.folder) == state
    assert not [f for f in examine(Library(library.folder), "build") if f.severity == "problem"]


def test_it_can_be_written_after_each_move_and_no_id_is_given_again(library, url):
    ids = {row[0] for row in dump(library.folder)["items"]}
    for number, to in enumerate((url, None, url, None)):
        move_catalog(library, to)
        with library.writer() as opened:
            name = f"new{number}"
            synchronise(opened, 1, FILES | {name: (f"p{20 + number}", 1)}, batch=2)
        paths = {row[0]: row[2] for row in dump(library.folder)["items"]}
        fresh = paths.keys() - ids
        assert {paths[each] for each in fresh} == {name} and min(fresh) > max(ids)
        ids |= fresh


def test_both_sets_of_vectors_move(tmp_path, url):
    library = new_library(tmp_path / "lib")
    add_root(library)
    disk = {path: what for path, what in FILES.items() if path != "x"}
    with library.writer() as opened:
        synchronise(opened, 1, disk, batch=3)
        prepare(opened)
    move_catalog(library, url)
    assert library.second.items == len(disk)
    check(read_state(library.folder), disk)
    with library.writer() as opened:
        flip(SecondWriter(opened), OTHER)
    check_other(read_state(library.folder), disk)
    move_catalog(library, None)
    check_other(read_state(library.folder), disk)
    assert library.second.items == len(disk)
    library.close()


def test_what_is_open_answers_all_the_while(library, url):
    """A reader never gets a wrong answer, and an error only at the instant of the flip."""
    expected, wrong, count, ends = answers(library), [], [0], threading.Event()

    def read() -> None:
        with closing(Library(library.folder)) as own:
            while not ends.is_set():
                try:
                    wrong.extend([] if answers(own) == expected else ["another answer"])
                    count[0] += 1
                except LibraryError as error:
                    wrong.extend([] if "moved meanwhile" in str(error) else [str(error)])

    threads = [threading.Thread(target=read) for _ in range(2)]
    for each in threads:
        each.start()
    for to in (url, None, url, None):
        move_catalog(library, to)
        time.sleep(0.2)
    ends.set()
    for each in threads:
        each.join()
    assert not wrong and count[0] > 20


def test_a_writer_that_waits_goes_on_where_the_catalog_is(library, url):
    waiting = Library(library.folder)
    other = threading.Thread(target=lambda: move_catalog(library, url))
    with library.writer() as opened:
        opened.set_setting("note", "changed")
    other.start()
    time.sleep(0.1)
    with waiting.writer(timeout=30) as opened:
        synchronise(opened, 1, FILES | {"late": ("p30", 1)}, batch=2)
    other.join()
    assert "late" in [row[2] for row in dump(library.folder)["items"]]
    assert names_in(library.folder) == {"catalog.json"}
    waiting.close()


def test_a_move_excludes_a_writer(library, url):
    with closing(Library(library.folder)) as other, other.writer(), pytest.raises(LibraryLockedError):
        move_catalog(library, url)
    assert schemas(url) == [] and "catalog.json" not in names_in(library.folder)


def test_a_move_to_where_it_is_does_nothing_and_one_to_what_is_taken_is_refused(library, url, tmp_path):
    assert move_catalog(library, None).after == str(library.folder / "catalog.db")
    other = Library.create(tmp_path / "other", catalog_url=f"{url}&schema=taken")
    with pytest.raises(InvalidInputError, match="holds something already"):
        move_catalog(library, f"{url}&schema=taken")
    move_catalog(library, f"{url}&schema=free")
    assert move_catalog(library, url).rows == 0 and sorted(schemas(url)) == []
    with pytest.raises(InvalidInputError, match="on a server already"):
        move_catalog(library, postgres.running().new_database())
    other.close()


@pytest.mark.parametrize("to_server", [True, False])
def test_a_copy_that_differs_is_not_used(library, url, monkeypatch, to_server):
    if not to_server:
        move_catalog(library, url)
    names, before, real = names_in(library.folder), answers(library), moving.copy_rows_of

    def copy(source, target):
        count = real(source, target)
        target.exec_driver_sql("UPDATE tags SET tag = 'two' WHERE folded = 'one' AND item_id = 1")
        return count

    monkeypatch.setattr(moving, "copy_rows_of", copy)
    with pytest.raises(StoreCorruptError, match=r"differs in its table tags.*Nothing has changed"):
        move_catalog(library, url if to_server else None)
    assert answers(library) == before
    assert names_in(library.folder) - {"catalog.db-wal", "catalog.db-shm"} == names - {
        "catalog.db-wal",
        "catalog.db-shm",
    }
    assert len(schemas(url)) == (not to_server)


def test_the_folder_of_another_user_names_the_server_before_it_is_connected_to(library, url, tmp_path, monkeypatch):
    open_all_the_while = Library(library.folder)
    move_catalog(library, url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    with pytest.raises(LibraryError, match="only after you have named it"):
        answers(open_all_the_while)


@pytest.mark.parametrize("schema", ["public", "payments"])
def test_the_schema_of_somebody_else_is_never_filled_or_dropped(url, tmp_path, schema):
    database = address.parse(url).parameters()["dbname"]
    Library.create(tmp_path / "own", catalog_url=url).close()  # so that the user has named the server
    held = f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind IN ('r', 'S')"
    with postgres.running().connect(database) as session:
        session.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        session.execute(f"CREATE TABLE {schema}.payroll (name text)")
        folder = tmp_path / "strange"
        folder.mkdir()
        said = {"format": 1, "url": address.parse(url).url, "schema": schema, "library_id": "0" * 32}
        (folder / "catalog.json").write_text(json.dumps(said))
        for command in (("index", tmp_path), ("move-catalog", "sqlite")):
            assert run_here(*command, "--library", folder)[0] != 0
        with pytest.raises(LibraryError):
            Library(folder)
        with pytest.raises((LibraryError, InvalidInputError)):
            Library.create(folder)
        assert session.execute(held).fetchall() == [("payroll",)]


def test_what_is_not_ours_in_our_schema_outlives_a_move(library, url):
    move_catalog(library, url)
    (schema,) = schemas(url)
    with postgres.running().connect(address.parse(url).parameters()["dbname"]) as session:
        session.execute(f"CREATE TABLE {schema}.payroll (name text)")
        report = move_catalog(library, None)
        assert "clipsearch did not make" in report.left
        held = f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind IN ('r', 'S')"
        assert session.execute(held).fetchall() == [("payroll",)]


def test_the_catalog_of_another_library_is_not_dropped(library, url):
    move_catalog(library, url)
    marker = address.read_marker(library.folder)
    assert server_home.drop_schema(marker.address, "0" * 32) and len(schemas(url)) == 1
    assert answers(library)[0]


# --- Deaths


def death_runner(folder: Path, url: str) -> None:
    """Move in a process that dies at each step in turn, until one gets through; print what each one left."""
    found = []
    for fail_at in range(1, 1000):
        child = os.fork()
        if child == 0:
            disks.die_at(fail_at, statements=bool(url))  # those on the copy's file, which has no name yet, are hundreds
            move_catalog(Library(folder), url or None)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with closing(Library(folder)) as opened:
            kept = sum(1 for _ in answers(opened)[0])
        found.append((code, sorted(names_in(folder)), kept))
        if code == 0:
            break
    sys.stdout.write(json.dumps(found))


@pytest.mark.parametrize("to_server", [True, False])
def test_a_process_that_dies_at_any_step_leaves_the_library_as_it_was(library, url, to_server):
    if not to_server:
        move_catalog(library, url)
    state, before = dump(library.folder), answers(library)
    code = "import sys, tests.store.test_moving as t; t.death_runner(t.Path(sys.argv[1]), sys.argv[2])"
    command = [sys.executable, "-c", code, str(library.folder), url if to_server else ""]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert [code for code, _, _ in found] == [99] * (len(found) - 1) + [0] and len(found) > 12
    assert {kept for _, _, kept in found} == {len(before[0])}
    assert dump(library.folder) == state and answers(library) == before
    with postgres.running().connect(address.parse(url).parameters()["dbname"]) as session:
        noted = "SELECT count(*) FROM pg_namespace WHERE obj_description(oid, 'pg_namespace') = %s"
        assert session.execute(noted, (moving._NOTE,)).fetchone() == (0,), "a catalog that was never complete is left"
    assert len(schemas(url)) < 6  # those that were complete, of processes that died right before the flip
    assert not list(library.folder.glob(".catalog*"))


def test_a_move_that_is_killed_or_loses_its_server_changes_nothing(library, url):
    with library.writer() as opened:
        root = opened.add_collection(library.base, "/many")
        for first in range(0, 20_000, 5000):
            opened.commit_records(root, block([f"word{i} cat" for i in range(5000)], first=first))
    state, server = dump(library.folder), postgres.running()
    code = (
        "import sys; from pathlib import Path; from clipsearch.store.library import Library\n"
        "from clipsearch.store.moving import move_catalog\n"
        "library = Library(Path(sys.argv[1])); print('begins', flush=True); move_catalog(library, sys.argv[2])"
    )
    for number, pause in enumerate((0.2, 0.5, 0.8)):
        command = [sys.executable, "-c", code, str(library.folder), url]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as mover:
            assert mover.stdout is not None and mover.stdout.readline() == "begins\n"
            time.sleep(pause)
            if number == 1:
                server.kill()
                assert "clipsearch.errors.LibraryError" in mover.communicate()[1]
                server.start()
            else:
                mover.send_signal(signal.SIGKILL)
                mover.communicate()
        assert "catalog.db" in names_in(library.folder)
        assert dump(library.folder) == state
    move_catalog(library, url)
    assert dump(library.folder) == state and len(schemas(url)) == 1


def test_the_command_moves_it_and_says_where_it_is(library, url):
    for to, place in ((url, "postgresql+psycopg://"), ("sqlite", str(library.folder / "catalog.db"))):
        code, _, err = run_here("move-catalog", to, "--library", library.folder)
        assert code == 0 and f"Moved the catalog to {place}" in err.decode() and " rows in " in err.decode()
