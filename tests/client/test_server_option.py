"""`--server URL`: a command prints of a server what it prints of the same library on this machine."""

import json
import os

import pytest

from tests.support.cli import run_cli
from tests.support.cli import run_here as run
from tests.support.hostile_answers import ANSWER, ITEM, LISTS, answering
from tests.support.serving import TOKEN


@pytest.fixture(scope="module")
def there(served, folder):
    """The options that name the server."""
    (folder / "list.txt").write_bytes(b"photos/sea/p002.jpg\0nowhere.jpg\0")
    (folder / "token").write_text(TOKEN + "\n")
    return ["--server", served.url, "--token-file", str(folder / "token")]


COMMANDS = [
    ["query", "a red bicycle"],
    ["query", "a red bicycle", "--json", "-k", "3", "--offset", "1"],
    ["query", "a red bicycle", "--paths", "--modality", "text"],
    ["query", "a red bicycle", "-0", "--not", "--type", "image"],
    ["query", "waves", "+", "2:a red mug", "-", "fence", "--fusion", "rank", "--collapse", "--json"],
    ["query", "--like", "2", "--unlike", "3", "--cut"],
    ["query", "--image", "photos/sea/p002.jpg", "--exclude-self", "--json"],
    ["query", "./photos/sea/p002.jpg", "+", "waves", "-", "id:3", "--json"],
    ["find"],
    ["find", "--json", "--in", "photos/hills"],
    ["find", "-k", "2", "--paths"],
    ["similar", "2", "--json"],
    ["similar", "photos/sea/p002.jpg"],
    ["find", "--format", r"{id}\t{path}\t{width:>6}\t{tags}\t{taken_at:%Y}", "--fail-if-none"],
    ["query", "a red bicycle", "--format", r"{rank}\t{key}\t{score:.3f}\t{modality}\t{caption}\0"],
    ["similar", "2", "--format", "{name}", "-0"],
    ["query", "a red bicycle", "--paths-from", "list.txt", "--json"],
    ["find", "--not", "--paths-from", "list.txt"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_printed_is_the_same(there, engine, folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    here = run(*command, "--library", engine.library.folder)
    assert run(*command, *there) == here and here[0] == 0 and here[1]


@pytest.mark.parametrize("command", [["query", "a red bicycle"], ["similar", "2"], ["find"]], ids=" ".join)
def test_nothing_found_fails_if_asked_to(there, engine, command):
    for where in (there, ["--library", engine.library.folder]):
        for option, code in (("--fail-if-none", 1), ("--words", 0)):
            if command[0] == "query" or code:
                assert run(*command, option, "--paths-from", os.devnull, *where)[:2] == (code, b"")


def test_the_environment_names_a_server(served, engine, folder):
    env = {"CLIPSEARCH_SERVER": served.url, "CLIPSEARCH_TOKEN": TOKEN}
    found = run_cli("query", "a red bicycle", "--json", env=env)
    assert found.code == 0 and found.json["library"] == str(engine.library.folder), found.err
    code, _, err = run("query", "a", "--library", folder / "none", **env)
    assert code == 3 and b"none" in err  # what is written wins


@pytest.mark.parametrize("option", ["--preview", "--sheet=a.png", "--html=a.html", "--copy-to=d", "--link-to=d"])
def test_what_needs_the_files_is_refused(there, option, monkeypatch):
    monkeypatch.setenv("KITTY_WINDOW_ID", "1")
    code, out, err = run("query", "a", option, *there)
    assert code == 2 and not out and err
    if option != "--preview":
        assert option.split("=")[0].encode() in err and b"this machine" in err


def test_mistakes_are_clear(served, there, folder):
    for command, code, said in (
        (["query", "a", "--library", folder / "library", *there], 2, b"--library"),
        (["query", "a", "--token-file", folder / "token"], 2, b"--server"),
        (["query", "a", "--server", served.url], 1, b"--token-file"),
        (["query", "a", "--server", "http://192.0.2.1", *there[2:]], 2, b"--allow-http"),
        (["query", "a", "--server", "http://127.0.0.1:9"], 1, b"serve"),
        (["query", "a", "--server", "photos"], 2, b"https://"),
        (["query", "a", "--server", served.url, "--token-file", folder / "none"], 2, b"token"),
        (["query", "--image", folder / "none.jpg", *there], 2, b"no such file"),
        (["query", "a", "+", *there], 2, b"no term"),
        (["similar", "999999", *there], 2, b"999999"),
    ):
        ran = run(*command)
        assert ran[0] == code and said in ran[2] and not ran[1], (command, ran)
        assert TOKEN.encode() not in ran[2]


STEERING = "\x1b]0;x\x07\x9b2J\u202e"
"""Sets the title of a terminal, clears it, and turns the order of what follows."""


@pytest.mark.parametrize("shape", [[], ["--json"]], ids=["table", "json"])
def test_what_a_server_says_does_not_steer_a_terminal(shape):
    item = {**ITEM, "caption": STEERING, "camera": STEERING, "metadata": {"a": STEERING}, "tags": [STEERING]}
    listing = {**LISTS, "items": [item], "warnings": [STEERING]}
    found = {**ANSWER, "hits": [{**ANSWER["hits"][0], **item}], "warnings": [STEERING]}
    for command, said in ((["find"], listing), (["query", "a"], found), (["similar", "2"], found)):
        with answering((200, {}, json.dumps(said).encode())) as (url, _):
            code, out, err = run(*command, *shape, "--server", url)
        assert code == 0 and out and "\\u202e" in (out + err).decode()
        assert not any(c in (out + err).decode() for c in STEERING if not c.isprintable())


def test_a_path_that_no_file_has_is_no_answer():
    said = {**LISTS, "items": [{**ITEM, "path": "/a\ud800"}]}
    with answering((200, {}, json.dumps(said).encode())) as (url, _):
        for shape in ("--paths", "--json"):
            code, out, err = run("find", shape, "--server", url)
            assert code == 1 and not out and b"cannot be read" in err
