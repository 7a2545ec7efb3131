"""Tags: what is kept of them and for how long, what `label --save` writes, and how they are listed and asked for."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.cli.find import find
from clipsearch.cli.label import label
from clipsearch.cli.tag import tag as tag_command
from clipsearch.cli.tags import tags as tags_command
from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.filtering import Filter
from clipsearch.query import labelling
from clipsearch.query.labelling import Saved, label_pictures, save_labels
from clipsearch.query.opening import open_library
from clipsearch.store import compaction, reading, tags
from clipsearch.store.backup import back_up
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, Encoded, FileRecord, Known, RecordBlock, Scope
from clipsearch.store.restore import restore
from clipsearch.store.tags import TagSource
from clipsearch.types import Modality
from clipsearch.words import fold_tag
from tests.support.catalogs import copy_library, raw_catalog, set_version
from tests.support.cli import run_cli, run_cli_bound
from tests.support.contents import add_root, block, hash_of, new_library, vectors_of
from tests.support.libraries import index
from tests.support.pictures import encode, exif_block, noise_picture, photograph
from tests.support.state import read_state

Kept = dict[tuple[int, str], list[str]]


def kept(folder: Path) -> Kept:
    """What stands in the catalog: by item and source, the tags as they are shown."""
    found: Kept = {}
    with raw_catalog(folder) as db:
        for item, source, tag in db.execute("SELECT item_id, source, tag FROM tags ORDER BY item_id, source, folded"):
            found.setdefault((item, source), []).append(tag)
    return found


def picture(root: int, path: str, content: str) -> Encoded:
    return Encoded(FileRecord(root, path, 1, 1), hash_of(content), Modality.IMAGE, vectors_of(content))


def matching(library: Library, wanted: Filter) -> list[int]:
    with library.read() as snapshot:
        rows = snapshot.matching(Modality.IMAGE, wanted).tolist()
        return sorted(match.item.id for match in snapshot.matches(Modality.IMAGE, rows).values())


@pytest.fixture
def library(tmp_path):
    """Three pictures, each with a keyword and a label."""
    made = new_library(tmp_path / "lib")
    root = add_root(made)
    with made.writer() as opened:
        opened.commit([picture(root, name, name) for name in "abc"])
        connection, _ = opened.storage
        with connection.begin():
            for number in (1, 2, 3):
                tags.set_tags(connection, number, [f"key {number}"], TagSource.FILE)
        opened.save_labels(["cat", "dog"], [1, 2, 3], {number: ("cat", 0.9) for number in (1, 2, 3)})
    yield made
    made.close()


# --- What is kept


def set_some(library: Library, names: list[str], source: TagSource = TagSource.FILE) -> list[str]:
    with library.writer() as opened:
        connection, _ = opened.storage
        with connection.begin():
            tags.set_tags(connection, 1, names, source)
    return kept(library.folder).get((1, source), [])


def test_setting_tags_replaces_those_of_the_source_alone_without_empty_ones_and_doubles(library):
    names = ["  Black\u00a0\n cat", "BLACK CAT", "", " \t", "Straße", "STRASSE", "e\u0301te\u0301", "É" + "té", "a\0b"]
    assert set_some(library, names) == ["a b", "Black cat", "Straße", "été"]
    assert kept(library.folder)[1, "label"] == ["cat"]
    assert set_some(library, ["cat"]) == ["cat"]
    with library.writer() as opened:
        opened.save_labels(["Cat", "dog"], [1], {})
    assert kept(library.folder)[1, "file"] == ["cat"] and (1, "label") not in kept(library.folder)
    assert set_some(library, []) == []
    assert kept(library.folder)[2, "label"] == ["cat"]
    assert kept(library.folder)[2, "file"] == ["key 2"]


@given(names=st.lists(st.text(st.characters(codec=None), max_size=6), max_size=4))
@settings(max_examples=40)
def test_whatever_is_a_tag_is_found_however_it_is_written_and_all_else_is_refused(shared, names):
    shown = set_some(shared, names)
    assert len(shown) == len({fold_tag(name) for name in names} - {""})
    for name in names:
        if not fold_tag(name):
            with pytest.raises(InvalidInputError, match="A tag is one or more words"):
                Filter(tags=[name])
            continue
        for written in (name, f" {name}\n", unicodedata.normalize("NFD", name), fold_tag(name)):
            assert matching(shared, Filter(tags=(written,))) == [1]
    assert [fold_tag(fold_tag(name)) for name in shown] == [fold_tag(name) for name in shown]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two pictures, for many examples."""
    made = new_library(tmp_path_factory.mktemp("shared") / "lib")
    root = add_root(made)
    with made.writer() as opened:
        opened.commit([picture(root, name, name) for name in "ab"])
    yield made
    made.close()


def test_a_picture_whose_content_changes_loses_its_labels(library):
    with library.writer() as opened:
        opened.commit([picture(1, "a", "new"), picture(1, "b", "b")])
    assert kept(library.folder) == {
        (1, "file"): ["key 1"],
        **{(number, "file"): [f"key {number}"] for number in (2, 3)},
        **{(number, "label"): ["cat"] for number in (2, 3)},
    }


def test_what_is_moved_or_deleted_keeps_its_tags_until_it_is_erased(library):
    before = kept(library.folder)
    with library.writer() as opened:
        opened.ledger.note([FileRecord(1, "c", 1, 1), FileRecord(1, "moved", 1, 1)], retry_failed=False)
        opened.ledger.find_missing([Scope(1)], [])
        opened.commit([Known(FileRecord(1, "moved", 1, 1), hash_of("a"))])
        assert opened.remove_missing() == 1
    assert kept(library.folder) == before
    assert matching(library, Filter(tags=("cat",))) == [1, 3]
    with library.query() as connection:
        assert tags.count_tags(connection) == [("cat", 2), ("key 1", 1), ("key 3", 1)]
    with library.writer() as opened:
        opened.commit([Known(FileRecord(1, "b", 2, 2), hash_of("b"))])
    assert matching(library, Filter(tags=("KEY 2",))) == [2], "it came back with its tags"
    with library.writer() as opened:
        opened.ledger.note([FileRecord(1, "moved", 1, 1), FileRecord(1, "c", 1, 1)], retry_failed=False)
        opened.ledger.find_missing([Scope(1)], [])
        assert opened.remove_missing() == 1
        compaction.commit(opened, compaction.prepare(opened, Modality.IMAGE), None)
    assert {item for item, _ in kept(library.folder)} == {1, 3}
    with library.writer() as opened:
        opened.forget(Scope(1, "moved"))
    assert {item for item, _ in kept(library.folder)} == {3}
    with library.writer() as opened:
        opened.forget(Scope(1))
    assert kept(library.folder) == {}
    read_state(library.folder)


def test_a_record_that_is_replaced_loses_its_labels(tmp_path):
    library = new_library(tmp_path / "lib")
    with library.writer() as opened:
        root = opened.add_collection(library.base, "/source")
        opened.commit_records(root, block(["one", "two"]))
        opened.save_labels(["cat", "dog"], [1, 2], {1: ("cat", 0.9), 2: ("dog", 0.9)})
        opened.commit_records(root, block(["one", "new"]))
    assert kept(library.folder) == {(1, "label"): ["cat"]}
    library.close()


@pytest.mark.sqlite
def test_an_older_library_is_read_but_for_its_tags(library):
    library.close()
    with raw_catalog(library.folder) as db:
        db.execute("DROP TABLE tags")
        db.execute("ALTER TABLE items DROP COLUMN caption_stamp")
    set_version(library.folder, "3")
    with open_library(library.folder) as engine:
        assert (engine.find().total, engine.find().tags) == (3, {})
        with pytest.raises(LibraryError, match=r"without tags\. Run once: clipsearch index"):
            engine.find(Filter(tags=("cat",)))
        with pytest.raises(LibraryError, match="Run once"), engine.library.query() as connection:
            tags.count_tags(connection)
        with engine.library.writer() as opened:
            opened.save_labels(["cat", "dog"], [1], {1: ("cat", 0.9)})
        assert [item.id for item in engine.find(Filter(tags=("cat",)))] == [1]


def test_a_tag_is_counted_once_an_item_and_shown_as_it_is_written_most_often(library):
    with library.writer() as opened:
        connection, _ = opened.storage
        with connection.begin():
            tags.set_tags(connection, 1, ["CAT", "zoo"], TagSource.FILE)
            tags.set_tags(connection, 2, ["Dog"], TagSource.FILE)
            tags.set_tags(connection, 3, [], TagSource.FILE)
    with library.query() as connection:
        assert tags.count_tags(connection) == [("cat", 3), ("Dog", 1), ("zoo", 1)]
        assert tags.names_of(connection, [1, 3, 99]) == {1: ("CAT", "zoo"), 3: ("cat",)}


# --- Saving labels

LABELS = ["cat", "coffee", "rocket"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("tags")
    (folder / "photos").mkdir()
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(photograph(name), folder / "photos")
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n")
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture
def home(photographs, tmp_path, monkeypatch):
    """A cat, a coffee and a rocket in a library of their own; the current folder."""
    copy_library(photographs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def engine(home, encoder):
    with open_library(home / ".clipsearch") as opened:
        opened._encoder = encoder
        yield opened


def by_name(engine) -> dict[str, tuple[str, ...]]:
    found = engine.find(Filter(types=("image",)))
    return {Path(item.path).stem: found.tags.get(item.id, ()) for item in found}


def test_the_likeliest_label_of_each_picture_becomes_its_tag(engine, home):
    found = label_pictures(engine, LABELS)
    assert matching(engine.library, Filter(tags=("cat",))) == []
    assert save_labels(found) == Saved(3, 3)
    assert len(matching(engine.library, Filter(tags=("cat",)))) == 1, "a reader kept what it knew before"
    assert by_name(engine) == {"chelsea": ("cat",), "coffee": ("coffee",), "rocket": ("rocket",)}
    [part] = found
    with raw_catalog(home / ".clipsearch") as db:
        chances = [chance for (chance,) in db.execute("SELECT probability FROM tags ORDER BY item_id")]
    assert chances == pytest.approx(part.chances.max(axis=1).tolist())
    assert [Path(item.path).stem for item in engine.find(Filter(tags=("CAT",)))] == ["chelsea"]


def test_a_second_run_replaces_what_the_same_labels_said_and_nothing_else(engine):
    save_labels(label_pictures(engine, ["a photograph", "cat", "Noise"], templates=["{}"]), 0)
    others = {name: tuple(tag for tag in own if tag != "cat") for name, own in by_name(engine).items()}
    save_labels(label_pictures(engine, LABELS))
    assert by_name(engine)["chelsea"] == ("cat", *others["chelsea"])
    assert by_name(engine)["rocket"] == tuple(sorted(("rocket", *others["rocket"])))
    only = Filter(ids=frozenset(item.id for item in engine.find(Filter(tags=("cat",)))))
    assert save_labels(label_pictures(engine, ["CAT", *LABELS[1:]], filters=only), 1) == Saved(1, 0)
    assert by_name(engine)["chelsea"] == others["chelsea"], "what is not likely enough now is gone"
    assert "rocket" in by_name(engine)["rocket"], "a picture that was not looked at keeps its tag"


@pytest.mark.sqlite
def test_what_was_saved_before_a_failure_stays_and_the_rest_is_as_it_was(engine, home, monkeypatch):
    save_labels(label_pictures(engine, ["kitten", "coffee"]), 0)
    before = by_name(engine)
    with raw_catalog(home / ".clipsearch") as db:
        db.execute(
            "CREATE TRIGGER no BEFORE INSERT ON tags WHEN new.tag = 'rocket' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    monkeypatch.setattr(reading, "check_schema", lambda connection, path: None)  # which would refuse the trigger
    monkeypatch.setattr(labelling, "_AT_ONCE", 2)
    found = label_pictures(engine, LABELS)
    order = [[Path(picture.path).stem for picture in part.pictures] for part in found]
    assert order == [["chelsea", "coffee"], ["rocket"]]
    with pytest.raises(LibraryError):
        save_labels(found)
    assert by_name(engine) == {**before, "chelsea": ("cat", *before["chelsea"]), "coffee": ("coffee",)}
    with raw_catalog(home / ".clipsearch") as db:
        db.execute("DROP TRIGGER no")
    assert save_labels(found) == Saved(3, 3)
    read_state(home / ".clipsearch")


@pytest.mark.parametrize("chance", [-0.1, 1.1, float("nan")])
def test_a_chance_that_can_be_none_is_refused(engine, chance):
    with pytest.raises(InvalidInputError, match="from 0 to 1"):
        save_labels(label_pictures(engine, LABELS), chance)
    assert set(by_name(engine).values()) == {()}


# --- On the command line


@pytest.fixture
def run(home, capsysbinary):
    """Run a command in this process; return what it says on stdout and on stderr."""

    def call(command, *arguments: str) -> tuple[str, str]:
        command.main(list(arguments), standalone_mode=False)
        said = capsysbinary.readouterr()
        return said.out.decode(), said.err.decode()

    return call


def names(lines: str) -> list[str]:
    return sorted(os.path.basename(line) for line in lines.splitlines())


def test_labels_are_saved_listed_and_asked_for(run):
    assert run(tags_command) == (
        "",
        "The library has no tags. Make some: clipsearch label --labels cat,dog,bird --save\n",
    )
    plain, _ = run(label, "--labels", ",".join(LABELS))
    assert run(label, "--labels", ",".join(LABELS), "--save") == (
        plain,
        "Pictures tagged: 3 of 3. See: clipsearch tags\n",
    )
    run(label, "photos/chelsea.png", "--labels", "animal,thing", "--save", "--min-chance", "0")
    out, _ = run(find, "--tag", " Coffee ", "--tag=ROCKET", "--paths")
    assert names(out) == ["coffee.png", "rocket.jpg"]
    assert names(run(find, "--not", "--tag", "cat", "--not", "--tag", "coffee", "--type", "image", "--paths")[0]) == [
        "rocket.jpg"
    ]
    assert run(find, "--tag", "ca")[1] == "No match.\n"
    table = run(tags_command)[0].splitlines()
    assert table[0] == "    files  tag" and "        1  cat" in table and len(table) == 5
    with pytest.raises(InvalidInputError, match=r"A tag is one or more words, not ' '\. This is about --tag"):
        run(find, "--tag", " ")
    with pytest.raises(InvalidInputError, match="Add --save"):
        run(label, "--labels", "cat,dog", "--min-chance", "0.9")


@pytest.mark.slow
def test_json_lists_tags_and_what_find_finds_has_them(home):
    done = run_cli("label", "--labels", "cat,coffee", "--save", "--json", "photos/coffee.png", cwd=home)
    assert done.code == 0
    assert done.err.splitlines()[-1] == "Pictures tagged: 1 of 1. See: clipsearch tags"  # the test's server may warn
    assert len(done.json["pictures"]) == 1
    assert run_cli("tags", "--json", cwd=home).json == {
        "library": str(home / ".clipsearch"),
        "tags": [{"tag": "coffee", "count": 1}],
    }
    items = run_cli("find", "--json", "--type", "image", cwd=home).json["items"]
    assert {Path(item["path"]).stem: item["tags"] for item in items} == {
        "chelsea": [],
        "coffee": ["coffee"],
        "rocket": [],
    }
    done = run_cli("query", "a drink", "--tag", "coffee", "--paths", cwd=home)
    assert names(done.out.decode()) == ["coffee.png"]
    done = run_cli("similar", "photos/chelsea.png", "--tag", "coffee", "--paths", cwd=home)
    assert names(done.out.decode()) == ["coffee.png"]


@pytest.mark.sqlite
def test_a_library_that_cannot_be_written_is_told_and_nothing_is_printed(home):
    with Library(home / ".clipsearch").writer():
        done = run_cli("label", "--labels", "cat,dog", "--save", cwd=home)
    assert (done.code, done.out) == (4, b"") and "is writing to the library" in done.err
    for path in [home / ".clipsearch", *(home / ".clipsearch").iterdir()]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = run_cli_bound("label", "--labels", "cat,dog", "--save", cwd=home)
    (home / ".clipsearch").chmod(0o755)
    assert (done.code, done.out) == (1, b"") and "cannot be written" in done.err


def test_records_without_any_date_are_listed_with_their_tags(tmp_path):
    library = new_library(tmp_path / "lib")
    with library.writer() as opened:
        root = opened.add_collection(library.base, "/source")
        rows = vectors_of("x", 2).astype("float16")
        opened.commit_records(
            root, RecordBlock([CollectionRecord("one"), CollectionRecord("two")], {Modality.IMAGE: rows})
        )
        opened.save_labels(["cat", "dog"], [2], {2: ("cat", 0.9)})
    library.close()
    with open_library(library.folder) as engine:
        found = engine.find()
    assert ([item.id for item in found], found.tags) == ([2, 1], {2: ("cat",)})


# --- Tags of the user


def test_tags_of_the_user_are_added_once_and_removed_whoever_says_them(engine, home):
    save_labels(label_pictures(engine, LABELS))
    chelsea, coffee = (str(home / "photos" / name) for name in ("chelsea.png", "coffee.png"))
    number = engine.get(coffee).id
    assert engine.tag([chelsea, number, number], add=["Home", "HOME ", "at\nhome"]) == 2
    assert engine.get(chelsea).tags == ("at home", "cat", "Home") == engine.search("a cat", k=1)[0].item.tags
    assert engine.tag(chelsea, add="home", remove=["CAT", "nothing"]) == 1
    assert engine.get(chelsea).tags == ("at home", "home"), "the last spelling counts"
    assert by_name(engine)["coffee"] == ("at home", "coffee", "Home")
    assert engine.count(Filter(tags=("hOmE",))) == 2 and dict(engine.facets().tags)["coffee"] == 1
    read_state(home / ".clipsearch")


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        ("nowhere.jpg", {"add": "x"}, "no item 'nowhere.jpg'"),
        (99, {"add": "x"}, "no item 99"),
        (1, {"add": "x", "remove": [" X"]}, "both added and removed"),
        (1, {"add": [" "]}, "one or more words"),
        (1, {"remove": ["a" * 201]}, "more than 200"),
        (1, {"add": [3]}, "not 3"),
        (True, {"add": "x"}, "not by True"),
        (0, {"add": "x"}, "above 0"),
        ([None], {"add": "x"}, "not by None"),
    ],
)
def test_what_cannot_be_tagged_is_refused_and_nothing_is_changed(engine, ids, options, message):
    before = engine.get([item.key for item in engine.find()])
    named = [item.id for item in engine.find()]
    with pytest.raises(InvalidInputError, match=message):
        engine.tag([*named, ids] if isinstance(ids, str | int) else ids, **options)
    assert engine.get([item.key for item in engine.find()]) == before


@pytest.mark.sqlite
def test_tags_of_the_user_survive_what_is_indexed_and_labelled_and_a_removed_keyword_stays_away(tmp_path, encoder):
    photos = tmp_path / "photos"
    photos.mkdir()
    described = exif_block(tags={0x9C9E: "lisbon;tram\0".encode("utf-16-le")})
    (photos / "a.jpg").write_bytes(encode(noise_picture(1), exif=described))
    (photos / "b.txt").write_text("A text.\n")
    index(tmp_path / "lib", photos, encoder=encoder)
    with open_library(tmp_path / "lib") as engine:
        keys = [str(photos / name) for name in ("a.jpg", "b.txt")]
        engine._encoder = encoder
        assert engine.get(keys[0]).tags == ("lisbon", "tram")
        engine.tag(keys, add=["mine"], remove=["Tram"])

        def tags_now(again=True):
            if again:
                index(tmp_path / "lib", photos, encoder=encoder)
            return [item.tags if item else None for item in engine.get(keys)]

        os.utime(photos / "a.jpg", (1, 1))
        assert tags_now() == [("lisbon", "mine"), ("mine",)], "nothing but the time has changed"
        save_labels(label_pictures(engine, ["mine", "other"]), 0)
        save_labels(label_pictures(engine, ["mine", "other"]), 1)
        assert tags_now(again=False) == [("lisbon", "mine"), ("mine",)]
        (photos / "a.jpg").write_bytes(encode(noise_picture(2), exif=described))
        (photos / "b.txt").write_text("Another text.\n")
        assert tags_now() == [("lisbon", "mine", "tram"), ("mine",)], "the file says it again, as it has changed"
        (photos / "a.jpg").rename(tmp_path / "away.jpg")
        assert tags_now() == [None, ("mine",)]
        (tmp_path / "away.jpg").rename(photos / "a.jpg")
        assert tags_now() == [("lisbon", "mine", "tram"), ("mine",)]
        back_up(engine.library, tmp_path / "backup")
        engine.tag(keys, remove="mine")
        assert tags_now(again=False) == [("lisbon", "tram"), ()]
        with engine.library.writer() as opened:
            compaction.commit(opened, compaction.prepare(opened, Modality.IMAGE), None)
    restore(tmp_path / "backup", tmp_path / "lib")
    with open_library(tmp_path / "lib") as engine:
        assert engine.get(keys[0]).tags == ("lisbon", "mine", "tram")


@pytest.mark.sqlite
def test_what_is_no_text_among_tags_is_passed_over(library):
    with raw_catalog(library.folder) as db:
        db.execute("INSERT INTO tags (item_id, folded, source, tag) VALUES (1, x'00', 'user', x'ff')")
        db.execute("INSERT INTO tags (item_id, folded, source, tag) VALUES (1, 'odd', 'who', x'ff')")
        db.execute("INSERT INTO tags (item_id, folded, source, tag) VALUES ('x', 'cat', 'user', 'cat')")
    with open_library(library.folder) as engine, engine.library.query() as connection:
        assert engine.find(Filter(ids=(1,)))[0].tags == ("cat", "key 1")
        assert {name for name, _ in engine.facets().tags} == {"cat", "key 1", "key 2", "key 3"}
        assert [name for name, _ in tags.count_tags(connection)] == ["cat", "key 1", "key 2", "key 3"]


def test_files_are_tagged_from_the_command_line(run):
    assert run(tag_command, "--add", "beach", "--add", "Crete", "photos/chelsea.png", "photos/notes.txt") == (
        "",
        "Files changed: 2. See: clipsearch tags\n",
    )
    run(tag_command, "--remove", "BEACH", "photos/notes.txt")
    assert names(run(find, "--tag", "beach", "--paths")[0]) == ["chelsea.png"]
    assert names(run(find, "--tag", "crete", "--paths")[0]) == ["chelsea.png", "notes.txt"]
    with pytest.raises(InvalidInputError, match=r"has no file photos/none\.png"):
        run(tag_command, "--add", "x", "photos/chelsea.png", "photos/none.png")
    with pytest.raises(InvalidInputError, match="Name a tag"):
        run(tag_command, "photos/chelsea.png")
    assert "x" not in run(tags_command)[0]
