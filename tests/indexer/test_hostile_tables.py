"""Arrays, records and captions that were made to do harm: refused with a reason and within bounds, nothing stored."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipsearch.errors import InvalidInputError
from clipsearch.media.captions import read_pairs
from clipsearch.paths import without_mark
from indexer.importing import import_embeddings
from indexer.sources import captions, parquet
from indexer.sources.embeddings import EmbeddingSource
from indexer.sources.matrices import Array
from tests.support.cli import environment
from tests.support.libraries import index, photos
from tests.support.paths import ROOT
from tests.support.state import read_state

LONG = 100 << 20


@pytest.fixture
def source(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(4, 8, dtype=np.float32))
    return tmp_path / "v.npy"


def refused(tmp_path, source, match, items=None):
    with pytest.raises(InvalidInputError, match=match):
        import_embeddings(tmp_path / "lib", os.fspath(source), encoder="ours", items=items and os.fspath(items))
    assert not (tmp_path / "lib").exists()


# --- Arrays


def head(shape="(4, 8)", descr="'<f4'", order="False", extra="", version=1, text=None):
    """The head of a .npy file, as it is or as nobody would write it."""
    written = text or f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}{extra}}}"
    data = written.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(data)) + data


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (head("(4611686018427387904, 4)"), "its header claims"),
        (head("(2305843009213693952, 8)"), "its header claims"),
        (head("(1099511627776, 65536)"), "its header claims"),
        (head("(-4, 8)"), "no shape"),
        (head("(4, -8)"), "no shape"),
        (head("(True, 8)"), "no shape"),
        (head("(4.0, 8)"), "no shape"),
        (head("[4, 8]"), "no shape"),
        (head("(4L, 8L)"), "Python 2"),
        (head("(1, 1000000)"), "1,000,000 dimensions"),
        (head(descr="'|O'"), "type object"),
        (head(descr="[('a', '<f4')]"), "a structure"),
        (head(descr="'<f4,<f4'"), "holds numbers of the type"),
        (head(descr="'(9,9)f4'"), "holds numbers of the type"),
        (head(descr="'x' * 9"), "cannot be read"),
        (head(order="1"), "no shape"),
        (head(extra=", 'more': 1"), "not that of an array"),
        (head(text="__import__('os').abort()"), "cannot be read"),
        (head(text="[" * 9000), "cannot be read"),
        (head(text="-" * 9000 + "1"), "cannot be read"),
        (head(text="1"), "not that of an array"),
        (head(text="{'shape': (4, 8)}" + " " * 20_000), "its header has"),
        (head(version=2)[:8] + b"\xff\xff\xff\xff", "its header has 4,294,967,295 bytes"),
        (head(version=2)[:8] + b"\xff", "ends within its head"),
        (head()[:40], "cannot be read"),
        (head(version=4), "version is 4.0"),
        (b"PK\x03\x04" + bytes(100), "an .npz archive"),
        (b"\x80\x04\x95" + bytes(100), "in another format"),
    ],
)
def test_a_head_that_claims_what_is_not_there_is_refused(tmp_path, data, match):
    (tmp_path / "v.npy").write_bytes(data + bytes(4 * 8 * 4))
    refused(tmp_path, tmp_path / "v.npy", match)


def test_a_pipe_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    (tmp_path / "laion" / "img_emb").mkdir(parents=True)
    os.mkfifo(tmp_path / "laion" / "img_emb" / "img_emb_0.npy")
    refused(tmp_path, tmp_path / "laion", "not a regular file")


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_that_is_cut_while_it_is_read_is_an_error_and_no_signal(source, order):
    np.save(source, np.asarray(np.random.default_rng(0).standard_normal((40_000, 64)), np.float32, order=order))
    matrix = Array.open(source)
    blocks = matrix.blocks(0, matrix.rows)
    next(blocks)
    os.truncate(source, 1000)
    with pytest.raises(InvalidInputError, match="became shorter"):
        list(blocks)


# --- Records


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (b'{"id": "' + b"x" * (2 << 20) + b'"}\n', "line 1: longer than"),
        (b'{"id": ' + b"[" * 100_000 + b"\n", "line 1: not a JSON object"),
        (b'{"id": ' + b"9" * 10_000 + b"}\n", "line 1: not a JSON object"),
        (b"\0" * 5000 + b"\n", "line 1: not a JSON object"),
        (b'{"id": "a\\u0000b"}\n', "NUL"),
    ],
)
def test_lines_that_are_made_to_do_harm_are_refused(tmp_path, source, line, match):
    (tmp_path / "i.jsonl").write_bytes(line)
    refused(tmp_path, source, match, tmp_path / "i.jsonl")


MEASURED = """
import resource, sys
from pathlib import Path
from indexer.importing import import_embeddings
from clipsearch.errors import InvalidInputError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    import_embeddings(Path(sys.argv[1]), sys.argv[2], encoder="ours", items=sys.argv[3])
except InvalidInputError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures kilobytes as Linux counts them")
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_hundred_megabytes_in_one_value_take_no_such_memory(tmp_path, source, kind):
    items = tmp_path / f"i.{kind}"
    if kind == "jsonl":
        with open(items, "wb") as file:
            file.write(b'{"id": "')
            file.truncate(LONG)  # of NUL bytes, which the disk does not hold
    else:
        pq.write_table(pa.table({"id": pa.array(["x" * LONG] * 4)}), items)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "lib"), str(source), str(items)],
        env=environment({"PYTHONPATH": str(ROOT)}), capture_output=True, text=True, check=True,
    )  # fmt: skip
    *said, grown = done.stdout.splitlines()
    assert "longer than" in said[0] or "more than" in said[0]
    assert int(grown) < 60_000 and not (tmp_path / "lib").exists()


def evil_parquet(path, table, **options):
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1]] * 4),
        pa.array([{"a": 1}] * 4),
        pa.array([[[[["x"]]]]] * 4),
        pa.array([b"x"] * 4),
        pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
    ],
    ids=["list", "struct", "nested", "binary", "map"],
)
def test_columns_that_no_record_has_are_refused(tmp_path, source, column):
    items = evil_parquet(tmp_path / "i.parquet", pa.table({"id": column}))
    refused(tmp_path, source, "its column id has the type", items)


def test_values_of_a_category_are_read(tmp_path, source):
    column = pa.array(["a", "b", None, "c"]).dictionary_encode()
    items = evil_parquet(tmp_path / "i.parquet", pa.table({"id": column}))
    records = EmbeddingSource(str(source), str(items)).parts[0].records()
    assert [without_mark(record.name) for record in records] == list("ab2c")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit of memory that the system keeps")
def test_a_dictionary_that_stands_for_gigabytes_is_refused_by_its_memory(tmp_path, source, monkeypatch):
    """Each of a thousand rows is the same 16 MB, which the file holds once."""
    monkeypatch.setattr(parquet, "MAX_MEMORY", 600 << 20)
    big = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), pa.array(["x" * (16 << 20)]))
    items = evil_parquet(tmp_path / "i.parquet", pa.table({"caption": big}), compression="zstd", store_schema=False)
    assert items.stat().st_size < 1 << 20
    refused(tmp_path, source, "memory|malloc|MB", items)


@pytest.mark.slow
def test_a_claim_of_more_rows_than_can_be_counted_ends(tmp_path, source):
    """The file has no column of ours, so only its metadata says how many rows there are."""
    items = evil_parquet(tmp_path / "i.parquet", pa.table({"other": pa.nulls(3_000_000)}))
    refused(tmp_path, source, r"more than 1,000,00\d records", items)


@pytest.mark.parametrize("seed", range(6))
def test_a_parquet_file_that_is_garbled_is_refused_or_read(tmp_path, source, seed):
    items = evil_parquet(tmp_path / "i.parquet", pa.table({"id": ["a", "b", "c", "d"], "caption": ["x"] * 4}))
    data = bytearray(items.read_bytes())
    chance = np.random.default_rng(seed)
    for place in chance.integers(4, len(data) - 8, 12):
        data[place] = chance.integers(256)
    items.write_bytes(data)
    try:
        list(EmbeddingSource(str(source), str(items)).check())
    except InvalidInputError:
        return


def test_a_child_that_dies_is_an_error_of_that_file(tmp_path, source, monkeypatch):
    items = evil_parquet(tmp_path / "i.parquet", pa.table({"id": [1, 2, 3, 4]}))
    (tmp_path / "killer").mkdir()
    (tmp_path / "killer" / "pyarrow.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "killer"))
    refused(tmp_path, source, "ended the process", items)


# --- Captions


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("captions.jsonl", None, "longer than"),
        ("captions.csv", None, "longer than"),
        ("captions.jsonl", b'{"image": "p000.jpg", "caption": ' + b"[" * 100_000 + b"\n", "not JSON"),
        ("captions.jsonl", b"\0" * 1000 + b"\n", "not JSON"),
        ("captions.csv", b'image,caption\np000.jpg,"' + b"x\n" * 200_000, "row cannot be read"),
        ("captions.csv", b"image,caption\np000.jpg,\xff\n", "not UTF-8"),
        ("captions.csv", b"\0" * 1000, "columns must be"),
    ],
)
def test_a_table_of_captions_that_does_harm_is_told_and_the_pictures_are_indexed(tmp_path, encoder, name, data, match):
    photos(tmp_path / "photos", 2)
    with open(tmp_path / "photos" / name, "wb") as file:
        file.write(b"image,caption\n" * (name.endswith("csv") and data is None) + (data or b"x"))
        if data is None:
            file.truncate(LONG)
    report = index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    assert report.added == 2
    ((path, reason),) = report.failed
    assert path.endswith(name) and match in reason
    assert sorted(read_state(tmp_path / "lib").live) == ["p000.jpg", "p001.jpg"]


def test_a_caption_with_nul_is_a_caption_without(tmp_path, encoder):
    photos(tmp_path / "photos", 1)
    said = [{"image": "p000.jpg", "caption": "a\0cat"}, {"image": "p\0.jpg", "caption": "nobody's"}]
    (tmp_path / "photos" / "captions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in said))
    assert index(tmp_path / "lib", tmp_path / "photos", encoder=encoder).failed == []
    assert read_state(tmp_path / "lib").live["p000.jpg"].caption == "a cat"


def test_a_table_that_is_too_long_to_hold_is_not_read(tmp_path, encoder):
    photos(tmp_path / "photos", 1)
    with open(tmp_path / "photos" / "captions.csv", "wb") as file:
        file.truncate(captions.MAX_TABLE + 1)
    ((_, reason),) = index(tmp_path / "lib", tmp_path / "photos", encoder=encoder).failed
    assert "Split it over folders" in reason


def test_a_line_as_long_as_may_be_is_read(tmp_path):
    text = "x" * ((1 << 20) - 100)
    (tmp_path / "c.jsonl").write_text(json.dumps({"image": "a.jpg", "caption": text}) + "\n")
    assert [pair.caption for pair in read_pairs(tmp_path / "c.jsonl")] == [text]
