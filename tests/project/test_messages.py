"""Messages of what Python callers use: one that names an option of the command line says what to write in Python."""

import ast
import re

import pytest

from tests.support.paths import ROOT

BELOW_THE_COMMANDS = {
    "clipsearch/gallery/folder.py",  # --copy-to
    "clipsearch/gallery/page.py",  # CSS
    "clipsearch/integrations/mcp/http.py",
    "clipsearch/store/restore.py",
    "indexer/sources/embeddings.py",
}
"""Modules that only commands use, and a style sheet."""

MODULES = [
    path
    for package in ("clipsearch", "indexer")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.relative_to(ROOT).parts[1] != "cli" and path.relative_to(ROOT).as_posix() not in BELOW_THE_COMMANDS
]

OPTION = re.compile(r"(?<![\w-])--[a-z]")
COMMAND = re.compile(r"(clipsearch [a-z]+|pip install|\{BUILD\}|\{self.command\}).*", re.DOTALL)
"""A command, which anybody can run, has options of its own."""


def messages(tree):
    """Yield the sentences of a module that are no docstrings, with what they fill in."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inside | docs):
            yield node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_option_has_its_counterpart_in_python(path):
    for said in messages(ast.parse(path.read_text(encoding="utf-8"))):
        if not re.search("[.:]", said):
            continue  # a part of a command
        assert not OPTION.search(COMMAND.sub("", said)) or "n Python:" in said
