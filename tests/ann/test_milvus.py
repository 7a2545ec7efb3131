"""A library whose index is on a real Milvus server: answers, growth, deletes, kills of the server, trust."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import clipsearch
from clipsearch import Filter, Record
from clipsearch.ann import milvus, milvus_params, server_trust
from clipsearch.ann import milvus_server as client
from clipsearch.ann.milvus_server import MilvusServer
from clipsearch.errors import IndexServerError
from clipsearch.linalg import unit_rows
from clipsearch.query import candidates
from clipsearch.types import Modality
from indexer import calibration
from indexer.importing import import_embeddings
from tests.support.cli import run_cli

pytestmark = pytest.mark.cluster
FEW = pytest.mark.usefixtures("few_queries")

DIM = 48


def far_apart(rows: int, texts: int = 200, seed: int = 0):
    """Pictures in clusters, and texts of some of them that are mostly noise and lie elsewhere."""
    rng = np.random.default_rng(seed)
    scale = (np.arange(DIM) + 1.0) ** -0.7
    centres = 1.5 * np.random.default_rng(99).standard_normal((60, DIM)) * scale
    pictures = centres[rng.integers(60, size=rows)] + 0.5 * rng.standard_normal((rows, DIM)) * scale + 0.5 * scale
    away = np.random.default_rng(98).standard_normal(DIM) * scale**0.5
    own = pictures[rng.integers(rows, size=texts)] - pictures.mean(0)
    noise = rng.standard_normal((texts, DIM)) * np.linalg.norm(own, axis=1, keepdims=True) / DIM**0.5
    return unit_rows(pictures).astype(np.float32), unit_rows(away + 0.6 * own + 1.2 * noise).astype(np.float32)


@pytest.fixture
def few_queries(monkeypatch):
    """Calibrate with few queries where recall is not what a test is about."""
    monkeypatch.setattr(calibration, "COUNT", 60)


@pytest.fixture
def asked(monkeypatch):
    """The limits of all searches that a server was asked for."""
    limits: list[int] = []
    original = MilvusServer.search

    def search(self, name, queries, limit, nprobe, below=None):
        limits.append(limit)
        return original(self, name, queries, limit, nprobe, below)

    monkeypatch.setattr(MilvusServer, "search", search)
    return limits


@pytest.fixture
def uri(milvus_server):
    """The address of a server that answers and has no collections: a test that ended it costs no other one."""
    milvus_server.revive()
    server = MilvusServer(milvus_server.uri, is_build=True)
    server_trust.remember(milvus_server.uri)
    for name in server.collections():
        server.drop(name)
    server.close()
    return milvus_server.uri


def library_of(folder, rows):
    folder.mkdir(exist_ok=True)
    np.save(folder / "rows.npy", rows)
    import_embeddings(folder / "lib", str(folder / "rows.npy"), encoder="an encoder that is not here")
    return clipsearch.open(folder / "lib")


def collections_on(uri):
    server = MilvusServer(uri)
    try:
        return [name for name in server.collections() if milvus_params.is_collection(name)]
    finally:
        server.close()


def generation_of(engine):
    with engine.library.read() as snapshot:
        return snapshot.generation(Modality.IMAGE)


def first_ten(engine, queries):
    found = engine.search_batch(vectors=queries, k=10)
    assert not any(results.warnings for results in found)
    return [[(hit.item.key, hit.score) for hit in results] for results in found]


@FEW
def test_faiss_milvus_and_exact_search_give_the_same_first_ten_with_the_same_scores(tmp_path, uri, asked):
    rows, texts = far_apart(30_000)
    engine = library_of(tmp_path, rows)
    queries, given = texts[:100], texts[100:]
    engine.build(index="flat")
    exact = first_ten(engine, queries)
    found = {}
    for kind, server in (("ivfpq", ""), ("milvus", uri)):
        built = engine.build(index=kind, uri=server, queries=given)[Modality.IMAGE]
        assert built.kind == kind and built.calibration.kinds["text"].met
        asked.clear()
        found[kind] = first_ten(engine, queries)
    assert asked, "the server was not asked"
    for kind, answers in found.items():
        shares = [len({*dict(answer)} & {*dict(true)}) / 10 for answer, true in zip(answers, exact, strict=True)]
        assert np.mean(shares) >= 0.95 - 2 * np.std(shares) / len(shares) ** 0.5, kind
        same = [i for i, share in enumerate(shares) if share == 1]
        assert len(same) > 50
        for i in same:
            assert [key for key, _ in answers[i]] == [key for key, _ in exact[i]]
        for answer, true in zip(answers, exact, strict=True):
            for key, score in answer:
                if key in dict(true):
                    assert score == pytest.approx(dict(true)[key], abs=1e-6)


@FEW
def test_filters_deletes_and_new_rows_are_as_with_any_index(tmp_path, uri, asked, monkeypatch):
    monkeypatch.setattr(candidates, "MAX_EXACT_ROWS", 50)
    rows, texts = far_apart(1500)
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small") as engine:
        dim = engine.encoder.dim
        wide = unit_rows(np.pad(rows, ((0, 0), (0, dim - DIM)))).astype(np.float32)
        engine.add([Record(f"r{i}", vector=row, metadata={"part": i % 3}) for i, row in enumerate(wide)])
        given = np.pad(texts[100:], ((0, 0), (0, dim - DIM)))
        queries = np.pad(texts[:20], ((0, 0), (0, dim - DIM)))
        assert engine.build(index="milvus", uri=uri, queries=given)[Modality.IMAGE].kind == "milvus"
        third, deleted = Filter(where={"part": 1}), {f"r{i}" for i in range(0, 1500, 30)}
        engine.delete(sorted(deleted))
        asked.clear()
        for query in queries:
            hits = engine.search(vector=query, k=40)
            assert len(hits) == 40 and not hits.warnings and not {hit.item.key for hit in hits} & deleted
            some = engine.search(vector=query, k=10, filters=third)
            assert len(some) == 10 and all(int(hit.item.key[1:]) % 3 == 1 for hit in some)
        assert len(asked) >= 40
        two = [hit.item.id for hit in some[:2]]
        few = engine.search(vector=queries[0], k=10, filters=Filter(where={"part": 1}, ids=two))
        assert {hit.item.id for hit in few} == {*two}
        engine.add([Record("late", vector=queries[3])])
        assert engine.search(vector=queries[3], k=1)[0].item.key == "late"


@FEW
def test_mixed_modalities_words_pictures_filters_and_deletes_answer_as_faiss_and_exact_search_do(
    tmp_path, uri, asked, monkeypatch
):
    monkeypatch.setattr(candidates, "MAX_EXACT_ROWS", 50)
    pictures, texts = far_apart(1500, texts=1100)
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small") as engine:
        pictures, texts = (np.pad(each, ((0, 0), (0, engine.encoder.dim - DIM))) for each in (pictures, texts))
        for modality, rows in (("image", pictures), ("text", texts[:1000])):
            records = [
                Record(f"{modality}{i}", vector=row, modality=modality, metadata={"part": i % 3})
                for i, row in enumerate(rows)
            ]
            engine.add(records)
        engine.delete([f"image{i}" for i in range(0, 1500, 30)] + [f"text{i}" for i in range(0, 1000, 30)])
        third = Filter(where={"part": 1})
        searches = [
            {"vectors": queries, "kind": kind, "filters": filters, "modality": modality}
            for kind, queries in (("text", texts[1060:]), ("image", pictures[7:1500:37]))
            for filters in (None, third)
            for modality in (None, "image", "text")
        ]
        found = {}
        for kind, server in (("flat", ""), ("ivfpq", ""), ("milvus", uri)):
            built = engine.build(index=kind, uri=server, queries=texts[1000:1060])
            assert {each.kind for each in built.values()} == {kind} and len(built) == 2
            asked.clear()
            found[kind] = [[answer for answer in engine.search_batch(k=10, **search)] for search in searches]
        assert len(asked) >= len(searches)
    for kind in ("ivfpq", "milvus"):
        for search, answers, exact in zip(searches, found[kind], found["flat"], strict=True):
            shares = [share_of_true(*pair, search["filters"]) for pair in zip(answers, exact, strict=True)]
            assert np.mean(shares) >= 0.95 - 3 * np.std(shares) / len(shares) ** 0.5, (kind, search)


def share_of_true(results, exact, filters):
    """The share of the true first ten; those found have their exact scores, and each modality is in the same order."""
    assert not results.warnings and len(results) == len(exact) == 10
    true = {hit.item.key: hit.score for hit in exact}
    same = [hit for hit in results if hit.item.key in true]
    numbers = [int(hit.item.key.lstrip("imagetx")) for hit in results]
    assert all(number % 30 for number in numbers) and (filters is None or all(n % 3 == 1 for n in numbers))
    assert [hit.score for hit in same] == pytest.approx([true[hit.item.key] for hit in same], abs=1e-6)
    for modality in ("image", "text"):  # how two are mixed depends on all that each found
        keys = [hit.item.key for hit in same if hit.item.key.startswith(modality)]
        assert keys == [key for key in true if key in keys]
    return len(same) / 10


@FEW
def test_new_rows_go_into_the_same_collection_and_a_compaction_makes_another(tmp_path, uri, asked):
    rows, _ = far_apart(2000)
    engine = library_of(tmp_path, rows[:1200])
    engine.build(index="milvus", uri=uri)
    first = generation_of(engine)
    with pytest.MonkeyPatch.context() as patch:  # a build that was cut off has sent some rows more
        patch.setattr(milvus.MilvusIndex, "finish", lambda *unused: (_ for _ in ()).throw(IndexServerError("cut off")))
        library_of(tmp_path, rows)
    assert generation_of(engine) == first
    asked.clear()
    assert engine.search(vector=rows[5], k=1)[0].score >= 0.999 and not engine.search(vector=rows[5]).warnings
    assert engine.search(vector=rows[1999], k=1)[0].score >= 0.999
    assert asked
    library_of(tmp_path, rows)  # an import ends as a run of the indexer does
    from indexer.build import refresh

    with engine.library.writer() as writer:
        refresh(engine.library, writer)
    second = generation_of(engine)
    assert (second.watermark, second.params["collection"]) == (2000, first.params["collection"])
    assert collections_on(uri) == [first.params["collection"]]
    for i in (0, 1199, 1200, 1999):
        hit = engine.search(vector=rows[i], k=1)[0]
        assert hit.score >= 0.999


@FEW
def test_auto_goes_back_and_deletes_the_collection_and_no_other(tmp_path, uri, caplog):
    rows, _ = far_apart(600)
    engine, other = library_of(tmp_path / "a", rows), library_of(tmp_path / "b", rows[:500])
    for each in (engine, other):
        each.build(index="milvus", uri=uri)
    before = generation_of(engine).params["collection"]
    engine.build(index="milvus", uri=uri)
    now = {generation_of(each).params["collection"] for each in (engine, other)}
    assert before not in now and {*collections_on(uri)} == now
    engine.build(index="auto")
    assert generation_of(engine) is None
    assert collections_on(uri) == [generation_of(other).params["collection"]]
    assert not engine.search(vector=rows[0]).warnings


@FEW
def test_a_collection_that_is_not_what_the_catalog_says_is_refused(tmp_path, uri):
    rows, _ = far_apart(600)
    engine, other = library_of(tmp_path / "a", rows), library_of(tmp_path / "b", rows[:500])
    for each in (engine, other):
        each.build(index="milvus", uri=uri)
    mine, foreign = generation_of(engine), generation_of(other)
    swapped = dict(mine.params) | {"collection": foreign.params["collection"]}
    with engine.library.writer() as writer:
        writer.activate(replace(mine, params=swapped))
    results = clipsearch.open(tmp_path / "a" / "lib").search(vector=rows[3], k=5)
    assert results[0].score >= 0.999 and "500 of the 600" in " ".join(results.warnings)
    with engine.library.writer() as writer:
        writer.activate(mine)
    server = MilvusServer(uri)
    server.delete_from(mine.params["collection"], 550)
    server.count(mine.params["collection"], is_strong=True)
    results = clipsearch.open(tmp_path / "a" / "lib").search(vector=rows[3], k=5)
    assert results[0].score >= 0.999 and "550 of the 600" in " ".join(results.warnings)
    server.drop(mine.params["collection"])
    results = clipsearch.open(tmp_path / "a" / "lib").search(vector=rows[3], k=5)
    assert results[0].score >= 0.999 and "has no collection" in " ".join(results.warnings)
    server.close()


@FEW
def test_a_server_that_is_killed_between_queries_is_used_again_once_it_is_back(
    tmp_path, milvus_server, uri, asked, monkeypatch
):
    monkeypatch.setattr(milvus, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(client, "ASK_SECONDS", 3.0)
    rows, texts = far_apart(600)
    engine = library_of(tmp_path, rows)
    engine.build(index="milvus", uri=uri)
    before = first_ten(engine, texts[:5])
    milvus_server.kill()
    try:
        results = engine.search(vector=texts[0], k=10)
        assert len(results) == 10 and uri in " ".join(results.warnings)
        at_most = len(asked) + 1
        engine.search(vector=texts[0], k=10)
        assert len(asked) <= at_most  # it is not asked at every query
        built = generation_of(engine)
        with pytest.raises(IndexServerError, match="could not be"):
            engine.build(index="milvus", uri=uri)
        assert generation_of(engine) == built
        assert run_cli("index", "--library", tmp_path / "lib").code in (0, 2)
    finally:
        milvus_server.start()
    answers_again(engine, texts[0])
    assert first_ten(engine, texts[:5]) == before


def built_on(tmp_path, uri):
    """Return an engine whose index is on the server, queries, and their exact answers."""
    rows, texts = far_apart(600)
    engine = library_of(tmp_path, rows)
    engine.build(index="flat")
    exact = first_ten(engine, texts[:5])
    engine.build(index="milvus", uri=uri)
    return engine, texts, exact


@FEW
def test_a_server_that_hangs_is_given_up_and_used_again_once_it_goes_on(
    tmp_path, milvus_server, uri, asked, monkeypatch
):
    monkeypatch.setattr(milvus, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(client, "ASK_SECONDS", 1.0)
    monkeypatch.setattr(client, "CONNECT_SECONDS", 1.0)
    engine, texts, exact = built_on(tmp_path, uri)
    before = first_ten(engine, texts[:5])
    said = []
    with milvus_server.hanging():
        for _ in ("searched", "connected to"):
            results = engine.search_batch(vectors=texts[:5], k=10)
            assert [[(hit.item.key, hit.score) for hit in each] for each in results] == exact
            said.append(" ".join(results[0].warnings))
        with pytest.raises(IndexServerError, match="could not be"):
            MilvusServer(uri).version()
    assert all(f"The Milvus server at {uri} could not be" in each for each in said), said
    milvus_server.revive()  # where the hold lasted longer than its lease
    asked.clear()
    answers_again(engine, texts[0])
    assert first_ten(engine, texts[:5]) == before and asked


def answers_again(engine, query):
    """Wait until searches go through the server."""
    end = time.monotonic() + 120
    while engine.search(vector=query, k=10).warnings:
        assert time.monotonic() < end
        time.sleep(1)


@FEW
def test_a_server_that_dies_in_a_query_and_comes_back_empty_leaves_exact_answers_until_a_build(
    tmp_path, milvus_server, uri, monkeypatch
):
    monkeypatch.setattr(milvus, "RETRY_SECONDS", 0.5)
    engine, texts, exact = built_on(tmp_path, uri)
    assert not engine.search(vector=texts[0]).warnings
    original, calls = MilvusServer.search, []

    def search(self, *args):
        if not calls:
            calls.append(threading.Timer(0.05, milvus_server.kill))
            calls[0].start()
            while milvus_server.is_running:
                original(self, *args)
        return original(self, *args)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MilvusServer, "search", search)
            results = engine.search_batch(vectors=texts[:5], k=10)
        assert calls and all("This search was exact" in " ".join(each.warnings) for each in results)
        assert [[(hit.item.key, hit.score) for hit in each] for each in results] == exact
        milvus_server.lose_data()
    finally:
        milvus_server.start()
    time.sleep(1.0)
    results = engine.search_batch(vectors=texts[:5], k=10)
    assert all("has no collection" in " ".join(each.warnings) for each in results)
    assert [[(hit.item.key, hit.score) for hit in each] for each in results] == exact
    findings = run_cli("doctor", "--json", "--library", tmp_path / "lib", timeout=300).json["findings"]
    index = next(each for each in findings if each["check"] == "index")
    assert index["severity"] == "warning" and "has no collection" in index["found"], index
    engine.build(index="milvus", uri=uri)
    assert not engine.search(vector=texts[0]).warnings


@FEW
def test_a_server_that_is_killed_in_the_middle_of_a_build_is_waited_for(tmp_path, milvus_server, uri, monkeypatch):
    rows, _ = far_apart(3000)
    engine = library_of(tmp_path, rows)
    monkeypatch.setattr(client, "INSERT_BYTES", 4 * DIM * 250)
    monkeypatch.setattr(client, "WRITE_SECONDS", 5.0)
    original, calls, restarts = MilvusServer._insert, [], []

    def insert(self, name, first, block):
        calls.append(first)
        if len(calls) == 5:
            milvus_server.kill()
            restarts.append(threading.Timer(2.0, milvus_server.start))
            restarts[0].start()
        original(self, name, first, block)

    monkeypatch.setattr(MilvusServer, "_insert", insert)
    try:
        built = engine.build(index="milvus", uri=uri)[Modality.IMAGE]
    finally:
        for restart in restarts:
            restart.join()
    assert (built.kind, built.rows) == ("milvus", 3000) and len(calls) in (12, 13)
    server = MilvusServer(uri)
    assert server.count(generation_of(engine).params["collection"], is_strong=True) == 3000
    server.close()
    assert all(engine.search(vector=row, k=1)[0].score >= 0.999 for row in rows[::100])


def test_commands_name_the_server_and_trust_is_asked_for(tmp_path, uri, capfd):
    rows, texts = far_apart(300)
    library_of(tmp_path, rows).close()
    np.save(tmp_path / "queries.npy", texts)
    options = ("--index", "milvus", "--uri", uri, "--queries", tmp_path / "queries.npy", "--library", tmp_path / "lib")
    done = run_cli("build", *options, timeout=900)
    assert done.code == 0 and "image: milvus, 300 vectors" in done.err, done.err
    assert "queries by words: recall" in done.err
    assert f"milvus, 300 rows in it at {uri}" in run_cli("status", "--library", tmp_path / "lib").out.decode()
    findings = run_cli("doctor", "--json", "--library", tmp_path / "lib", timeout=900).json["findings"]
    index = next(each for each in findings if each["check"] == "index")
    assert index["severity"] == "ok" and uri in index["found"]
    assert uri in run_cli("trust", "--list").out.decode()
    assert run_cli("trust", "--remove", uri).code == 0
    with clipsearch.open(tmp_path / "lib") as engine:
        results = engine.search(vector=rows[7], k=1)
        assert results[0].score >= 0.999 and f"clipsearch trust {uri}" in " ".join(results.warnings)
    assert run_cli("trust", uri).code == 0
    with clipsearch.open(tmp_path / "lib") as engine:
        assert not engine.search(vector=rows[7], k=1).warnings
    assert capfd.readouterr() == ("", "")
