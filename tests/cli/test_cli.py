"""The installed command, end to end: what it prints where, and with which exit code."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

import clipsearch
from clipsearch.cli import main, maintain
from clipsearch.store.library import Library
from clipsearch.store.second_set import Role, SecondSet
from clipsearch.store.summary import summarise
from clipsearch.types import EncoderPin
from tests.support.cli import COMMAND, environment, run_cli
from tests.support.paths import ROOT
from tests.support.pictures import photograph

HIT_KEYS = ["rank", "id", "key", "path", "modality", "item_modality", "part", "score", "confidence", "metadata"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    """A folder with photographs, notes, and a library in .clipsearch, made with the two commands of the README."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "photos").mkdir()
    (folder / ".clipsearch").mkdir()
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(photograph(name), folder / "photos" / name)
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n\nPrune the roses in winter.\n")
    (folder / "photos" / "broken.jpg").write_text("no picture")
    done = run_cli("index", "./photos", "--model", "builtin-small", cwd=folder)
    assert done.code == 0, done.err
    return folder


def query(home, *arguments):
    done = run_cli("query", *arguments, cwd=home)
    assert done.code == 0, done.err
    return done.out.decode()


def test_query_prints_a_table_with_the_best_first(home):
    lines = query(home, "a cat", "--modality", "image").splitlines()
    assert len(lines) == 4
    assert lines[1].split()[0] == "1" and lines[1].endswith("photos/chelsea.png")


def test_words_need_no_quotes(home):
    assert query(home, "a", "cup", "of", "coffee") == query(home, "a cup of coffee")


def test_json_is_the_contract(home):
    answer = json.loads(query(home, "--json", "a cat", "-k", "4"))
    assert list(answer) == ["query", "encoder", "library", "hits"]
    assert answer["query"] == "a cat" and answer["encoder"] == "builtin-small"
    assert answer["library"] == str(home / ".clipsearch")
    assert len(answer["hits"]) == 4
    for rank, hit in enumerate(answer["hits"], 1):
        assert list(hit) == HIT_KEYS and hit["rank"] == rank and os.path.isabs(hit["path"])
        assert (hit["part"] is None) == (hit["modality"] == "image")
    text = next(hit for hit in answer["hits"] if hit["modality"] == "text")
    assert list(text["part"]) == ["index", "line", "end_line", "text"] and text["part"]["line"] == 1


def test_paths_and_print0_are_raw(home):
    lines = query(home, "--paths", "a cat", "--modality", "image").splitlines()
    assert lines[0] == str(home / "photos" / "chelsea.png") and len(lines) == 3
    for option in ("-0", "--print0"):
        assert query(home, option, "a cat", "--modality", "image").split("\0") == [*lines, ""]


def test_query_by_picture(home):
    cat = str(home / "photos" / "chelsea.png")
    best = json.loads(query(home, "--image", cat, "--json"))["hits"][0]
    assert best["path"] == cat and best["score"] >= 0.999
    others = json.loads(query(home, "--image", cat, "--json", "--exclude-self"))["hits"]
    assert cat not in [hit["path"] for hit in others]


def test_k_larger_than_the_library(home):
    assert len(query(home, "-k", "999", "--modality", "image", "x").splitlines()) == 4


def test_a_second_run_encodes_nothing_and_reports_it(home):
    done = run_cli("index", "./photos", "--json", cwd=home)
    report = done.json
    names = ["added", "changed", "moved", "removed", "unchanged", "encoded", "failed", "notes", "passed_over"]
    names.append("seconds")
    assert list(report) == names
    assert report["unchanged"] == 5 and report["encoded"] == 0 and report["failed"] == []
    assert "5 unchanged" in done.err


def test_retry_failed_tries_again_and_prints_the_reason(home):
    done = run_cli("index", "--retry-failed", "--json", cwd=home)
    assert done.json["failed"] == [
        {"path": str(home / "photos" / "broken.jpg"), "reason": "not a picture that clipsearch can read"}
    ]


def test_status_for_people_and_programs(home):
    shown = run_cli("status", cwd=home).out.decode()
    assert "builtin-small" in shown and "3 files" in shown and str(home / "photos") in shown
    summary = run_cli("status", "--json", cwd=home).json
    assert summary["modalities"]["image"] == {"files": 3, "vectors": 3, "deleted": 0, "index": None}
    assert "broken.jpg: not a picture" in run_cli("status", "--failed", cwd=home).out.decode()


def test_models_lists_names_that_index_takes(home):
    names = {name for m in run_cli("models", "--json").json for name in (m["name"], *m["aliases"])}
    assert {"builtin", "builtin-small", "builtin-base", "fast", "default", "best"} <= names
    assert "builtin-small" in run_cli("models").out.decode()


@pytest.mark.slow
def test_build_takes_every_kind(home):
    for kind in ("flat", "ivfpq", "auto"):
        done = run_cli("build", "--index", kind, cwd=home)
        assert done.code == 0 and "image: flat" in done.err and done.out == b""


def test_results_only_on_stdout(home, tmp_path):
    done = run_cli("index", str(home / "photos"), "--library", str(tmp_path / "l"), "--model", "builtin-small")
    assert done.out == b"" and "4 added" in done.err
    assert "failed: " in done.err


@pytest.mark.parametrize("command", [[], *[[name] for name in sorted(main.COMMANDS)]])
def test_help_everywhere(command):
    for flag in ("--help", "-h"):
        done = run_cli(*command, flag)
        assert done.code == 0 and done.out.decode().startswith("Usage: clipsearch")


def test_the_help_has_a_whole_line_for_each_command():
    """The table of main.py and the commands agree, and no line is cut or too long."""
    lines = run_cli("--help", env={"COLUMNS": "80"}).out.decode().splitlines()
    assert not [line for line in lines[1:] if line.endswith("...") or len(line) > 80]
    context = click.Context(main.cli)
    for heading, section in main.SECTIONS.items():
        assert f"{heading}:" in lines
        for name, (_, text) in section.items():
            assert f"  {name:<17}  {text}" in lines
            assert len(text) <= 50 and text.endswith(".")
            command = main.cli.get_command(context, name)
            assert command.short_help == text
            assert command.help.splitlines()[0].endswith(".")


def test_the_help_imports_no_command():
    script = (
        "import sys; from clipsearch.cli import main; sys.argv = ['clipsearch', '--help']; "
        "main.cli(standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(main.COMMANDS.values()) & set(done.stdout.split())
    assert not {"numpy", "sqlalchemy", "PIL"} & set(done.stdout.split())


def test_version():
    assert run_cli("--version").out.decode().split()[-1] == clipsearch.__version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_script(shell):
    done = run_cli(env={"_CLIPSEARCH_COMPLETE": f"{shell}_source"})
    assert done.code == 0 and "_CLIPSEARCH_COMPLETE" in done.out.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["query"], 2, "Say what to look for"),
        (["query", ""], 2, "empty"),
        (["query", "   "], 2, "empty"),
        (["query", "cat", "--image", "x.jpg"], 2, "Say what to look for"),
        (["query", "cat", "-k", "0"], 2, "-k"),
        (["query", "cat", "-k", "many"], 2, "-k"),
        (["query", "cat", "--modality", "sound"], 2, "sound"),
        (["query", "cat", "--json", "--paths"], 2, "Only one"),
        (["query", "--image", "missing.jpg"], 2, "no such file"),
        (["query", "--image", "photos/notes.txt"], 2, "not a picture"),
        (["query", "--image", "photos"], 2, "folder"),
        (["query", "cat", "--library", "nowhere"], 3, "no library"),
        (["status", "--library", "nowhere"], 3, "no library"),
        (["index", "nowhere"], 2, "nowhere"),
        (["index", "photos", "--model", "nope/nope"], 6, "nope"),
        (["index", "photos", "--model", "builtin-base"], 6, "builtin-small"),
        (["index", "/dev/null"], 2, "neither a folder"),
        (["forget", "elsewhere"], 2, "nothing at"),
        (["forget", ""], 2, "empty"),
        (["forget", "photos/never-there.jpg"], 2, "nothing at"),
        (["index", ""], 2, "empty"),
        (["query", "--image", ""], 2, "empty"),
        (["index", "--library", "new-library"], 2, "Say what to index"),
        (["index", "photos", "--library", "new-library", "--model", "nope/nope"], 6, "nope"),
        (["nonsense"], 2, "nonsense"),
        (["index", "--nonsense"], 2, "nonsense"),
    ],
)
def test_wrong_use_is_a_clear_message_and_a_code(home, arguments, code, message):
    done = run_cli(*arguments, cwd=home)
    assert (done.code, done.out) == (code, b""), done.err
    assert message in done.err and "Traceback" not in done.err
    assert not (home / "new-library").exists()


@pytest.mark.slow
def test_empty_library_says_so(tmp_path):
    (tmp_path / "photos").mkdir()
    library = str(tmp_path / "library")
    assert run_cli("index", str(tmp_path / "photos"), "--model", "builtin-small", "--library", library).code == 0
    done = run_cli("query", "a cat", "--library", library)
    assert done.code == 3 and "empty" in done.err and done.out == b""


def test_an_unknown_setting_is_named(tmp_path):
    (tmp_path / "config.toml").write_text("batch = 3\n")
    done = run_cli("status", env={"CLIPSEARCH_CONFIG": str(tmp_path / "config.toml")})
    assert done.code == 2 and "'batch'" in done.err


def test_a_damaged_catalog_is_code_5(home, tmp_path):
    shutil.copytree(home / ".clipsearch", tmp_path / "library")
    (tmp_path / "library" / "catalog.db").write_bytes(b"garbage" * 1000)
    done = run_cli("query", "a cat", "--library", str(tmp_path / "library"))
    assert done.code == 5 and "damaged" in done.err and "Traceback" not in done.err


@pytest.mark.slow
def test_a_library_moves_with_its_drive(home, tmp_path):
    shutil.copytree(home, tmp_path / "drive")
    drive = tmp_path / "drive"
    best = json.loads(query(drive, "--json", "a cat", "--modality", "image"))["hits"][0]
    assert best["path"] == str(drive / "photos" / "chelsea.png")
    report = run_cli("index", "--json", cwd=drive).json
    assert report["unchanged"] + report["changed"] + len(report["failed"]) == 5 and report["encoded"] == 0
    with sqlite3.connect(drive / ".clipsearch" / "catalog.db") as catalog:
        assert catalog.execute("SELECT path FROM roots").fetchall() == [("photos",)]
    catalog.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_stderr_that_nobody_can_read_stops_nothing(home, tmp_path):
    with open("/dev/full", "wb") as full:
        command = [COMMAND, "index", "photos", "--library", tmp_path / "l", "--model", "builtin-small", "--json"]
        done = subprocess.run(command, cwd=home, env=environment(), stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 0 and json.loads(done.stdout)["added"] == 4


def test_status_says_what_is_damaged(home, tmp_path):
    shutil.copytree(home / ".clipsearch", tmp_path / "library")
    assert run_cli("status", "--json", "--library", tmp_path / "library").json["problems"] == []
    next((tmp_path / "library" / "vectors").glob("image*")).unlink()
    assert "problem" in run_cli("status", "--library", tmp_path / "library").out.decode()


def test_status_does_not_steer_a_terminal(tmp_path):
    library, pin = Library.create(tmp_path / "library"), EncoderPin("a\x1b[31m\nb", "f", 8)
    library.pin(pin)
    summary = replace(summarise(library), second=SecondSet(pin, Role.KEPT, 0, 0, 0, 0, 0))
    library.close()
    said = maintain._describe(summary)
    assert (
        all(line.isprintable() for line in said) and sum(r"a\x1b[31m\nb (8 dimensions)" in line for line in said) == 2
    )


@pytest.mark.slow
def test_an_encoder_may_be_changed_while_there_is_nothing_to_compare(home, tmp_path):
    library = tmp_path / "library"
    (tmp_path / "empty").mkdir()
    for folder, model in (("empty", "builtin-base"), (home / "photos", "builtin-small")):
        assert run_cli("index", folder, "--library", library, "--model", model, cwd=tmp_path).code == 0
    assert run_cli("index", "--library", library, "--model", "builtin-base").code == 6
    assert run_cli("forget", home / "photos", "--library", library).code == 0
    assert run_cli("index", home / "photos", "--library", library, "--model", "builtin-base").code == 0
    assert json.loads(query(tmp_path, "--json", "--library", str(library), "a cat"))["encoder"] == "builtin-base"


def test_exit_codes_are_documented_wherever_they_are_listed():
    """Each code an error or the command line itself has stands in the help, in the manual and in errors.py."""
    from clipsearch import errors

    def below(kind):
        return {kind.exit_code}.union(*map(below, kind.__subclasses__()))

    codes = below(errors.ClipSearchError) | {0, main.INTERRUPTED, main.INTERNAL}
    places = {"help": run_cli("--help").out.decode(), "errors": errors.__doc__}
    manual = (ROOT / "docs" / "output.md").read_text()
    places["docs/output.md"] = manual[manual.index("Exit codes: ") :].partition("\n\n")[0]
    for name, text in places.items():
        words = set(re.findall("[0-9]+", text))
        assert {str(code) for code in codes} <= words, name


@pytest.mark.slow
def test_a_command_that_runs_long_has_a_garbage_collector(home):
    script = "import atexit, gc, sys\nfrom clipsearch.cli import entry\nsys.argv = ['clipsearch', 'status']\n"
    script += "atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0))\nentry.main()\n"
    ran = subprocess.run([sys.executable, "-c", script], cwd=home, env=environment(), capture_output=True, check=True)
    assert ran.stdout.decode().splitlines()[-1] == "True True"
