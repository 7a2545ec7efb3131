"""The documents: links lead somewhere, every option is explained in one place, and every named option exists."""

import re
from collections import Counter
from pathlib import Path

import click
import pytest

from clipsearch.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *PAGES]
SHARED = {"--json", "--paths", "-0", "--print0", "--library", "--offline", "-h", "--help", "--version"}
"""Options that mean the same with every command that has them; docs/output.md explains them."""

OPTION = r"(?<![\w/.-])--?[a-zA-Z0-9][a-z0-9-]*"


def options_of(name):
    """Return the options of a command, both forms of a switch."""
    command = cli.get_command(click.Context(cli), name)
    found = {option for p in command.params if isinstance(p, click.Option) for option in (*p.opts, *p.secondary_opts)}
    return found | {"-h", "--help"}


OPTIONS = {name: options_of(name) for name in COMMANDS}
ALL_OPTIONS = set().union(*OPTIONS.values()) | {"--version"}


def slugs(path):
    """Return the anchors of a page, by the rules of GitHub: lower case, blanks as dashes, no other signs."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    counts: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *#*$", text, re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
        counts[slug] += 1
    return found


def tables(text):
    """Yield each table as the cells of its header and the first cells of its rows."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        header, _, *rows = block.splitlines()
        yield header.split("|")[1], [re.split(r"(?<!\\)\|", row)[1] for row in rows]


def explained():
    """Return the places that explain an option: (command, or None for all; option) -> pages."""
    found = []
    for page in PAGES:
        for head, cells in tables(page.read_text()):
            if not re.match(r" (option|filter) of |  *shared option ", head):
                continue
            commands = re.findall(r"`([\w-]+)`", head) or [None]
            for option in re.findall(r"(?<=`)-[\w-]+", " ".join(cells)):
                found += [(command, option, page.name) for command in commands]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(path):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        there = path if not name else path.parent / name
        if not there.exists() or (anchor and anchor not in slugs(there)):
            wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_explained_in_one_place(name):
    """In one table: that of its command, or for an option that is the same everywhere in that of docs/output.md."""
    places = explained()
    for option in OPTIONS[name]:
        command = None if option in SHARED else name
        pages = [page for known, each, page in places if (known, each) == (command, option)]
        # both names of a list of values may stand in one row, such as `--image FILE` or `--image URL`
        assert len(set(pages)) == 1, f"{option} of {name}: {pages}"
        assert option not in SHARED or pages == ["output.md"]


def test_every_explained_option_exists():
    for command, option, page in explained():
        known = ALL_OPTIONS & SHARED if command is None else OPTIONS.get(command, set())
        assert option in known, f"{page}: {option} of {command}"


def named(text):
    """Yield the pieces of code of a document: lines of examples, and what stands between backticks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (line for block in fenced for line in block.splitlines())
    yield from re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"^ {4}.*$", "", text, flags=re.M)))


def unknown(code):
    """Return the options of a piece of code that do not exist: of a command, of a script, or standing alone.

    Options of other programs are left out.
    """
    wrong = []
    for part in re.split(r" \| | && ", code):
        part, _, remark = re.sub(r"'[^']*'|\"[^\"]*\"", "''", part).partition("# ")
        words = part.split() or [""]
        if words[:2] == ["find", "."]:  # the program of that name
            continue
        script = re.search(r"[\w/]+\.py\b", part)
        if script and (ROOT / script[0]).is_file():
            known = set(re.findall(OPTION, (ROOT / script[0]).read_text()))
        elif {*words[:2]} & {*OPTIONS} and (words[0] == "clipsearch" or words[0] in OPTIONS):
            known = OPTIONS[words[1] if words[0] == "clipsearch" else words[0]]
        elif words[0] == "clipsearch" or words[0].startswith("--"):
            known = ALL_OPTIONS
        else:
            continue
        wrong += [option for option in re.findall(OPTION, part) if option not in known]
        wrong += [option for option in re.findall(OPTION, remark) if option not in ALL_OPTIONS]
    return wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_named_option_exists(path):
    pieces = named(path.read_text())
    if path.parent.name == "benchmarks":  # an option alone is there one of a script
        pieces = (code for code in pieces if not code.startswith("--"))
    assert not [(code, wrong) for code in pieces if (wrong := unknown(code))]


def test_an_option_that_does_not_exist_is_found():
    assert unknown("clipsearch query --nowhere x") == ["--nowhere"]
    assert unknown("--nowhere 3") == unknown("query --nowhere") == ["--nowhere"]
    assert unknown("clipsearch index --save") == ["--save"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_opens_with_a_command(page):
    """Right after its title: the one that most people need; in docs/python.md, the code."""
    _, opening = page.read_text().split("\n\n", 1)
    assert opening.startswith(("    clipsearch ", "    $ clipsearch ", "```python\n"))


@pytest.mark.parametrize("page", ["recipes", "python", "integrations", "metadata"])
def test_examples_open_the_library_that_a_command_before_them_makes(page):
    """`clipsearch index photos` alone fills the library of the user; one in the folder is made by its name."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    opened = re.search(r"photos/\.clipsearch", text)
    made = re.search(r"clipsearch index (?:\./)?photos --library (?:\./)?photos/\.clipsearch", text)
    line = text.count("\n", 0, opened.start()) if opened else 0
    assert not opened or (made and text.count("\n", 0, made.start()) <= line)
