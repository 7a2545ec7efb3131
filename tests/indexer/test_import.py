"""Vectors that were made elsewhere: what is taken in, what is refused, what a kill leaves, and what is found then."""

import json
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import clipsearch
from clipsearch.config import Settings
from clipsearch.encoders import listing
from clipsearch.errors import (
    EncoderMismatchError,
    EncoderUnavailableError,
    InvalidInputError,
    LibraryLockedError,
    LibraryNotFoundError,
)
from clipsearch.query.engine import SearchEngine
from clipsearch.store import migrations
from clipsearch.store.library import Library
from clipsearch.store.summary import summarise
from clipsearch.types import EncoderPin, Modality
from indexer.calibration import encoder_loader
from indexer.importing import ImportReport, import_embeddings
from indexer.pipeline import pinned_encoder
from indexer.sources.embeddings import BLOCK_ROWS, EmbeddingSource
from tests.support.catalogs import drop_checksums
from tests.support.cli import run_cli, start_cli
from tests.support.hostile_models import Bomb
from tests.support.libraries import index, photos
from tests.support.state import tree_digest

DIM = 16
NAME = "some model of ours"


def vectors(rows, seed=0, dim=DIM):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def unit(rows):
    wide = np.asarray(rows, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def parquet(path, /, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def bring(library, source, encoder=NAME, **options):
    """Import, and tell (imported, skipped, replaced)."""
    report = import_embeddings(library, os.fspath(source), encoder=encoder, **options)
    return report.imported, report.skipped, report.replaced


def stored(library):
    """What a library holds, read past the code under test: stored path -> {modality: unit row}, {column: value}."""
    with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert not db.execute("PRAGMA foreign_key_check").fetchall()
        dim = int(db.execute("SELECT value FROM settings WHERE key = 'dim'").fetchone()[0])
        items = {row["id"]: dict(row) for row in db.execute("SELECT * FROM items")}
        places = db.execute("SELECT modality, row, item_id, part FROM vectors").fetchall()
        dead = {tuple(row) for row in db.execute("SELECT modality, row FROM tombstones")}
        segments = db.execute("SELECT * FROM segments ORDER BY first_row").fetchall()
    rows = {}
    for segment in segments:
        data = np.fromfile(library / "vectors" / segment["name"], "<f2").reshape(-1, dim)
        for i in range(segment["committed_rows"]):
            rows[segment["modality"], segment["first_row"] + i] = data[i]
    owned = {(place["modality"], place["row"]) for place in places}
    assert len(owned) == len(places), "two items share a row"
    assert set(rows) - owned == dead, "the tombstones are the rows of no item"
    found = {item["path"]: ({}, item) for item in items.values()}
    assert len(found) == len(items)
    for place in places:
        found[items[place["item_id"]]["path"]][0][place["modality"]] = rows[place["modality"], place["row"]]
    assert all(own for own, _ in found.values()), "an item has no vector"
    return found


def check_rows(library, names, expected, modality="image"):
    """Each name has its own vector, at unit length, and nothing else is there."""
    found = stored(library)
    assert sorted(found) == sorted(names)
    for name, row in zip(names, unit(expected), strict=True):
        np.testing.assert_allclose(found[name][0][modality].astype(np.float64), row, atol=1e-3)


def nothing_at(library):
    return not library.exists()


# --- What is taken in


def test_an_array_alone_names_each_row_by_its_number(tmp_path):
    source = save(tmp_path / "data" / "v.npy", vectors(30))
    assert bring(tmp_path / "lib", source) == (30, 0, 0)
    check_rows(tmp_path / "lib", [f"v.npy/{i}" for i in range(30)], vectors(30))
    with clipsearch.open(tmp_path / "lib") as engine:
        best = engine.search(vector=vectors(30)[7], k=1)[0]
    assert best.path == str(tmp_path / "data" / "v.npy" / "7") and best.score > 0.999
    assert best.modality is Modality.IMAGE and best.item.picture is None and best.item.caption is None


RECORDS = [
    {"path": "a/1.jpg", "caption": "a cat", "width": 640, "height": 480, "taken_at": "2024-07-31T12:00:00+02:00"},
    {"image_path": "/photos/2.jpg", "text": "a dog \ud800", "width": 640.0, "height": None},
    {"url": "https://host/3.jpg?a=1&b=%41", "id": 9, "caption": None},
    {"id": 4, "path": "", "taken_at": "2024-07-31"},
    {"key": "000000005", "width": float("nan"), "height": 7},
    {"caption": "without a name"},
    {"path": "ünï/7.jpg"},
]
PATHS = ["a/1.jpg", "/photos/2.jpg", "https://host/3.jpg?a=1&b=%41", "4", "000000005", "5", "ünï/7.jpg"]
IDS = {"4", "000000005", "5"}


def check_records(tmp_path, library):
    with clipsearch.open(library) as engine:
        hits = sorted(engine.search(vector=vectors(7)[0], k=10), key=lambda hit: hit.item.id)
    shown = [path if "://" in path or path[0] == "/" or path in IDS else str(tmp_path / path) for path in PATHS]
    assert [hit.path for hit in hits] == shown
    captions = ["a cat", "a dog ?", None, None, None, "without a name", None]
    assert [hit.item.caption for hit in hits] == captions
    taken = [hit.item.picture and hit.item.picture.taken_at for hit in hits]
    assert taken == [datetime(2024, 7, 31, 12), None, None, datetime(2024, 7, 31), None, None, None]
    assert hits[0].item.picture.width == 640 and hits[1].item.picture is None


def test_records_of_a_jsonl_file_give_path_caption_and_size(tmp_path):
    items = jsonl(tmp_path / "items.jsonl", RECORDS)
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(7)), items=str(items))
    check_records(tmp_path, tmp_path / "lib")
    days = [item["taken_at"] for _, item in stored(tmp_path / "lib").values()]
    assert "2024-07-31T00:00:00" in days


def test_records_of_a_parquet_file_give_the_same(tmp_path):
    columns = {key: [record.get(key) for record in RECORDS] for key in ("path", "image_path", "url", "id", "key")}
    captions = [record.get("caption", record.get("text")) for record in RECORDS]
    captions[1] = "a dog ?"  # a parquet file cannot hold half a character
    times = [datetime(2024, 7, 31, 12), None, None, datetime(2024, 7, 31), None, None, None]
    taken = pa.array(times, pa.timestamp("ns"))
    sizes = {key: pa.array([record.get(key) for record in RECORDS], pa.float64()) for key in ("width", "height")}
    path = parquet(tmp_path / "i.parquet", **columns, caption=captions, **sizes, taken_at=taken, other=[[1]] * 7)
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(7)), items=str(path))
    check_records(tmp_path, tmp_path / "lib")


def test_nanoseconds_of_a_parquet_file_are_cut_and_not_refused(tmp_path):
    taken = pa.array([1_722_427_200_000_000_001], pa.timestamp("ns", "UTC"))
    path = parquet(tmp_path / "i.parquet", path=["a"], taken_at=taken)
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(1)), items=str(path))
    assert stored(tmp_path / "lib")["a"][1]["taken_at"] == "2024-07-31T12:00:00"


def layout(folder, counts=(5, 4, 3), captions=True, texts=True):
    """Write clip-retrieval's layout; ten parts or more sort by number, not by name."""
    first = 0
    for number, rows in enumerate(counts, 8):
        save(folder / "img_emb" / f"img_emb_{number}.npy", vectors(rows, number).astype(np.float16))
        if texts:
            save(folder / "text_emb" / f"text_emb_{number}.npy", vectors(rows, 100 + number).astype(np.float16))
        if captions:
            parquet(
                folder / "metadata" / f"metadata_{number}.parquet",
                image_path=[f"{first + i:05d}.jpg" for i in range(rows)],
                caption=[f"caption {first + i}" for i in range(rows)],
                NSFW=["UNLIKELY"] * rows,
            )
        first += rows
    return folder


def test_the_layout_of_clip_retrieval_gives_pictures_and_captions(tmp_path):
    source = layout(tmp_path / "laion")
    assert bring(tmp_path / "lib", source) == (12, 0, 0)
    names = [f"{i:05d}.jpg" for i in range(12)]
    for modality, base in (("image", 0), ("text", 100)):
        rows = np.concatenate([vectors(n, base + k) for k, n in ((8, 5), (9, 4), (10, 3))])
        check_rows(tmp_path / "lib", names, rows, modality)
    with clipsearch.open(tmp_path / "lib") as engine:
        by_picture = engine.search(vector=vectors(4, 9)[1], k=1, modality="image")[0]
        by_caption = engine.search(vector=vectors(4, 109)[1], k=1, modality="text")[0]
        both = engine.search(vector=vectors(4, 109)[1], k=100)
    assert by_picture.path == by_caption.path == str(source / "00006.jpg")
    assert by_picture.item == by_caption.item and by_picture.item.caption == "caption 6"
    assert (by_picture.modality, by_picture.passage) == (Modality.IMAGE, None)
    assert by_caption.modality is Modality.TEXT and by_caption.passage.text == "caption 6"
    assert len(both) == 12 == len({hit.item.id for hit in both}), "a record is one hit"
    assert both[0].passage.text == "caption 6"


def test_a_hit_says_in_json_what_the_matched_vector_was_made_from(tmp_path):
    from clipsearch.present import to_payload, to_table

    bring(tmp_path / "lib", layout(tmp_path / "laion"))
    with clipsearch.open(tmp_path / "lib") as engine:
        results = engine.search(vector=vectors(4, 109)[1], k=100)
    for hit in to_payload(results)["hits"]:
        assert (hit["part"] is None) == (hit["modality"] == "image")
        assert hit["part"] is None or hit["part"]["text"].startswith("caption ")
    assert "caption 6" in to_table(results, str(tmp_path))


def test_pictures_without_text_vectors_keep_their_captions(tmp_path):
    bring(tmp_path / "lib", layout(tmp_path / "laion", texts=False))
    found = stored(tmp_path / "lib")
    assert all(set(own) == {"image"} and item["caption"].startswith("caption ") for own, item in found.values())


def test_texts_without_metadata_are_named_by_number_over_all_parts(tmp_path):
    for path in sorted((layout(tmp_path / "laion", captions=False) / "img_emb").iterdir()):
        path.unlink()
    bring(tmp_path / "lib", tmp_path / "laion")
    found = stored(tmp_path / "lib")
    assert sorted(found, key=int) == [str(i) for i in range(12)]
    assert all(item["modality"] == "text" for _, item in found.values())
    with clipsearch.open(tmp_path / "lib") as engine:
        best = engine.search(vector=vectors(4, 109)[1], k=1)[0]
    assert best.modality is Modality.TEXT and best.passage.text == ""


def test_the_vectors_of_one_array_may_be_of_texts(tmp_path):
    items = jsonl(tmp_path / "i.jsonl", [{"id": i, "text": f"text {i}"} for i in range(5)])
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(5)), items=str(items), modality=Modality.TEXT)
    with clipsearch.open(tmp_path / "lib") as engine:
        best = engine.search(vector=vectors(5)[3], k=1)[0]
    assert best.modality is Modality.TEXT and best.passage.text == "text 3"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_floating_type_byte_order_and_layout(tmp_path, dtype, order):
    source = save(tmp_path / "v.npy", np.array(vectors(20), dtype, order=order))
    assert bring(tmp_path / "lib", source) == (20, 0, 0)
    check_rows(tmp_path / "lib", [f"v.npy/{i}" for i in range(20)], vectors(20))


@pytest.mark.parametrize("length", [1e-30, 1e-3, 1e3, 1e30])
def test_rows_of_any_length_are_normalised(tmp_path, length):
    source = save(tmp_path / "v.npy", (unit(vectors(9)) * length).astype(np.float64))
    bring(tmp_path / "lib", source)
    check_rows(tmp_path / "lib", [f"v.npy/{i}" for i in range(9)], vectors(9))


def test_more_rows_than_a_block_come_in_order(tmp_path):
    rows = vectors(BLOCK_ROWS + 300, dim=4)
    assert bring(tmp_path / "lib", save(tmp_path / "v.npy", rows)) == (len(rows), 0, 0)
    check_rows(tmp_path / "lib", [f"v.npy/{i}" for i in range(len(rows))], rows)


# --- What is refused


def refused(tmp_path, source, match, **options):
    with pytest.raises(InvalidInputError, match=match):
        bring(tmp_path / "lib", source, **options)
    assert nothing_at(tmp_path / "lib")


def test_rows_without_a_direction_are_named_and_nothing_is_stored(tmp_path):
    rows = vectors(BLOCK_ROWS + 50, dim=4)
    rows[[3, 8, BLOCK_ROWS + 7]] = 0
    rows[5, 2], rows[6, 0] = np.nan, -np.inf
    source = save(tmp_path / "v.npy", rows)
    refused(tmp_path, source, r"2 rows with NaN or infinity: 5, 6; 3 rows with nothing but zeros: 3, 8, 8199\.")
    rows[100:150] = np.nan
    refused(tmp_path, save(tmp_path / "v.npy", rows), "52 rows with NaN or infinity: 5, 6, .*, 107, ...;")


def test_bad_rows_do_not_touch_what_a_library_has(tmp_path):
    source = save(tmp_path / "v.npy", vectors(20))
    bring(tmp_path / "lib", source)
    before = tree_digest(tmp_path / "lib")
    rows = vectors(20, seed=1)
    rows[19] = 0
    save(source, rows)
    with pytest.raises(InvalidInputError, match="1 row with nothing but zeros: 19"):
        bring(tmp_path / "lib", source)
    assert tree_digest(tmp_path / "lib") == before


def test_a_row_of_a_part_is_named_with_its_file(tmp_path):
    folder = layout(tmp_path / "laion")
    rows = vectors(3)
    rows[2] = 0
    save(folder / "text_emb" / "text_emb_10.npy", rows)
    refused(tmp_path, folder, r"1 row with nothing but zeros: 2 of text_emb_10\.npy")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros(8, np.float32), r"shape \(8,\)"),
        (np.zeros((2, 2, 2), np.float32), r"shape \(2, 2, 2\)"),
        (np.zeros((0, 8), np.float32), r"shape \(0, 8\)"),
        (np.ones((4, 8), np.int64), "int64"),
        (np.ones((4, 8), np.complex64), "complex64"),
        (np.ones((4, 8), bool), "bool"),
        (np.ones((4, 8), "U4"), "<U4"),
        (np.ones(4, [("a", "f4")]), "a structure"),
    ],
)
def test_arrays_that_are_no_rows_of_floats_are_refused(tmp_path, array, match):
    refused(tmp_path, save(tmp_path / "v.npy", array), match)


def test_nothing_is_unpickled(tmp_path):
    bomb = np.empty((2, 2), object)
    bomb[:] = Bomb(tmp_path / "boom")
    np.save(tmp_path / "v.npy", bomb, allow_pickle=True)
    refused(tmp_path, tmp_path / "v.npy", "holds numbers of the type object")
    import pickle

    (tmp_path / "p.npy").write_bytes(pickle.dumps(bomb))
    refused(tmp_path, tmp_path / "p.npy", "not a complete .npy file")
    assert not (tmp_path / "boom").exists()


def test_a_file_that_is_cut_or_garbled_anywhere_is_refused(tmp_path):
    source = save(tmp_path / "v.npy", vectors(40))
    data = source.read_bytes()
    for size in (0, 1, 6, 9, 40, 127, 128, 129, len(data) // 2, len(data) - 1):
        source.write_bytes(data[:size])
        refused(tmp_path, source, "v.npy")
    chance = random.Random(1)
    for _ in range(200):  # the head is Python source: whatever is in it, the error is ours
        garbled = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            garbled[chance.randrange(128)] = chance.choice(b"0123456789'{}(),:<f\x00\xff")
        source.write_bytes(garbled)
        try:
            EmbeddingSource(str(source))
        except InvalidInputError:
            continue


def test_a_wrong_number_of_dimensions_is_refused(tmp_path):
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(5)))
    with pytest.raises(InvalidInputError, match=r"have 8 dimensions, but the library in .* has 16"):
        bring(tmp_path / "lib", save(tmp_path / "w.npy", vectors(5, dim=8)))
    refused(
        tmp_path / "other", tmp_path / "w.npy", "have 8 dimensions, but builtin-small makes", encoder="builtin-small"
    )
    refused(tmp_path / "other", tmp_path / "w.npy", "have 8 dimensions, .* makes 512", encoder="fast")
    folder = layout(tmp_path / "laion")
    save(folder / "img_emb" / "img_emb_9.npy", vectors(4, dim=8))
    refused(tmp_path / "other", folder, "has 8 dimensions")


@pytest.mark.parametrize(("rows", "records"), [(5, 4), (5, 6), (5, 0), (BLOCK_ROWS, BLOCK_ROWS + 1)])
def test_as_many_records_as_rows(tmp_path, rows, records):
    source = save(tmp_path / "v.npy", vectors(rows, dim=4))
    items = jsonl(tmp_path / "i.jsonl", [{"id": i} for i in range(records)])
    refused(tmp_path, source, f"{rows:,} rows, but .* {records:,} records", items=str(items))
    items = parquet(tmp_path / "i.parquet", id=list(range(records)))
    refused(tmp_path, source, f"{rows:,} rows, but .* {records:,} records", items=str(items))


def test_as_many_records_as_rows_in_each_part(tmp_path):
    folder = layout(tmp_path / "laion")
    parquet(folder / "metadata" / "metadata_8.parquet", image_path=["a"] * 4)
    parquet(folder / "metadata" / "metadata_9.parquet", image_path=["a"] * 5)
    refused(tmp_path, folder, r"5 rows, but .*metadata_8.parquet has 4.*4 rows, but .*metadata_9.parquet has 5")
    save(folder / "text_emb" / "text_emb_8.npy", vectors(6))
    refused(tmp_path, folder, "has 5 rows and .* has 6 rows")


def test_parts_that_do_not_pair_are_refused(tmp_path):
    folder = layout(tmp_path / "laion")
    (folder / "metadata" / "metadata_9.parquet").unlink()
    refused(tmp_path, folder, "do not pair: img_emb has 3 from 8 to 10, .*metadata has 2 from 8 to 10")
    (folder / "img_emb" / "img_emb_9.npy").rename(folder / "img_emb" / "img_emb_x.npy")
    refused(tmp_path, folder, "img_emb_x.npy has no unique number")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"path": ["a"]}, "path is neither"),
        ({"id": 1.5}, "id is neither"),
        ({"id": True}, "id is neither"),
        ({"path": "a\0b"}, "NUL"),
        ({"path": "a\ud800"}, "surrogates not allowed"),
        ({"caption": 5}, "caption is not text"),
        ({"width": "wide"}, "width is not a number of pixels"),
        ({"width": 1e400, "height": 5}, "width is not a number of pixels"),
        ({"width": -4, "height": 5}, "width is not a number of pixels"),
        ({"taken_at": "yesterday"}, "yesterday"),
        ({"taken_at": 17}, "taken_at is not a time"),
    ],
)
def test_records_that_cannot_be_used_are_named(tmp_path, record, reason):
    items = jsonl(tmp_path / "i.jsonl", [{"id": "a"}, record, {"id": "c"}])
    source = save(tmp_path / "v.npy", vectors(3))
    refused(tmp_path, source, rf"1 row with a record that cannot be used: 1 \(.*{reason}", items=str(items))


def test_names_must_differ(tmp_path):
    source = save(tmp_path / "v.npy", vectors(5))
    items = jsonl(tmp_path / "i.jsonl", [{"id": name} for name in "abaca"])
    refused(tmp_path, source, r"2 rows with a name that a row before has: 2 \(a\), 4 \(a\)", items=str(items))
    items = jsonl(tmp_path / "i.jsonl", [{"id": 2}, {}, {}, {}, {}])
    refused(tmp_path, source, r"1 row .*: 2 \(2\)", items=str(items))


@pytest.mark.parametrize("line", ["{", "[1]", "5", "null", '"a"', "{'a': 1}", "\xff", "[" * 5000])
def test_lines_that_are_no_json_objects_are_named(tmp_path, line):
    items = tmp_path / "i.jsonl"
    items.write_bytes(b'{"id": 1}\n\n' + line.encode("latin-1") + b"\n")
    source = save(tmp_path / "v.npy", vectors(2))
    refused(tmp_path, source, "line 3: ", items=str(items))


def test_a_parquet_file_that_is_none_is_refused(tmp_path):
    source = save(tmp_path / "v.npy", vectors(2))
    for data in (b"", b"PAR1", b"garbage" * 100):
        (tmp_path / "i.parquet").write_bytes(data)
        refused(tmp_path, source, "cannot be read as parquet", items=str(tmp_path / "i.parquet"))


def test_parquet_without_pyarrow_names_the_command_that_helps(tmp_path, monkeypatch):
    source = save(tmp_path / "v.npy", vectors(2))
    items = parquet(tmp_path / "i.parquet", id=[1, 2])
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "pyarrow.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    refused(tmp_path, source, r"pip install 'clipsearch\[parquet\]'", items=str(items))
    assert bring(tmp_path / "lib", source, items=str(jsonl(tmp_path / "i.jsonl", [{}, {}]))) == (2, 0, 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"source": ""}, "no file or folder"),
        ({"source": "missing.npy"}, "no file or folder"),
        ({"source": "i.jsonl"}, "neither a .npy or .parquet file nor a folder"),
        ({"source": "empty"}, "neither img_emb"),
        ({"items": "missing.jsonl"}, "no file 'missing.jsonl'"),
        ({"items": "v.npy"}, "not a .jsonl or .parquet file"),
        ({"source": "laion", "items": "i.jsonl"}, "apply only to a file"),
        ({"source": "laion", "modality": Modality.TEXT}, "apply only to a file"),
        ({"encoder": " "}, "must name what made the vectors"),
        ({"encoder": "auto"}, "must name what made the vectors"),
        ({"encoder": "x\x1b[31m"}, "must name what made the vectors"),
    ],
)
def test_wrong_use_is_told(tmp_path, monkeypatch, options, match):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    layout(tmp_path / "laion")
    save(tmp_path / "v.npy", vectors(2))
    jsonl(tmp_path / "i.jsonl", [{}, {}])
    options = {"source": "v.npy", **options}
    refused(tmp_path, options.pop("source"), match, **options)


# --- Again, after a kill, and after a change


def test_a_second_run_skips_all_and_writes_nothing(tmp_path):
    source = save(tmp_path / "v.npy", vectors(300))
    items = jsonl(tmp_path / "i.jsonl", [{"path": f"{i}.jpg", "caption": f"c {i}"} for i in range(300)])
    assert bring(tmp_path / "lib", source, items=str(items)) == (300, 0, 0)
    before = tree_digest(tmp_path / "lib" / "vectors")
    assert bring(tmp_path / "lib", source, items=str(items)) == (0, 300, 0)
    assert tree_digest(tmp_path / "lib" / "vectors") == before


def test_only_what_has_changed_is_replaced(tmp_path):
    rows = vectors(300)
    records = [{"path": f"{i}.jpg", "caption": f"c {i}"} for i in range(300)]
    source, items = save(tmp_path / "v.npy", rows), jsonl(tmp_path / "i.jsonl", records)
    bring(tmp_path / "lib", source, items=str(items))
    ids = {path: item["id"] for path, (_, item) in stored(tmp_path / "lib").items()}
    rows[[7, 250]] = vectors(2, seed=9)
    records[8]["caption"] = "another"
    order = [*range(150, 300), *range(150), 300]
    rows, records = np.concatenate([rows, vectors(1, seed=5)])[order], [*records, {"path": "new.jpg"}]
    save(source, rows)
    jsonl(items, [records[i] for i in order])
    assert bring(tmp_path / "lib", source, items=str(items)) == (1, 297, 3)
    check_rows(tmp_path / "lib", [records[i]["path"] for i in order], rows)
    after = stored(tmp_path / "lib")
    assert {path: item["id"] for path, (_, item) in after.items() if path != "new.jpg"} == ids
    assert after["8.jpg"][1]["caption"] == "another"
    with clipsearch.open(tmp_path / "lib") as engine:
        assert len(engine.search(vector=rows[0], k=1000)) == 301


def test_two_sources_with_the_same_names_stand_beside_each_other(tmp_path):
    for name in ("v", "w"):
        bring(tmp_path / "lib", save(tmp_path / name / "v.npy", vectors(4, seed=ord(name))))
    with clipsearch.open(tmp_path / "lib") as engine:
        found = {hit.path for hit in engine.search(vector=vectors(1)[0], k=100)}
    assert found == {str(tmp_path / name / "v.npy" / str(i)) for name in "vw" for i in range(4)}


@pytest.mark.slow
def test_a_kill_loses_at_most_a_block_and_the_next_run_goes_on(tmp_path):
    """The real command, killed for good in the middle, twice."""
    blocks = 6
    rows = vectors(blocks * BLOCK_ROWS - 100, dim=8)
    names = [f"images/{i * 7919 % len(rows):06d}.jpg" for i in range(len(rows))]
    source = save(tmp_path / "v.npy", rows)
    items = jsonl(tmp_path / "i.jsonl", [{"path": name, "caption": name} for name in names])
    library = tmp_path / "lib"
    command = ("import-embeddings", source, "--items", items, "--encoder", NAME, "--library", library)
    kept = 0
    for delay in (0, 0.1):
        process = start_cli(*command)
        while process.poll() is None and count(library) <= kept:
            time.sleep(0.002)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
        assert count(library) >= kept
        kept = count(library)
        assert kept % BLOCK_ROWS == 0 and len(stored(library)) == kept
        (size,) = (path.stat().st_size for path in (library / "vectors").glob("image-*"))
        assert 0 <= size // 16 - kept <= BLOCK_ROWS, "more than one block was under way"
    assert 2 * BLOCK_ROWS <= kept < len(rows)
    done = run_cli(*command, "--json")
    assert (done.code, done.json["imported"], done.json["skipped"]) == (0, len(rows) - kept, kept)
    check_rows(library, names, rows)
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        assert db.execute("SELECT sum(committed_rows) FROM segments").fetchone() == (len(rows),)
        assert db.execute("SELECT count(*) FROM tombstones").fetchone() == (0,)


def count(library):
    """Items that are committed; 0 before there is a catalog."""
    if not (library / "catalog.db").exists():
        return 0
    with closing(sqlite3.connect(f"file:{library / 'catalog.db'}?mode=ro", uri=True)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchone():
            return 0
        return db.execute("SELECT count(*) FROM items").fetchone()[0]


@pytest.mark.slow
def test_the_command_reports_and_goes_by_its_own_words(tmp_path):
    source = save(tmp_path / "v.npy", vectors(20))
    command = ("import-embeddings", source, "--encoder", NAME, "--library", tmp_path / "lib")
    done = run_cli(*command, "--json")
    assert done.code == 0 and list(done.json) == ["imported", "skipped", "replaced", "seconds"]
    assert "20 rows to import" in done.err and "Done: 20 imported, 0 skipped, 0 replaced" in done.err
    assert run_cli(*command).out == b""
    assert run_cli(*command[:2], "--library", tmp_path / "lib").code == 2
    (tmp_path / "v.npy").write_bytes(b"no array")
    failed = run_cli(*command)
    assert failed.code == 2 and "not a complete .npy file" in failed.err


def test_an_import_while_another_writes_is_told(tmp_path):
    source = save(tmp_path / "v.npy", vectors(20))
    bring(tmp_path / "lib", source)
    with Library(tmp_path / "lib").writer(), pytest.raises(LibraryLockedError):
        bring(tmp_path / "lib", source)


# --- Beside folders


def roots(library):
    return {(root.kind, root.path) for root in summarise(Library(library)).roots}


def test_an_indexing_run_leaves_a_collection_alone(tmp_path, encoder):
    data, library = tmp_path / "data", tmp_path / "lib"
    photos(data, 3)
    rows = vectors(40, dim=encoder.dim)
    source = save(data / "emb" / "v.npy", rows)
    layout_source = data / "laion"
    save(layout_source / "img_emb" / "0.npy", rows[:5])
    photos(layout_source, 2, first=10)
    assert bring(library, source, "builtin-small") == (40, 0, 0)
    assert bring(library, layout_source, "builtin-small") == (5, 0, 0)
    nothing = index(library, encoder=encoder)
    assert nothing.added == nothing.removed == 0 and not nothing.offline
    assert index(library, layout_source, encoder=encoder).added == 2  # the pictures beside the vectors
    assert index(library, data, encoder=encoder).added == 3  # the folder above all
    assert roots(library) == {("folder", str(data)), ("collection", str(source)), ("collection", str(layout_source))}
    for path in source, layout_source / "img_emb" / "0.npy":
        path.unlink()
    again = index(library, encoder=encoder)
    assert again.removed == 0 and again.unchanged == 5
    with clipsearch.open(library) as engine:
        assert len(engine.search(vector=rows[0], k=1000)) == 50
        assert engine.search(vector=rows[20], k=1)[0].path == str(data / "emb" / "v.npy" / "20")


@pytest.mark.slow
def test_forget_takes_a_collection_out(tmp_path):
    library = tmp_path / "lib"
    sources = [save(tmp_path / "data" / name / "v.npy", vectors(6)) for name in "abc"]
    for source in sources:
        bring(library, source)
    assert roots(library) == {("collection", str(source)) for source in sources}
    assert run_cli("status", "--library", library).out.decode().count("collection ") == 3
    done = run_cli("forget", sources[0], "--library", library)
    assert done.code == 0 and "6 files" in done.err
    assert roots(library) == {("collection", str(source)) for source in sources[1:]}
    assert count(library) == 12
    assert run_cli("forget", tmp_path / "data", "--library", library).code == 0  # all that came from below
    assert roots(library) == set() and stored(library) == {}
    assert bring(library, sources[0]) == (6, 0, 0)


def test_forget_of_a_folder_takes_out_what_came_from_inside_it(tmp_path, encoder):
    data, library = tmp_path / "data", tmp_path / "lib"
    photos(data, 2)
    photos(data / "emb", 1, first=5)
    bring(library, save(data / "emb" / "v.npy", vectors(4, dim=encoder.dim)), "builtin-small")
    index(library, data, encoder=encoder)
    assert run_cli("forget", data / "emb", "--library", library).code == 0
    assert roots(library) == {("folder", str(data))} and len(stored(library)) == 2


@pytest.mark.slow
def test_a_collection_in_a_portable_library_moves_with_it(tmp_path):
    home = tmp_path / "drive"
    (home / ".clipsearch").mkdir(parents=True)
    bring(home / ".clipsearch", save(home / "emb" / "v.npy", vectors(4)))
    bring(home / ".clipsearch", layout(home, texts=False))  # the folder of the library itself
    home.rename(tmp_path / "moved")
    with clipsearch.open(tmp_path / "moved" / ".clipsearch") as engine:
        found = {hit.path for hit in engine.search(vector=vectors(1)[0], k=100)}
    names = [f"emb/v.npy/{i}" for i in range(4)] + [f"{i:05d}.jpg" for i in range(12)]
    assert found == {str(tmp_path / "moved" / name) for name in names}
    assert bring(tmp_path / "moved" / ".clipsearch", tmp_path / "moved") == (0, 12, 0)


# --- Encoders


def test_a_library_keeps_to_the_encoder_that_was_named(tmp_path, encoder):
    source, wide = (save(tmp_path / f"{dim}.npy", vectors(5, dim=dim)) for dim in (encoder.dim, 512))
    bring(tmp_path / "lib", wide, "ViT-B-32/openai")
    with pytest.raises(EncoderMismatchError, match="ViT-B-32/openai"):
        bring(tmp_path / "lib", wide, "ViT-L-14/openai")
    with pytest.raises(EncoderMismatchError):
        index(tmp_path / "lib", *photos(tmp_path / "p", 1), encoder=encoder)
    assert bring(tmp_path / "lib", wide, "openclip:ViT-B-32/openai") == (0, 5, 0)
    index(tmp_path / "other", *photos(tmp_path / "p", 1), encoder=encoder)
    with pytest.raises(EncoderMismatchError, match="builtin-small"):
        bring(tmp_path / "other", source, "ViT-B-32/openai")
    assert bring(tmp_path / "other", source, "builtin-small") == (5, 0, 0)


def test_an_emptied_library_may_be_of_another_encoder(tmp_path):
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(5)))
    run_cli("forget", tmp_path / "v.npy", "--library", tmp_path / "lib")
    assert bring(tmp_path / "lib", save(tmp_path / "w.npy", vectors(5, dim=8)), "another") == (5, 0, 0)
    with clipsearch.open(tmp_path / "lib") as engine:
        assert len(engine.search(vector=np.ones(8))) == 5


def test_words_find_imported_vectors_of_the_builtin_encoder(tmp_path, encoder):
    texts = ["a cat on a sofa", "a motorcycle", "how to prune roses"]
    rows = encoder.encode_texts(texts) * 17
    items = jsonl(tmp_path / "i.jsonl", [{"id": i, "text": text} for i, text in enumerate(texts)])
    source = save(tmp_path / "v.npy", rows)
    bring(tmp_path / "lib", source, "builtin-small", items=str(items), modality=Modality.TEXT)
    done = run_cli("query", "--json", "-k", "1", "gardening with roses", "--library", tmp_path / "lib")
    assert done.json["hits"][0]["part"]["text"] == texts[2]
    assert Library(tmp_path / "lib").encoder == EncoderPin("builtin-small", encoder.fingerprint, encoder.dim)


def test_words_need_no_fingerprint_where_only_a_name_came(tmp_path, encoder, monkeypatch):
    """As where the encoder was not on the machine at the time of the import, and is there at that of the query."""
    monkeypatch.setattr(listing, "identify", lambda name: (None, None))
    rows = encoder.encode_texts(["a cat", "a motorcycle"])
    bring(tmp_path / "lib", save(tmp_path / "v.npy", rows), "builtin-small")
    assert Library(tmp_path / "lib").encoder.fingerprint == "imported:builtin-small"
    monkeypatch.undo()
    with clipsearch.open(tmp_path / "lib") as engine:
        assert engine.search("a motorcycle", k=1)[0].path.endswith("/1")
    assert bring(tmp_path / "lib", tmp_path / "v.npy", "builtin-small") == (0, 2, 0)
    with pytest.raises(EncoderMismatchError):  # pictures of which nobody knows that they compare are not mixed in
        index(tmp_path / "lib", *photos(tmp_path / "p", 1), encoder=encoder)


def test_the_dimensions_are_checked_where_only_a_name_came(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "identify", lambda name: (None, None))
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(3)), "builtin-small")
    with clipsearch.open(tmp_path / "lib") as engine:
        with pytest.raises(EncoderMismatchError, match=r"16 dimensions.* builtin-small makes"):
            engine.search("a cat")
        assert len(engine.search(vector=vectors(1)[0])) == 3
        for load in (encoder_loader(engine.library, Settings()), lambda: pinned_encoder(engine.library, Settings())):
            with pytest.raises(EncoderMismatchError, match=r"16 dimensions,.* builtin-small makes"):
                load()


@pytest.mark.parametrize(("name", "match"), [(NAME, "cannot load. Search by a vector"), ("fast", "weights")])
def test_an_encoder_that_cannot_be_had_leaves_search_by_vector(tmp_path, name, match):
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(3, dim=512)), name)
    with SearchEngine(Library(tmp_path / "lib"), clipsearch.Settings(offline=True)) as engine:
        with pytest.raises(EncoderUnavailableError, match=match):
            engine.search("a cat")
        assert engine.search(vector=vectors(3, dim=512)[1], k=1)[0].path.endswith("/1")


# --- How wide scores are spread


def spreads(library):
    with closing(Library(library)) as opened, opened.read() as snapshot:
        return snapshot.spreads()


def test_an_import_measures_how_wide_scores_are_spread_and_again_once_there_are_twice_as_many(tmp_path, encoder):
    first, second, third = (save(tmp_path / f"{i}.npy", vectors(n, i, encoder.dim)) for i, n in enumerate((40, 30, 20)))
    bring(tmp_path / "lib", first, "builtin-small")
    found = spreads(tmp_path / "lib")
    assert found.rows == {"image": 40} and found.values.keys() == {"text image", "image image"}
    # Rows of any direction are spread over cosines as 1 / sqrt(dim).
    assert list(found.values.values()) == pytest.approx([encoder.dim**-0.5] * 2, rel=0.4)
    bring(tmp_path / "lib", second, "builtin-small")
    assert spreads(tmp_path / "lib") == found
    bring(tmp_path / "lib", third, "builtin-small")
    assert spreads(tmp_path / "lib").rows == {"image": 90}
    with clipsearch.open(tmp_path / "lib") as engine:
        assert engine.search("a cat", k=1)[0].confidence >= 0


def test_spreads_of_words_wait_for_an_encoder_that_cannot_be_had(tmp_path, encoder, caplog):
    few, many = (save(tmp_path / f"{count}.npy", vectors(count, dim=encoder.dim)) for count in (5, 40))
    bring(tmp_path / "lib", few, "builtin-small")
    of_words = ((("0" * 64), False), (encoder.fingerprint, True))
    for fingerprint, words in of_words:
        with closing(sqlite3.connect(tmp_path / "lib" / "catalog.db")) as db, db:
            db.execute("UPDATE settings SET value = ? WHERE key = 'fingerprint'", [fingerprint])
        bring(tmp_path / "lib", many, "builtin-small")
        assert spreads(tmp_path / "lib").rows == {"image": 45}
        assert set(spreads(tmp_path / "lib").values) == {"image image"} | ({"text image"} if words else set())
    bring(tmp_path / "named", many)
    assert set(spreads(tmp_path / "named").values) == {"image image"}, "pictures say how pictures score"
    assert not caplog.records


def test_texts_that_stand_for_queries_do_not_count_as_what_they_find(tmp_path):
    bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(60, dim=64)), modality=Modality.TEXT)
    found = spreads(tmp_path / "lib")
    tails = found.tails_of("text", Modality.TEXT)
    assert max(tails.typical.scale, tails.own.scale) < 0.1, "of scores of random rows, none of which is near 1"
    assert found.stand_ins and found.get("text", Modality.TEXT) == pytest.approx(64**-0.5, rel=0.2)


def test_texts_that_are_all_alike_say_nothing_of_chance(tmp_path):
    alike = np.repeat(vectors(1), 60, axis=0)
    bring(tmp_path / "lib", save(tmp_path / "v.npy", alike), modality=Modality.TEXT)
    bring(tmp_path / "lib", save(tmp_path / "pictures.npy", vectors(40, 1)))
    found = spreads(tmp_path / "lib")
    assert not found.tails_of("text", Modality.TEXT) and all(found.values.values())
    with clipsearch.open(tmp_path / "lib") as engine:
        assert all(0 <= hit.confidence <= 1 for hit in engine.search(vector=alike[0], k=50))


def test_what_texts_stood_for_is_measured_by_the_encoder_once_it_is_here(tmp_path, encoder):
    first, second = (save(tmp_path / f"{i}.npy", vectors(45, i, encoder.dim)) for i in range(2))

    def measured(source, fingerprint):
        with closing(sqlite3.connect(tmp_path / "lib" / "catalog.db")) as db, db:
            db.execute("UPDATE settings SET value = ? WHERE key = 'fingerprint'", [fingerprint])
        bring(tmp_path / "lib", source, "builtin-small", modality=Modality.TEXT)
        found = spreads(tmp_path / "lib")
        return found.stand_ins, found.rows["text"]

    bring(tmp_path / "lib", save(tmp_path / "few.npy", vectors(3, 9, encoder.dim)), "builtin-small")
    assert measured(first, "0" * 64) == (True, 45)
    assert measured(second, "0" * 64) == (True, 90), "a library that has grown is measured with what there is"
    assert measured(second, encoder.fingerprint) == (False, 90)
    by_encoder = spreads(tmp_path / "lib")
    assert measured(second, "0" * 64) == (False, 90) and spreads(tmp_path / "lib") == by_encoder


# --- One vector or many


def test_one_vector_gives_results_and_many_give_a_list(tmp_path):
    rows = vectors(200)
    bring(tmp_path / "lib", save(tmp_path / "v.npy", rows))
    with clipsearch.open(tmp_path / "lib") as engine:
        one = engine.search(vector=rows[5], k=3)
        many = engine.search(vector=rows, k=3)
        assert isinstance(one, clipsearch.Results) and isinstance(many, list) and len(many) == 200
        assert [results[0].path for results in many] == [str(tmp_path / "v.npy" / str(i)) for i in range(200)]
        assert [hit.path for hit in many[5]] == [hit.path for hit in one]
        assert len(engine.search(vector=rows[5].tolist())) == 10
        assert [len(results) for results in engine.search(vector=rows[:2].tolist(), k=4)] == [4, 4]
        assert engine.search(vector=rows[:0]) == []
        for wrong in (rows[0, 0], rows[None], rows[:, :3], [], [[1.0] * DIM, [1.0]], "abc"):
            with pytest.raises(InvalidInputError):
                engine.search(vector=wrong)


# --- Catalogs of before


def v1_library(folder, rows):
    """A library as clipsearch wrote it before there were collections."""
    photos(folder / "photos", 1)
    library = Library.create(folder / "lib")
    library.pin(EncoderPin("vectors", "0" * 40, DIM))
    from clipsearch.store.records import Encoded, FileRecord

    with library.writer() as writer:
        root = writer.add_root("", str(folder / "photos")).root_id
        records = [FileRecord(root, f"{i}.jpg", 1, 1) for i in range(len(rows))]
        pairs = zip(records, unit(rows).astype(np.float32), strict=True)
        writer.commit([Encoded(r, f"{i:040x}", Modality.IMAGE, row[None]) for i, (r, row) in enumerate(pairs)])
    library.close()
    with closing(sqlite3.connect(folder / "lib" / "catalog.db")) as db:
        drop_checksums(db)
        db.execute("ALTER TABLE roots DROP COLUMN kind")
        db.execute("ALTER TABLE items DROP COLUMN caption")
        db.execute("ALTER TABLE items DROP COLUMN caption_stamp")
        db.execute("DROP TABLE full_text")
        db.execute("DROP TABLE tags")
        db.execute("UPDATE settings SET value = '1' WHERE key = 'schema_version'")
        db.commit()
        assert columns(db, "roots") == ["id", "path", "portable", "rules", "offline"]
    return folder / "lib"


def columns(db, table):
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def test_a_catalog_of_before_is_read_as_it_is_and_migrated_by_the_next_writer(tmp_path):
    rows = vectors(50)
    folder = v1_library(tmp_path, rows)
    before = tree_digest(folder)
    with clipsearch.open(folder) as reader:
        best = reader.search(vector=rows[8], k=1)[0]
        assert best.path == str(tmp_path / "photos" / "8.jpg") and best.item.caption is None
        assert roots(folder) == {("folder", str(tmp_path / "photos"))}
        assert run_cli("status", "--library", folder).code == 0
    assert tree_digest(folder) == before, "a reader has written"
    with clipsearch.open(folder) as reader:
        reader.search(vector=rows[8])
        source = save(tmp_path / "v.npy", vectors(5, seed=3))
        items = jsonl(tmp_path / "i.jsonl", [{"id": i, "caption": f"c {i}"} for i in range(5)])
        assert bring(folder, source, "vectors", items=str(items)) == (5, 0, 0)
        found = reader.search(vector=vectors(5, seed=3)[2], k=1)[0]  # the same reader, from before the migration
        assert found.path == "2" and found.item.caption == "c 2"
    assert roots(folder) == {("folder", str(tmp_path / "photos")), ("collection", str(source))}
    with closing(sqlite3.connect(folder / "catalog.db")) as db:
        version = db.execute("SELECT value FROM settings WHERE key = 'schema_version'").fetchone()
        assert version == (str(len(migrations.MIGRATIONS)),)


def test_a_migrated_catalog_is_as_a_new_one(tmp_path):
    old = v1_library(tmp_path, vectors(3))
    with Library(old).writer():
        pass
    new = Library.create(tmp_path / "new").folder
    schemas = []
    for folder in (old, new):
        with closing(sqlite3.connect(folder / "catalog.db")) as db:
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            schemas.append(
                (names, {t: sorted(str(c[1:]) for c in db.execute(f"PRAGMA table_info({t})")) for t in tables})
            )
    assert schemas[0] == schemas[1]


def test_a_catalog_of_before_on_a_medium_that_cannot_be_written_is_read(tmp_path):
    from tests.support.cli import run_cli_bound

    rows = vectors(50)
    folder = v1_library(tmp_path, rows)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        shown = run_cli_bound("status", "--library", folder, cwd=tmp_path)
    finally:
        folder.chmod(0o755)
    assert shown.code == 0 and str(tmp_path / "photos") in shown.out.decode()


def test_an_empty_catalog_is_no_library_to_import_beside(tmp_path):
    (tmp_path / "lib").mkdir()
    sqlite3.connect(tmp_path / "lib" / "catalog.db").close()
    with pytest.raises(LibraryNotFoundError):
        Library(tmp_path / "lib")
    assert bring(tmp_path / "lib", save(tmp_path / "v.npy", vectors(3))) == (3, 0, 0)


def test_a_report_is_in_records(tmp_path):
    report = import_embeddings(tmp_path / "lib", str(save(tmp_path / "v.npy", vectors(3))), encoder=NAME)
    assert isinstance(report, ImportReport) and report.imported == 3 and report.seconds > 0


@pytest.mark.parametrize("prefix", ["onnx-dir:", "local-dir:", "openclip:local-dir:"])
def test_an_encoder_in_a_folder_that_is_not_there_is_refused(tmp_path, prefix):
    source = save(tmp_path / "v.npy", vectors(3))
    with pytest.raises(InvalidInputError, match=f"{tmp_path / 'missing'}.*no such folder"):
        bring(tmp_path / "lib", source, encoder=f"{prefix}{tmp_path / 'missing'}")
    assert not (tmp_path / "lib").exists()
    (tmp_path / "missing").mkdir()
    assert bring(tmp_path / "lib", source, encoder=f"{prefix}{tmp_path / 'missing'}") == (3, 0, 0)
    (tmp_path / "missing").rmdir()
    save(source, vectors(4))
    assert bring(tmp_path / "lib", source, encoder=f"{prefix}{tmp_path / 'missing'}")[0] == 1, "the library knows it"
