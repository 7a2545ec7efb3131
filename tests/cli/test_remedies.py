"""What a message advises works: each damage, the message that it leads to, and the command of that message."""

import ntpath
import os
import re
import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from clipsearch.cli import requests
from clipsearch.cli.requests import SearchRequest
from clipsearch.query.engine import SearchEngine
from clipsearch.query.options import SearchOptions
from clipsearch.store.backup import back_up
from clipsearch.store.library import Library
from clipsearch.types import Item, Modality
from indexer import build
from indexer.plan import IndexPlan
from tests.support.cli import run_cli
from tests.support.libraries import index, photos
from tests.support.paths import ROOT
from tests.support.vectors import fill, unit


@pytest.fixture
def place(tmp_path, encoder):
    """Three photographs in a library of theirs, and a backup of it."""
    photos(tmp_path / "photos", 3, size=(32, 24))
    (tmp_path / ".clipsearch").mkdir()
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    library = Library(tmp_path / ".clipsearch")
    back_up(library, tmp_path / "backup")
    library.close()
    return tmp_path


def run(place, *arguments):
    return run_cli(*arguments, cwd=place)


def follow(place, said, command, **words):
    """Run a command that a message names. words: values for its upper-case arguments, such as BACKUP."""
    assert command in said, f"{command!r} is not what it advises: {said}"
    arguments = [words.get(word, word) for word in command.split()[1:]]
    done = run(place, *arguments)
    assert done.code == 0, done.err
    return done


def check_whole(place):
    assert run(place, "verify").code == 0
    assert len(run(place, "query", "--json", "a picture").json["hits"]) == 3


def segment(place):
    return next((place / ".clipsearch" / "vectors").glob("image-*.f16"))


def lose_catalog(place):
    (place / ".clipsearch" / "catalog.db").unlink()


def spoil_catalog(place):
    path = place / ".clipsearch" / "catalog.db"
    path.write_bytes(b"nothing that SQLite knows" * 400)


def lose_segment(place):
    segment(place).unlink()


def cut_segment(place):
    path = segment(place)
    path.write_bytes(path.read_bytes()[:-7])


def zero_row(place):
    path = segment(place)
    data = np.fromfile(path, "<f2").reshape(3, -1)
    data[1] = 0
    data.tofile(path)


def change_path(place):
    with closing(sqlite3.connect(place / ".clipsearch" / "catalog.db")) as db:
        db.execute("DROP TRIGGER items_changed")
        db.execute("UPDATE items SET path = 'elsewhere.jpg' WHERE id = 2")
        db.commit()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lose_catalog, spoil_catalog, lose_segment, cut_segment, zero_row, change_path])
def test_restore_mends_every_damage(place, damage):
    damage(place)
    found = run(place, "verify")
    said = found.out.decode() + found.err
    assert found.code == 5
    advice = re.search(r"clipsearch restore (BACKUP|DIR)", said)
    assert advice, said
    follow(place, said, advice[0], BACKUP="backup", DIR="backup")
    check_whole(place)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lose_segment, cut_segment, zero_row, change_path])
def test_repair_mends_what_its_files_are_there_for(place, damage):
    damage(place)
    asked = run(place, "query", "a picture", "-k", "3")
    assert asked.code == 5 or "damaged" in asked.err, asked.err
    follow(
        place, asked.err, "clipsearch verify" if asked.code == 5 else "clipsearch repair"
    ) if asked.code == 0 else None
    assert "clipsearch repair" in asked.err
    assert run(place, "repair").code == 0
    if damage is change_path:  # whose file repair could not know
        assert run(place, "index").code == 0
    check_whole(place)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [lose_catalog, spoil_catalog])
def test_a_library_without_a_catalog_and_a_backup_is_moved_away_and_made_again(place, damage):
    damage(place)
    said = run(place, "repair" if damage is spoil_catalog else "query", *(["a cat"] if damage is lose_catalog else []))
    assert said.code == 5 and "clipsearch index" in said.err, said.err
    shutil.move(place / ".clipsearch", place / "old")
    (place / ".clipsearch").mkdir()
    assert run(place, "index", "photos", "--model", "builtin-small").code == 0
    check_whole(place)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost", "changed", "linked"])
def test_build_mends_an_index(tmp_path, damage):
    library = fill(tmp_path / "library", unit(300))
    opened = Library(library)
    with opened.writer() as writer:
        build.build(opened, writer, IndexPlan("ivfpq"))
    opened.close()
    (generation,) = (library / "ann").iterdir()
    if damage == "lost":
        shutil.rmtree(generation)
    elif damage == "changed":
        (generation / "index.faiss").write_bytes(b"x" * 99)
    else:
        shutil.move(library / "ann", tmp_path / "elsewhere")
        (library / "ann").symlink_to(tmp_path / "elsewhere")
    asked = run_cli("similar", "1", "--library", library)
    assert asked.code == 0 and "clipsearch build" in asked.err
    if damage == "linked":
        refused = run_cli("build", "--library", library)
        assert refused.code == 1 and "Put the real one in its place" in refused.err
        (library / "ann").unlink()
        shutil.move(tmp_path / "elsewhere", library / "ann")
    assert run_cli("build", "--index", "ivfpq", "--library", library).code == 0
    assert "clipsearch build" not in run_cli("similar", "1", "--library", library).err


@pytest.mark.slow
def test_no_library_and_an_empty_one_are_filled_as_they_say(tmp_path):
    photos(tmp_path / "photos", 1, size=(32, 24))
    (tmp_path / ".clipsearch").mkdir()
    asked = run_cli("query", "a cat", cwd=tmp_path)
    assert asked.code == 3
    follow(tmp_path, asked.err, "clipsearch index FOLDER", FOLDER="photos")
    assert run_cli("query", "a cat", cwd=tmp_path).code == 0


def test_every_command_in_a_message_exists():
    from clipsearch.cli.main import COMMANDS

    text = "".join(path.read_text() for folder in ("clipsearch", "indexer") for path in (ROOT / folder).rglob("*.py"))
    named = set(re.findall(r"clipsearch ((?!is\b|in\b|and\b)[a-z][a-z-]+)(?= [A-Z'{-]|[\"'.;,)])", text))
    assert {"verify", "repair", "restore", "build", "index", "trust", "status"} <= named & set(COMMANDS)


@pytest.mark.slow
def test_an_answer_says_which_of_its_files_are_not_as_they_were_indexed(tmp_path, encoder):
    pictures = photos(tmp_path / "photos", 4)
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    query = ("query", "a cat", "--no-cache")
    assert "clipsearch index" not in run_cli(*query, cwd=tmp_path).err
    pictures[0].write_bytes(pictures[0].read_bytes() + b"more")
    pictures[1].unlink()
    pictures[2].unlink()
    said = run_cli(*query, cwd=tmp_path).err
    assert f"{pictures[0]} has changed since it was indexed. To bring the library up to date: clipsearch index" in said
    assert "is no longer there, and 1 more of these files." in said
    assert "clipsearch index" not in run_cli(*query, "--json", cwd=tmp_path).err


def test_a_drive_that_does_not_answer_does_not_hold_the_answer(tmp_path, encoder, monkeypatch):
    photos(tmp_path / "photos", 2)
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    answers, look, late = threading.Event(), os.stat, []

    def look_at_a_drive(path, **options):
        if str(path).endswith(".jpg") and threading.current_thread() is not threading.main_thread():
            late.extend([] if answers.wait(20) else [path])
        return look(path, **options)

    asked = SearchRequest(text="a cat", options=SearchOptions(), shape="table", folder=str(tmp_path))
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        monkeypatch.setattr(requests.os, "stat", look_at_a_drive)
        found = requests.answer(engine, asked)
        assert not late and b"p000.jpg" in found.out
        answers.set()


def test_no_server_is_asked_for_a_file_that_a_library_names(monkeypatch):
    item = Item(1, r"\\evil\share\a.jpg", Modality.IMAGE, 1, 1, "0" * 32)
    monkeypatch.setattr(requests, "os", SimpleNamespace(path=ntpath))
    assert not requests._is_local_file(item)
    assert requests._is_local_file(replace(item, path=r"C:\photos\a.jpg"))
