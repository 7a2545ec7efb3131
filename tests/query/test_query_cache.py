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
from clipsearch.locations import cache_dir
from clipsearch.query.cache import SLOTS, QueryCache
from clipsearch.query.embedding import Embedder
from clipsearch.query.opening import open_library
from clipsearch.query.prefetch import start_embedding
from clipsearch.store.reading import peek_encoder
from clipsearch.types import EncoderPin
from tests.support.cli import COMMAND, environment, run_cli
from tests.support.libraries import index, photos
from tests.support.state import tree_digest

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
            assert "reads only the first" in engine.search(long).warnings[0]
    assert slots(own_cache) == []


@pytest.mark.slow
@pytest.mark.parametrize("off", [{"flag": ["--no-cache"]}, {"env": {"CLIPSEARCH_QUERY_CACHE": "0"}}])
def test_it_can_be_turned_off(library, own_cache, off):
    done = run_cli("query", "a dog", "--library", library, *off.get("flag", []), env=off.get("env"))
    assert done.code == 0 and slots(own_cache) == []
    assert run_cli("query", "a dog", "--library", library).out == done.out and len(slots(own_cache)) == 1


def test_a_query_leaves_the_library_as_it_was(library, own_cache):
    before = tree_digest(library)
    run_cli("query", "a horse", "--library", library)
    assert tree_digest(library) == before


@pytest.mark.slow
def test_a_disk_that_is_full_changes_no_answer(library, own_cache):
    """Stand in for a full disk: a limit on the size of files, past which a write fails as it does there."""
    resource = pytest.importorskip("resource")
    run_cli("query", "a hen", "--library", library)
    (table,) = slots(own_cache)
    size = table.stat().st_size

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # SQLite needs a little

    done = run_cli("query", "a sheep", "--json", "--library", library, preexec_fn=limit)
    assert done.code == 0 and len(json.loads(done.out)["hits"]) == 6 and done.err == ""
    assert table.stat().st_size == size


@pytest.mark.slow
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


# --- What others could have put there


def poison(cache, text, vector):
    """Write an entry as the cache does, but for the secret, which who can write a cache need not know."""
    other = QueryCache(cache.path.parent, "f" * 64, DIM)
    other._secret = b"\0" * 32
    other.put(text, vector)
    made = other.path.read_bytes()
    cache.path.write_bytes(made[len(made) - cache._slot_bytes :] * SLOTS)  # in every place


def test_an_entry_made_without_the_secret_is_no_entry(cache):
    cache.put("a dog", vector(2))
    assert cache.get("a dog") is not None  # so there is a secret
    poison(cache, "a cat", vector(1))
    assert cache.get("a cat") is None
    cache.put("a cat", vector(0))
    assert np.array_equal(cache.get("a cat"), vector(0))


def test_an_entry_of_before_is_no_entry(cache):
    import hashlib

    def digest(data):
        return hashlib.blake2b(data, digest_size=16).digest()

    cache.put("x", vector(0))
    body = digest(b"a cat") + vector(1).tobytes()
    cache.path.write_bytes((body + digest(body)) * SLOTS)
    assert cache.get("a cat") is None


def test_an_entry_answers_to_its_own_text_and_encoder_alone(tmp_path, cache):
    cache.put("a cat", vector(0))
    written = cache.path.read_bytes()
    slot = written[len(written) - cache._slot_bytes :]
    cache.path.write_bytes(slot * SLOTS)
    assert cache.get("a cat") is not None and cache.get("a dog") is None
    other = QueryCache(tmp_path / "queries", "other", DIM)
    other.path.write_bytes(slot * SLOTS)
    other.path.chmod(0o600)
    assert other.get("a cat") is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")
@pytest.mark.parametrize("fault", ["writable", "group", "link", "owner", "folder", "folder link", "pipe"])
def test_a_table_that_others_could_have_written_is_neither_read_nor_written(tmp_path, cache, fault):
    cache.put("a cat", vector(0))
    assert cache.get("a cat") is not None
    before = cache.path.read_bytes()
    folder = cache.path.parent
    if fault == "writable":
        cache.path.chmod(0o602)
    elif fault == "group":
        cache.path.chmod(0o620)
    elif fault == "link":
        cache.path.symlink_to(cache.path.rename(tmp_path / "elsewhere"))
    elif fault == "folder":
        folder.chmod(0o770)
    elif fault == "folder link":
        folder.symlink_to(folder.rename(tmp_path / "elsewhere"))
    elif fault == "pipe":
        cache.path.unlink()
        os.mkfifo(cache.path)
    elif os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    else:
        os.chown(cache.path, 12345, -1)
    assert cache.get("a cat") is None
    cache.put("a cat", vector(1))
    assert cache.get("a cat") is None
    assert fault == "pipe" or cache.path.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")
def test_the_secret_is_private_and_lies_in_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    secret = tmp_path / "state" / "clipsearch" / "query-cache.key"
    QueryCache(tmp_path / "queries", "f", DIM).put("a cat", vector(0))
    assert len(secret.read_bytes()) == 32 and stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert np.array_equal(QueryCache(tmp_path / "queries", "f", DIM).get("a cat"), vector(0))
    secret.chmod(0o644)
    assert QueryCache(tmp_path / "queries", "f", DIM).get("a cat") is not None
    secret.chmod(0o666)
    assert QueryCache(tmp_path / "queries", "f", DIM).get("a cat") is None
    secret.chmod(0o600)
    secret.write_bytes(b"short")
    assert QueryCache(tmp_path / "queries", "f", DIM).get("a cat") is None


def test_without_a_place_for_the_secret_there_is_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    cache = QueryCache(tmp_path / "queries", "f", DIM)
    cache.put("a cat", vector(0))
    assert cache.get("a cat") is None and not cache.path.exists()


# --- A cache that cannot be used


def unwritable(tmp_path, kind):
    """A place for a cache where nothing can be written, root or not."""
    (tmp_path / "file").write_text("")
    places = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "cache", "system": Path("/proc/1/cache")}
    if kind == "system" and not Path("/proc/1").exists():
        pytest.skip("this system has no /proc")
    return places[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "below a file", "system"])
def test_a_query_does_without_a_cache_that_cannot_be_written(library, tmp_path, kind):
    env = {"CLIPSEARCH_CACHE": str(unwritable(tmp_path, kind)), "CLIPSEARCH_DAEMON": "0"}
    done = run_cli("query", "a cow", "--json", "--library", library, env=env)
    assert done.code == 0
    warnings = [line for line in done.err.splitlines() if not line.startswith("Buil")]  # of what takes a while
    assert len(warnings) == 1 and "CLIPSEARCH_CACHE" in warnings[0]
    assert done.json["hits"] == run_cli("query", "a cow", "--json", "--library", library).json["hits"]


def test_a_vector_passes_between_processes_as_it_is():
    from clipsearch.errors import InvalidInputError, PictureError
    from clipsearch.query.handover import pack, unpack
    from clipsearch.query.parser import QuerySyntaxError

    row, notes = unpack(pack((vector(0), ("a note", "\udcff"))))
    assert row.tobytes() == vector(0).tobytes() and notes == ("a note", "\udcff")
    for error, kind in ((PictureError("no"), PictureError), (InvalidInputError("no"), InvalidInputError)):
        assert type(unpack(pack(error))) is kind and str(unpack(pack(error))) == "no"
    assert issubclass(QuerySyntaxError, InvalidInputError)
    sent = pack((vector(0), ()))
    for cut in range(len(sent)):
        assert unpack(sent[:cut]) is None
    for sent in (b"[]\n", b'{"error": "SystemExit", "message": ""}\n', b'{"dim": null, "notes": []}\n', b"\xff\n"):
        assert unpack(sent) is None
