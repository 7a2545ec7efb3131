"""Vectors of texts that were searched for: what is kept is exact, and no damage or race shows in an answer."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from clipsearch.config import Settings
from clipsearch.places import cache_dir
from clipsearch.query.cache import SLOTS, QueryCache
from clipsearch.query.embedding import Embedder, start_embedding
from clipsearch.query.engine import open_library
from clipsearch.store.reading import EncoderPin, peek_encoder
from tests.helpers import COMMAND, environment, index, photos, run_cli, tree_digest

DIM = 24


@pytest.fixture
def cache(tmp_path):
    return QueryCache(tmp_path / "queries", "f" * 64, DIM)


def vector(seed):
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("cached")
    photos(folder / "photos", 6)
    index(folder / "library", folder / "photos", encoder=encoder)
    return folder / "library"


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of this test alone, with the built encoders of all."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "encoders").symlink_to(cache_dir() / "encoders")
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(cache))
    return cache


def slots(cache):
    return list((cache / "queries").glob("*")) if (cache / "queries").exists() else []


def test_a_vector_comes_back_bit_for_bit(cache):
    texts = ["a cat", "A cat", "猫", "\udcff lone", "", "x" * 100_000]
    for seed, text in enumerate(texts):
        assert cache.get(text) is None
        cache.put(text, vector(seed))
    for seed, text in enumerate(texts):
        found = cache.get(text)
        assert found.dtype == np.float32 and found.tobytes() == vector(seed).tobytes()


def test_encoders_do_not_share_vectors(tmp_path):
    QueryCache(tmp_path, "one", DIM).put("a cat", vector(0))
    assert QueryCache(tmp_path, "other", DIM).get("a cat") is None
    assert QueryCache(tmp_path, "one", DIM + 1).get("a cat") is None


def test_it_never_grows_past_its_slots_and_the_newest_stays(cache):
    for seed in range(300):
        cache.put(str(seed), vector(seed))
    assert cache.path.stat().st_size <= SLOTS * (32 + 4 * DIM)
    kept = sum(cache.get(str(seed)) is not None for seed in range(300))
    assert kept > 280 and np.array_equal(cache.get("299"), vector(299))


def test_neither_words_nor_others_rights_are_in_the_file(cache):
    cache.put("a very private wish", vector(0))
    assert b"private" not in cache.path.read_bytes()
    if os.name == "posix":
        assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("step", [1, 7])
def test_whatever_is_cut_or_changed_is_not_there(cache, step):
    cache.put("a cat", vector(0))
    whole = cache.path.read_bytes()
    start = len(whole) - (32 + 4 * DIM)
    for place in range(start, len(whole), step):
        cache.path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert cache.get("a cat") is None
        cache.path.write_bytes(whole[:place])
        assert cache.get("a cat") is None
    cache.path.write_bytes(b"garbage" * 1000)
    cache.put("a cat", vector(1))
    assert np.array_equal(cache.get("a cat"), vector(1))


def test_a_folder_in_its_place_or_a_file_in_its_way_is_a_miss(tmp_path, cache):
    cache.path.mkdir(parents=True)
    cache.put("a cat", vector(0))
    assert cache.get("a cat") is None
    (tmp_path / "file").write_text("")
    blocked = QueryCache(tmp_path / "file", "f", DIM)
    blocked.put("a cat", vector(0))
    assert blocked.get("a cat") is None


def test_threads_that_write_the_same_place_never_give_a_mixture(cache):
    seen: list[bytes] = []
    allowed = {vector(seed).tobytes() for seed in range(4)}

    def work(seed):
        for _ in range(200):
            cache.put("a cat", vector(seed))
            found = cache.get("a cat")
            if found is not None:
                seen.append(found.tobytes())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen and set(seen) <= allowed


KILLED = """
import os, sys, numpy as np
from pathlib import Path
from clipsearch.query.cache import QueryCache
cache = QueryCache(Path(sys.argv[1]), "f" * 64, 24)
print("ready", flush=True)
while True:
    for seed in range(8):
        cache.put(str(seed % 2), np.random.default_rng(seed).standard_normal(24).astype(np.float32))
"""


def test_a_process_that_is_killed_while_it_writes_leaves_no_mixture(cache):
    allowed = {vector(seed).tobytes() for seed in range(8)}
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", KILLED, cache.path.parent], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            while cache.get("0") is None:
                pass
            writer.kill()
        for text in ("0", "1"):
            found = cache.get(text)
            assert found is None or found.tobytes() in allowed


def test_a_text_asked_twice_is_encoded_once_and_answers_the_same(library, own_cache, encoder):
    first = open_library(library, Settings(offline=True))
    answers = first.search("a cat").hits
    assert len(slots(own_cache)) == 1
    second = open_library(library, Settings(offline=True))
    assert second.search("a cat").hits == answers
    assert second._embedder._encoder is None, "the encoder was loaded"
    expected = encoder.encode_queries(["a cat"])[0]
    kept = Embedder(second._pin(), Settings()).text("a cat")[0]
    assert kept.tobytes() == expected.tobytes()
    for engine in (first, second):
        engine.close()


def test_a_text_that_was_cut_says_so_every_time(library, own_cache):
    long = "word " * 400
    for _ in range(2):
        with open_library(library, Settings(offline=True)) as engine:
            assert "reads the first" in engine.search(long).warnings[0]
    assert slots(own_cache) == []


@pytest.mark.parametrize("off", [{"flag": ["--no-cache"]}, {"env": {"CLIPSEARCH_QUERY_CACHE": "0"}}])
def test_it_can_be_turned_off(library, own_cache, off):
    done = run_cli("query", "a dog", "--library", library, *off.get("flag", []), env=off.get("env"))
    assert done.code == 0 and slots(own_cache) == []
    assert run_cli("query", "a dog", "--library", library).out == done.out and len(slots(own_cache)) == 1


def test_a_query_leaves_the_library_as_it_was(library, own_cache):
    before = tree_digest(library)
    run_cli("query", "a horse", "--library", library)
    assert tree_digest(library) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full_changes_no_answer(library, own_cache, encoder):
    cache = QueryCache(own_cache / "queries", encoder.fingerprint, encoder.dim)
    cache.path.parent.mkdir()
    cache.path.symlink_to("/dev/full")
    done = run_cli("query", "a sheep", "--json", "--library", library)
    assert done.code == 0 and len(json.loads(done.out)["hits"]) == 6
    assert cache.path.is_symlink() and cache.get("a sheep") is None


def test_queries_at_the_same_time_answer_the_same(library, own_cache):
    command = [COMMAND, "query", "a goat", "--json", "--library", library]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) for _ in range(3)]
    assert len({run.communicate()[0] for run in runs}) == 1
    assert run_cli(*command[1:]).out.startswith(b'{"query": "a goat"')


def test_what_is_begun_early_is_what_would_have_been_embedded(library, own_cache, tmp_path):
    settings = Settings(offline=True, query_cache=False)
    picture = os.fspath(next((library.parent / "photos").iterdir()))
    for text, image in (("a cat", None), (None, picture)):
        begun = start_embedding(library, settings, text=text, image=image)
        plain = Embedder(begun.pin, settings)
        one, other = (e.text(text) if text else e.picture(image) for e in (begun, plain))
        assert one[0].tobytes() == other[0].tobytes() and one[1] == other[1]
        assert begun._encoder is None or settings.cores == 1  # which was loaded elsewhere
    begun = start_embedding(library, settings, text=None, image=os.fspath(tmp_path / "none.jpg"))
    with open_library(library, settings, begun) as engine, pytest.raises(Exception, match="no such file"):
        engine.search(image=os.fspath(tmp_path / "none.jpg"))


def test_the_encoder_of_a_library_is_seen_before_the_store_is_loaded(library, tmp_path, encoder):
    assert peek_encoder(library) == EncoderPin("builtin-small", encoder.fingerprint, encoder.dim)
    (tmp_path / "catalog.db").write_bytes(b"garbage" * 1000)
    for folder in (tmp_path, tmp_path / "none", Path("\0")):
        assert peek_encoder(folder) is None


def test_imported_vectors_of_an_unknown_encoder_are_not_cached(own_cache):
    assert Embedder(EncoderPin("builtin-small", "imported:builtin-small", 3), Settings())._cache is None
