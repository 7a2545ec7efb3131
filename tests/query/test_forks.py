"""An engine that was opened before a fork is used by parent and child, as servers with workers do."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from clipsearch import forking
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.paths import ROOT
from tests.support.sentences import sentence_library

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
def test_parent_and_children_search_on(encoder, tmp_path, kind):
    folder = sentence_library(tmp_path / "library", encoder, kind).library.folder
    command = [sys.executable, "-m", "tests.support.forked", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines() == [*["child: same", "left with 0"] * 4, "pool: same same", "parent: same"]


@pytest.mark.slow
def test_forks_in_the_middle_of_searches(encoder, tmp_path):
    """OpenBLAS joins its threads in a fork, and waits for ever if another thread has them at work."""
    folder = sentence_library(tmp_path / "library", encoder).library.folder
    command = [sys.executable, "-m", "tests.support.forked_often", str(folder), "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "60\n", "")


class Slow:
    """An encoder that can be held up in the middle of a query."""

    def __init__(self, encoder):
        self._encoder, self.begun, self.go_on, self.is_done = encoder, threading.Event(), threading.Event(), False

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_queries(self, texts):
        self.begun.set()
        self.go_on.wait(60)
        self.is_done = True
        return self._encoder.encode_queries(texts)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_the_searches_under_way(encoder, tmp_path):
    slow, folder = Slow(encoder), sentence_library(tmp_path / "library", encoder).library.folder
    with SearchEngine(Library(folder), encoder=slow) as engine, ThreadPoolExecutor(1) as pool:
        search = pool.submit(engine.search, "a dog")
        assert slow.begun.wait(60)
        threading.Timer(0.2, slow.go_on.set).start()
        child = os.fork()
        if child == 0:
            os._exit(0 if slow.is_done and len(engine.search("a dog")) == 10 else 1)
        assert slow.is_done and os.waitpid(child, 0)[1] == 0
        assert len(search.result(60)) == 10


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(forking, "MAX_WAIT", 0.05)
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with forking.no_fork():
            held.set()
            go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    with forking.no_fork():  # what this thread does itself, the fork cannot wait for
        child = os.fork()
        if child == 0:
            with forking.no_fork():
                os._exit(0)
    go_on.set()
    thread.join(60)
    assert os.waitpid(child, 0)[1] == 0
