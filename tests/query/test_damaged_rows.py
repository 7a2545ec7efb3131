"""Rows that were zeroed or overwritten: no answer has them, none is lost for them, and nothing prints NaN."""

import json
import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

import clipsearch
from clipsearch import Indexed, Record
from clipsearch.cli.main import cli
from clipsearch.config import Settings
from clipsearch.errors import StoreCorruptError
from clipsearch.progress import SilentStages
from clipsearch.query.duplicates import find_duplicates
from clipsearch.query.engine import SearchEngine
from clipsearch.query.labelling import label_pictures
from clipsearch.query.parser import parse
from clipsearch.store.library import Library
from tests.support.libraries import index, photo, photos

BAD = {"zero": 0.0, "nan": np.nan, "infinite": np.inf, "large": 60000.0, "short": 0.01}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("rows")
    photos(folder / "photos", 40, size=(32, 24))
    photo(folder / "photos" / "copy.jpg", 1, (36, 27))
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n")
    index(folder / "library", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture(params=sorted(BAD))
def damaged(prepared, tmp_path, request):
    """A library of which the rows of p001 and p002 are damaged; gives its folder and the ids of these items."""
    folder = shutil.copytree(prepared / "library", tmp_path / "library")
    with closing(sqlite3.connect(folder / "catalog.db")) as db:
        dim = int(db.execute("SELECT value FROM settings WHERE key = 'dim'").fetchone()[0])
        query = "SELECT v.row, i.id FROM vectors v JOIN items i ON i.id = v.item_id "
        query += "WHERE i.path IN ('p001.jpg', 'p002.jpg')"
        rows, ids = zip(*db.execute(query), strict=True)
    path = next((folder / "vectors").glob("image*.f16"))
    matrix = np.fromfile(path, "<f2").reshape(-1, dim)
    matrix[list(rows)] = BAD[request.param]
    matrix.tofile(path)
    return folder, ids


def search(folder, encoder, *arguments, **options):
    with SearchEngine(Library(folder), encoder=encoder) as engine:
        return engine.search(*arguments, k=100, **options)


def test_no_answer_has_a_damaged_row_and_none_is_lost_for_it(damaged, encoder):
    folder, bad = damaged
    for query in ("a cat", parse("horse + stripes"), parse("a cat - fence")):
        found = (
            search(folder, encoder, query, modality="image", hybrid=False)
            if isinstance(query, str)
            else search(folder, encoder, query, modality="image")
        )
        assert len(found) == 39 and not {hit.item.id for hit in found} & set(bad)
        assert all(np.isfinite(hit.score) and np.isfinite(hit.log_evalue) for hit in found)
    with SearchEngine(Library(folder), encoder=encoder) as engine:
        assert len(engine.search("a cat", k=3, modality="image")) == 3


def test_an_item_whose_own_row_is_damaged_is_told_as_such(damaged, encoder):
    folder, bad = damaged
    for query in (f"id:{bad[0]}", f"a cat + id:{bad[1]}"):
        with pytest.raises(StoreCorruptError, match=r"clipsearch verify.*clipsearch repair"):
            search(folder, encoder, parse(query))


def test_labels_and_copies_pass_damaged_rows_over(damaged, encoder):
    folder, bad = damaged
    with SearchEngine(Library(folder), encoder=encoder) as engine:
        for part in label_pictures(engine, ["cat", "dog"]):
            assert len(part.pictures) == 39 and not {p.id for p in part.pictures} & set(bad)
            assert np.isfinite(part.chances).all()
        found = find_duplicates(engine.library, Settings(), SilentStages(), similarity=0.0)
    assert not {copy.item.id for group in found.groups for copy in group.copies} & set(bad)


COMMANDS = [
    ["query", "a cat"],
    ["query", "horse + stripes", "--collapse"],
    ["similar", "{sound}"],
    ["find"],
    ["dupes", "--similarity", "0"],
    ["label", "--labels", "cat,dog"],
    ["doctor", "--queries", "5"],
    ["status"],
    ["tags"],
    ["collections"],
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_json_is_valid_whatever_the_rows_are(damaged, arguments, capfdbinary):
    folder, bad = damaged
    sound = next(number for number in range(1, 9) if number not in bad)
    words = [word.format(sound=sound) for word in arguments]
    cli.main([*words, "--json", "--library", os.fspath(folder)], standalone_mode=False)
    text = capfdbinary.readouterr().out

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("count", [1, 25])
def test_an_item_with_damaged_metadata_leaves_its_place_to_the_next(tmp_path, count):
    number = 40
    rows = np.stack([np.ones(number), np.arange(number)], axis=1)  # the first is the nearest to (1, 0)
    with clipsearch.open(tmp_path / "lib", create=True, model="m", dim=2) as engine:
        engine.add([Record(f"r{i:02}", vector=row, metadata={"n": i}) for i, row in enumerate(rows)])
    with closing(sqlite3.connect(tmp_path / "lib" / "catalog.db")) as db:
        db.execute("DROP TRIGGER item_metadata_changed")
        for name in [f"r{2 * i:02}" if count == 1 else f"r{i:02}" for i in range(1, count + 1)]:
            query = "UPDATE item_metadata SET digest = digest + 1 WHERE item_id = (SELECT id FROM items WHERE path = ?)"
            assert db.execute(query, (name,)).rowcount == 1
        db.commit()
    sound = [i for i in range(number) if i not in ({2} if count == 1 else range(1, count + 1))]
    with clipsearch.open(tmp_path / "lib") as engine:
        found = engine.search(vector=[1.0, 0.0], k=10)
        assert [hit.item.key for hit in found] == [f"r{i:02}" for i in sound[:10]]
        assert [hit.rank for hit in found] == list(range(1, 11))
        assert any("damaged and left out" in said for said in found.warnings)
        pages = [engine.search(vector=[1.0, 0.0], k=3, offset=offset) for offset in range(0, 12, 3)]
        assert [hit.item.key for page in pages for hit in page] == [f"r{i:02}" for i in sound[:12]]
        batch = engine.search_batch(vectors=np.array([[1.0, 0.0], [0.0, 1.0]]), k=5)
        assert [len(each) for each in batch] == [5, 5]
        key = Indexed(engine.get("r00").id)
        assert len(engine.search(key, k=5)) == 5
