"""Imported records that have ids: these stay ids wherever an answer names them, and are no paths of files."""

import csv
import io
import json
import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest

import clipsearch
from clipsearch.errors import InvalidInputError
from indexer.importing import import_embeddings
from tests.support.cli import run_cli
from tests.support.pictures import encode, noise_picture
from tests.support.serving import serving

NAMES = ["sku-17", "straße 4/b", "cat.jpg", "../../etc/passwd"]


def source(folder, names=NAMES, field="id", seed=0):
    np.save(folder / "v.npy", np.random.default_rng(seed).standard_normal((len(names), 257)).astype("f4"))
    lines = (json.dumps({field: name, "caption": f"number {i}"}) for i, name in enumerate(names))
    (folder / "items.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder / "v.npy"


def bring(folder, **options):
    report = import_embeddings(
        folder / "lib", str(source(folder, **options)), encoder="builtin-small", items=str(folder / "items.jsonl")
    )
    return report.imported, report.skipped, report.replaced


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A library of ids, and a current folder with a file that is named like one of them."""
    folder = tmp_path_factory.mktemp("imported")
    bring(folder)
    (folder / "here").mkdir()
    (folder / "here" / "cat.jpg").write_bytes(encode(noise_picture(1)))
    return folder


def ran(folder, *arguments):
    done = run_cli(*arguments, "--library", folder / "lib", cwd=folder / "here")
    assert done.code == 0, done.err
    return done


@pytest.mark.slow
def test_each_shape_of_an_answer_has_the_id(imported):
    query = ("query", "anything", "-k", "10")
    hits = json.loads(ran(imported, *query, "--json").out)["hits"]
    assert sorted((hit["path"], hit["key"]) for hit in hits) == sorted((name, name) for name in NAMES)
    assert sorted(ran(imported, *query, "--paths").out.decode().splitlines()) == sorted(NAMES)
    table = ran(imported, *query).out.decode()
    assert all(name in table for name in NAMES) and str(imported) not in table
    items = json.loads(ran(imported, "find", "--json").out)["items"]
    assert sorted((item["path"], item["key"]) for item in items) == sorted((name, name) for name in NAMES)
    rows = csv.reader(io.StringIO(ran(imported, "label", "--labels", "cat,dog", "--csv").out.decode()))
    assert sorted(row[1] for row in rows) == sorted([*NAMES, "path"])


@pytest.mark.slow
def test_no_file_is_looked_for(imported):
    done = ran(imported, "query", "anything", "-k", "10", "--copy-to", "copies", "--sheet", "cat.jpg")
    assert "there is no such file" not in done.err and done.err.count("a record of a collection, not a file") == 4
    assert os.listdir(imported / "here" / "copies") == []
    (imported / "here" / "cat.jpg").write_bytes(encode(noise_picture(1)))
    hits = json.loads(ran(imported, "query", "image:cat.jpg", "-k", "10", "--json").out)["hits"]
    assert len(hits) == 4, "a file of the current folder is not the record"


def test_an_item_is_found_by_its_id(imported):
    with clipsearch.open(imported / "lib") as engine:
        for name in NAMES:
            item = engine.get(name)
            assert (item.key, item.path) == (name, name)
        assert engine.find(clipsearch.Filter(keys=("sku-17",))).total == 1
        assert engine.get(str(imported / "sku-17")) is None
        with serving(engine) as served, clipsearch.Client(served.url) as client:
            assert client.get("straße 4/b") == engine.get("straße 4/b")
    others = json.loads(ran(imported, "similar", "sku-17", "-k", "10", "--json").out)["hits"]
    assert sorted(hit["path"] for hit in others) == sorted(set(NAMES) - {"sku-17"})


def test_what_the_source_calls_a_path_is_one(tmp_path):
    bring(tmp_path, field="path", names=["cat.jpg"])
    with clipsearch.open(tmp_path / "lib") as engine:
        (item,) = engine.find()
    assert item.path == item.key == str(tmp_path / "cat.jpg")


def test_an_import_of_a_former_version_gets_its_ids_with_the_next_one(tmp_path):
    """Which stored an id as it does a path."""
    assert bring(tmp_path) == (4, 0, 0)
    with closing(sqlite3.connect(tmp_path / "lib" / "catalog.db")) as db:
        db.execute("UPDATE items SET path = substr(path, 4), digest = NULL")
        db.commit()
    with clipsearch.open(tmp_path / "lib") as engine:
        before = {item.path: item.id for item in engine.find()}
        engine.tag(before[str(tmp_path / "sku-17")], add="red")
    assert bring(tmp_path) == (0, 0, 4)
    assert bring(tmp_path) == (0, 4, 0)
    with clipsearch.open(tmp_path / "lib") as engine:
        assert {item.id for item in engine.find()} == {*before.values()}
        assert {item.path for item in engine.find()} == {*NAMES}
        assert engine.get("sku-17").tags == ("red",)


def test_an_id_and_a_path_of_one_name_are_refused(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(2, 257, dtype="f4"))
    (tmp_path / "items.jsonl").write_text('{"id": "a"}\n{"path": "a"}\n')
    with pytest.raises(InvalidInputError, match=r"a name that a row before has: 1 \(a\)"):
        import_embeddings(
            tmp_path / "lib",
            str(tmp_path / "v.npy"),
            encoder="builtin-small",
            items=str(tmp_path / "items.jsonl"),
        )
