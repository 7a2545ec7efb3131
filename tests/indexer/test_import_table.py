"""A parquet file of vectors with their records, as `clipsearch embed` writes it: what is taken in, what is refused."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import clipsearch
from clipsearch import Filter
from clipsearch.errors import InvalidInputError
from clipsearch.types import Modality
from indexer.importing import import_embeddings
from indexer.sources.embeddings import BLOCK_ROWS, EmbeddingSource
from tests.support.paths import ROOT

DIM = 4
F32 = pa.float32()


def vectors(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)


def table(path, vector, **columns):
    pq.write_table(pa.table({**columns, "vector": vector}), path, row_group_size=100)
    return path


def bring(library, source, **options):
    report = import_embeddings(library, os.fspath(source), encoder="some model of ours", **options)
    return report.imported, report.skipped, report.replaced


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float16()), pa.list_(F32), pa.list_(F32, DIM), pa.large_list(pa.float64())],
    ids=str,
)
def test_every_row_comes_with_its_vector_and_its_columns(tmp_path, kind):
    rows = vectors(700).astype(np.float16 if kind.value_type == pa.float16() else np.float32)
    names = [f"sku-{i}" for i in range(len(rows))]
    column = pa.array(list(rows), kind)
    said = {"text": [f"number {i}" for i in range(len(rows))], "price": list(range(len(rows)))}
    source = table(tmp_path / "t.parquet", column, key=names, **said)
    assert bring(tmp_path / "lib", source, modality=Modality.TEXT) == (700, 0, 0)
    assert bring(tmp_path / "lib", source, modality=Modality.TEXT) == (0, 700, 0)
    with clipsearch.open(tmp_path / "lib") as engine:
        for number in (0, 255, 256, 699):
            hit = engine.search(vector=rows[number].astype(np.float32), k=1)[0]
            assert hit.score > 0.999 and hit.item.key == names[number]
            assert hit.item.metadata["price"] == number and hit.passage.text == f"number {number}"
        assert engine.count(Filter(where={"price": {"lt": 300}})) == 300


@pytest.mark.slow
def test_more_rows_than_a_block(tmp_path):
    rows = vectors(BLOCK_ROWS + 700)
    source = table(tmp_path / "t.parquet", pa.array(list(rows), pa.list_(F32)))
    assert bring(tmp_path / "lib", source) == (len(rows), 0, 0)
    with clipsearch.open(tmp_path / "lib") as engine:
        for number in (BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 699):
            assert engine.search(vector=rows[number], k=1)[0].item.key == str(number)


ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (pa.array([*ROWS[:2], [1.0]], pa.list_(F32)), "row 2 has a vector of 1 numbers, not 2"),
        (pa.array([ROWS[0], None, ROWS[2]], pa.list_(F32, 2)), "row 1 has no vector"),
        (pa.array([[], *ROWS[1:]], pa.list_(F32)), "row 0 has no vector"),
        (pa.array([None] * 3, pa.list_(F32)), "row 0 has no vector"),
        (pa.array([ROWS[0], [1.0, None], ROWS[2]], pa.list_(F32)), "1 row with NaN or infinity: 1"),
        (pa.array([ROWS[0], [0.0, 0.0], ROWS[2]], pa.list_(F32)), "1 row with nothing but zeros: 1"),
        (pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int64())), "has the type list<.*int64>; it must hold lists"),
        (pa.array(["1", "2", "3"]), "has the type string"),
        (pa.array([1.0, 2.0, 3.0]), "has the type double"),
        (pa.array([[1.0] * 70_000] * 3, pa.list_(F32)), "70,000 dimensions"),
    ],
)
def test_a_column_that_is_not_one_of_vectors_is_refused(tmp_path, vector, said):
    source = table(tmp_path / "t.parquet", vector, id=["a", "b", "c"])
    with pytest.raises(InvalidInputError, match=said):
        bring(tmp_path / "lib", source)
    assert not (tmp_path / "lib").exists()


def test_other_files_are_refused(tmp_path):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"vector": pa.array([], pa.list_(F32))}), tmp_path / "empty.parquet")
    (tmp_path / "garbled.parquet").write_bytes(b"PAR1 nothing PAR1")
    for name, said in (("none", "has 0 columns vector"), ("empty", "holds no vectors"), ("garbled", "cannot be read")):
        with pytest.raises(InvalidInputError, match=said):
            bring(tmp_path / "lib", tmp_path / f"{name}.parquet")
    source = table(tmp_path / "t.parquet", pa.array(ROWS, pa.list_(F32)))
    with pytest.raises(InvalidInputError, match="The records of a table are its own columns"):
        bring(tmp_path / "lib", source, items=os.fspath(source))
    with pytest.raises(InvalidInputError, match="have 2 dimensions, but"):
        import_embeddings(tmp_path / "lib", os.fspath(source), encoder="builtin-small")


def test_a_few_bytes_that_stand_for_many_are_refused(tmp_path):
    one = pa.array([[1.0] * 1024], pa.list_(F32))
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"vector": pa.concat_arrays([one] * 20_000)}), path, compression="zstd")
    with pytest.raises(InvalidInputError, match="claims to hold 81,920,000 bytes of vectors, which is too much"):
        bring(tmp_path / "lib", path)


def test_without_pyarrow_the_command_that_helps_is_named(tmp_path, monkeypatch):
    source = table(tmp_path / "t.parquet", pa.array(ROWS, pa.list_(F32)))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "pyarrow.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'none'}{os.pathsep}{ROOT}")
    with pytest.raises(InvalidInputError, match=r"pip install 'clipsearch\[parquet\]'"):
        bring(tmp_path / "lib", source)


@pytest.mark.parametrize("seed", range(6))
def test_a_garbled_file_is_refused_or_read(tmp_path, seed):
    path = table(tmp_path / "t.parquet", pa.array(list(vectors(50)), pa.list_(F32)), id=[f"{i}" for i in range(50)])
    data, chance = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in chance.integers(4, len(data) - 4, 5):
        data[place] = chance.integers(256)
    path.write_bytes(data)
    try:
        source = EmbeddingSource(str(path))
        for _ in source.check():
            pass
    except InvalidInputError:
        return
    assert sum(len(block.records) for block in source.blocks()) == 50
