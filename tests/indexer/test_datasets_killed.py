"""A run over a data set that is killed again and again ends as one that was not."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import numpy as np
import pytest

from clipsearch.store.library import Library
from clipsearch.types import Modality
from tests.support.cli import run_cli, start_cli
from tests.support.datasets import samples, tar_of, write_table

ROWS = 3000
KILLS = 5


def contents(library):
    """What a library holds, by id: everything but the numbers of rows and items."""
    with closing(Library(library)) as opened, opened.read() as snapshot:
        rows = {
            modality: snapshot.rows(modality).take(np.arange(len(snapshot.rows(modality)))) for modality in Modality
        }
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        found = {}
        for number, path, caption, text, data in db.execute(
            "SELECT items.id, path, caption, record_contents.text, data FROM items LEFT JOIN record_contents "
            "ON record_contents.item_id = items.id LEFT JOIN item_metadata ON item_metadata.item_id = items.id"
        ):
            own = db.execute("SELECT modality, part, row, text FROM vectors WHERE item_id = ? ORDER BY 1, 2", (number,))
            vectors = [(kind, part, words, rows[Modality(kind)][row].tobytes()) for kind, part, row, words in own]
            found[path] = (caption, text, data, vectors)
        shards = db.execute("SELECT name, version, rows, failed, done FROM shards ORDER BY name").fetchall()
        hidden = db.execute("SELECT count(*) FROM tombstones").fetchone()[0]
        owned = db.execute("SELECT count(*) FROM shard_items").fetchone()[0]
    return found, [(name.rpartition("/")[2], *rest) for name, *rest in shards], hidden, owned


def committed(library):
    try:
        with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM items").fetchone()[0]
    except sqlite3.Error:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_killed_five_times_it_equals_the_run_that_was_not(form, tmp_path):
    if form == "parquet":
        rows = [{"id": f"t{n}", "text": f"a text about {n}", "number": n} for n in range(ROWS)]
        address = write_table(tmp_path / "a.parquet", rows)
    else:
        for number in range(4):
            (tmp_path / f"{number}.tar").write_bytes(tar_of([*samples(150, 150 * number), ("bad.png", b"no picture")]))
        address = tmp_path / "{0..3}.tar"
    arguments = ("index", "--model", "builtin", "--batch-size", "16")
    killed = 0
    for _ in range(KILLS):
        before = committed(tmp_path / "killed")
        process = start_cli(*arguments, "--library", tmp_path / "killed", address)
        while process.poll() is None and committed(tmp_path / "killed") <= before + 20 * (killed + 1):
            time.sleep(0.01)
        killed += process.poll() is None
        process.kill()
        process.communicate()
    assert killed == KILLS
    assert run_cli(*arguments, "--library", tmp_path / "killed", address).code == 0
    assert run_cli(*arguments, "--library", tmp_path / "whole", address).code == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert run_cli("verify", "--library", tmp_path / "killed").code == 0
