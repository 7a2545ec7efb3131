"""Saved searches: what is kept of them, what counts as new, and what a stranger's library can make them do."""

from __future__ import annotations

import base64
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time
from datetime import datetime

import numpy as np
import pytest
from click.testing import CliRunner

import clipsearch
from clipsearch import Filter, Indexed, Text
from clipsearch.cli.query import query as query_command
from clipsearch.cli.save import save as save_command
from clipsearch.cli.saved import saved as saved_command
from clipsearch.cli.saved import unsave as unsave_command
from clipsearch.dates import WrittenMoment
from clipsearch.errors import AccessDeniedError, ClipSearchError, InvalidInputError, LibraryError
from clipsearch.filtering import MAX_DEPTH
from clipsearch.query import saved_options
from clipsearch.query.engine import SearchEngine
from clipsearch.query.options import SearchOptions
from clipsearch.store import searches
from clipsearch.store.backup import back_up
from clipsearch.store.database import transaction
from clipsearch.store.library import Library
from clipsearch.store.restore import restore
from clipsearch.types import Modality
from tests.support.catalogs import copy_library, raw_catalog
from tests.support.libraries import compact, index, names, photo, photos


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("searches")
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


def run_cli(command, *arguments):
    return CliRunner().invoke(command, arguments)


def put(folder, name, value):
    """Write a setting as whoever has the catalog can: with no digest, as after a change."""
    text = value if isinstance(value, str) else json.dumps(value)
    with raw_catalog(folder / ".clipsearch") as db:
        db.execute("INSERT OR REPLACE INTO settings (key, value, digest) VALUES (?, ?, NULL)", (f"search:{name}", text))


DEEP = json.loads('{"a": [' * 50 + "{}" + "]}" * 50)


def stored(asked, name="evil"):
    mark = {"id": 0, "images": 0, "texts": 0, "revision": 0, "shown": [], "changed": []}
    return {"name": name, "asked": {"options": {}, **asked}, "saved_at": "", "mark": mark}


QUERIES = {
    "words": lambda f: {"text": "a cat", "k": 3, "modality": "image"},
    "terms": lambda f: {"text": Text("a cat") + 2 * Indexed(2) - Text("x"), "fusion": "rank"},
    "a picture": lambda f: {"image": f / "photos" / "p001.jpg", "exclude_self": True, "k": 2},
    "a vector": lambda f: {"vector": np.linspace(-1, 1, 257), "kind": "text"},
    "filters": lambda f: {
        "text": "a",
        "filters": Filter(types=("image",)) & ~Filter(folders=(str(f / "photos/p001.jpg"),)),
    },
    "all options": lambda f: {
        "text": "a",
        "offset": 1,
        "collapse": True,
        "hybrid": False,
        "min_score": -0.5,
        "cut": True,
    },
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_saved_search_finds_what_the_search_finds(engine, home, name):
    given = QUERIES[name](home)
    made = engine.save_search("One", **given)
    assert engine.saved_searches() == [made] and made.name == "One"
    found, expected = engine.search_saved("ONE"), engine.search(**given)
    assert found.hits == expected.hits and len(found)
    assert engine.search_saved("one", k=1, offset=1).hits == engine.search(**given | {"k": 1, "offset": 1}).hits


def test_a_name_is_replaced_listed_in_order_and_deleted(engine):
    for name in ("b", "Ä", "a"):
        engine.save_search(name, "x")
    engine.save_search("B", "y")
    assert [(each.name, each.query) for each in engine.saved_searches()] == [("a", "x"), ("B", "y"), ("Ä", "x")]
    engine.delete_search("b")
    for call in (engine.search_saved, engine.delete_search):
        with pytest.raises(searches.UnknownSearchError, match="no saved search 'b'"):
            call("b")
    for name in ("", " ", "a\nb", "x" * 201, "..", 3):
        with pytest.raises(InvalidInputError, match="name of a saved search has 1 to 200"):
            engine.save_search(name, "x")


def test_new_is_what_came_or_changed_and_was_not_seen(engine, home, encoder):
    photos_folder = home / "photos"
    engine.save_search("all", "a picture", k=2, min_confidence=0, modality="image")

    def run():
        index(home / ".clipsearch", photos_folder, encoder=encoder)

    def new():
        return sorted(names(engine.search_saved("all", new=True)))

    assert new() == []
    photos(photos_folder, 3, first=10)
    run()
    first = engine.search_saved("all", new=True)
    assert len(first) == 2 and "more new matches" in first.warnings[-1]
    assert sorted([*names(first), *new()]) == ["p010.jpg", "p011.jpg", "p012.jpg"]  # the rest comes with the next call
    assert new() == []

    photo(photos_folder / "p001.jpg", 77)
    os.rename(photos_folder / "p002.jpg", photos_folder / "moved.jpg")
    kept = (photos_folder / "p003.jpg").read_bytes()
    (photos_folder / "p003.jpg").unlink()
    run()
    (photos_folder / "p003.jpg").write_bytes(kept)  # it comes back, with the id that it had
    run()
    assert new() == ["p001.jpg"] and new() == []
    assert len(engine.search_saved("all", k=100)) == 7


@pytest.mark.slow
def test_what_was_not_remembered_is_new_again(engine, home, encoder):
    engine.save_search("all", "a picture", min_confidence=0)
    photos(home / "photos", 1, first=10)
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    before = engine.run_search("all", new=True)
    assert names(before.results) == names(engine.run_search("all", new=True).results) == ["p010.jpg"]
    photos(home / "photos", 1, first=11)
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    after = engine.run_search("all", new=True)
    engine.remember_search("all", after.mark)
    engine.remember_search("all", before.mark)  # another process was slower
    assert not engine.run_search("all", new=True).results
    engine.save_search("all", "a picture", min_confidence=0)
    engine.remember_search("all", before.mark)  # of the search that had the name before
    assert not engine.run_search("all", new=True).results
    assert engine.run_search("all").mark is None


@pytest.mark.slow
def test_only_what_stands_out_is_new_unless_the_search_says_so(engine, home, encoder):
    photos(home / "photos", 40, first=100, size=(16, 16))
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    engine.save_search("sure", "a red bicycle")
    engine.save_search("any", "a red bicycle", min_confidence=0.0)
    photos(home / "photos", 2, first=300)
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    unsure = engine.run_search("any", new=True).results
    assert len(unsure) == 2 and max(hit.confidence for hit in unsure) < 0.75
    found = engine.search_saved("sure", new=True)
    assert not found and len(found.warnings) == 1
    assert found.warnings[0].startswith("No confident match: nothing reaches a confidence of 0.5")
    said = [run_cli(query_command, "--saved", "sure", "--new").stderr]
    engine.save_search("sure", "a red bicycle")
    said.append(run_cli(query_command, "--saved", "sure", "--new").stderr)
    assert said[0] == said[1] == "Nothing new matches.\n"


def test_marks_go_with_a_compaction_and_a_change_of_the_encoder(engine, home, encoder):
    folder = home / "photos"
    engine.save_search("all", "a picture", min_confidence=0, k=50)
    (folder / "p000.jpg").unlink()  # rows before the mark go
    photo(folder / "p002.jpg", 88)
    index(home / ".clipsearch", folder, encoder=encoder)
    with engine.library.query() as connection:
        before = searches.get(connection, "all").mark
    for modality in Modality:
        compact(engine.library, modality)
    with engine.library.query() as connection:
        after = searches.get(connection, "all").mark
    assert (before.images, after.images) == (4, 2) and before.texts == after.texts == 1
    assert names(engine.run_search("all", new=True).results) == ["p002.jpg"]


@pytest.mark.sqlite
def test_no_stored_search_stops_what_moves_the_marks(engine, home, monkeypatch):
    texts = {"a": "a", "b": "\ud800", "c": "é" * 50_000, "d": "a"}
    for name, text in texts.items():
        value = {**stored({"text": text}, name), "mark": {**stored({})["mark"], "images": 4}}
        put(home, name, json.dumps(value, ensure_ascii=name != "c"))
    monkeypatch.setattr(searches, "MAX_SEARCHES", 3)
    (home / "photos" / "p000.jpg").unlink()
    index(home / ".clipsearch", home / "photos", encoder=engine.encoder)
    compact(engine.library, Modality.IMAGE)
    with engine.library.query() as connection:
        assert [searches.get(connection, name).mark.images for name in "abc"] == [3, 4, 3]
    with engine.library.writer() as writer, transaction(writer._connection) as connection:
        searches.restart(connection, {"a": (1,), "b": (1,), "c": (1,)})
        assert [searches.get(connection, name).mark.changed for name in "abc"] == [(1,), (), (1,)]


@pytest.mark.slow
def test_what_changed_before_a_flip_of_the_encoder_is_new_after_it(home, encoder):
    with clipsearch.open(home / ".clipsearch") as engine:
        engine.save_search("all", "a picture", min_confidence=0, k=50)
        engine.save_search("looks", image=home / "photos" / "p001.jpg")
        photo(home / "photos" / "p002.jpg", 88)
        engine.index([home / "photos"])
        engine.reindex("builtin-base")
        assert names(engine.run_search("all", new=True).results) == ["p002.jpg"]
        photo(home / "photos" / "p003.jpg", 89)
        engine.index([home / "photos"])
        assert sorted(names(engine.search_saved("all", new=True))) == ["p002.jpg", "p003.jpg"]
        assert not engine.search_saved("all", new=True)
        with pytest.raises(InvalidInputError, match="another encoder"):
            engine.search_saved("looks")


@pytest.mark.slow
def test_more_new_items_than_are_looked_at_come_one_part_after_the_other(engine, home, encoder, monkeypatch):
    from clipsearch.query import saved

    engine.save_search("all", "a picture", min_confidence=0, k=50)
    photos(home / "photos", 5, first=10)
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    monkeypatch.setattr(saved, "MAX_NEW", 2)
    found = [sorted(names(engine.search_saved("all", new=True))) for _ in range(4)]
    assert [len(each) for each in found] == [2, 2, 1, 0]
    assert len({name for each in found for name in each}) == 5


def test_dates_in_words_are_read_when_the_search_runs(engine, home, monkeypatch):
    """A year passes between saving and running."""

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2030, 5, 15, tzinfo=tz)

    assert run_cli(save_command, "old", "a", "--on", "last month", "--not", "--after", "2 years ago").exit_code == 0
    engine.save_search("during", "a", during="last month")
    engine.save_search("fixed", "a", during="2024-06")
    monkeypatch.setattr(saved_options, "datetime", Later)
    with engine.library.query() as connection:
        kept = {name: searches.get(connection, name).asked["options"] for name in ("old", "during", "fixed")}
    read = {name: saved_options.read_options(values, "").filters for name, values in kept.items()}
    assert (read["old"].taken_from, read["old"].taken_until) == (datetime(2030, 4, 1), datetime(2030, 5, 1))
    assert read["old"].none_of[0].taken_from == datetime(2028, 5, 15)
    assert read["during"] == Filter(taken_from=datetime(2030, 4, 1), taken_until=datetime(2030, 5, 1))
    assert read["fixed"] == Filter(taken_from=datetime(2024, 6, 1), taken_until=datetime(2024, 7, 1))


def test_a_moment_in_words_is_a_datetime_like_any_other():
    moment = WrittenMoment.of(datetime(2024, 6, 1, 12, 30), "last year", is_end=True)
    plain = datetime(2024, 6, 1, 12, 30)
    assert moment == plain and hash(moment) == hash(plain) and repr(moment) == repr(plain)
    assert moment.isoformat() == plain.isoformat() and moment.written == "last year" and moment.is_end


@pytest.mark.slow
def test_folders_of_a_portable_library_move_with_it(engine, home, encoder):
    engine.save_search(
        "in", "a", filters=Filter(folders=("photos",)) & ~Filter(folders=(str(home / "photos/p001.jpg"),))
    )
    expected = names(engine.search_saved("in"))
    engine.close()
    moved = home.parent / "elsewhere"
    shutil.move(home, moved)
    with SearchEngine(Library(moved / ".clipsearch"), encoder=encoder) as opened:
        found = opened.search_saved("in")
        assert names(found) == expected and {hit.path.startswith(str(moved)) for hit in found} == {True}
    shutil.move(moved, home)


@pytest.mark.slow
def test_searches_go_with_backups(engine, home, encoder, tmp_path):
    engine.save_search("kept", "a", k=2)
    back_up(engine.library, tmp_path / "backup")
    engine.delete_search("kept")
    restore(tmp_path / "backup", tmp_path / "restored")
    with SearchEngine(Library(tmp_path / "restored"), encoder=encoder) as opened:
        assert names(opened.search_saved("kept")) == names(engine.search("a", k=2))
        assert not opened.search_saved("kept", new=True)


EVIL = {
    "a file": {"query": 'image:"/etc/passwd"'},
    "a file among terms": {"query": '"a" + ./x.jpg'},
    "a URL": {"query": 'image:"http://127.0.0.1:9/x.jpg" + "a"'},
    "a folder elsewhere": {"text": "a", "options": {"filters": {"folders": ["//server/share"]}}},
    "a key elsewhere": {"text": "a", "options": {"filters": {"none_of": [{"keys": ["\\\\server\\share\\a.jpg"]}]}}},
    "a folder elsewhere among terms": {"query": '"a" and in:"//server/share/x"'},
    "a folder elsewhere in a group": {"query": '"a" and not (in:"//server/share" or "b")'},
    "a folder elsewhere deep": {"query": '"a" and filter:"{\\"none_of\\": [{\\"folders\\": [\\"//server/share\\"]}]}"'},
    "a relative folder": {"query": '"a" and in:"photos"'},
    "a folder elsewhere by both slashes": {"text": "a", "options": {"filters": {"folders": ["/\\server/share"]}}},
    "too many": {"text": "a", "options": {"k": 10**9}},
    "an unknown option": {"text": "a", "options": {"run": "rm"}},
    "options": {"text": "a", "options": [1]},
    "a filter": {"text": "a", "options": {"filters": {"ids": "x"}}},
    "a filter of nothing": {"text": "a", "options": {"filters": {"any_of": 3}}},
    "deep": {"text": "a", "options": {"filters": json.loads('{"all_of": [' * 100 + "{}" + "]}" * 100)}},
    "a date": {"text": "a", "options": {"filters": {"taken_from": {"written": "x" * 10_000, "is_end": True}}}},
    "half a date": {"text": "a", "options": {"filters": {"taken_from": {"written": "last year"}}}},
    "no query": {"picture": "/etc/passwd"},
    "no vector": {"shown": "x", "encoder": "", "vector": ""},
}


@pytest.mark.sqlite
def test_a_strangers_search_opens_nothing_and_fails_with_a_message(engine, home, monkeypatch):
    opened = []
    monkeypatch.setattr("clipsearch.query.embedding.open_image", lambda *args: opened.append(args))
    for name, asked in EVIL.items():
        put(home, "evil", stored(asked))
        with pytest.raises(ClipSearchError):
            engine.search_saved("evil")
            pytest.fail(name)
        engine.saved_searches()
    assert not opened
    engine.delete_search("evil")


@pytest.mark.sqlite
def test_deep_options_are_passed_over_and_a_folder_in_a_query_is_kept(engine, home):
    put(home, "evil", stored({"text": "a", "options": DEEP}))
    folder = home / "photos"
    engine.save_search("in", Text("a") & Filter(folders=("photos",)) & ~Filter(folders=(str(folder / "p001.jpg"),)))
    filters = Filter(min_width=1)
    for _ in range(MAX_DEPTH - 1):
        filters = Filter(all_of=(filters,))
    engine.save_search("nested", "a", filters=filters)
    assert [each.name for each in engine.saved_searches()] == ["in", "nested"]
    assert len(engine.search_saved("nested")) == 4
    assert sorted(names(engine.search_saved("in")))[:2] == ["notes.txt", "p000.jpg"]


@pytest.mark.sqlite
def test_a_strangers_vector_is_of_the_library_or_refused(engine, home):
    pin = engine.library.encoder
    for asked in (
        {"vector": "====", "encoder": pin.fingerprint, "shown": "x"},
        {"vector": base64.b64encode(bytes(8)).decode(), "encoder": pin.fingerprint, "shown": "x"},
        {
            "vector": base64.b64encode(np.full(257, np.nan, "<f4").tobytes()).decode(),
            "encoder": pin.fingerprint,
            "shown": "x",
        },
        {"vector": base64.b64encode(np.ones(257, "<f4").tobytes()).decode(), "encoder": "other", "shown": "x"},
    ):
        put(home, "evil", stored(asked))
        with pytest.raises(InvalidInputError):
            engine.search_saved("evil")


NO_SEARCHES = [
        "", "{", "[]", "3", "[" * 100_000, {"name": "other"}, stored({"text": "a"}, name="other"),
        {**stored({"text": "a"}), "mark": None}, {**stored({"text": "a"}), "saved_at": 3},
        {**stored({"text": "a"}), "mark": {**stored({})["mark"], "id": 2**70}},
        {**stored({"text": "a"}), "mark": {**stored({})["mark"], "shown": [1.5]}},
        {**stored({"text": "a"}), "mark": {**stored({})["mark"], "changed": "abc"}},
        {**stored({"text": "a"}), "filler": "x" * searches.MAX_LENGTH},
]  # fmt: skip


@pytest.mark.sqlite
def test_what_is_no_search_is_passed_over_and_can_be_deleted(engine, home):
    engine.save_search("good", "a")
    for value in NO_SEARCHES:
        put(home, "evil", value)
        assert [each.name for each in engine.saved_searches()] == ["good"], str(value)[:80]
        with pytest.raises(InvalidInputError, match="damaged"):
            engine.search_saved("evil")
        engine.delete_search("evil")
    assert engine.search_saved("good")


@pytest.mark.sqlite
def test_a_long_search_is_not_read_though_a_nul_hides_its_length(engine, home):
    put(home, "evil", " \0" + " " * searches.MAX_LENGTH)
    with engine.library.query() as connection, pytest.raises(InvalidInputError, match="longer than"):
        searches.get(connection, "evil")
    put(home, "a", stored({"text": "é"}, "a"))
    assert [each.query for each in engine.saved_searches()] == ["é"]


@pytest.mark.sqlite
def test_a_search_that_does_not_match_its_checksum_is_not_run(engine, home):
    engine.save_search("good", "a")
    with raw_catalog(home / ".clipsearch") as db:
        db.execute("DROP TRIGGER settings_changed")
        db.execute("UPDATE settings SET value = replace(value, '\"a\"', '\"b\"') WHERE key = 'search:good'")
    with pytest.raises(InvalidInputError, match="checksum"):
        engine.search_saved("good")
    assert engine.saved_searches() == []


def test_a_library_has_room_for_so_many_searches_of_such_a_size(engine, monkeypatch):
    with pytest.raises(InvalidInputError, match="characters"):
        engine.save_search("long", "a " * searches.MAX_LENGTH)
    with pytest.raises(InvalidInputError, match="asks for up to"):
        engine.save_search("deep", "a", k=10**9)
    monkeypatch.setattr(searches, "MAX_SEARCHES", 2)
    for name in ("a", "b", "a"):
        engine.save_search(name, "x")
    with pytest.raises(InvalidInputError, match=r"no room for more\. Delete one: clipsearch unsave"):
        engine.save_search("c", "x")


@pytest.mark.sqlite
def test_what_is_new_is_remembered_however_many_searches_there_are_and_however_long_one_is(engine, home, monkeypatch):
    filler = searches.MAX_SAVED - 1000
    engine.save_search("long", "a", min_confidence=0, filters=Filter(caption="x" * filler))
    with pytest.raises(InvalidInputError, match="at most 131,072 are saved"):
        engine.save_search("longer", "a", filters=Filter(caption="x" * (filler + 1000)))
    with engine.library.query() as connection:
        saved_at = searches.get(connection, "long").saved_at
    monkeypatch.setattr(searches, "MAX_SEARCHES", 0)
    shown = tuple(range(10**9, 10**9 + searches.MAX_SHOWN))
    with engine.library.writer() as writer:
        writer.remember_search("long", saved_at, searches.Mark(shown=shown, revision=2**40))
    with engine.library.query() as connection:
        assert searches.get(connection, "long").mark.shown == shown


def test_options_to_come_are_kept_without_a_change(monkeypatch, engine):
    """A search keeps what `SearchOptions` has, whatever that is."""
    before = SearchOptions(k=7, cut=True, fusion="rank", min_score=0.1)
    values = saved_options.option_values(before, "")
    assert saved_options.read_options(json.loads(json.dumps(values)), "") == before
    assert {each.name for each in dataclasses.fields(SearchOptions)} >= {*values}


def _save_many(folder, first):
    with clipsearch.open(folder) as engine:
        for number in range(first, first + 500):
            engine.save_search(f"s{number}", f"text {number}")
            os.write(1, b"")
            (folder.parent / f"saved-{number}").touch()


@pytest.mark.slow
def test_a_kill_loses_no_search_that_was_saved(home):
    context = multiprocessing.get_context("spawn")
    for turn in range(4):
        first = 1000 * turn
        both = [context.Process(target=_save_many, args=(home / ".clipsearch", first + 500 * i)) for i in range(2)]
        for each in both:
            each.start()
        deadline = time.monotonic() + 60
        while len(list(home.glob("saved-*"))) < 6 * (turn + 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        for each in both:
            os.kill(each.pid, signal.SIGKILL)
            each.join()
        saved = {path.name.removeprefix("saved-") for path in home.glob("saved-*")}
        with clipsearch.open(home / ".clipsearch") as engine:
            found = {each.name[1:]: each.query for each in engine.saved_searches()}
        assert len(saved) >= 6 and saved <= {*found}
        assert all(query == f"text {number}" for number, query in found.items())


def test_a_library_that_cannot_be_written_runs_searches_but_remembers_nothing(engine, home, encoder, monkeypatch):
    engine.save_search("all", "a", min_confidence=0)
    photos(home / "photos", 1, first=10)
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    engine.save_search("seen", "a", min_confidence=0)

    def refuse(*args, **options):
        raise LibraryError("The library cannot be written.")

    monkeypatch.setattr(Library, "writer", refuse)
    assert engine.search_saved("all") and engine.run_search("all", new=True).mark
    with pytest.raises(LibraryError):
        engine.search_saved("all", new=True)
    found = run_cli(query_command, "--saved", "all", "--new")
    assert found.exit_code and isinstance(found.exception, LibraryError)
    assert "printed, but not remembered" in str(found.exception)
    assert run_cli(query_command, "--saved", "seen", "--new").exit_code == 0  # nothing is new, so nothing is lost

    def deny(*args):
        raise AccessDeniedError("The server allows no changes.")

    monkeypatch.setattr(SearchEngine, "remember_search", deny)
    found = run_cli(query_command, "--saved", "all", "--new")
    assert "printed, but not remembered" in str(found.exception)


def test_the_command_line_saves_lists_runs_and_deletes(home, encoder):
    assert run_cli(save_command, "cats", "a", "cat", "-k", "3", "--in", "photos", "--cut").exit_code == 0
    assert run_cli(save_command, "looks", "--image", "photos/p001.jpg", "--exclude-self").exit_code == 0
    assert run_cli(save_command, "terms", "cat", "+", "2:dog", "--unlike", "2").exit_code == 0
    listed = json.loads(run_cli(saved_command, "--json").stdout)["searches"]
    assert [(each["name"], each["query"]) for each in listed] == [
        ("cats", "a cat"), ("looks", "photos/p001.jpg"), ("terms", '"cat" + 2:"dog" - id:2'),
    ]  # fmt: skip
    assert listed[0]["options"] == {"k": 3, "cut": True, "filters": {"folders": ["photos"]}}
    expected = run_cli(query_command, "a cat", "-k", "3", "--in", "photos", "--cut", "--json").stdout
    assert run_cli(query_command, "--saved", "CATS", "--json").stdout == expected
    looks = json.loads(run_cli(query_command, "--saved", "looks", "--json", "-k", "2").stdout)
    plain = json.loads(
        run_cli(query_command, "--image", "photos/p001.jpg", "--exclude-self", "-k", "2", "--json").stdout
    )
    assert [hit["id"] for hit in looks["hits"]] == [hit["id"] for hit in plain["hits"]]
    photos(home / "photos", 1, first=9)
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    run_cli(save_command, "any", "a", "--min-confidence", "0")
    photos(home / "photos", 1, first=10)
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    paths = run_cli(query_command, "--saved", "any", "--new", "--paths").stdout.split()
    assert [os.path.basename(path) for path in paths] == ["p010.jpg"]
    assert run_cli(query_command, "--saved", "any", "--new", "--paths").stdout == ""
    assert run_cli(unsave_command, "cats", "looks", "terms", "any").exit_code == 0
    assert run_cli(saved_command).stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("--new",), ("--new", "a"), ("--saved", "x", "a"), ("--saved", "x", "--cut"), ("--saved", "x", "--in", "photos")],
)
def test_what_does_not_go_with_a_saved_search_is_refused(home, arguments):
    run_cli(save_command, "x", "a")
    found = run_cli(query_command, *arguments)
    assert found.exit_code and isinstance(found.exception, InvalidInputError)


def test_a_name_cannot_steer_a_terminal(home):
    run_cli(save_command, "a\u202eb", "a \x1b[31mcat")
    listed = run_cli(saved_command)
    assert "\x1b" not in listed.stdout and "\u202e" not in listed.stdout and "cat" in listed.stdout


def test_save_says_what_it_replaced_and_how_to_run_it(home):
    made = [run_cli(save_command, name, "a").stderr for name in ("My cats", "MY CATS")]
    assert made[0].startswith("Saved: My cats. Run it: clipsearch query --saved 'My cats'. ")
    assert made[1].startswith("Replaced: MY CATS. Run it: clipsearch query --saved 'MY CATS'. ")
