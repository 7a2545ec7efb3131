"""`clipsearch serve` in a process of its own."""

import signal
import subprocess
import sys

import httpx
import pytest

from tests.support.cli import environment, run_cli
from tests.support.serve_command import running
from tests.support.serving import BEARER, TOKEN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_stopped(library, number):
    with running(library) as (process, url):
        assert (
            httpx.get(f"{url}/v1/search?q=a+red+bicycle&k=1", timeout=60).json()["hits"][0]["key"].endswith("note.txt")
        )
        process.send_signal(number)
        assert process.wait(30) == 0 and process.stderr.read() == ""


def test_a_token_comes_from_a_file_or_the_environment(library, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    for given in ({"options": ("--token-file", tmp_path / "token")}, {"CLIPSEARCH_TOKEN": TOKEN}):
        with running(library, *given.pop("options", ()), **given) as (_, url):
            assert httpx.get(f"{url}/v1/stats").status_code == 401
            assert httpx.get(f"{url}/v1/stats", headers=BEARER).status_code == 200


def test_what_is_not_safe_is_refused(library, tmp_path):
    (tmp_path / "empty").write_text("\n")
    for options in (
        ["--host", "0.0.0.0"],
        ["--allow-write"],
        ["--token-file", tmp_path / "empty"],
        ["--token-file", tmp_path / "none"],
        ["--allow-index", tmp_path / "none", "--token", TOKEN],
        ["--host", "192.0.2.1", "--token", TOKEN],
    ):
        ran = run_cli("serve", "--library", library, "--port", "0", *options)
        assert ran.code == 2, ran.err


def test_the_matrices_of_a_server_take_one_thread_and_those_of_others_stay():
    source = (
        "import os; from clipsearch.cli import serve; serve.load_numpy(); import threadpoolctl\n"
        "threads = [each['num_threads'] for each in threadpoolctl.threadpool_info()]\n"
        "print(threads, os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    env = {name: value for name, value in environment().items() if name != "OPENBLAS_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=env)
    assert (ran.stdout, ran.stderr) == ("[1] None\n", "")
