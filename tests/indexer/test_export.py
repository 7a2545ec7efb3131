"""Exports: read back they give an equal library, and nothing half-written or hostile gets anywhere."""

import csv
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch import Filter, Record
from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError, InvalidInputError, LibraryNotFoundError, StoreCorruptError
from clipsearch.query.engine import SearchEngine
from clipsearch.store import catalog
from clipsearch.store.library import Library
from indexer import export_files, export_import, export_tables, exporting
from indexer.checked_files import describe
from indexer.export_import import import_export
from indexer.export_tables import ITEM_COLUMNS, MAX_LINE, WRITERS
from indexer.pipeline import index as run_index
from indexer.report import Silent
from tests.support.cli import run_here
from tests.support.libraries import Counting, index, photo, photos
from tests.support.mixed_library import ODD
from tests.support.pictures import noise_picture
from tests.support.state import tree_digest

FORMATS = ["jsonl", "csv", "parquet"]
TABLES = {
    "items": "id, root_id, path, modality, size, mtime_ns, content_hash, width, height, taken_at, camera, latitude, "
    "longitude, caption, caption_stamp, deleted, digest",
    "vectors": "*",
    "tags": "*",
    "item_metadata": "*",
    "item_media": "*",
    "record_contents": "*",
    "recognised_text": "*",
    "collections": "*",
    "collection_items": "*",
    "roots": "id, path, portable, rules, kind",
    "metadata_values": "*",
}
QUERIES = [
    "a cat", "a dog in the snow", "roses", "=1+1", "apple pie", "a rocket", "noise", "quarterly revenue", "海滩上的狗",
    "a red bicycle", "café", "waves", "an oak in the forest", "a film", "sku", "line one", "blue", "a beach at dusk",
]  # fmt: skip


def needs(table):
    if table == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra `parquet`")


def dump(library):
    """All that a catalog says, table by table, and the live rows of its vectors in order."""
    with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
        db.create_function("clipsearch_digest", -1, lambda *_: 0)
        live = "item_id IN (SELECT id FROM items WHERE deleted = 0)"
        conditions = {"items": "deleted = 0", "collections": "1", "roots": "1"}
        said = {
            table: sorted(
                db.execute(f"SELECT {columns} FROM {table} WHERE {conditions.get(table, live)}").fetchall(), key=repr
            )
            for table, columns in TABLES.items()
        }
        said["settings"] = db.execute(
            "SELECT key, value FROM settings WHERE key IN ('encoder', 'fingerprint', 'dim', 'score_spreads')"
        ).fetchall()
    order = {name: number for number, name in enumerate(_columns(library))}
    rows = {}
    for modality in ("image", "text"):
        place, kind = order["row"], order["modality"]
        own = sorted((row for row in said["vectors"] if row[kind] == modality), key=lambda row: row[order["row"]])
        rows[modality] = [(*row[:place], number, *row[place + 1 :]) for number, row in enumerate(own)]
    return said | {"vectors": rows}


def _columns(library):
    with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
        return [row[1] for row in db.execute("PRAGMA table_info(vectors)")]


def stored_rows(library):
    """The bytes of all live rows in their order."""
    with closing(Library(library)) as opened, opened.read() as snapshot:
        found = {}
        for modality in clipsearch.Modality:
            numbers = snapshot.matching(modality, Filter())
            found[modality] = snapshot.rows(modality).take(numbers).tobytes()
        return found


def answers(library, encoder):
    with SearchEngine(Library(library), encoder=encoder) as engine:
        found = [engine.search(text, k=50) for text in QUERIES]
        found += [
            engine.search(image=noise_picture(3, (32, 24)), k=50),
            engine.search("dog", k=50, filters=Filter(tags=["été"], collections=["summer 2024"])),
        ]
        names = ("rank", "item", "score", "confidence", "modality", "part", "passage", "position")
        return [[[repr(getattr(hit, name)) for name in names] for hit in each] for each in found]


def is_equal(one, other, encoder):
    assert dump(one) == dump(other)
    assert stored_rows(one) == stored_rows(other)
    assert answers(one, encoder) == answers(other, encoder)


@pytest.mark.slow
@pytest.mark.parametrize("table", FORMATS)
def test_what_is_read_back_is_equal(mixed, encoder, tmp_path, table):
    needs(table)
    with SearchEngine(Library(mixed / "lib"), encoder=encoder) as engine:
        report = engine.export(tmp_path / "out", format=table)
    names = ["manifest.json", f"items.{table}", f"vectors.{table}", "image.npy", "text.npy"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert report.items > 12 and report.kept == 1
    code, out, err = run_here("import-embeddings", tmp_path / "out", "--library", tmp_path / "back", "--json")
    assert code == 0 and json.loads(out)["imported"] == report.items, err
    is_equal(tmp_path / "back", mixed / "lib", encoder)
    assert run_here("verify", "--library", tmp_path / "back")[0] == 0
    done = run_index(tmp_path / "back", (), Settings(), encoder=Counting(encoder))  # the files are known as they were
    assert (done.added, done.changed, done.removed, done.encoded) == (0, 0, 0, 0) and done.unchanged > 8


@pytest.fixture(scope="module")
def small(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("small")
    photo(folder / "files" / ODD, 30, (32, 24))
    photos(folder / "files", 2, size=(32, 24))
    (folder / "files" / "notes.txt").write_text("Feed the cat.\n")
    index(folder / "lib", folder / "files", encoder=encoder)
    with SearchEngine(Library(folder / "lib"), encoder=encoder) as engine:
        engine.add([Record("=1+1", text="'a rocket", metadata={"x": "@y"})])
        engine.tag([1, 2], add=["=Beach"])
        engine.collect("Summer 2024", [2, 1])
    return folder


@pytest.fixture(scope="module")
def written(small):
    with closing(Library(small / "lib")) as library:
        exporting.export_library(library, small / "out", table="jsonl")
    return small / "out"


@pytest.fixture
def exported(written, tmp_path):
    """An export, and what changes a file of it as its author could: the manifest says so."""
    shutil.copytree(written, tmp_path / "out")

    def change(name, edit):
        path = tmp_path / "out" / name
        path.write_bytes(edit(path.read_bytes()))
        if name != "manifest.json":
            manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
            manifest["files"][name] = describe(path)
            (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))

    return tmp_path / "out", change


def test_a_spreadsheet_runs_nothing_and_any_name_comes_back(small, encoder, tmp_path):
    with SearchEngine(Library(small / "lib"), encoder=encoder) as engine:
        engine.export(tmp_path / "out", format="csv")
    import_export(tmp_path / "back", tmp_path / "out")
    is_equal(tmp_path / "back", small / "lib", encoder)
    for name in ("items.csv", "vectors.csv"):
        with open(tmp_path / "out" / name, newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))]
        assert not [cell for cell in cells if cell.startswith("-") and not cell[1:].replace(".", "").isdigit()]
    assert "'=1+1" in (tmp_path / "out" / "items.csv").read_text()


def test_a_filter_chooses_what_is_exported_and_ids_stay(small, tmp_path):
    arguments = ("--tag", "=beach", "--json", "--library", small / "lib")
    code, out, err = run_here("export", tmp_path / "out", *arguments)
    said = json.loads(out)
    assert (code, said["items"], said["vectors"]) == (0, 2, 2) and b"Done: 2 items, 2 vectors" in err
    assert run_here("import-embeddings", tmp_path / "out", "--library", tmp_path / "back")[0] == 0
    with clipsearch.open(tmp_path / "back") as engine:
        assert [item.id for item in engine.items()] == [1, 2] and engine.collections()[0].count == 2
        assert [item.id for item in engine.find(Filter(collections=["summer 2024"]))] != []
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [root["path"] for root in manifest["roots"]] == [str(small / "files")]
    assert manifest["encoder"]["name"] == "builtin-small" and manifest["encoder"]["fingerprint"]


def test_a_folder_that_is_there_is_kept_unless_it_is_an_export_to_replace(small, tmp_path):
    with closing(Library(small / "lib")) as library:
        run = lambda name, **more: exporting.export_library(library, tmp_path / name, **more)  # noqa: E731
        run("out")
        before = (tmp_path / "out" / "items.jsonl").read_bytes()
        with pytest.raises(InvalidInputError, match="replace it: --force"):
            run("out", table="csv")
        assert (tmp_path / "out" / "items.jsonl").read_bytes() == before
        run("out", table="csv", overwrite=True)
        assert not (tmp_path / "out" / "items.jsonl").exists() and (tmp_path / "out" / "items.csv").exists()
        (tmp_path / "out" / "mine.txt").write_text("keep")
        (tmp_path / "other").mkdir()
        run("other", overwrite=True, filters=Filter(tags=["nowhere"]))  # an empty folder is no loss
        assert sorted(os.listdir(tmp_path / "other")) == ["items.jsonl", "manifest.json", "vectors.jsonl"]
        import_export(tmp_path / "nothing", tmp_path / "other")
        (tmp_path / "other" / "manifest.json").unlink()
        os.symlink(tmp_path / "out", tmp_path / "link")
        for name in ("out", "other", "link"):
            with pytest.raises(InvalidInputError, match="is not an export alone"):
                run(name, overwrite=True)
        with pytest.raises(InvalidInputError, match="does not exist"):
            run("nowhere/out")
        with pytest.raises(InvalidInputError, match="no format 'xml'"):
            run("new", table="xml")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "nothing", "other", "out"]


@pytest.mark.parametrize("step", range(5))
def test_a_disk_that_is_full_leaves_nothing(small, tmp_path, monkeypatch, step):
    """At the folder, at a table, at vectors, at a sync, at the name: whenever the disk refuses."""
    places = [(Path, "mkdir"), (export_files, "WRITERS"), (export_files, "write_head"), (export_files, "fsync_path")]
    owner, name = [*places, (os, "rename")][step]
    real = getattr(owner, name)

    def refuse(*given, **more):
        raise OSError(28, "No space left on device")

    with closing(Library(small / "lib")) as library, monkeypatch.context() as patch:
        patch.setattr(owner, name, {"jsonl": refuse} if isinstance(real, dict) else refuse)
        with pytest.raises(ClipSearchError, match=r"could not be written .* No space left"):
            exporting.export_library(library, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_empty_library_and_a_damaged_one_are_not_exported(small, tmp_path):
    Library.create(tmp_path / "empty").close()
    with (
        closing(Library(tmp_path / "empty")) as library,
        pytest.raises(LibraryNotFoundError, match="nothing to export"),
    ):
        exporting.export_library(library, tmp_path / "out")
    shutil.copytree(small / "lib", tmp_path / "lib")
    [segment] = (tmp_path / "lib" / "vectors").glob("image-*")
    data = bytearray(segment.read_bytes())
    data[5] ^= 64
    segment.write_bytes(data)
    with closing(Library(tmp_path / "lib")) as library, pytest.raises(StoreCorruptError, match="checksum"):
        exporting.export_library(library, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_an_export_is_of_one_state_while_another_writes(small, encoder, tmp_path):
    """What is added and deleted after the first block was read is not in it."""
    shutil.copytree(small / "lib", tmp_path / "lib")
    with SearchEngine(Library(tmp_path / "lib"), encoder=encoder) as engine, closing(Library(small / "lib")) as before:
        done = []

        def write(finished, total):
            if not done:
                done.append(True)
                engine.delete(["=1+1"])
                engine.add([Record("new", text="late")])

        engine.export(tmp_path / "out", progress=write)
        exporting.export_library(before, tmp_path / "expected")
        assert engine.get("new") is not None and engine.get("=1+1") is None
    for name in ("items.jsonl", "vectors.jsonl", "image.npy", "text.npy"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def replaced(old, new):
    def edit(data):
        assert old in data
        return data.replace(old, new, 1)

    return edit


def of_first(**values):
    """Change values of the first row."""

    def edit(data):
        first, rest = data.split(b"\n", 1)
        return json.dumps(json.loads(first) | values).encode() + b"\n" + rest

    return edit


def read_at(across):
    """Recognised text with a corner there."""
    return {"model": "m", "lines": [["a", [[across, 0], [1, 0], [1, 1], [0, 1]], 1]]}


def of_manifest(**values):
    return lambda data: json.dumps({**json.loads(data), **values}).encode()


def of_encoder(**values):
    def edit(data):
        said = json.loads(data)
        return json.dumps({**said, "encoder": {**said["encoder"], **values}}).encode()

    return edit


def of_rows(change):
    """Change the vectors, which follow a head of 128 bytes."""
    return lambda data: data[:128] + change(np.frombuffer(data[128:], "<f2").copy()).tobytes()


HOSTILE = [
    ("items.jsonl", of_first(name="../../etc/passwd"), "leads out of its folder"),
    ("items.jsonl", of_first(name="a//b"), "leads out of its folder"),
    ("items.jsonl", of_first(name="a\0b"), "not a text"),
    ("items.jsonl", of_first(name="\udce9"), "surrogates not allowed"),
    ("items.jsonl", of_first(name=3), "not a text"),
    ("items.jsonl", of_first(id=0), "its id is 0"),
    ("items.jsonl", of_first(id=2), "wrong item 2"),
    ("items.jsonl", of_first(id=2**63), "its id is"),
    ("items.jsonl", of_first(id=True), "its id is True"),
    ("items.jsonl", of_first(root=99), "wrong item 1: 99"),
    ("items.jsonl", of_first(modality="sound"), "'sound' is not a valid Modality"),
    ("items.jsonl", of_first(content_hash="x"), "not hexadecimal"),
    ("items.jsonl", of_first(width=-1), "its width is -1"),
    ("items.jsonl", of_first(latitude=91), "its latitude is 91"),
    ("items.jsonl", of_first(taken_at="yesterday"), "Invalid isoformat"),
    ("items.jsonl", of_first(metadata={"a": {"b": 1}}), "wrong item 1"),
    ("items.jsonl", of_first(tags=[["a", "nobody", None]]), "not a valid TagSource"),
    ("items.jsonl", of_first(tags=[["a", "user", None]] * 2), "one tag twice"),
    ("items.jsonl", of_first(collections=[["None", 1]]), "wrong item 1: 'none'"),
    ("items.jsonl", of_first(media="song"), "not a valid Media"),
    ("items.jsonl", of_first(recognised={"model": "m", "lines": [["a", [[0, 0]], 1]]}), "has no box"),
    ("items.jsonl", of_first(recognised=read_at(10**400)), "has no box"),
    ("items.jsonl", of_first(recognised=read_at("1")), "has no box"),
    ("items.jsonl", of_first(evil=1), "has a column 'evil'"),
    ("items.jsonl", replaced(b'"id": 1', b'"id": 1e400'), "its id is"),
    ("items.jsonl", replaced(b'"id": 1', b'"id": NaN'), "NaN is not JSON"),
    ("items.jsonl", lambda data: b"[" * 100_000 + b"\n" + data, "row 1:"),
    ("items.jsonl", lambda data: data + data.splitlines(keepends=True)[-1], "wrong item"),
    ("items.jsonl", lambda data: data.split(b"\n", 1)[1], "items, but says"),
    ("items.jsonl", lambda data: b"", "0 items, but says"),
    ("vectors.jsonl", of_first(item=77), "a vector of an item that it lacks"),
    ("vectors.jsonl", of_first(row=1), "wrong vector 0 of modality image"),
    ("vectors.jsonl", of_first(part=-1), "its part is -1"),
    ("vectors.jsonl", of_first(time=1e9), "its time is"),
    ("vectors.jsonl", lambda data: data + data, "more rows in its table"),
    ("vectors.jsonl", lambda data: b"", "fewer rows in its table"),
    ("image.npy", of_rows(lambda rows: rows * 2), "not of unit length"),
    ("image.npy", of_rows(lambda rows: rows * np.float16("nan")), "not of unit length"),
    ("image.npy", replaced(b"<f2", b"|O8"), "it must be float16"),
    ("image.npy", lambda data: data[:200], "header claims"),
    ("manifest.json", of_manifest(version=2), "another version"),
    ("manifest.json", of_manifest(table="../x"), "its tables are"),
    ("manifest.json", of_manifest(items=10**9), "but says 1,000,000,000"),
    ("manifest.json", of_manifest(files={"../../x": [1, "a"]}), "names other files"),
    ("manifest.json", of_manifest(settings={"catalog": "x"}), "other settings"),
    ("manifest.json", of_manifest(settings={"score_spreads": "[" * 9999}), "cannot be read"),
    ("manifest.json", of_manifest(vectors={"image": -1, "text": 1}), "not a number"),
    ("manifest.json", of_manifest(roots=[{"id": 1}]), "not the manifest"),
    ("manifest.json", of_encoder(name="\x1b]0;x\x07"), "can be printed"),
    ("manifest.json", of_encoder(name="a\nb"), "can be printed"),
    ("manifest.json", lambda data: data[:-20], "not the manifest"),
]


def refused(folder, change, name, edit, said, read):
    with pytest.raises(InvalidInputError) as caught:
        change(name, edit)
        read(folder)
    assert said.lower() in str(caught.value).lower()


def read_whole(folder):
    """Read what would be stored, and store nothing."""
    with export_files.ExportReader(folder) as opened:
        given = export_import.Checked(opened, Silent()).refill()
        assert list(given.items) and list(given.vectors)


@pytest.mark.parametrize(("name", "edit", "said"), HOSTILE, ids=[f"{n}-{s}" for n, _, s in HOSTILE])
def test_a_hostile_export_is_refused(exported, name, edit, said):
    refused(*exported, name, edit, said, read_whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "edit", "said"), HOSTILE, ids=[f"{n}-{s}" for n, _, s in HOSTILE])
def test_nothing_of_a_hostile_export_is_stored(exported, tmp_path, name, edit, said):
    refused(*exported, name, edit, said, lambda folder: import_export(tmp_path / "back", folder))
    if (tmp_path / "back").exists():
        with closing(Library(tmp_path / "back")) as library, library.query() as connection:
            assert catalog.is_empty(connection)
            assert not connection.exec_driver_sql("SELECT count(*) FROM roots").scalar()


def test_what_was_changed_since_it_was_written_is_refused(exported, tmp_path):
    folder, _ = exported
    data = (folder / "text.npy").read_bytes()
    (folder / "text.npy").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InvalidInputError, match="does not have its checksum"):
        import_export(tmp_path / "back", folder)
    (folder / "text.npy").write_bytes(data[:-1])
    with pytest.raises(InvalidInputError, match="does not have its"):
        import_export(tmp_path / "back", folder)
    (folder / "text.npy").unlink()
    os.symlink("/etc/passwd", folder / "text.npy")
    with pytest.raises(InvalidInputError, match="a link or a special file"):
        import_export(tmp_path / "back", folder)


def test_a_library_that_has_items_is_not_touched(exported, small, tmp_path):
    folder, _ = exported
    shutil.copytree(small / "lib", tmp_path / "lib")
    before = tree_digest(tmp_path / "lib")
    with pytest.raises(InvalidInputError, match="Name a new one with --library"):
        import_export(tmp_path / "lib", folder)
    assert tree_digest(tmp_path / "lib") == before
    code, _, err = run_here("import-embeddings", folder, "--encoder", "builtin-small", "--library", tmp_path / "new")
    assert code == 2 and b"An export says all that options would" in err and not (tmp_path / "new").exists()


def test_a_row_without_end_is_not_read_to_its_end(tmp_path):
    for name, data in (("a.jsonl", b'"' + b"x" * 100), ("a.csv", b'"' + b"x\n" * 60), ("b.csv", b'"x","\n"' * 20)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export_tables, "MAX_LINE", 100)
            (tmp_path / name).write_bytes(data)
            with open(tmp_path / name, "rb") as file, pytest.raises(InvalidInputError, match="row 1: "):
                list(export_tables.read_table(tmp_path / name, file, {"a": "text"}))
    assert csv.field_size_limit() == 131_072


def test_a_text_that_no_row_holds_is_refused_when_it_is_written(tmp_path):
    for table, most in (("jsonl", MAX_LINE), ("csv", MAX_LINE // 2)):
        with pytest.raises(InvalidInputError, match="Item 3 has a text of"), open(tmp_path / table, "wb") as file:
            WRITERS[table](file, ITEM_COLUMNS).write([{"id": 3, "text": "x" * most}])
