"""The README names every command and option, and what it shows runs."""

import re
from pathlib import Path

import click
import pytest

from clipsearch.cli.main import COMMANDS, cli
from clipsearch.config import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands():
    context = click.Context(cli)
    return {name: cli.get_command(context, name) for name in COMMANDS}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_named(name):
    assert f"clipsearch {name}" in README
    for parameter in commands()[name].params:
        if isinstance(parameter, click.Option):
            assert any(re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", README) for option in parameter.opts)


def test_every_shown_command_exists_with_its_options():
    shown = re.findall(r"^ +(?:\$ )?clipsearch (\w+)(.*)$", README, re.MULTILINE)
    assert {name for name, _ in shown} == set(COMMANDS)
    for name, rest in shown:
        options = {option for p in commands()[name].params for option in p.opts}
        used = re.findall(r"(?<=\s)--?[a-z0-9][a-z0-9-]*", rest.split("#")[0].split("|")[0])
        assert set(used) <= options, f"{name}{rest}"


def test_every_setting_is_named():
    for name in Settings.__dataclass_fields__:
        assert f"`{name}`" in README


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ +make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_python_example_runs(tmp_path, encoder, monkeypatch):
    """The block of the README, word for word, in a folder that has what it names."""
    from tests.helpers import index
    from tests.pictures import noise_picture

    photos = tmp_path / "photos"
    (photos / ".clipsearch").mkdir(parents=True)
    for seed in range(3):
        noise_picture(seed, (64, 48)).save(photos / f"{seed}.png")
    noise_picture(9, (64, 48)).save(tmp_path / "cat.jpg")
    index(photos / ".clipsearch", photos, encoder=encoder)
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    names: dict = {}
    exec(block[1], names)
    assert [len(results) for results in names["answers"]] == [3, 3]
