"""What a Milvus server, a library that names one, or a network can do: wrong answers, silence, no word of the user."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clipsearch
from clipsearch.ann import milvus, milvus_params, server_trust
from clipsearch.ann import milvus_server as client
from clipsearch.ann.base import Probe
from clipsearch.errors import AnnIndexError, IndexServerError, InvalidInputError
from clipsearch.linalg import unit_rows
from clipsearch.store.catalog import Generation
from clipsearch.types import Modality
from indexer.importing import import_embeddings
from indexer.plan import IndexPlan
from tests.support.cli import run_cli
from tests.support.state import tree_digest

pytestmark = pytest.mark.slow

DIM, ROWS = 16, 400
LIBRARY = "0" * 32
COLLECTION = f"clipsearch_{LIBRARY}_image_1"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """What this user trusts, which is nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def vectors():
    return unit_rows(np.random.default_rng(0).standard_normal((ROWS, DIM))).astype(np.float32)


def params_of(uri):
    return {"dim": DIM, "nlist": 4, "m": 4, "rows": ROWS, "uri": uri, "collection": COLLECTION, "own_score": 0.9}


@pytest.fixture
def library(tmp_path, vectors):
    """A library that says that its index is on a server; gives what makes it say so."""
    np.save(tmp_path / "rows.npy", vectors)
    import_embeddings(tmp_path / "lib", str(tmp_path / "rows.npy"), encoder="an encoder that is not here")

    def naming(uri):
        engine = clipsearch.open(tmp_path / "lib")
        (tmp_path / "lib" / "ann" / "image-1").mkdir(parents=True, exist_ok=True)
        with engine.library.writer() as writer:
            writer.activate(Generation(Modality.IMAGE, "image-1", "milvus", params_of(uri), ROWS, {}))
        return engine

    return naming


def listening(backlog=8):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def dripping():
    """A server that sends HTTP/2 settings, and then a byte of another frame now and then; gives what was sent."""
    listener, uri = listening()
    ended, drops = threading.Event(), []

    def drip():
        listener.settimeout(0.1)
        while not ended.is_set():
            with suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]) + bytes([0, 0x40, 0, 0, 0, 0, 0, 0, 1]))
                    while not ended.wait(0.05):
                        peer.sendall(b"\0")
                        drops.append(1)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield uri, drops
    finally:
        ended.set()
        thread.join()
        listener.close()


def assert_exact(results, row):
    assert results[0].score >= 0.999 and results[0].item.key.endswith(str(row)), results[0]


def test_a_library_connects_to_no_server_that_the_user_has_not_named(library, vectors):
    listener, uri = listening()
    with listener:
        engine = library(uri)
        results = engine.search(vector=vectors[3], k=3)
        assert_exact(results, 3)
        assert f"clipsearch trust {uri}" in " ".join(results.warnings)
        listener.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_server_that_refuses_or_is_silent_leaves_an_exact_search(library, vectors, monkeypatch, capfd):
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.5)
    listener, uri = listening()
    with listener:
        server_trust.remember(uri)
        results = library(uri).search(vector=vectors[4], k=3)
        assert_exact(results, 4)
        assert uri in " ".join(results.warnings)
    results = library(uri).search(vector=vectors[5], k=3)
    assert_exact(results, 5)
    assert "This search was exact" in " ".join(results.warnings)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def hostile():
    pytest.importorskip("pymilvus")
    from tests.support.hostile_milvus import HostileMilvus, serving

    served = HostileMilvus(DIM, ROWS, milvus_params.label(LIBRARY, "anywhere"))
    with serving(served) as uri:
        server_trust.remember(uri)
        served.uri = uri
        yield served


LIES = {
    "no row": lambda n, k: ([[ROWS, ROWS + 5, -7, 2**62] * 5] * n, [[0.1] * 20] * n),
    "one row often": lambda n, k: ([[5] * k] * n, [[0.1] * k] * n),
    "not a number": lambda n, k: ([list(range(k))] * n, [[float("nan"), float("inf"), -1e38] + [0.5] * (k - 3)] * n),
    "far too many": lambda n, k: ([list(range(50 * k))] * n, [[0.5] * (50 * k)] * n),
    "nothing": lambda n, k: ([[]] * n, [[]] * n),
    "too few answers": lambda n, k: ([], []),
    "too many answers": lambda n, k: ([list(range(k))] * (n + 3), [[0.5] * k] * (n + 3)),
    "fewer distances": lambda n, k: ([list(range(k))] * n, [[0.5] * (k // 2)] * n),
}


@pytest.mark.parametrize("lie", LIES)
def test_whatever_a_server_answers_hits_are_rows_with_their_exact_scores(library, hostile, vectors, lie):
    hostile.answer = LIES[lie]
    results = library(hostile.uri).search(vector=vectors[7], k=10)
    assert hostile.searches
    assert len(results) == 10 and len({hit.item.key for hit in results}) == 10
    for hit in results:
        row = int(hit.item.key.rpartition("/")[2].split(":")[-1])
        assert hit.score == pytest.approx(float(vectors[row] @ vectors[7]), abs=2e-3)


def test_a_server_that_never_ends_an_answer_is_given_up_and_not_asked_again(library, hostile, vectors, monkeypatch):
    monkeypatch.setattr(client, "ASK_SECONDS", 0.5)
    hostile.pause = 30.0
    hostile.answer = lambda n, k: ([list(range(k))] * n, [[0.5] * k] * n)
    engine = library(hostile.uri)
    results = engine.search(vector=vectors[9], k=3)
    assert_exact(results, 9)
    assert "This search was exact" in " ".join(results.warnings) and hostile.searches
    asked = hostile.searches
    assert_exact(engine.search(vector=vectors[10], k=3), 10)
    assert hostile.searches == asked


def test_a_server_that_drips_bytes_is_given_up(library, vectors, monkeypatch):
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(client, "ASK_SECONDS", 0.5)
    with dripping() as (uri, drops):
        server_trust.remember(uri)
        results = library(uri).search(vector=vectors[11], k=3)
        assert_exact(results, 11)
        assert drops and "This search was exact" in " ".join(results.warnings)


@pytest.mark.parametrize("count", [10**7, 2**62, -1, 0])
def test_an_answer_holds_as_many_rows_as_were_sent_whatever_it_says(library, hostile, vectors, count):
    """At 2**62 rows, an object made of each would be the end of the process."""
    hostile.answer = lambda n, k: ([list(range(k))] * n, [[0.5] * k] * n)
    hostile.counts = [count]
    engine = library(hostile.uri)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = engine.search(vector=vectors[15], k=10)
    assert len(results) == 10 and hostile.searches
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_an_answer_larger_than_the_bound_is_refused(library, hostile, vectors, monkeypatch):
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1 << 20)
    hostile.answer = lambda n, k: ([list(range(10**6))] * n, [[0.5] * 10**6] * n)
    results = library(hostile.uri).search(vector=vectors[12], k=3)
    assert_exact(results, 12)
    assert hostile.searches and "larger" in " ".join(results.warnings)


def test_a_collection_whose_rows_were_changed_gives_no_other_score_than_that_of_the_item(library, hostile, vectors):
    """Whatever row a number names on the server, the item and its score are those of the library."""
    shuffled = np.random.default_rng(1).permutation(ROWS)
    hostile.answer = lambda n, k: ([shuffled[:k].tolist()] * n, [[0.01 * i for i in range(k)]] * n)
    found = library(hostile.uri).search(vector=vectors[14], k=10)
    scores = {f"{row}": float(vectors[row] @ vectors[14]) for row in range(ROWS)}
    for hit in found:
        assert hit.score == pytest.approx(scores[hit.item.key.rpartition("/")[2].split(":")[-1]], abs=2e-3)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rows", ROWS - 1, "399 of the 400"),
        ("dim", 8, "not of this library"),
        ("description", milvus_params.label("1" * 32, "anywhere"), "not of this library"),
        ("description", "[" * 100_000, "not of this library"),
    ],
)
def test_a_collection_of_other_rows_is_not_searched(library, hostile, vectors, field, value, said):
    setattr(hostile, field, value)
    results = library(hostile.uri).search(vector=vectors[8], k=3)
    assert_exact(results, 8)
    assert said in " ".join(results.warnings) and not hostile.searches


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 12), st.floats(width=32)), max_size=30),
    st.integers(1, 10),
)
def test_what_is_kept_of_an_answer_are_rows_once_each_best_first(pairs, rows):
    ids = np.array([[row for row, _ in pairs]], np.int64).reshape(1, len(pairs))
    scores = np.array([[score for _, score in pairs]], np.float32).reshape(1, len(pairs))
    found = milvus.sanitized(ids, scores, rows)
    kept = found.ids[0][found.ids[0] >= 0]
    assert len({*kept.tolist()}) == len(kept) and (kept < rows).all()
    assert np.all(found.scores[0][:-1] >= found.scores[0][1:]) and np.isfinite(found.scores[0][: len(kept)]).all()
    assert (found.ids[0][len(kept) :] == -1).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"uri": "./a.db"}, {"uri": "tcp://h:1"}, {"uri": "http://u:p@h:1"}, {"uri": "HTTP://h:1"}, {"uri": None},
        {"collection": "photos"}, {"collection": f"{COLLECTION}; drop"}, {"dim": 0}, {"dim": 10**9}, {"nlist": "4"},
        {"m": True}, {"own_score": float("nan")}, {"more": 1},
    ],
)  # fmt: skip
def test_params_that_no_build_writes_are_refused(wrong):
    with pytest.raises(AnnIndexError):
        milvus.MilvusIndex.over(params_of("http://127.0.0.1:19530") | wrong, ROWS)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_a_probe_that_no_calibration_gives_is_searched_all_the_same(hostile, vectors, radius):
    hostile.answer = lambda n, k: ([list(range(k))] * n, [[0.5] * k] * n)
    index = milvus.MilvusIndex.over(params_of(hostile.uri), ROWS)
    found = index.search(vectors[:2], 5, probe=Probe(10**9, radius))
    assert (found.ids >= 0).all() and np.isfinite(found.scores).all()


def test_addresses_have_one_form():
    assert server_trust.read_uri("http://Host") == "http://host:19530"
    assert server_trust.read_uri("https://host:443/db/") == "https://host:443/db"
    assert server_trust.read_uri("http://[::1]:5") == "http://[::1]:5"
    for wrong in (
        "",
        "host:19530",
        "ftp://h",
        "http://h/a/b",
        "http://h:99999",
        "http://a b",
        "http://h?x=1",
        "http://",
    ):
        with pytest.raises(InvalidInputError):
            server_trust.read_uri(wrong)


def test_a_file_of_milvus_lite_is_refused_by_name(tmp_path):
    for name in ("rows.db", "./a b/rows.db", "/data/rows.db", "file:///data/rows.db"):
        with pytest.raises(InvalidInputError, match="Milvus Lite"):
            server_trust.read_uri(name)
    done = run_cli("build", "--index", "milvus", "--uri", "rows.db", "--library", tmp_path / "lib")
    assert done.code == 2 and "Milvus Lite" in done.err and "--index ivfpq" in done.err


def test_a_token_comes_from_the_environment_and_crosses_no_network_unencrypted(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("root:secret\n")
    assert server_trust.read_token("http://far.example:1") == ""
    monkeypatch.setenv(server_trust.TOKEN_FILE, str(tmp_path / "token"))
    assert server_trust.read_token("http://127.0.0.1:1") == "root:secret"
    monkeypatch.setenv(server_trust.TOKEN, "other")
    assert server_trust.read_token("https://far.example:1") == "other"
    with pytest.raises(IndexServerError, match="unencrypted"):
        server_trust.read_token("http://far.example:1")
    monkeypatch.delenv(server_trust.TOKEN)
    monkeypatch.setenv(server_trust.TOKEN_FILE, str(tmp_path / "nowhere"))
    with pytest.raises(IndexServerError, match="nowhere"):
        server_trust.read_token("http://127.0.0.1:1")


def test_trust_is_kept_for_this_user_alone(tmp_path):
    uri = "http://127.0.0.1:19530"
    assert run_cli("trust", "HTTP://127.0.0.1").code != 0
    assert run_cli("trust", "http://127.0.0.1").code == 0
    assert server_trust.list_trusted() == [uri] and uri in run_cli("trust", "--list").out.decode()
    (path,) = (tmp_path / "state" / "clipsearch" / "trusted-servers").iterdir()
    path.chmod(0o666)
    assert not server_trust.is_trusted(uri)
    path.chmod(0o600)
    assert run_cli("trust", "--remove", uri).code == 0 and server_trust.list_trusted() == []
    assert run_cli("trust", "--remove", uri).code == 2


def test_a_plan_names_a_server_for_milvus_alone():
    for plan in (IndexPlan("milvus"), IndexPlan("ivfpq", uri="http://h:1"), IndexPlan("milvus", uri="http://H")):
        with pytest.raises(InvalidInputError):
            plan.check()
    IndexPlan("milvus", uri="http://h:19530").check()


def test_a_build_without_a_server_changes_nothing(tmp_path, vectors):
    np.save(tmp_path / "rows.npy", vectors)
    import_embeddings(tmp_path / "lib", str(tmp_path / "rows.npy"), encoder="an encoder that is not here")
    listener, uri = listening()
    listener.close()
    before = tree_digest(tmp_path / "lib" / "vectors")
    done = run_cli("build", "--index", "milvus", "--uri", uri, "--library", tmp_path / "lib")
    assert done.code == 1 and uri in done.err and "Traceback" not in done.err
    assert tree_digest(tmp_path / "lib" / "vectors") == before
    assert "exact scan" in run_cli("status", "--library", tmp_path / "lib").out.decode()
    for options in (("--index", "milvus"), ("--uri", uri), ("--index", "milvus", "--uri", "x.db")):
        assert run_cli("build", *options, "--library", tmp_path / "lib").code == 2


def test_nothing_imports_the_client_before_a_server_is_asked(library, vectors):
    engine = library("http://127.0.0.1:1")
    code = (
        "import sys, clipsearch; import clipsearch.ann.milvus, clipsearch.query.doctor, indexer.build;"
        f"e = clipsearch.open({str(engine.library.folder)!r});"
        f"assert e.search(vector={vectors[0].tolist()!r}, k=1).warnings;"
        "assert not {'pymilvus', 'grpc', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
