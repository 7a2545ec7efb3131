"""Catalogs that bring SQL of their own along: it is never run, since it may be work without an end."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from clipsearch.errors import StoreCorruptError
from clipsearch.store.library import Library
from clipsearch.store.reading import connect_reader, peek_encoder
from tests.support.libraries import index, photos

pytestmark = pytest.mark.sqlite

ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
NO_TRIGGER = "DROP TRIGGER collections_changed"


@pytest.fixture(scope="module")
def made(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("schema")
    photos(folder / "photos", 1)
    index(folder / "lib", folder / "photos", encoder=encoder)
    return folder / "lib"


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (
            [
                NO_TRIGGER,
                "ALTER TABLE collections RENAME TO away",
                f"CREATE VIEW collections AS {ENDLESS} SELECT n AS id, 'a' || n AS name, 'a' || n AS folded, "
                "NULL AS digest FROM c",
            ],
            "the view 'collections'",
        ),
        ([f"CREATE VIEW more AS {ENDLESS} SELECT n FROM c"], "the view 'more'"),
        (
            [
                "CREATE TRIGGER evil AFTER INSERT ON tags BEGIN INSERT INTO tombstones "
                f"SELECT 'x', n FROM ({ENDLESS} SELECT n FROM c); END"
            ],
            "the trigger 'evil'",
        ),
        (
            [
                NO_TRIGGER,
                'CREATE TRIGGER collections_changed AFTER UPDATE OF "name" ON collections BEGIN UPDATE collections SET '
                "digest = NULL WHERE id = NEW.id; DELETE FROM items; END",
            ],
            "the trigger 'collections_changed'",
        ),
        (
            ["ALTER TABLE items ADD COLUMN more AS (hex(zeroblob(400000000)))"],
            "the computed column 'items.more'",
        ),
        (["CREATE VIRTUAL TABLE more USING fts5(words)"], "the virtual table 'more'"),
    ],
    ids=["instead of a table", "beside", "trigger", "of a known name", "computed", "virtual"],
)
def test_sql_of_a_catalog_is_not_run(made, tmp_path, statements, said):
    folder = shutil.copytree(made, tmp_path / "lib")
    with closing(sqlite3.connect(folder / "catalog.db")) as db, db:
        for statement in statements:
            db.execute(statement)
    with pytest.raises(StoreCorruptError, match=said):
        Library(folder)
    assert peek_encoder(folder) is None


def test_a_catalog_of_our_own_has_none(made):
    with closing(connect_reader(made / "catalog.db")) as connection:
        kinds = dict(connection.execute("SELECT type, count(*) FROM sqlite_master GROUP BY type"))
    assert kinds["trigger"] > 5 and "view" not in kinds
