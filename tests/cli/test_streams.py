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
    "export": [["export", "../out", "--force"], ["export", "../out", "--force", "--json", "--format", "csv"]],
    "doctor": [["doctor", "--queries", "2"]],
    "dupes": [["dupes"]],
    "eval": [["eval", "captions.csv"]],
    "find": [["find"], ["find", "--json"], ["find", "--format", "{path}", "--fail-if-none"]],
    "forget": [["forget", "photos/p002.jpg"]],
    "import": [["import", "nowhere"]],
    "import-embeddings": [["import-embeddings", "nowhere.npy"]],
    "index": [["index"], ["index", "--json"], ["index", "-"]],
    "label": [["label", "--labels", "cat,dog"]],
    "match": [["match", "photos/p000.jpg"], ["match", "--json", "photos/p000.jpg"]],
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
    "save": [["save", "cats", "a cat"]],
    "saved": [["saved"], ["query", "--saved", "cats"], ["query", "--saved", "cats", "--new"]],
    "unsave": [["unsave", "cats"]],
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


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
"""A locale in which Python can write ASCII alone, and name no other files."""


@pytest.fixture(scope="module")
def abroad(tmp_path_factory, encoder):
    """A library in a folder, of files and with words that are not ASCII, and of one whose name is no text at all."""
    folder = tmp_path_factory.mktemp("abroad") / "Größe 大小"
    first, second, third = photos(folder / "photos", 3, size=(32, 24))
    first.rename(first.with_name("沙发上的猫.jpg"))
    os.rename(second, os.fsencode(second.parent) + b"/\xff\xe9.jpg")
    (folder / "photos" / "沙发上的猫.txt").write_text("沙发上的猫 😀 straße", encoding="utf-8")
    third.rename(third.with_name("p000.jpg"))
    (folder / "photos" / "kaputt é.jpg").write_bytes(b"no picture")
    (folder / "captions.csv").write_text("image,caption\nphotos/p000.jpg,eine Straße 大\n", encoding="utf-8")
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    env = environment()
    for words in (["tag", "--add", "Straße 海", "photos/p000.jpg"], ["collect", "Über 海", "photos/p000.jpg"]):
        subprocess.run([COMMAND, *words], cwd=folder, env=env, check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [run for run in RUNS if run[0] != "forget"], ids=" ".join)
def test_every_command_does_its_work_in_a_locale_that_knows_ascii_alone(abroad, arguments):
    done = subprocess.run([COMMAND, *arguments], cwd=abroad, env=environment(ASCII), capture_output=True, timeout=120)
    said = done.stderr.decode("ascii")
    assert not {"Traceback", "Internal error", "UnicodeEncodeError"} & {*said.replace(":", "\n").split("\n")}, said
    is_ascii = done.stdout.isascii() or "--format" in arguments  # which writes names as the bytes that they are
    assert (done.returncode, is_ascii) == (expected(arguments), True), said


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["find --json", "query --json 沙发上的猫", "tags --json", "collections --json", "status --json"]
)
def test_json_says_the_same_in_a_locale_that_knows_ascii_alone(abroad, words):
    command = [COMMAND, *words.split()]
    plain = subprocess.run(command, cwd=abroad, env=environment(), capture_output=True, check=True).stdout
    ascii_only = subprocess.run(command, cwd=abroad, env=environment(ASCII), capture_output=True, check=True).stdout
    assert ascii_only.isascii() and not plain.isascii() and json.loads(ascii_only) == json.loads(plain)


@pytest.mark.slow
def test_what_a_locale_cannot_write_is_escaped_and_paths_are_exact(abroad):
    def out(words, **env):
        done = subprocess.run([COMMAND, *words.split()], cwd=abroad, env=environment(env), capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert b"photos/\\u6c99\\u53d1\\u4e0a\\u7684\\u732b.jpg" in out("find", **ASCII)
    assert out("query --paths 沙发", **ASCII) == out("query --paths 沙发")
    csv = out("label --labels 猫,狗 --csv", **ASCII)
    assert csv.isascii() and csv.replace(b"\\u732b", "猫".encode()).startswith("id,path,猫".encode())
    assert "沙发上的猫".encode() in out("find", LC_ALL="C", PYTHONUTF8="0"), "a locale alone says nothing of a pipe"
    done = subprocess.run([COMMAND, "status", "--failed"], cwd=abroad, env=environment(ASCII), capture_output=True)
    assert b"kaputt \\u00e9.jpg" in done.stdout


@pytest.mark.slow
def test_files_are_indexed_in_a_locale_that_knows_ascii_alone(abroad, tmp_path):
    shutil.copytree(abroad / "photos", tmp_path / "写真")
    command = [COMMAND, "index", "写真", "--library", "lib", "--model", "builtin-small", "--json"]
    found = []
    for env in (ASCII, {}):
        done = subprocess.run(command, cwd=tmp_path, env=environment(env), capture_output=True)
        assert done.returncode == 0, done.stderr
        found.append({name: json.loads(done.stdout)[name] for name in ("added", "unchanged", "removed")})
    assert found == [{"added": 3, "unchanged": 0, "removed": 0}, {"added": 0, "unchanged": 4, "removed": 0}]
