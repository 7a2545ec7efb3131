"""The README and the manual under docs/ name every command, and what they show runs."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
import numpy as np
import pytest

from clipsearch.cli.daemon.protocol import socket_path
from clipsearch.cli.main import COMMANDS, cli
from clipsearch.config import Settings
from tests.support.cli import COMMAND, environment
from tests.support.libraries import index, photo, photos
from tests.support.paths import ROOT

PAGES = (
    "indexing answers captions queries match duplicates labels collections output imports maintenance evaluation "
    "large-libraries configuration python encoders"
).split()
"""The manual, in the order in which its examples run: a later page may need what an earlier one indexed."""
README = (ROOT / "README.md").read_text()
MANUAL = "\n".join([README, *((ROOT / "docs" / f"{page}.md").read_text() for page in PAGES)])
MAX_WORDS = 900
UNENDING = {"clipsearch serve": "Listening", "clipsearch watch": "Watching"}
"""Commands that end with Ctrl-C, and what they say when they are ready."""


def commands():
    context = click.Context(cli)
    return {name: cli.get_command(context, name) for name in COMMANDS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_named(name):
    """What says the same of its options is tests/project/test_docs.py."""
    assert f"clipsearch {name}" in MANUAL


def test_every_shown_command_exists_with_its_options():
    shown = re.findall(r"^ +(?:\$ )?clipsearch ([\w-]+)(.*)$", MANUAL, re.MULTILINE)
    assert {name for name, _ in shown} == set(COMMANDS)
    for name, rest in shown:
        options = {option for p in commands()[name].params for option in (*p.opts, *p.secondary_opts)}
        used = re.findall(r"(?<=\s)--?[a-z0-9][a-z0-9-]*", rest.split("#")[0].split("|")[0])
        assert set(used) <= options, f"{name}{rest}"


def test_every_setting_is_named():
    for name in Settings.__dataclass_fields__:
        assert f"`{name}`" in MANUAL


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ +make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(README.split()) <= MAX_WORDS
    linked = set(re.findall(r"\]\(docs/([\w-]+)\.md", README))
    assert linked == {page.stem for page in (ROOT / "docs").glob("*.md")}


def test_the_python_example_runs(tmp_path, encoder, monkeypatch):
    """The blocks of docs/python.md, word for word, in a folder that has what it names."""
    from tests.support.pictures import noise_picture

    photos = tmp_path / "photos"
    (photos / ".clipsearch").mkdir(parents=True)
    for seed in range(3):
        noise_picture(seed, (64, 48)).save(photos / f"{seed}.png")
    noise_picture(9, (64, 48)).save(tmp_path / "cat.jpg")
    index(photos / ".clipsearch", photos, encoder=encoder)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert [len(results) for results in names["answers"]] == [3, 3]
    assert len(names["lines"]) == 3 and all("pixels" in line for line in names["lines"])
    import clipsearch

    used = set(re.findall(r"\w+", " ".join(blocks))) | set(re.findall(r"`(\w+)`", page))
    assert {*clipsearch.__all__} <= used


@pytest.fixture
def home(tmp_path, encoder):
    """A user who has what the examples name; they stand in the home folder."""
    photos(tmp_path / "photos", 3)
    photos(tmp_path / "photos" / "old", 2, first=10)
    photos(tmp_path / "Pictures", 2, first=20)
    photo(tmp_path / "Pictures" / "drafts" / "d.jpg", 30)
    photo(tmp_path / "cat.jpg", 1)  # a copy of one in photos/, so that there is something to exclude
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "garden.txt").write_text("How to prune roses: cut above a bud, in late winter.\n")
    (tmp_path / "notes" / "junk.tmp").write_text("junk\n")
    np.save(tmp_path / "photos.npy", np.random.default_rng(0).standard_normal((3, 512)))
    np.save(tmp_path / "queries.npy", np.random.default_rng(1).standard_normal((50, 512)))
    (tmp_path / "photos.jsonl").write_text("".join(f'{{"path": "photos/p00{i}.jpg"}}\n' for i in range(3)))
    photo(tmp_path / "photos" / "cat.jpg", 40)
    (tmp_path / "Pictures" / "2026").mkdir(parents=True)
    photo(tmp_path / "Pictures" / "2026" / "lake.jpg", 41)
    captions = "".join(f"p001.jpg,a dog in picture {i}\n" for i in range(50))
    (tmp_path / "captions.csv").write_text(f"image,caption\nphotos/p000.jpg,a cat\n{captions}")
    index(tmp_path / "other-library", tmp_path / "photos", encoder=encoder)
    return tmp_path


@contextmanager
def served(home, env):
    """Serve the library that the folder has, as the example of `clipsearch serve` does."""
    with subprocess.Popen([COMMAND, "serve"], cwd=home, env=env, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert "Listening" in server.stderr.readline()
            yield
        finally:
            server.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_every_shell_example_runs(home, encoder):
    """Each line as it stands, pipes and comments too, one after the other as a reader would type them."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    lines = re.findall(r"^    (?:\$ )?(clipsearch .*)$", MANUAL, re.MULTILINE)
    assert len(lines) >= len(COMMANDS)
    data = {f"XDG_{kind}_HOME": str(home / f".{kind.lower()}") for kind in ("CONFIG", "DATA", "STATE")}
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    env = environment({"HOME": str(home), "PATH": path, "CLIPSEARCH_MODEL": "builtin-small", **data})
    wrong = []
    for line in lines:
        with open(home / "said", "w+") as said:  # no pipe, which the daemon would keep open
            command = [bash, "-o", "pipefail", "-c", line]
            with (
                served(home, env) if "--server http://127.0.0.1" in line else nullcontext(),
                subprocess.Popen(command, cwd=home, env=env, stdout=said, stderr=said) as run,
            ):
                ready = next((word for start, word in UNENDING.items() if line.startswith(start)), None)
                if ready is not None:
                    while ready not in Path(said.name).read_text() and run.poll() is None:
                        time.sleep(0.05)
                    run.send_signal(signal.SIGINT)
                code = run.wait(60)
            until = time.monotonic() + 20
            while line.startswith("clipsearch daemon &") and not socket_path().exists() and time.monotonic() < until:
                time.sleep(0.05)
            text = Path(said.name).read_text()
        if code or "Traceback" in text:
            wrong.append((line, code, text))
    assert not wrong
