"""A catalog in PostgreSQL: who may be connected to, who writes, and what a death of the server or the writer costs."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from itertools import pairwise

import pytest

from clipsearch.errors import ClipSearchError, InvalidInputError, LibraryError, LibraryLockedError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.store import catalog
from clipsearch.store.backup import back_up
from clipsearch.store.forget import forget
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.postgres import address, connections, words
from clipsearch.store.summary import summarise
from tests.support import postgres
from tests.support.catalogs import copy_library, marker_of, raw_catalog
from tests.support.contents import add_root, block, new_library, synchronise
from tests.support.datasets import write_table
from tests.support.libraries import index
from tests.support.paths import ROOT
from tests.support.postgres_writer import check_all, committed, paths_in, picture, start_writer, where
from tests.support.state import read_state

pytestmark = pytest.mark.postgres


@pytest.fixture
def library(tmp_path):
    made = new_library(tmp_path / "lib")
    yield made
    made.close()


# --- Whom it connects to


def test_a_folder_alone_never_makes_it_connect(library, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql+psycopg://someone@127.0.0.1:{server.getsockname()[1]}/stolen"
        said = {**marker_of(library.folder), "url": url}
        (tmp_path / "strange").mkdir()
        (tmp_path / "strange" / "catalog.json").write_text(json.dumps(said))
        monkeypatch.delenv("CLIPSEARCH_CATALOG")
        with pytest.raises(LibraryError, match="only after you have named it"):
            Library(tmp_path / "strange")
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_what_the_user_has_named_is_remembered_and_can_be_named_otherwise_elsewhere(tmp_path, monkeypatch):
    url = postgres.running().new_database()
    monkeypatch.delenv("CLIPSEARCH_CATALOG")
    Library.create(tmp_path / "lib", catalog_url=url).close()
    Library(tmp_path / "lib").close()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    with pytest.raises(LibraryError, match="CLIPSEARCH_CATALOG"):
        Library(tmp_path / "lib")
    Library(tmp_path / "lib", url).close()
    monkeypatch.setenv("CLIPSEARCH_CATALOG", url)
    Library(tmp_path / "lib").close()
    elsewhere = postgres.running().new_database()
    with pytest.raises(LibraryError):
        Library(tmp_path / "lib", elsewhere)


def test_a_password_is_used_and_written_nowhere(tmp_path, monkeypatch):
    server = postgres.running()
    url = server.new_database().replace(f"//{server.user}@", f"//{server.user}:secret%21@")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert address.parse(url).parameters()["password"] == "secret!"
    Library.create(tmp_path / "lib", catalog_url=url).close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.parent.name == "catalogs" for path in files)
    assert not [path for path in files if b"secret" in path.read_bytes()]
    assert "secret" not in repr(address.parse(url)) and "secret" not in where(Library(tmp_path / "lib")).place


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u@h/d",
        "postgresql+psycopg://u@h",
        "postgresql+psycopg://u@h/d?options=-c%20x",
        "postgresql+psycopg://u@h/d?passfile=/etc/passwd",
        "postgresql+psycopg://u@h/d?schema=x%22;drop",
        "postgresql+psycopg://u@h:port/d",
        "postgresql+psycopg://u@h/d\n",
        "nonsense",
    ],
)
def test_what_is_no_address_of_a_catalog_is_refused_and_makes_nothing(tmp_path, url):
    with pytest.raises(InvalidInputError):
        Library.create(tmp_path / "lib", catalog_url=url)
    assert not (tmp_path / "lib" / "catalog.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "x" * 100_000])
def test_a_damaged_marker_is_reported(library, text):
    (library.folder / "catalog.json").write_text(text)
    with pytest.raises(StoreCorruptError, match=r"catalog\.json"):
        Library(library.folder)


def test_a_link_in_place_of_the_marker_is_not_followed(library, tmp_path):
    (library.folder / "catalog.json").rename(tmp_path / "aside.json")
    (library.folder / "catalog.json").symlink_to(tmp_path / "aside.json")
    with pytest.raises(LibraryError, match="not a regular file"):
        Library(library.folder)


def test_a_schema_of_another_library_is_not_taken_for_ones_own(library, tmp_path):
    other = new_library(tmp_path / "other")
    said = {**marker_of(library.folder), "schema": where(other).schema}
    (library.folder / "catalog.json").write_text(json.dumps(said))
    with pytest.raises(StoreCorruptError, match="another library"):
        Library(library.folder)
    with pytest.raises(InvalidInputError, match="holds something already"):
        Library.create(tmp_path / "third", catalog_url=f"{where(other).url}&schema={where(other).schema}")


@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.parametrize("is_present", [True, False])
def test_a_folder_makes_no_catalog_on_a_server_that_was_named_for_other_libraries(
    library, tmp_path, monkeypatch, encoder, is_present, is_remembered
):
    if is_remembered:
        monkeypatch.delenv("CLIPSEARCH_CATALOG")
    else:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nothing"))
    (tmp_path / "strange").mkdir()
    schema = f"strange_{is_present}_{is_remembered}".lower()
    said = {**marker_of(library.folder), "schema": schema, "library_id": "0" * 32}
    (tmp_path / "strange" / "catalog.json").write_text(json.dumps(said))
    held = "SELECT nspname, (SELECT count(*) FROM pg_class WHERE relnamespace = pg_namespace.oid) FROM pg_namespace"
    with postgres.running().connect(where(library).parameters()["dbname"]) as session:
        if is_present:
            session.execute(f"CREATE SCHEMA {schema}")
        before = sorted(session.execute(held).fetchall())
        for opening in (Library, Library.create):
            with pytest.raises(LibraryError, match="may be a stranger's"):
                opening(tmp_path / "strange")
        with pytest.raises(LibraryError, match="may be a stranger's"):
            index(tmp_path / "strange", str(tmp_path), encoder=encoder)
        assert sorted(session.execute(held).fetchall()) == before
        Library.create(tmp_path / "strange", catalog_url=said["url"]).close()
        assert dict(session.execute(held).fetchall())[schema] > 0


def test_the_catalog_of_another_library_is_not_brought_up_to_date(library, tmp_path):
    other = new_library(tmp_path / "other")
    with raw_catalog(other.folder) as db:
        db.execute("UPDATE settings SET value = '9', digest = NULL WHERE key = 'schema_version'")
    said = {**marker_of(library.folder), "schema": where(other).schema}
    (library.folder / "catalog.json").write_text(json.dumps(said))
    for opening in (library.writer, lambda: Library.create(library.folder, catalog_url=said["url"])):
        with pytest.raises(StoreCorruptError, match="another library"), opening():
            pass
    with raw_catalog(other.folder) as db:
        assert db.execute("SELECT value FROM settings WHERE key = 'schema_version'").fetchone()["value"] == "9"


def test_libraries_of_one_server_have_nothing_in_common(library, tmp_path):
    other = new_library(tmp_path / "other")
    for each in (library, other):
        add_root(each)
    with library.writer() as one, other.writer() as two:
        one.commit([picture("a")])
        two.commit([picture("b")])
    assert (paths_in(library), paths_in(other)) == (["/photos/a"], ["/photos/b"])


# --- One writer, many readers


def test_a_writer_excludes_one_of_another_machine_and_the_lock_ends_with_its_process(library):
    add_root(library)
    with library.writer(), pytest.raises(LibraryLockedError, match="on another machine"):
        connections.writer_engine(where(library)).connect()
    code = (
        "import sys, time; from pathlib import Path; from clipsearch.store.library import Library\n"
        "with Library(Path(sys.argv[1])).writer(): print('has it', flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code, library.folder], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"has it\n"
        with pytest.raises(LibraryLockedError):
            connections.writer_engine(where(library)).connect()
        holder.send_signal(signal.SIGKILL)
    with library.writer(timeout=30) as opened:
        opened.commit([picture("a")])
    assert paths_in(library) == ["/photos/a"]


def test_a_reader_sees_one_state_and_never_waits(library):
    add_root(library)
    with library.writer() as opened:
        opened.commit([picture("a")])
        with library.read() as snapshot:
            before = snapshot.count_items(Filter())
            opened.commit([picture("b"), picture("c")])
            assert snapshot.count_items(Filter()) == before == 1
            with library.read() as later:
                assert later.count_items(Filter()) == 3


def test_a_reader_cannot_write(library):
    with pytest.raises(LibraryError, match="only reads"), library.query() as connection:
        connection.exec_driver_sql("DELETE FROM settings")


def test_a_writer_whose_session_ends_never_commits_by_another(library):
    add_root(library)
    with library.writer() as opened:
        opened.commit([picture("a")])
        with postgres.running().connect(where(library).parameters()["dbname"]) as session:
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
        for path in "bc":
            with pytest.raises(LibraryError):
                opened.commit([picture(path)])
    with library.writer() as opened:
        opened.commit([picture("d")])
    assert paths_in(Library(library.folder)) == ["/photos/a", "/photos/d"]
    read_state(library.folder)


# --- Deaths


def test_a_writer_that_is_killed_loses_nothing_that_it_reported(library):
    add_root(library)
    first, chance = 0, random.Random(5)
    for _ in range(4):
        with start_writer(library, first) as writer:
            last = [committed(writer) for _ in range(chance.randrange(2, 12))][-1]
            writer.send_signal(signal.SIGKILL)
        first = check_all(library, last)


def test_a_server_that_is_killed_loses_nothing_and_everyone_goes_on(library):
    server = postgres.running()
    add_root(library)
    first = 0
    for _ in range(2):
        with start_writer(library, first) as writer:
            last = [committed(writer) for _ in range(5)][-1]
            server.kill()
            out, err = writer.communicate()
            last = max([last, *map(int, out.split())])
        assert writer.returncode and "clipsearch.errors.LibraryError" in err
        with pytest.raises(ClipSearchError, match="server of the catalog"):
            paths_in(library)
        server.start()
        assert len(paths_in(library)) >= 3 * (last + 1)
        first = check_all(library, last)


# --- Values


def test_names_are_values_and_never_statements(library):
    add_root(library)
    odd = ["x'); DROP TABLE items; --", '"; SELECT 1', "%s %(a)s ?", "back\\slash", "a:b::c", "$$", "\U0001f600"]
    with library.writer() as opened:
        opened.commit([picture(name) for name in odd])
        ids = list(read_state(library.folder).entries)
        opened.tag_items(ids, odd, [])
        opened.collect_items(odd[0], ids, [], create=True)
    assert paths_in(library) == sorted(f"/photos/{name}" for name in odd)
    with library.read() as snapshot:
        for name in odd:
            assert snapshot.count_items(Filter(tags=(name,))) == len(odd)
        assert snapshot.count_items(Filter(collections=(odd[0],))) == len(odd)
        assert snapshot.count_items(Filter(cameras=("'; --",))) == 0


def test_texts_sort_by_their_bytes_whatever_the_server_s_language(library):
    add_root(library)
    with library.writer() as opened:
        opened.commit([picture(name) for name in ("a/x", "A/x", "a0", "a-b/x", "ä/x")])
    with library.read() as snapshot:
        found = snapshot.list_items(Filter(folders=("/photos/a",)), None)[0]
        assert [item.path for item in found] == ["/photos/a/x"]
        assert dict(snapshot.facets(Filter(), 10).folders)["/photos/ä"] == 1


def test_a_record_of_megabytes_and_words_without_end(library):
    long = " ".join(f"word{number}" for number in range(150_000))
    with library.writer() as opened:
        root = opened.add_collection(library.base, "/source")
        opened.commit_records(root, block([long, "y" * 5000 + " end", "short word7"]))
    with library.read() as snapshot:
        assert [item.id for item in snapshot.list_items(Filter(caption="word149999"), 5)[0]] == [1]
        assert [item.id for item in snapshot.list_items(Filter(caption='"word3 word4"'), 5)[0]] == [1]
        assert [item.id for item in snapshot.list_items(Filter(caption="y" * 5000), 5)[0]] == [2]
        assert snapshot.list_items(Filter(caption="y" * 4999), 5)[1] == 0
        assert snapshot.list_items(Filter(caption="yyy*"), 5)[1] == 1
    assert not [f for f in examine(library, "build") if f.severity == "problem"]


WORDS = [
    "Über",
    "uber",
    "naïve",
    "猫",
    "猫が",
    "哈哈",
    "哈哈哈",
    "don't",
    "x-ray",
    "ไทย",
    "한국어",
    "cat",
    "cats",
    "e\u0301te\u0301",
    "straße",
    "STRASSE",
]


def test_words_are_found_and_ranked_as_in_sqlite(tmp_path, monkeypatch):
    chance = random.Random(3)
    texts = [" ".join(chance.choices(WORDS, k=chance.randrange(1, 30))) for _ in range(120)]
    here = new_library(tmp_path / "here")
    monkeypatch.delenv("CLIPSEARCH_CATALOG")
    there = new_library(tmp_path / "there")
    assert (tmp_path / "there" / "catalog.db").exists() and (tmp_path / "here" / "catalog.json").exists()
    for each in (here, there):
        with each.writer() as opened:
            opened.commit_records(opened.add_collection(each.base, "/source"), block(texts))
            opened.commit_records(opened.add_collection(each.base, "/source"), block([*texts[:9], "cat cat dog"]))
    asked = [
        *WORDS,
        *(f'"{a} {b}"' for a, b in pairwise(WORDS)),
        "ca*",
        "猫 cat",
        "한*",
        "-",
        "été",
    ]
    with here.read() as one, there.read() as other:
        for words in asked:
            if any(c.isalnum() for c in words):
                wanted = Filter(caption=words)
                assert one.matching_ids(wanted).tolist() == other.matching_ids(wanted).tolist(), words
        for words in [*asked, *(" ".join(chance.choices(WORDS, k=2)) for _ in range(60))]:
            found, expected = (each.keyword_search(words, None, 50) for each in (one, other))
            assert found == expected, words


# --- What the server knows, so that it answers fast


def test_the_server_plans_by_what_a_writer_has_just_filled(library):
    with library.writer() as opened:
        root = opened.add_collection(library.base, "/many")
        opened.commit_records(root, block([f"word{number}" for number in range(3000)]))
    with library.query() as connection:
        cursor = connection.connection.cursor()
        statement = str(catalog._MATCHES.compile(dialect=connection.dialect))
        cursor.execute(f"EXPLAIN {statement}", {"modality": "image", "rows": "[1, 5, 2999]"})
        plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Index Scan using vectors_pkey" in plan and "Seq Scan" not in plan
        known = "SELECT reltuples FROM pg_class WHERE oid = to_regclass('items')"
        assert connection.exec_driver_sql(known).scalar_one() == 3000


def test_the_words_are_counted_as_they_come_and_go_and_a_catalog_of_before_gets_its_counts(library):
    counted = "SELECT count(*), coalesce(sum(length), 0) FROM full_text"

    def check() -> None:
        with library.query() as connection:
            assert words.totals(connection)[:2] == tuple(connection.exec_driver_sql(counted).one())

    with library.writer() as opened:
        root = opened.add_collection(library.base, "/source")
        opened.commit_records(root, block(["a cat", "a very long dog", None]))
        check()
        opened.commit_records(root, block(["a cat", "a dog", "a bird that sings"]))
    check()
    with library.writer() as opened, opened.storage[0].begin():
        for name in ("TABLE full_text_totals", "FUNCTION clipsearch_count_words CASCADE"):
            opened.storage[0].exec_driver_sql(f"DROP {name}")
    check()  # counted, as there is nothing that says it
    with library.writer() as opened:
        opened.commit_records(opened.add_collection(library.base, "/other"), block(["one more"]))
    check()
    with library.query() as connection:
        assert connection.exec_driver_sql("SELECT words FROM full_text_totals").scalar_one() == 10


def test_the_short_way_to_the_key_of_a_number_ends_at_the_same_key(library):
    chance = random.Random(1)
    texts = ["0", "-0", "0.0", "1", "-1", "1.0", "1e3", "1000", "0.1", "1e-7", "999999999999999", "1e308", "5e-324"]
    texts += ["9007199254740993", "9007199254740992", "-9007199254740993", "123456789012345.5", "9223372036854775807"]
    texts += [repr(chance.uniform(-1e6, 1e6)) for _ in range(200)] + [str(chance.randrange(10**15)) for _ in range(200)]
    with library.query() as connection:
        both = "SELECT clipsearch_key(?::json), clipsearch_number(?)"
        for each in texts:
            key, number = connection.exec_driver_sql(both, (each, each)).one()
            assert key == number, each


def test_functions_of_an_earlier_version_are_made_again_by_the_next_writer(library):
    with library.writer() as opened, opened.storage[0].begin():
        opened.storage[0].exec_driver_sql(
            "CREATE OR REPLACE FUNCTION clipsearch_kind(value json) RETURNS text LANGUAGE sql AS 'SELECT NULL'"
        )
        opened.storage[0].exec_driver_sql("COMMENT ON FUNCTION clipsearch_key(json) IS NULL")
    with library.writer():
        pass
    with library.query() as connection:
        assert connection.exec_driver_sql("SELECT clipsearch_kind('1'::json)").scalar_one() == "integer"


# --- Backup


def test_a_backup_is_a_library_of_sqlite_with_all_that_the_catalog_has(library, tmp_path):
    root = add_root(library)
    disk = {"a": ("p0", 1), "b": ("t1", 1), "c": ("bad0", 1), "d": ("p1", 1)}
    with library.writer() as opened:
        synchronise(opened, root, disk, batch=2)
    with library.writer() as opened:
        del disk["d"]
        synchronise(opened, root, disk, batch=2)
        opened.tag_items([1], ["one"], [])
        opened.collect_items("set", [1, 2], [], create=True)
        opened.set_setting("note", "kept")
    for _ in range(2):
        back_up(library, tmp_path / "backup")
        assert (tmp_path / "backup" / "catalog.db").exists()
        assert read_state(tmp_path / "backup").logical() == read_state(library.folder).logical()
    copy = Library(tmp_path / "backup")
    assert not [f for f in examine(copy, "build") if f.severity == "problem"]
    with copy.read() as one, library.read() as other:
        assert one.list_items(Filter(tags=("one",)), None) == other.list_items(Filter(tags=("one",)), None)
        assert one.count_items(Filter(collections=("set",))) == 2


def test_a_copy_of_a_database_is_a_library_of_its_own(library, tmp_path):
    add_root(library)
    with library.writer() as opened:
        opened.commit([picture("a")])
    copy = Library(copy_library(library.folder, tmp_path / "copy"))
    with copy.writer() as opened:
        opened.commit([picture("b")])
    assert (paths_in(copy), paths_in(library)) == (["/photos/a", "/photos/b"], ["/photos/a"])


def test_a_data_set_is_read_updated_counted_and_forgotten(tmp_path, encoder):
    rows = [{"id": f"t{number}", "text": f"a text about {number}"} for number in range(20)]
    table = str(write_table(tmp_path / "texts.jsonl", rows))
    first = index(tmp_path / "lib", table, encoder=encoder)
    again = index(tmp_path / "lib", table, encoder=encoder)
    rows[3] = {"id": "t3", "text": "something else"}
    write_table(tmp_path / "texts.jsonl", rows[:18])
    changed = index(tmp_path / "lib", table, encoder=encoder)
    assert [(each.added, each.changed, each.removed) for each in (first, again, changed)] == [
        (20, 0, 0), (0, 0, 0), (0, 1, 2),
    ]  # fmt: skip
    opened = Library(tmp_path / "lib")
    assert [(each.shards, each.done, each.items) for each in summarise(opened).sources.values()] == [(1, 1, 18)]
    assert forget(opened, [table]) == 18
    assert not summarise(opened).sources
    opened.close()
