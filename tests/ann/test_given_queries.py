"""Queries that a user gives to calibrate with, and what stands in for them where there are none."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest

import clipsearch
from clipsearch.ann import calibrate
from clipsearch.ann.calibrate import EXACT, Calibrated, Calibration
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.flat import ArrayRows, exact_search
from clipsearch.ann.stand_ins import SOURCE as STAND_INS
from clipsearch.ann.stand_ins import stand_ins
from clipsearch.cli.build import _describe
from clipsearch.config import Settings
from clipsearch.errors import EncoderError, InvalidInputError, LibraryLockedError
from clipsearch.linalg import unit_rows
from clipsearch.store.generations import generation_path
from clipsearch.store.library import Library
from clipsearch.types import EncoderPin, Modality
from indexer import build
from indexer.importing import import_embeddings
from indexer.plan import IndexPlan
from indexer.queries import COUNT, GivenQueries
from tests.support.cli import run_cli
from tests.support.state import tree_digest

DIM, ROWS = 48, 1200
NAME = "an encoder that is not here"


def far_apart(seed=0, rows=ROWS, texts=200):
    """Pictures in clusters, and texts of some of them that are mostly noise and lie elsewhere."""
    rng = np.random.default_rng(seed)
    scale = (np.arange(DIM) + 1.0) ** -0.7
    centres = 1.5 * rng.standard_normal((60, DIM)) * scale
    pictures = centres[rng.integers(60, size=rows)] + 0.5 * rng.standard_normal((rows, DIM)) * scale + 0.5 * scale
    away = rng.standard_normal(DIM) * scale**0.5
    own = pictures[rng.integers(rows, size=texts)] - pictures.mean(0)
    noise = rng.standard_normal((texts, DIM)) * np.linalg.norm(own, axis=1, keepdims=True) / DIM**0.5
    return unit_rows(pictures).astype(np.float32), unit_rows(away + 0.6 * own + 1.2 * noise).astype(np.float32)


def imported(folder, rows):
    np.save(folder / "rows.npy", rows)
    import_embeddings(folder / "lib", str(folder / "rows.npy"), encoder=NAME)
    return folder / "lib"


def calibration_of(library):
    opened = Library(library)
    try:
        return build.describe(opened)[Modality.IMAGE].calibration
    finally:
        opened.close()


def given_to(library):
    opened = Library(library)
    try:
        return GivenQueries.of(opened)
    finally:
        opened.close()


def overlap(found, true):
    return float((found[:, :, None] == true[:, None, :]).any(axis=1).mean())


# --- Without queries


@pytest.mark.parametrize("nlist", [1, 200])
def test_what_serves_the_stand_ins_serves_texts_that_were_never_seen(nlist):
    pictures, texts = far_apart(rows=6000)
    rows = ArrayRows(pictures.astype(np.float16))
    index = IvfPqIndex(IvfPqParams(DIM, nlist, 24))
    index.train(pictures[::2])
    index.add(pictures.astype(np.float16))
    true = exact_search(rows, texts, 10).ids

    def reached(queries):
        found = calibrate.calibrate(index, queries, calibrate.truth(rows, queries, len(rows)), 0.95)
        return overlap(search_candidates(index, rows, texts, 10, found.probe, find_equal=False).ids, true)

    own = np.arange(0, len(rows), 20)
    assert all(reached(family) >= 0.95 for family in stand_ins(pictures[::4], 300)[:1])
    if nlist > 1:
        assert reached(calibrate.Queries(pictures[own], "pictures", own)) < 0.9, "pictures are too easy"


def test_the_stand_ins_are_unit_vectors_and_the_same_each_time():
    pictures, _ = far_apart()
    first, again = stand_ins(pictures, 100), stand_ins(pictures, 100)
    for one, other in zip(first, again, strict=True):
        assert one.vectors.shape == (100, DIM) and one.vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(one.vectors, axis=1), 1, atol=1e-5)
        assert np.array_equal(one.vectors, other.vectors)


@pytest.mark.slow
def test_a_library_without_words_looks_at_more_for_words_than_for_pictures(tmp_path):
    pictures, texts = far_apart()
    library = imported(tmp_path, pictures)
    with clipsearch.open(library) as engine:
        found = engine.build(index="ivfpq")[Modality.IMAGE].calibration
        assert found.kinds["text"].source == STAND_INS
        assert found.kinds["text"].scanned > found.kinds["image"].scanned
        half = pictures.astype(np.float16).astype(np.float32)
        shares = []
        for text in texts[:100]:
            true = {str(i) for i in np.argsort(-(half @ text))[:10]}
            shares.append(len(true & {hit.path.rpartition("/")[2] for hit in engine.search(vector=text)}) / 10)
        assert np.mean(shares) >= 0.95


def test_where_no_setting_serves_the_stand_ins_words_are_scanned_for_and_that_is_said(tmp_path, monkeypatch, caplog):
    pictures, texts = far_apart()
    library = imported(tmp_path, pictures)
    for name in ("CANDIDATES", "MORE_CANDIDATES"):
        monkeypatch.setattr(calibrate, name, (1,))
    caplog.set_level(logging.WARNING)
    with clipsearch.open(library) as engine:
        built = engine.build(index="ivfpq")[Modality.IMAGE]
        assert "queries by words: an exact scan of all 1,200 vectors" in _describe(built, "ivfpq")
        found = built.calibration
        assert found.probe("text") == EXACT and found.probe(None).candidates == EXACT.candidates
        assert "clipsearch build --queries FILE" in caplog.text
        half = pictures.astype(np.float16).astype(np.float32)
        for text in texts[:20]:
            best = int(np.argmax(half @ text))
            assert engine.search(vector=text, k=1)[0].path.endswith(f"/{best}")


def test_what_earlier_versions_calibrated_for_pictures_alone_scans_for_words_until_it_is_built(tmp_path):
    found = Calibrated(calibrate.Probe(4, 0.25, 30), 0.96, 0.001, 0.95, 500, "pictures of the library", 100.0)
    old = Calibration(ROWS, {"image": found})
    assert old.probe("image") == found.probe
    assert old.probe("text") == old.probe(None) == EXACT

    library = imported(tmp_path, far_apart(rows=400)[0])
    opened = Library(library)
    try:
        with opened.writer() as writer:
            build.build(opened, writer, IndexPlan("pq4"))
        with opened.read() as snapshot:
            generation = snapshot.generation(Modality.IMAGE)
        folder = generation_path(library, generation.name)
        old.save(folder)
        with opened.read() as snapshot:
            assert not build.Builder(opened, IndexPlan("pq4"))._is_calibrated(generation)
    finally:
        opened.close()


# --- With queries


def test_queries_that_are_given_are_calibrated_for_and_kept(tmp_path):
    pictures, texts = far_apart(rows=500)
    library = imported(tmp_path, pictures)
    np.save(tmp_path / "q.npy", 3 * texts)
    with clipsearch.open(library) as engine:
        for given in (texts.tolist(), texts, str(tmp_path / "q.npy")):
            found = engine.build(index="pq4", queries=given)[Modality.IMAGE].calibration.kinds["text"]
            assert found.queries == 200
            assert found.source == ("queries of q.npy" if isinstance(given, str) else "vectors that were given")
            kept = given_to(library)
            assert kept is not None and np.allclose(kept.vectors, texts, atol=1e-3)
        assert engine.build(index="pq4")[Modality.IMAGE].calibration.kinds["text"].source == found.source
        assert engine.build(index="pq4", queries="auto")[Modality.IMAGE].calibration.kinds["text"].source == STAND_INS
    assert given_to(library) is None


@pytest.mark.slow
def test_the_command_takes_them_too(tmp_path):
    pictures, texts = far_apart(rows=400)
    library = imported(tmp_path, pictures)
    np.save(tmp_path / "q.npy", np.repeat(texts, 5, axis=0))
    shown = run_cli("build", "--index", "pq4", "--queries", tmp_path / "q.npy", "--library", library).err
    assert "queries of q.npy" in shown and f"{COUNT} queries" in shown
    assert "stand-ins" in run_cli("build", "--index", "pq4", "--queries", "auto", "--library", library).err
    flat = run_cli("build", "--index", "flat", "--queries", tmp_path / "q.npy", "--library", library).err
    assert "The queries are kept. An exact scan needs no calibration." in flat


@pytest.mark.slow
@pytest.mark.parametrize("name", ["q.txt", "q.csv", "q.jsonl"])
def test_texts_are_encoded_by_the_encoder_of_the_library(tmp_path, encoder, name):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "rows.npy", rng.standard_normal((600, encoder.dim)).astype(np.float32))
    import_embeddings(tmp_path / "lib", str(tmp_path / "rows.npy"), encoder="builtin-small")
    texts = [f"a photograph of {number} dogs" for number in range(60)]
    lines = {
        "q.txt": "\n\n".join(texts),
        "q.csv": "image,caption\n" + "".join(f"{i}.jpg,{text}\n" for i, text in enumerate(texts)),
        "q.jsonl": "".join(json.dumps({"image": "a.jpg", "caption": text}) + "\n" for text in texts),
    }
    (tmp_path / name).write_text(lines[name])
    with clipsearch.open(tmp_path / "lib", settings=Settings(offline=True)) as engine:
        found = engine.build(index="pq4", queries=str(tmp_path / name))[Modality.IMAGE].calibration.kinds["text"]
    assert found.queries == 60 and found.source == f"queries of {name}"
    assert np.allclose(given_to(tmp_path / "lib").vectors, encoder.encode_queries(texts), atol=1e-3)


def spoilt(texts, value):
    rows = texts.copy()
    rows[7] = value
    return rows


class BytesPath(os.PathLike):
    def __fspath__(self):
        return b"nowhere.npy"


UNUSABLE = {
    "other numbers": (lambda t: t.astype(np.int64), "float16, float32 or float64"),
    "objects": (lambda t: np.array([{"a": 1}] * 60, object), "structure|type"),
    "another dimension": (lambda t: t[:, :20], "20 dimensions, but those of the library have 48"),
    "one dimension": (lambda t: t[0], "must be \\(rows, dimensions\\)"),
    "too few": (lambda t: t[:49], "49 queries; at least 50"),
    "NaN": (lambda t: spoilt(t, np.nan), "row 7 is zero or holds NaN"),
    "infinity": (lambda t: spoilt(t, np.inf), "row 7"),
    "zeros": (lambda t: spoilt(t, 0), "row 7"),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    pictures, texts = far_apart(rows=600)
    library = imported(folder, pictures)
    with clipsearch.open(library) as engine:
        engine.build(index="pq4", queries=texts)
    return library, texts


@pytest.mark.parametrize("fault", UNUSABLE)
def test_queries_that_cannot_be_used_are_refused_and_nothing_changes(prepared, tmp_path, fault):
    library, texts = prepared
    before = tree_digest(library)
    make, said = UNUSABLE[fault]
    np.save(tmp_path / "q.npy", make(texts), allow_pickle=True)
    with clipsearch.open(library) as engine, pytest.raises(InvalidInputError, match=said):
        engine.build(queries=str(tmp_path / "q.npy"))
    assert tree_digest(library) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"queries": np.full((60, DIM), "a")}, "holds <U1, not real numbers"),
        ({"queries": np.ones((60, DIM), complex)}, "holds complex128, not real numbers"),
        ({"queries": BytesPath()}, "no file 'nowhere.npy'"),
        ({"queries": "nowhere.npy"}, "no file 'nowhere.npy'"),
        ({"queries": __file__}, "Name a .npy"),
        ({"queries": np.ones(5)}, "shape"),
        ({"queries": [[1.0], [1.0, 2.0]]}, "one length"),
        ({"queries": ["a", 1]}, "texts, or vectors"),
        ({"target_recall": 0.2}, "0.2"),
        ({"memory_budget": -1}, "-1"),
    ],
)
def test_options_that_make_no_sense_are_refused(prepared, options, said):
    library, _ = prepared
    with clipsearch.open(library) as engine, pytest.raises(InvalidInputError, match=said):
        engine.build(**options)


def test_texts_without_an_encoder_say_what_to_do(prepared, tmp_path):
    (tmp_path / "q.txt").write_text("\n".join(f"a dog {number}" for number in range(60)))
    library, _ = prepared
    with clipsearch.open(library) as engine, pytest.raises(EncoderError, match=r"as a \.npy file"):
        engine.build(queries=str(tmp_path / "q.txt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    ["", "{}", "[", *(f'{{"dim": {dim}, "vectors": "AAAAAAAA"}}' for dim in ("48", "-1", "0", "Infinity", "1e30"))],
)
def test_what_a_library_keeps_of_queries_is_not_believed(tmp_path, value):
    library = imported(tmp_path, far_apart(rows=300)[0])
    opened = Library(library)
    try:
        with opened.writer() as writer:
            writer.set_setting("calibration_queries", value)
        assert GivenQueries.of(opened) is None
    finally:
        opened.close()
    with clipsearch.open(library) as engine:
        assert engine.build(index="pq4")[Modality.IMAGE].calibration.kinds["text"].source == STAND_INS


def test_queries_of_another_encoder_are_forgotten_or_not_used(tmp_path):
    opened = Library.create(tmp_path / "lib")
    opened.pin(EncoderPin("one", "1" * 40, 8))
    try:
        with opened.writer() as writer:
            GivenQueries(np.eye(8, dtype=np.float32), "eight").save(writer)
        assert GivenQueries.of(opened) is not None
        opened.pin(EncoderPin("other", "2" * 40, 8))
        assert GivenQueries.of(opened) is None
        with opened.writer() as writer:  # as an earlier version left them
            GivenQueries(np.eye(4, dtype=np.float32), "four").save(writer)
        assert GivenQueries.of(opened) is None
    finally:
        opened.close()


def test_kept_queries_of_a_wrong_dimension_do_not_stop_an_import(tmp_path):
    library = imported(tmp_path, far_apart(rows=300)[0])
    with closing(sqlite3.connect(library / "catalog.db")) as db, db:
        db.execute("DELETE FROM settings WHERE key = 'score_spreads'")
    with closing(Library(library)) as opened, opened.writer() as writer:
        GivenQueries(np.eye(60, dtype=np.float32), "sixty").save(writer)
    assert imported(tmp_path, far_apart(rows=300)[0]) == library
    with closing(Library(library)) as opened, opened.read() as snapshot:
        assert set(snapshot.spreads().values) == {"image image"}


def test_a_library_that_is_written_to_is_not_built(prepared):
    library, _ = prepared
    opened = Library(library)
    try:
        with opened.writer(), clipsearch.open(library) as engine, pytest.raises(LibraryLockedError):
            engine.build()
    finally:
        opened.close()


# --- Confidence


def test_a_picture_that_finds_itself_is_certain_in_a_large_library(tmp_path):
    """Of many draws from a normal distribution the best would be above 1, so that 1 would seem to be chance."""
    rng = np.random.default_rng(0)
    few, spread = 6, 0.9  # scores spread as widely as those of pictures do
    rows = unit_rows(rng.standard_normal((20_000, DIM)) * np.r_[np.full(few, spread), np.full(DIM - few, 0.15)])
    library = imported(tmp_path, rows)
    with clipsearch.open(library) as engine:
        own = [engine.search(vector=row, k=1, modality="image")[0] for row in rows[:: len(rows) // 20]]
        assert all(hit.score > 0.999 and hit.confidence > 0.99 for hit in own)
        strange = [engine.search(vector=row, k=1)[0].confidence for row in rng.standard_normal((20, DIM))]
        assert np.median(strange) < 0.9
    with closing(sqlite3.connect(library / "catalog.db")) as db, db:
        stored = db.execute("DELETE FROM settings WHERE key = 'score_spreads' RETURNING value").fetchone()[0]
    assert "image image" in json.loads(stored)["values"], "measured when imported"
    with clipsearch.open(library) as engine:
        assert all(engine.search(vector=row, k=1)[0].confidence > 0.99 for row in rows[:10]), "and where it was not"
