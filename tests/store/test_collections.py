"""Collections: what is in them and for how long, what they are called, and what a damaged catalog makes of them."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clipsearch
from clipsearch.cli.collect import collect as collect_command
from clipsearch.cli.collections import collections as collections_command
from clipsearch.cli.find import find as find_command
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, from_values, to_values
from clipsearch.query.engine import SearchEngine
from clipsearch.store import collections, compaction
from clipsearch.store.backup import back_up
from clipsearch.store.collections import UnknownCollectionError
from clipsearch.store.damage import find_damage
from clipsearch.store.library import Library
from clipsearch.store.restore import restore
from clipsearch.types import Collection, Modality
from clipsearch.words import fold_tag
from indexer.repair import repair
from tests.support.catalogs import copy_library, raw_catalog
from tests.support.cli import run_cli
from tests.support.libraries import index, photos
from tests.support.state import read_state


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("collections")
    photos(folder / "photos", 4, size=(32, 24))
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n")
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture
def home(prepared, tmp_path, monkeypatch):
    copy_library(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def engine(home, encoder):
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as opened:
        yield opened


def sql(folder, *statements):
    with raw_catalog(folder / ".clipsearch") as db:
        for statement in statements:
            db.execute(statement)


def order(folder, name):
    """The ids in a collection, in the order of adding, past the code under test."""
    query = (
        "SELECT item_id FROM collection_items JOIN collections ON collections.id = collection_id "
        "WHERE name = ? ORDER BY position"
    )
    with raw_catalog(folder / ".clipsearch") as db:
        return [item_id for (item_id,) in db.execute(query, (name,))]


def test_items_are_added_in_order_and_taken_out_and_filtered(engine, home):
    keys = [str(home / "photos" / name) for name in ("p002.jpg", "p000.jpg", "notes.txt")]
    ids = [engine.get(key).id for key in keys]
    assert engine.collections() == []
    assert engine.collect("  Summer\u00a0 2024 ", keys[:2]) == Collection("Summer 2024", 2, ids[0])
    assert engine.collect("SUMMER 2024", add=[ids[2], ids[0]]) == Collection("Summer 2024", 3, ids[0])
    assert order(home, "Summer 2024") == ids
    assert engine.collect("summer 2024", add=ids[1], remove=[ids[0], ids[1]]).cover == ids[1]
    assert order(home, "Summer 2024") == [ids[2], ids[1]], "what was taken out goes to the end"
    assert engine.collect("empty") == Collection("empty", 0, None)
    assert engine.collect("a text", keys[2]) == Collection("a text", 1, None), "a text is no cover"
    assert [each.name for each in engine.collections()] == ["a text", "empty", "Summer 2024"]
    assert {item.id for item in engine.find(Filter(collections=("summer 2024",)))} == {ids[1], ids[2]}
    assert engine.count(Filter(collections=("Summer 2024", "a text"))) == 2
    assert engine.count(~Filter(collections=("Summer 2024",))) == 3
    assert [
        hit.item.id for hit in engine.search("a cat", modality="image", filters=Filter(collections=("SUMMER 2024",)))
    ] == [ids[1]]
    assert engine.rename_collection("summer 2024", "SUMMER") == Collection("SUMMER", 2, ids[1])
    assert engine.rename_collection("summer", "Summer").name == "Summer"
    with pytest.raises(InvalidInputError, match="already"):
        engine.rename_collection("Summer", "EMPTY")
    engine.delete_collection("Summer")
    assert [each.name for each in engine.collections()] == ["a text", "empty"] and engine.count() == 5
    read_state(home / ".clipsearch")


@pytest.mark.parametrize(
    "call",
    [
        lambda engine: engine.collect("new", ["nowhere.jpg"]),
        lambda engine: engine.collect("new", [99]),
        lambda engine: engine.collect("none", create=False),
        lambda engine: engine.rename_collection("none", "x"),
        lambda engine: engine.delete_collection("none"),
        lambda engine: engine.find(Filter(collections=("none",))),
        lambda engine: engine.find(~Filter(collections=("known", "none"))),
        *(
            lambda engine, name=name: engine.collect(name)
            for name in ("", " \t", "a\nb", "\x7f", "a" * 201, ".", "..", 3, "\ud800")
        ),
        lambda engine: Filter(collections=(" ",)),
        lambda engine: Filter(collections="known"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(engine, call):
    engine.collect("known", 1)
    with pytest.raises(InvalidInputError):
        call(engine)
    assert engine.collections() == [Collection("known", 1, 1)]


def test_a_collection_and_a_library_have_room_for_so_many(engine, monkeypatch):
    ids = [item.id for item in engine.find()]
    monkeypatch.setattr(collections, "MAX_ITEMS", 3)
    engine.collect("full", ids[:3])
    with pytest.raises(InvalidInputError, match="at most 3"):
        engine.collect("full", ids[3], remove=())
    assert engine.collect("full", ids[3], remove=ids[0]).count == 3
    monkeypatch.setattr(collections, "MAX_COLLECTIONS", 1)
    with pytest.raises(InvalidInputError, match="no room"):
        engine.collect("another")
    assert engine.collect("FULL").count == 3


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with clipsearch.open(tmp_path_factory.mktemp("shared") / "lib", create=True, model="m", dim=4) as opened:
        opened.add({"id": f"r{i}", "vector": [1.0, i, 0, 0]} for i in range(8))
        yield opened


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20).filter(
    lambda name: name.strip() and name.strip() not in (".", "..")
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(name=NAMES, steps=st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 8), max_size=4)), max_size=4))
def test_what_was_added_is_in_it_whatever_it_is_called(shared, name, steps):
    expected: list[int] = []
    for adds, ids in steps:
        shared.collect(name, **{"add" if adds else "remove": ids})
        expected = [*dict.fromkeys([*expected, *ids])] if adds else [each for each in expected if each not in ids]
    made = shared.collect(f" {name.upper() if fold_tag(name.upper()) == fold_tag(name) else name}")
    wanted = Filter(collections=(name,))
    assert made.count == len(expected) == shared.count(from_values(to_values(wanted)))
    assert sorted(item.id for item in shared.items(wanted)) == sorted(expected)
    shared.delete_collection(name)
    assert shared.collections() == []


@pytest.mark.sqlite
def test_items_stay_in_it_until_they_are_erased_and_come_back_with_it(engine, home, encoder):
    paths = [home / "photos" / f"p00{i}.jpg" for i in range(3)]
    ids = [engine.get(str(path)).id for path in paths]
    engine.collect("trip", ids)
    paths[0].rename(home / "away.jpg")
    paths[1].rename(paths[1].with_name("moved.jpg"))
    photos(home / "other", 1, first=50, size=(32, 24))
    shutil.copy(home / "other" / "p050.jpg", paths[2])

    def again():
        index(home / ".clipsearch", home / "photos", encoder=encoder)
        return engine.collect("trip")

    assert again() == Collection("trip", 2, ids[1])
    (home / "away.jpg").rename(paths[0])
    assert again() == Collection("trip", 3, ids[0])
    back_up(engine.library, home.parent / f"{home.name}-backup")
    engine.delete(str(paths[0]))
    with engine.library.writer() as opened:
        compaction.commit(opened, compaction.prepare(opened, Modality.IMAGE), None)
    assert order(home, "trip") == ids[1:]
    assert run_cli("forget", paths[2], "--library", home / ".clipsearch").code == 0
    assert order(home, "trip") == [ids[1]]
    read_state(home / ".clipsearch")
    restore(home.parent / f"{home.name}-backup", home / ".clipsearch")
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as restored:
        assert restored.collections() == [Collection("trip", 3, ids[0])]


@pytest.mark.sqlite
def test_a_library_of_an_earlier_schema_is_read_and_gains_collections_at_the_first(engine, home, encoder):
    with raw_catalog(home / ".clipsearch") as db:
        for name in ("collection_items", "collections"):
            db.execute(f"DROP TABLE {name}")
        db.execute("UPDATE settings SET value = '7' WHERE key = 'schema_version'")
        db.execute("UPDATE settings SET digest = NULL")
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as old:
        assert old.collections() == []
        with pytest.raises(UnknownCollectionError, match="clipsearch collections"):
            old.find(Filter(collections=("x",)))
        assert run_cli("collect", "x", "photos/p000.jpg", cwd=home).code == 0
        assert [each.name for each in old.collections()] == ["x"], "another process has brought it up to date"
        assert old.collect("y").name == "y" and old.count(Filter(collections=("x",))) == 1


def test_repair_takes_damaged_places_out_and_keeps_what_a_damaged_name_holds(engine, home, encoder):
    ids = [item.id for item in engine.find()][:3]
    engine.collect("one", ids)
    engine.collect("two", ids)
    engine.collect("three", ids)
    for name, to in (("one", "onf"), ("two", "three")):
        sql(home, f"UPDATE collections SET folded = '{name}!', name = '{to}' WHERE folded = '{name}'")
        with raw_catalog(home / ".clipsearch") as db:
            db.execute("UPDATE collections SET digest = 1 WHERE digest IS NULL")
    sql(home, f"UPDATE collection_items SET position = 99 WHERE item_id = {ids[0]} AND collection_id = 3")
    sql(home, "UPDATE collection_items SET digest = 1 WHERE digest IS NULL")
    assert find_damage(engine.library).describe() == ["3 rows of collections"]
    report = repair(home / ".clipsearch", Settings(threads=1, offline=True), encoder=encoder)
    assert report.remaining == []
    assert {(each.name, each.count) for each in engine.collections()} == {("onf", 3), ("Collection 2", 3), ("three", 2)}
    assert engine.collect("ONF").count == 3
    read_state(home / ".clipsearch")


GARBAGE = ["x'ff00'", "''", "'a' || char(10) || 'b'", "hex(zeroblob(400000))", "char(0)", "12", "9e999", "x'c3'"]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("collections", "name"),
        ("collections", "folded"),
        ("collection_items", "position"),
        ("collection_items", "item_id"),
    ],
)
def test_odd_values_do_no_harm(home, encoder, table, column):
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as engine:
        engine.collect("one", [1, 2])
        engine.collect("two", [1, 2])
    first = "id = 1" if table == "collections" else "collection_id = 1 AND item_id = 1"
    for number, value in enumerate(GARBAGE):
        folder = copy_library(home / ".clipsearch", home / str(number) / ".clipsearch")
        sql(folder.parent, f"UPDATE OR IGNORE {table} SET {column} = {value} WHERE {first}")
        sql(folder.parent, f"UPDATE {table} SET digest = NULL")
        with SearchEngine(Library(folder), encoder=encoder) as engine:
            assert Collection("two", 2, 1) in engine.collections()
            assert all(isinstance(each.name, str) and each.count <= 2 for each in engine.collections())
            assert engine.count(Filter(collections=("two",))) == 2
            for wanted in ("one", "two"):
                try:
                    engine.collect(wanted, 3)
                except clipsearch.ClipSearchError as error:
                    assert str(error)


def test_the_command_line(home, capsysbinary):
    def run(command, *arguments):
        command.main(list(arguments), standalone_mode=False)
        said = capsysbinary.readouterr()
        return said.out.decode(), said.err.decode()

    assert run(collections_command) == (
        "",
        "The library has no collections. Make one: clipsearch collect NAME FILE...\n",
    )
    assert run(collect_command, "Sea", "photos/p000.jpg", "photos/p001.jpg")[1] == (
        "Collection Sea: 2 files. See: clipsearch collections\n"
    )
    run(collect_command, "sea", "photos/p000.jpg", "--remove")
    assert run(find_command, "--collection", "SEA", "--paths")[0] == f"{home}/photos/p001.jpg\n"
    run(collect_command, "sea", "--rename", "The sea")
    assert run(collections_command)[0] == "    files  collection\n        1  The sea\n"
    assert run_cli("query", "a cat", "--collection", "the sea", "--paths", cwd=home).out.endswith(b"p001.jpg\n")
    with pytest.raises(InvalidInputError, match="no collection"):
        run(find_command, "--collection", "sea")
    for wrong in (["x", "--remove"], ["x", "f", "--delete"], ["x", "--delete", "--remove"], ["x", "none.jpg"]):
        with pytest.raises(InvalidInputError):
            run(collect_command, *wrong)
    assert run(collect_command, "the sea", "--delete")[1] == "Collection deleted: the sea\n"
    assert run(collections_command)[0] == ""
