"""What a query may import: each kind of it in a fresh process, down to the names of the packages."""

import os
import subprocess
import sys
import tempfile

import pytest

from tests.support.cli import COMMAND, environment
from tests.support.libraries import index, photos

SCRIPT = """
import os, sys
if os.environ.get("ONE_CORE"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
before = set(sys.modules)
sys.argv = ["clipsearch", "query", *sys.argv[1:]]
from clipsearch.cli import main
try:
    main.main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
names = {name.split(".")[0] for name in set(sys.modules) - before}
print(" ".join(sorted(names - sys.stdlib_module_names)), file=sys.stderr)
print(" ".join(sorted(name for name in sys.modules if name.startswith("clipsearch"))), file=sys.stderr)
"""
# What packages import of themselves.
THEIRS = {"typing_extensions", "cython_runtime"}
GATE = (".understanding", ".understanding.gate")
CLIENT = {"clipsearch", "click", "platformdirs"}
CACHED = CLIENT | {"numpy", "sqlalchemy"}
ENCODED = CACHED | {"onnxruntime", "tokenizers"}


@pytest.fixture(scope="module")
def library(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("imports")
    photos(folder / "photos", 3)
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


def imported(library, *arguments, **env):
    command = [sys.executable, "-c", SCRIPT, *arguments, "--paths"]
    done = subprocess.run(command, cwd=library, env=environment(env), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr
    packages, own = done.stderr.splitlines()[-2:]
    return {name for name in packages.split() if not name.startswith(("_cython", "_sysconfigdata"))} - THEIRS, set(
        own.split()
    )


def test_a_text_query_imports_what_it_runs(library):
    packages, _ = imported(library, "a text", "--no-cache", ONE_CORE="1")
    assert packages == ENCODED


def test_a_text_in_chinese_imports_the_tower_that_reads_it(library):
    imported(library, "沙发上的猫", "--no-cache", ONE_CORE="1")  # which builds it, with onnx
    packages, _ = imported(library, "沙发上的猫", "--no-cache", ONE_CORE="1")
    assert packages == CACHED | {"onnxruntime", "sentencepiece"}


@pytest.mark.skipif(not hasattr(os, "fork") or (os.cpu_count() or 1) < 2, reason="needs fork and two cores")
def test_where_there_is_a_core_for_it_a_fork_runs_the_encoder(library):
    packages, _ = imported(library, "a text", "--no-cache")
    assert packages == CACHED


def test_a_text_that_is_cached_needs_no_encoder(library):
    imported(library, "a text asked before")
    packages, own = imported(library, "a text asked before")
    assert packages == CACHED
    assert "clipsearch.encoders.registry" not in own


def test_a_picture_query_adds_pillow_alone(library):
    packages, _ = imported(library, "--image", "photos/p000.jpg", ONE_CORE="1")
    assert packages == (ENCODED - {"tokenizers"}) | {"PIL"}


@pytest.mark.skipif(os.name != "posix", reason="needs Unix sockets")
def test_a_query_that_the_daemon_answers_imports_next_to_nothing(library):
    with tempfile.TemporaryDirectory(prefix="cs-") as runtime:
        env = {"XDG_RUNTIME_DIR": runtime}
        command = [COMMAND, "daemon"]
        with subprocess.Popen(command, env=environment(env), stderr=subprocess.PIPE, text=True) as daemon:
            assert daemon.stderr is not None and "Listening" in daemon.stderr.readline()
            packages, own = imported(library, "a text", **env)
            daemon.terminate()
    assert packages == CLIENT
    # what reads the question
    own -= {f"clipsearch.query{module}" for module in ("", ".options", ".parser", ".terms", *GATE)}
    assert not {name for name in own if name.split(".")[1:2] in (["query"], ["store"], ["encoders"], ["ann"])}
