"""`clipsearch serve` in a process of its own."""

import re
import signal
import stat
import subprocess
import sys

import httpx
import pytest

from clipsearch.cli.serve import serve
from clipsearch.errors import ClipSearchError
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


@pytest.mark.slow
def test_a_token_comes_from_a_file_or_the_environment(library, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    for given in ({"options": ("--token-file", tmp_path / "token")}, {"CLIPSEARCH_TOKEN": TOKEN}):
        with running(library, *given.pop("options", ()), **given) as (_, url):
            assert httpx.get(f"{url}/v1/stats").status_code == 401
            assert httpx.get(f"{url}/v1/stats", headers=BEARER).status_code == 200


@pytest.mark.slow
def test_a_server_that_writes_makes_a_token_for_its_user_and_keeps_it(library, tmp_path):
    kept = tmp_path / "clipsearch" / "server-token"
    for _ in range(2):
        with running(library, "--allow-write", XDG_STATE_HOME=str(tmp_path)) as (process, url):
            assert process.stderr.readline() == f"The token that requests need is in {kept}\n"
            token = kept.read_text().strip()
            assert len(token) >= 43 and stat.S_IMODE(kept.stat().st_mode) == 0o600
            assert httpx.get(f"{url}/v1/stats").status_code == 401
            answer = httpx.get(f"{url}/v1/stats", headers={"Authorization": f"Bearer {token}"}).json()
            assert answer["writable"] is True
            process.send_signal(signal.SIGINT)
            assert token not in process.stderr.read()
        assert kept.read_text().strip() == token


@pytest.mark.slow
@pytest.mark.parametrize("what", ["empty", "others may write it", "a link"])
def test_a_kept_token_that_may_not_be_the_users_is_refused(library, tmp_path, what):
    kept = tmp_path / "clipsearch" / "server-token"
    kept.parent.mkdir()
    if what == "a link":
        (tmp_path / "other").write_text(TOKEN)
        kept.symlink_to(tmp_path / "other")
    else:
        kept.write_text("" if what == "empty" else TOKEN)
        kept.chmod(0o600 if what == "empty" else 0o666)
    ran = run_cli("serve", "--library", library, "--allow-write", env={"XDG_STATE_HOME": str(tmp_path)})
    assert ran.code == 2 and str(kept) in ran.err and TOKEN not in ran.err and "Errno" not in ran.err


@pytest.mark.slow
def test_an_address_that_a_browser_can_open_is_named(library):
    with running(library, "--host", "0.0.0.0", "--token", TOKEN) as (_, url):
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{url}/v1/stats", headers=BEARER).status_code == 200


@pytest.mark.slow
def test_what_is_not_safe_is_refused(library, tmp_path):
    (tmp_path / "empty").write_text("\n")
    for options in (
        ["--host", "0.0.0.0"],
        ["--allow-write", "--allow-host", "photos.example.org"],
        ["--allow-write", "--host", "0.0.0.0"],
        ["--token-file", tmp_path / "empty"],
        ["--token-file", tmp_path / "none"],
        ["--allow-index", tmp_path / "none", "--token", TOKEN],
        ["--host", "192.0.2.1", "--token", TOKEN],
        ["--host", "", "--token", TOKEN],
        ["--token", "ä" * 16],
        ["--token", f" {TOKEN}"],
    ):
        ran = run_cli("serve", "--library", library, "--port", "0", *options)
        assert ran.code == 2 and "Errno" not in ran.err, ran.err
        assert "needs a token" not in ran.err or "--token-file" in ran.err


@pytest.mark.slow
def test_a_stop_right_after_the_first_line_is_a_stop(library):
    """The line is written before the server runs; it is followed by a signal as fast as can be."""
    with running(library) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(library, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(ClipSearchError, match=re.escape("pip install 'clipsearch[server]'")):
        serve.main(["--library", str(library)], standalone_mode=False)


def test_the_matrices_of_a_server_take_one_thread_and_those_of_others_stay():
    source = (
        "import os; from clipsearch.cli import serve; serve.load_numpy(); import threadpoolctl\n"
        "threads = [each['num_threads'] for each in threadpoolctl.threadpool_info()]\n"
        "print(threads, os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    env = {name: value for name, value in environment().items() if name != "OPENBLAS_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=env)
    assert (ran.stdout, ran.stderr) == ("[1] None\n", "")
