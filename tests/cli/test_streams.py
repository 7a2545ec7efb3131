"""Every command does its work whatever became of its standard streams: closed, full, or read by nobody any more."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from clipsearch.cli.main import COMMANDS
from tests.support.cli import COMMAND, environment
from tests.support.libraries import index, photos
from tests.support.state import read_state

pytestmark = pytest.mark.skipif(os.name != "posix" or not os.path.exists("/dev/full"), reason="needs /dev/full")

ARGUMENTS = {
    "build": [["build"]],
    "daemon": [["daemon", "--status"], ["daemon", "--stop"]],
    "embed": [["embed", "photos/p000.jpg", "--out", "../v.npy"]],
    "doctor": [["doctor", "--queries", "2"]],
    "dupes": [["dupes"]],
    "eval": [["eval", "captions.csv"]],
    "find": [["find"], ["find", "--json"]],
    "forget": [["forget", "photos/p002.jpg"]],
    "import": [["import", "nowhere"]],
    "import-embeddings": [["import-embeddings", "nowhere.npy"]],
    "index": [["index"], ["index", "--json"]],
    "label": [["label", "--labels", "cat,dog"]],
    "mcp": [["mcp", "--help"]],
    "models": [["models"]],
    "plan": [["plan", "--items", "1e6", "--model", "ViT-L-14/openai", "--gpus", "1"]],
    "query": [["query", "a cat"], ["query", "--json", "a cat", "--no-cache"], ["query", "--sheet", "s.png", "a cat"]],
    "serve": [["serve", "--help"]],
    "similar": [["similar", "1"]],
    "status": [["status"]],
    "tags": [["tags"]],
    "tag": [["tag", "--add", "sea", "photos/p000.jpg"]],
    "collect": [["collect", "Sea", "photos/p000.jpg"]],
    "collections": [["collections"]],
    "backup": [["backup", "../backup", "--json"]],
    "reindex": [["reindex", "--discard"]],
    "move-catalog": [["move-catalog", "sqlite"]],
    "repair": [["repair", "--json"]],
    "restore": [["restore", "nowhere"]],
    "trust": [["trust", "--list"]],
    "verify": [["verify", "--json"]],
    "watch": [["watch", "--help"]],
}
"""How each command is run. A new command must be added here."""
FAILING = {"nonsense": 2, "import": 2, "daemon --status": 1, "restore": 2}
"""Runs that do not end with 0, and the code they end with."""
RUNS = [["--help"], ["nonsense"], *(run for each in ARGUMENTS.values() for run in each)]


@pytest.fixture(scope="module")
def library(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("streams")
    names = photos(folder / "photos", 3, size=(32, 24))
    (folder / "captions.csv").write_text("image,caption\n" + "".join(f"{name},a cat\n" for name in names))
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


def run(library, arguments, redirections):
    """Run the command with streams redirected as bash writes it; give the exit code and what came of stderr."""
    command = ["bash", "-c", f'"$0" "$@" {redirections}', COMMAND, *arguments]
    # Buffered, as most users have it: what cannot be written stays in the buffer then.
    buffered = environment({"PYTHONUNBUFFERED": ""})
    done = subprocess.run(command, cwd=library, env=buffered, capture_output=True, timeout=120)
    code, said = done.returncode, done.stderr.decode()
    assert "Traceback" not in said and "Internal error" not in said and "Exception" not in said, said
    return code, done.stdout, said


def expected(arguments):
    words = " ".join(arguments)
    return next((code for start, code in FAILING.items() if words.startswith(start)), 0)


def test_every_command_is_run():
    assert set(COMMANDS) == set(ARGUMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", RUNS, ids=" ".join)
def test_all_streams_closed(library, arguments):
    code, out, err = run(library, arguments, "<&- >&- 2>&-")
    assert (code, out, err) == (expected(arguments), b"", "")


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
@pytest.mark.parametrize("arguments", [["index", "--json"], ["query", "--json", "a cat"]], ids=" ".join)
def test_one_stream_closed(library, arguments, closed):
    code, out, _ = run(library, arguments, closed)
    assert code == 0 and (closed == ">&-" or json.loads(out))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["--help", "index --json", "query cat", "find", "models", "status", "label --labels a,b"]
)
def test_a_full_disk_under_stdout_is_an_error_that_is_reported_once(library, words):
    code, _, err = run(library, words.split(), ">/dev/full")
    assert code == 1 and err.count("The system reports an error: No space left on device.") == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", ["index", "dupes", "build", "daemon --stop"])
def test_a_full_disk_does_not_matter_where_there_is_nothing_to_write(library, words):
    assert run(library, words.split(), ">/dev/full 2>/dev/full")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "query --help", "status", "query cat", "find --json", "models"])
def test_a_reader_that_has_gone_is_no_error_and_a_full_stderr_never_matters(library, words):
    code, _, _ = run(library, words.split(), "2>/dev/full > >(exec <&-)")
    assert code == 0


def test_wrong_use_has_its_code_where_nobody_can_read_the_message(library):
    assert run(library, ["nonsense"], "2>/dev/full")[0] == 2


def test_what_a_c_library_writes_to_a_closed_stderr_lands_in_no_file_of_the_library(library, tmp_path):
    """Without a file in the place of stderr, the first one that is opened for writing gets its number."""
    shutil.copytree(library, tmp_path / "home")
    photos(tmp_path / "home" / "photos", 2, first=50)
    script = "import os\nfrom clipsearch.store.vectors import VectorStore\nfrom clipsearch.cli import entry\n"
    script += "real = VectorStore.append\n"
    script += "def noisy(store, segment, rows):\n    real(store, segment, rows)\n    os.write(2, b'warning')\n"
    script += "VectorStore.append = noisy\nimport sys\nsys.argv = ['clipsearch', 'index']\nentry.main()\n"
    command = ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, cwd=tmp_path / "home", env=environment(), check=False).returncode == 0
    assert len(read_state(tmp_path / "home" / ".clipsearch").live) == 5
    for path in (tmp_path / "home" / ".clipsearch").rglob("*"):
        assert not path.is_file() or b"warning" not in path.read_bytes()


def test_a_name_that_the_locale_cannot_write_is_escaped(library, tmp_path):
    folder = tmp_path / "Größe"
    shutil.copytree(library, folder)
    for arguments in (["status"], ["query", "--paths", "a cat"], ["find"]):
        env = environment({"PYTHONIOENCODING": "ascii"})
        done = subprocess.run([COMMAND, *arguments], cwd=folder, env=env, capture_output=True, check=False)
        assert done.returncode == 0 and done.stdout, done.stderr
