"""Values in the catalog that nobody wrote: whatever they are, what is raised is a ClipSearchError."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError
from clipsearch.present import shape_listing, to_json, to_payload
from clipsearch.progress import SilentStages
from clipsearch.query.duplicates import find_duplicates
from clipsearch.query.engine import SearchEngine
from clipsearch.query.parser import parse
from clipsearch.store.library import Library
from clipsearch.store.schema import metadata
from clipsearch.store.summary import summarise
from clipsearch.store.tags import count_tags
from indexer import build
from indexer.plan import IndexPlan
from tests.support.libraries import index, photos

pytestmark = pytest.mark.sqlite

GARBAGE = [
    "",
    "nonsense",
    '{"a": 1}',
    "[" * 20_000 + "]" * 20_000,
    -1,
    2**62,
    float("inf"),
    b"\xff\xfe\x00",
    "9" * 5000,
]
GARBAGE += ["\x00", "../../x"]
KEYS = ["dim", "encoder", "fingerprint", "revision", "schema_version", "score_spreads"]
COLUMNS = [(table.name, column.name) for table in metadata.sorted_tables for column in table.columns]
PLACES = [place for place in COLUMNS if place[0] != "settings"] + [("settings", key) for key in KEYS]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("values")
    photos(folder / "photos", 3, size=(32, 24))
    shutil.copy(folder / "photos" / "p000.jpg", folder / "photos" / "copy.jpg")
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n")
    index(folder / "library", folder / "photos", encoder=encoder)
    library = Library(folder / "library")
    with library.writer() as writer:
        writer.save_labels(["cat"], [1], {1: ("cat", 0.9)})
        build.build(library, writer, IndexPlan("pq4"))
    library.close()
    return folder / "library"


def write(folder, table, column, value):
    """Put a value into one row; False where SQLite itself refuses it."""
    statement = f"UPDATE {table} SET {column} = ? WHERE {column} = (SELECT min({column}) FROM {table})"
    if table == "settings":
        statement = f"UPDATE settings SET value = ? WHERE key = '{column}'"
    with closing(sqlite3.connect(folder / "catalog.db")) as db:
        try:
            db.execute(statement, (value,))
            db.commit()
        except sqlite3.Error:
            return False
    return True


def use(library, encoder):
    """Do all that reads the catalog; what it refuses it refuses as an error of ours."""
    engine = SearchEngine(library, encoder=encoder)

    def list_tags():
        with library.query() as connection:
            return count_tags(connection)

    for run in (
        lambda: to_json(to_payload(engine.search("a cat"))),
        lambda: engine.search(parse("id:1")),
        lambda: shape_listing(engine.find(), "json", os.curdir),
        lambda: summarise(library),
        list_tags,
        lambda: find_duplicates(library, Settings(), SilentStages(), similarity=0.9),
    ):
        try:
            run()
        except ClipSearchError as error:
            assert str(error)


@pytest.mark.parametrize(("table", "column"), PLACES, ids=str)
@pytest.mark.parametrize("every", [len(GARBAGE), pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_garbage_is_refused_as_such_or_does_no_harm(prepared, tmp_path, encoder, table, column, every):
    for number, value in enumerate(GARBAGE[PLACES.index((table, column)) % every :: every]):
        folder = shutil.copytree(prepared, tmp_path / str(number))
        if write(folder, table, column, value):
            try:
                library = Library(folder)
            except ClipSearchError:
                continue
            try:
                use(library, encoder)
            finally:
                library.close()
