"""The estimates of `clipsearch plan`, set against real libraries and indexes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import clipsearch
from clipsearch import Record
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.cli.main import cli
from clipsearch.encoders.dimensions import operations_of
from indexer import rates
from indexer.planning import Basis, Demand, Figure, Rates, assumed_gpu, index_bytes, make_plan

ROWS, DIM = 20_000, 256
RATES = Rates(
    Figure(0.005, "s", Basis.MEASURED, "a test"),
    Figure(100.0, "pictures/s", Basis.MEASURED, "a test"),
    Figure(400.0, "captions/s", Basis.MEASURED, "a test"),
    Figure(1000.0, "pictures/s", Basis.ASSUMED, "a test"),
)
DEMAND = Demand(1_000_000, 512, captions=False, gpus=0, cores=2, memory=32 << 30)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, DIM))[rng.integers(200, size=ROWS)] + rng.standard_normal((ROWS, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("lists", [1, 141, 565])
def test_the_bytes_of_an_index_are_those_on_disk(vectors, tmp_path, lists):
    params = IvfPqParams(DIM, lists, 64)
    index = IvfPqIndex(params)
    index.train(vectors[:8000])
    index.add(vectors.astype(np.float16))
    index.save(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert params.disk(ROWS) == pytest.approx(size, rel=0.1)


def test_the_bytes_of_a_library_are_those_on_disk(vectors, tmp_path):
    """Catalog and vectors of a library whose log was merged, and which has no index at this size."""
    with clipsearch.open(tmp_path / "library", create=True, model="made/vectors", dim=DIM) as engine:
        records = [Record(f"photos/2024/{i:08d}", vector=row, modality="image") for i, row in enumerate(vectors)]
        engine.add(records)
    files = [path for path in (tmp_path / "library").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files if not path.name.endswith(("-wal", "-shm")))
    figures = make_plan(replace(DEMAND, items=ROWS, dim=DIM), RATES).figures
    assert index_bytes(ROWS, DIM) == ("flat", 0, 0)
    assert figures["vectors on disk"].value == 2 * DIM * ROWS
    assert figures["disk"].value == pytest.approx(size, rel=0.1)


def test_decoding_and_encoding_share_the_processor():
    figures = make_plan(DEMAND, RATES).figures
    assert figures["decoding on this machine"].value == 400
    assert figures["rate of pictures"].value == pytest.approx(80)  # 1 / (1 / 400 + 1 / 100)
    assert figures["encoding time"].value == pytest.approx(1_000_000 / 80 / 3600)
    assert figures["encoding time"].basis is Basis.MEASURED


def test_captions_take_their_own_time_and_rows():
    plain, captioned = (make_plan(replace(DEMAND, captions=c), RATES).figures for c in (False, True))
    more = captioned["encoding time"].value - plain["encoding time"].value
    assert more == pytest.approx(1_000_000 / 400 / 3600)
    for name in ("rows", "vectors on disk", "index on disk", "index memory", "committing time"):
        assert captioned[name].value == 2 * plain[name].value


def test_gpus_need_machines_that_decode_for_them():
    figures = make_plan(replace(DEMAND, gpus=3), RATES).figures
    assert figures["machines to decode"].value == 8  # 3,000 pictures a second, 400 each
    assert figures["rate of pictures"].value == 3000
    assert figures["encoding time"].basis is Basis.ASSUMED


def test_the_simplest_engine_that_fits_is_recommended():
    small = replace(DEMAND, items=30_000)
    assert make_plan(small, RATES).recommendation.kind == "flat"
    assert make_plan(DEMAND, RATES).recommendation.engine == "library"
    assert make_plan(DEMAND, RATES).recommendation.kind == "ivfpq"
    large = replace(DEMAND, items=500_000_000, memory=64 << 30)
    assert make_plan(large, RATES).recommendation.engine == "shards"
    assert make_plan(replace(large, items=10**10), RATES).recommendation.engine == "milvus"


@given(st.integers(1, 10**12), st.sampled_from([64, 257, 512, 1152]), st.booleans(), st.integers(0, 1000))
def test_every_plan_is_sound(items, dim, captions, gpus):
    """Figures are positive, say where they come from, and are no more certain than what they are made of."""
    plan = make_plan(Demand(items, dim, captions, gpus, 2, 64 << 30), RATES)
    assert all(figure.value >= 0 and figure.unit and figure.source for figure in plan.figures.values())
    assert plan.figures["machines to search"].value >= 1
    assert (plan.figures["encoding time"].basis is Basis.ASSUMED) == (gpus > 0)


@pytest.mark.slow
def test_operations_are_counted_from_the_config():
    """As published: 4.4 billion multiplications for ViT-B/32 at 224 pixels, 81 for ViT-L/14 (open_clip's profile)."""
    pytest.importorskip("open_clip")
    assert operations_of("openclip:ViT-B-32/any") == pytest.approx(2 * 4.4e9, rel=0.05)
    assert operations_of("openclip:ViT-L-14/any") == pytest.approx(2 * 81.1e9, rel=0.05)
    assert operations_of("openclip:RN50/any") is operations_of("builtin-small") is None


def test_an_assumed_gpu_says_so():
    figure = assumed_gpu(8.8e9, "ViT-B-32")
    assert figure.basis is Basis.ASSUMED and "no GPU was measured" in figure.source
    assert figure.value == pytest.approx(37_500, rel=0.01)  # the estimate of docs/gpu.md


@pytest.mark.slow
def test_rates_are_measured_once(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(rates, "_SECONDS", 0.01)
    first = rates.measured_rates(encoder, 2)
    assert 0.0001 < first.decoding_seconds < 10 and first.pictures_per_second > 0 < first.texts_per_second
    assert rates.measured_rates(encoder, 2) == first
    assert rates.measured_rates(encoder, 2, again=True) != first


@pytest.mark.slow
@pytest.mark.parametrize("kept", [b"", b"[1]", b"{", b'{"x": {"decoding_seconds": -1}}', b"[" * 5000, b"\xff"])
def test_damaged_rates_are_measured_again(encoder, tmp_path, monkeypatch, kept):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(rates, "_SECONDS", 0.01)
    (tmp_path / rates.FILE).write_bytes(kept)
    assert rates.measured_rates(encoder, 2).pictures_per_second > 0


def run(*arguments):
    return CliRunner().invoke(cli, ["plan", *arguments])


def test_the_command_says_where_each_number_comes_from():
    done = run("--items", "1e9", "--model", "ViT-L-14/openai", "--gpus", "8", "--captions", "--memory", "256GiB")
    assert done.exit_code == 0
    table = done.stdout.split("\n\n")[1].splitlines()
    assert all(any(f"  {basis}" in line for basis in Basis) for line in table)
    assert "Recommended: shards" in done.stdout and "no GPU was measured" in done.stdout


def test_the_command_gives_json():
    done = run("--items", "3M", "--model", "ViT-B-32/openai", "--gpus", "1", "--gpu-rate", "500", "--json")
    found = json.loads(done.stdout)
    assert found["demand"]["items"] == 3_000_000
    assert found["figures"]["encoding on a GPU"] == {
        "value": 500.0, "unit": "pictures/s", "basis": "given", "source": "--gpu-rate"
    }  # fmt: skip
    assert found["recommendation"]["engine"] == "library"


@pytest.mark.parametrize("items", ["0", "-3", "many", "1e13", "1e999", "nan", "5 cats"])
def test_a_number_that_is_none_is_refused(items):
    done = run("--items", items, "--model", "ViT-B-32/openai")
    assert done.exit_code == 2 and "is not a number of items" in done.stderr
