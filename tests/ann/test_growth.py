"""An index in the life of a library: growth, deletes, compaction, filters, calibration, plans."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipsearch.ann import calibrate
from clipsearch.ann.calibrate import Calibration
from clipsearch.ann.faiss_ivfpq import IvfPqIndex
from clipsearch.ann.stand_ins import SOURCE as STAND_INS
from clipsearch.errors import AnnIndexError, InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.candidates import MAX_EXACT_ROWS
from clipsearch.query.engine import SearchEngine
from clipsearch.store.generations import generation_path
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, RecordBlock, Scope
from clipsearch.types import EncoderPin, Modality
from indexer import background, build
from indexer.background import BackgroundBuild
from indexer.build import Builder
from indexer.calibration import generic_queries
from indexer.plan import IndexPlan

pytestmark = pytest.mark.slow

DIM = 64


def clustered(rows: int, seed: int = 0, centres: int = 50) -> np.ndarray:
    """Unit rows around centres that are the same for every seed."""
    middle = np.random.default_rng(99).standard_normal((centres, DIM))
    rng = np.random.default_rng(seed)
    x = middle[rng.integers(centres, size=rows)] + 0.8 * rng.standard_normal((rows, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


class Vectors:
    """A library of given vectors, one item each, and what it should hold by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = Library.create(folder)
        self.library.pin(EncoderPin("vectors", "0" * 40, DIM))
        self.engine = SearchEngine(self.library)
        self.held: dict[str, np.ndarray] = {}
        self.made = 0
        self.roots: dict[str, int] = {}

    def add(self, rows: np.ndarray, modality: Modality = Modality.IMAGE, folder: str = "all/") -> None:
        names = [f"{folder}{self.made + i:07d}" for i in range(len(rows))]
        block = RecordBlock(
            [CollectionRecord(name.removeprefix(folder)) for name in names], {modality: rows.astype(np.float16)}
        )
        with self.library.writer() as writer:
            if folder not in self.roots:
                self.roots[folder] = writer.add_collection("", str(self.folder / "rows" / folder.rstrip("/")))
            writer.commit_records(self.roots[folder], block)
        self.held |= dict(zip(names, rows, strict=True)) if modality is Modality.IMAGE else {}
        self.made += len(rows)

    def forget(self, folder: str) -> None:
        with self.library.writer() as writer:
            writer.forget(Scope(self.roots[folder]))
        self.held = {name: row for name, row in self.held.items() if not name.startswith(folder)}

    def build(self, kind: str = "ivfpq", target: float = 0.95, budget: int = 0) -> build.Built:
        with self.library.writer() as writer:
            return build.build(self.library, writer, IndexPlan(kind, target, budget))[Modality.IMAGE]

    def refresh(self) -> None:
        with self.library.writer() as writer:
            build.refresh(self.library, writer)

    def watermark(self) -> int | None:
        with self.library.read() as snapshot:
            generation = snapshot.generation(Modality.IMAGE)
            return generation.watermark if generation else None

    def name(self) -> str | None:
        with self.library.read() as snapshot:
            generation = snapshot.generation(Modality.IMAGE)
            return generation.name if generation else None

    def found(self, query: np.ndarray, k: int = 10, filters: Filter | None = None) -> list[str]:
        start = str(self.folder / "rows") + "/"
        results = self.engine.search(vector=query, k=k, filters=filters)
        assert not results.warnings
        return [hit.path.removeprefix(start) for hit in results]

    def expected(self, query: np.ndarray, k: int, folder: str = "") -> list[str]:
        names = [name for name in self.held if name.startswith(folder)]
        rows = np.array([self.held[name] for name in names]).astype(np.float16).astype(np.float32)
        scores = rows @ query / np.linalg.norm(rows, axis=1)
        return [names[i] for i in np.argsort(-scores, kind="stable")[:k]]

    def recall(self, queries: np.ndarray) -> float:
        return float(np.mean([len({*self.found(q)} & {*self.expected(q, 10)}) / 10 for q in queries]))


@pytest.fixture
def vectors(tmp_path):
    return Vectors(tmp_path)


@pytest.mark.parametrize("count", [0, 1, 2, 38, 255, 256, 1000, 10_000])
def test_every_size_of_library_answers_without_a_word(vectors, caplog, capfd, count):
    rows = clustered(count)
    vectors.add(rows)
    for kind in ("auto", "flat", "pq4", "ivfpq"):
        with vectors.library.writer() as writer:
            built = build.build(vectors.library, writer, IndexPlan(kind))
        assert bool(built) == bool(count)
        for i in range(0, count, max(1, count // 10)):
            results = vectors.engine.search(vector=rows[i], k=3)
            assert results[0].path.endswith(f"{i:07d}") and results[0].score >= 0.999 and not results.warnings
            assert len(results) == min(3, count)
    assert capfd.readouterr() == ("", "")
    assert [r.message for r in caplog.records if "queries by words" not in r.message] == []


@pytest.mark.parametrize("kind", ["torch_flat", "faiss_flat"])
def test_what_scans_on_a_gpu_searches_the_rows_of_the_library(vectors, kind):
    rows = clustered(600)
    vectors.add(rows[:500])
    assert vectors.build(kind).kind == kind
    vectors.add(rows[500:])
    for query in clustered(10, seed=5):
        assert vectors.found(query) == vectors.expected(query, 10)
    assert vectors.found(rows[555], 1) == ["all/0000555"]


@pytest.mark.parametrize("kind", ["pq4", "ivfpq"])
def test_the_target_is_reached_on_queries_that_calibration_did_not_see(vectors, kind):
    vectors.add(clustered(8000))
    built = vectors.build(kind)
    found = built.calibration.kinds["image"]
    assert found.met and found.target == 0.95 and found.queries == 500
    assert vectors.recall(clustered(100, seed=7)) >= 0.92


def test_a_higher_target_looks_at_more(vectors):
    vectors.add(clustered(8000))
    low, high = (vectors.build(target=target).calibration.kinds["image"] for target in (0.7, 0.99))
    assert low.cost < high.cost and low.recall < high.recall and high.recall >= 0.99


def test_texts_and_pictures_are_calibrated_apart(vectors):
    """Texts here lie off the pictures, as real ones do, and need more."""
    pictures = clustered(8000)
    rng = np.random.default_rng(3)
    texts = 0.5 * pictures[:800] + 0.2 * rng.standard_normal((800, DIM)).astype(np.float32) + 0.1
    vectors.add(pictures)
    vectors.add(texts / np.linalg.norm(texts, axis=1, keepdims=True), Modality.TEXT)
    kinds = vectors.build().calibration.kinds
    assert kinds["text"].source == "texts of the library"
    assert kinds["text"].met and kinds["image"].met
    assert kinds["text"].cost > kinds["image"].cost


def test_it_is_said_when_no_setting_reaches_the_target(vectors, caplog, monkeypatch):
    for name in ("CANDIDATES", "MORE_CANDIDATES"):
        monkeypatch.setattr(calibrate, name, (10,))
    vectors.add(clustered(4000))
    found = vectors.build("pq4", target=1.0).calibration.kinds["image"]
    assert not found.met and found.recall < 1.0
    assert "No setting of the image index finds 100% of the true first ten" in caplog.text


def test_where_no_setting_reaches_the_target_no_list_is_looked_at_in_vain(vectors, monkeypatch):
    for name in ("CANDIDATES", "MORE_CANDIDATES"):
        monkeypatch.setattr(calibrate, name, (10,))
    vectors.add(clustered(4000))
    found = vectors.build("ivfpq", target=1.0).calibration.kinds["image"]
    assert not found.met and 0.3 < found.recall < 1.0
    assert found.scanned < 2000


def test_more_candidates_are_tried_where_few_do_not_reach_the_target(vectors, monkeypatch):
    monkeypatch.setattr(calibrate, "CANDIDATES", (10,))
    vectors.add(clustered(4000))
    found = vectors.build("ivfpq", target=0.95).calibration.kinds["image"]
    assert found.met and 10 < found.probe.candidates <= 100


@pytest.mark.parametrize("kind", ["pq4", "ivfpq"])
def test_a_shot_of_a_burst_finds_itself_among_hundreds_that_are_almost_the_same(vectors, kind):
    rng = np.random.default_rng(2)
    burst = clustered(1, seed=3) + 0.02 * rng.standard_normal((300, DIM)).astype(np.float32)
    burst /= np.linalg.norm(burst, axis=1, keepdims=True)
    assert (burst @ burst.T).mean() > 0.95
    vectors.add(np.concatenate([clustered(5000), burst]))
    assert vectors.build(kind).calibration.kinds["image"].probe.candidates < 300
    for i in range(0, 300, 5):
        results = vectors.engine.search(vector=burst[i], k=5)
        assert results[0].path.endswith(f"{5000 + i:07d}") and results[0].score >= 0.999


@pytest.mark.parametrize("how", ["raises", "does not load"])
def test_an_index_that_fails_in_a_search_is_searched_around(vectors, monkeypatch, how):
    vectors.add(clustered(2000))
    vectors.build()

    def fail(*unused, **options):
        raise AnnIndexError("the memory of the device is full")

    monkeypatch.setattr(IvfPqIndex, "search" if how == "raises" else "load", fail)
    query = clustered(1, seed=5)[0]
    results = SearchEngine(Library(vectors.folder)).search(vector=query, k=10)
    assert [hit.path[-11:] for hit in results] == vectors.expected(query, 10)
    assert len(results.warnings) == 1 and "this search was exact" in results.warnings[0]


def test_a_build_that_fails_in_the_background_is_not_tried_again_by_the_run(vectors, monkeypatch, caplog):
    monkeypatch.setattr(build, "MERGE_ROWS", 500)
    vectors.add(clustered(2000))
    tried = []

    def fail(*unused, **options):
        tried.append(1)
        raise MemoryError("no room")

    monkeypatch.setattr(Builder, "make", fail)
    with vectors.library.writer() as writer:
        building = BackgroundBuild(vectors.library, Builder(vectors.library, IndexPlan("ivfpq")))
        for _ in range(4):
            building.tend(writer)
            building.finish(writer)
    assert (
        len(tried) == 1 and "could not be built during the run, and is tried again at its end: no room" in caplog.text
    )


def test_a_run_that_is_stopped_does_not_wait_for_an_index(vectors, monkeypatch):
    monkeypatch.setattr(build, "MERGE_ROWS", 500)
    vectors.add(clustered(2000))
    go_on = threading.Event()
    monkeypatch.setattr(Builder, "make", lambda *unused, **options: go_on.wait(30) and None)
    with vectors.library.writer() as writer:
        building = BackgroundBuild(vectors.library, Builder(vectors.library, IndexPlan("ivfpq")))
        building.tend(writer)
        started = time.monotonic()
        building.finish(writer, lambda: True)
        assert time.monotonic() - started < 5
    go_on.set()


def test_a_library_with_few_rows_left_is_searched_exactly(vectors):
    vectors.add(clustered(230), folder="kept/")
    vectors.add(clustered(70, seed=1), folder="gone/")
    vectors.forget("gone/")
    assert vectors.build("ivfpq").kind == "flat"


def test_a_path_that_is_not_text_holds_an_index_too(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/l\xff")
    vectors = Vectors(Path(folder))
    vectors.add(clustered(1000))
    assert vectors.build().kind == "ivfpq"
    assert vectors.recall(clustered(20, seed=3)) >= 0.9


def test_what_is_added_is_found_at_once_and_merged_without_learning_anew(vectors, monkeypatch):
    vectors.add(clustered(4000))
    vectors.build()
    before = vectors.name()
    vectors.add(clustered(300, seed=1))
    vectors.refresh()
    assert (vectors.name(), vectors.watermark()) == (before, 4000), "a short tail is scanned"
    for query in clustered(300, seed=1)[:20]:
        assert vectors.found(query, 1) == vectors.expected(query, 1)
    vectors.add(clustered(900, seed=2))
    monkeypatch.setattr(build.IvfPqIndex, "train", lambda *unused: pytest.fail("it learnt anew"))
    vectors.refresh()
    assert vectors.watermark() == 5200
    assert vectors.recall(clustered(60, seed=8)) >= 0.9


def trained(monkeypatch) -> list[int]:
    """Record how many rows each training saw."""
    seen: list[int] = []
    original = build.IvfPqIndex.train

    def train(self, sample):
        seen.append(len(sample))
        original(self, sample)

    monkeypatch.setattr(build.IvfPqIndex, "train", train)
    return seen


def test_it_learns_anew_when_rows_of_another_distribution_come(vectors, monkeypatch):
    vectors.add(clustered(3000))
    vectors.build()
    seen = trained(monkeypatch)
    rows = np.random.default_rng(1).standard_normal((4500, DIM)).astype(np.float32)
    vectors.add(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    vectors.refresh()
    assert seen == [7500] and vectors.watermark() == 7500


def test_it_learns_anew_when_there_are_several_times_the_rows(vectors, monkeypatch):
    vectors.add(clustered(1000))
    vectors.build()
    seen = trained(monkeypatch)
    vectors.add(clustered(7000, seed=1))
    vectors.refresh()
    assert seen == [8000]


def test_it_is_calibrated_anew_when_the_library_has_doubled(vectors):
    vectors.add(clustered(3000))
    vectors.build()
    vectors.add(clustered(1500, seed=1))
    vectors.refresh()
    assert build.describe(vectors.library)[Modality.IMAGE].calibration.rows == 3000
    vectors.add(clustered(1500, seed=2))
    vectors.refresh()
    assert build.describe(vectors.library)[Modality.IMAGE].calibration.rows == 6000


def test_readers_answer_while_an_index_is_made_in_the_background(vectors, monkeypatch):
    monkeypatch.setattr(build, "MERGE_ROWS", 1000)
    vectors.add(clustered(2000))
    plan = IndexPlan("ivfpq")
    begun, go_on = threading.Event(), threading.Event()
    original = Builder.make

    def make(*arguments, **options):
        begun.set()
        assert go_on.wait(30)
        return original(*arguments, **options)

    monkeypatch.setattr(background.Builder, "make", make)
    with vectors.library.writer() as writer:
        building = BackgroundBuild(vectors.library, Builder(vectors.library, plan))
        building.tend(writer)
        assert begun.wait(30)
        query = clustered(1, seed=4)[0]
        assert vectors.watermark() is None and vectors.found(query) == vectors.expected(query, 10)
        building.tend(writer)
        go_on.set()
        building.finish(writer)
    assert vectors.watermark() == 2000
    assert vectors.recall(clustered(40, seed=6)) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "pq4", "ivfpq"])
def test_ten_thousand_deletes_of_fifty_thousand(vectors, kind):
    vectors.add(clustered(10_000), folder="gone/")
    vectors.add(clustered(40_000, seed=1), folder="kept/")
    vectors.build(kind)
    query = vectors.held["gone/0000042"]
    vectors.forget("gone/")
    found = vectors.found(query, 200)
    assert len(found) == 200 and all(name.startswith("kept/") for name in found)
    assert vectors.recall(clustered(50, seed=3)) >= 0.9


def test_rows_are_compacted_when_more_than_a_quarter_is_dead(vectors, monkeypatch):
    vectors.add(clustered(1500), folder="gone/")
    vectors.add(clustered(3500, seed=1), folder="kept/")
    vectors.build()
    vectors.forget("gone/")
    seen = trained(monkeypatch)
    size = sum(path.stat().st_size for path in (vectors.folder / "vectors").iterdir())
    vectors.refresh()
    assert seen == [], "what it learnt is kept"
    assert vectors.watermark() == 3500
    with vectors.library.read() as snapshot:
        assert len(snapshot.rows(Modality.IMAGE)) == 3500 and snapshot.live(Modality.IMAGE) is None
    for name in list(vectors.held)[::200]:
        assert vectors.found(vectors.held[name], 1) == [name]
    assert vectors.recall(clustered(50, seed=3)) >= 0.9
    with vectors.library.writer():
        pass
    assert sum(path.stat().st_size for path in (vectors.folder / "vectors").iterdir()) < 0.75 * size


@pytest.mark.parametrize("kind", ["flat", "pq4", "ivfpq"])
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_filters_fill_k_and_few_rows_are_searched_exactly(vectors, kind, share, monkeypatch):
    total = 10_000
    inside = int(total * share)
    monkeypatch.setattr("clipsearch.query.candidates.MAX_EXACT_ROWS", total // 100)
    vectors.add(clustered(inside), folder="in/")
    vectors.add(clustered(total - inside, seed=1), folder="out/")
    vectors.build(kind)
    folder = Filter(folders=(str(vectors.folder / "rows" / "in"),))
    agreed = []
    for query in clustered(30, seed=5):
        found, expected = vectors.found(query, 10, folder), vectors.expected(query, 10, "in/")
        assert len(found) == 10 and all(name.startswith("in/") for name in found)
        agreed.append(len({*found} & {*expected}) / 10)
        if share <= 0.01 or kind == "flat":
            assert found == expected
    assert np.mean(agreed) >= 0.9


def test_a_filter_may_leave_fewer_than_k_or_nothing(vectors):
    vectors.add(clustered(3), folder="few/")
    vectors.add(clustered(2000, seed=1), folder="many/")
    vectors.build()
    query = clustered(1, seed=5)[0]
    assert sorted(vectors.found(query, 10, Filter(folders=(str(vectors.folder / "rows/few"),)))) == sorted(
        vectors.expected(query, 10, "few/")
    )
    assert vectors.found(query, 10, Filter(ids=frozenset())) == []
    assert MAX_EXACT_ROWS > 1000


def test_batches_and_filters_go_together(vectors):
    vectors.add(clustered(500), folder="a/")
    vectors.add(clustered(500, seed=1), folder="b/")
    queries = clustered(70, seed=2)
    only = Filter(folders=(str(vectors.folder / "rows" / "b"),))
    answers = vectors.engine.search_batch(vectors=queries, k=5, filters=only)
    for query, results in zip(queries, answers, strict=True):
        names = [hit.path.removeprefix(f"{vectors.folder}/rows/") for hit in results]
        assert names == vectors.expected(query, 5, "b/")


def test_a_plan_is_kept_for_later_runs(vectors):
    vectors.add(clustered(2000))
    vectors.build("pq4", target=0.9)
    assert IndexPlan.of(vectors.library) == IndexPlan("pq4", 0.9, 0)
    vectors.add(clustered(2000, seed=1))
    vectors.refresh()
    assert build.describe(vectors.library)[Modality.IMAGE].kind == "pq4"


def test_a_budget_that_nothing_fits_changes_nothing(vectors):
    vectors.add(clustered(2000))
    vectors.build("pq4")
    before = vectors.name()
    with pytest.raises(InvalidInputError, match="--memory-budget"):
        vectors.build("ivfpq", budget=1000)
    assert vectors.name() == before and IndexPlan.of(vectors.library).kind == "pq4"


def test_a_library_that_outgrows_its_budget_is_searched_exactly(vectors):
    vectors.add(clustered(2000))
    assert vectors.build("pq4", budget=2000 * 30).kind == "pq4"
    vectors.add(clustered(4000, seed=1))
    vectors.refresh()
    assert vectors.name() is None
    query = clustered(1, seed=5)[0]
    assert vectors.found(query) == vectors.expected(query, 10)


def test_a_smaller_budget_makes_a_smaller_index(vectors):
    vectors.add(clustered(3000))

    def size() -> int:
        return (generation_path(vectors.folder, vectors.name() or "") / "index.faiss").stat().st_size

    vectors.build("pq4")
    large = size()
    vectors.build("pq4", budget=3000 * 26)
    assert size() < large


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "delete all"])
def test_any_damaged_file_of_an_index_is_told_searched_around_and_mended(vectors, damage):
    vectors.add(clustered(1500))
    vectors.build()
    folder = generation_path(vectors.folder, vectors.name() or "")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["calibration.json", "index.faiss", "transform.npz"]
    query = clustered(1, seed=5)[0]
    for name in names:
        folder = generation_path(vectors.folder, vectors.name() or "")
        for path in [folder / name] if damage != "delete all" else list(folder.iterdir()):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.unlink()
            if not damage.startswith("delete"):
                path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
        results = SearchEngine(Library(vectors.folder)).search(vector=query, k=10)
        assert [hit.path[-11:] for hit in results] == vectors.expected(query, 10)
        assert len(results.warnings) == 1 and "clipsearch build" in results.warnings[0]
        vectors.refresh()
        assert SearchEngine(Library(vectors.folder)).search(vector=query, k=1).warnings == ()


def test_an_index_of_an_earlier_version_is_made_anew_by_the_next_run(vectors):
    vectors.add(clustered(1500))
    vectors.build()
    with vectors.library.read() as snapshot:
        old = snapshot.generation(Modality.IMAGE)
    with vectors.library.writer() as writer:
        writer.activate(replace(old, params={"dim": DIM, "nlist": 38, "m": 16, "nbits": 8, "nprobe": 16}))
    vectors.refresh()
    assert vectors.name() != old.name
    assert vectors.recall(clustered(20, seed=3)) >= 0.9


def test_a_calibration_survives_being_written(tmp_path, vectors):
    vectors.add(clustered(1500))
    calibration = vectors.build().calibration
    calibration.save(tmp_path)
    assert Calibration.load(tmp_path) == calibration
    assert (
        json.loads((tmp_path / "calibration.json").read_text())["kinds"]["image"]["source"] == "pictures of the library"
    )


def test_a_query_of_unknown_kind_is_searched_as_thoroughly_as_any(vectors):
    vectors.add(clustered(2000))
    calibration = vectors.build().calibration
    assert calibration.probe("image") == calibration.kinds["image"].probe
    assert calibration.probe("text") == calibration.kinds["text"].probe
    for kind in calibration.kinds.values():
        assert calibration.probe(None).nprobe >= kind.probe.nprobe
        assert calibration.probe(None).candidates >= kind.probe.candidates


def test_the_generic_queries_are_many_and_all_different():
    queries = generic_queries()
    assert len({query.lower() for query in queries}) == len(queries) >= 1000
    assert all(query == query.strip() and 3 <= len(query) <= 120 for query in queries)


def test_without_words_stand_ins_are_asked_and_nothing_is_complained_of(vectors, caplog):
    caplog.set_level(logging.WARNING)
    vectors.add(clustered(1500))
    found = vectors.build().calibration.kinds["text"]
    assert found.source == STAND_INS and found.met and not found.is_exact
    assert not caplog.records
