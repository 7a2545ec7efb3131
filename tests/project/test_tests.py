"""The tests themselves: where they lie, what they may import, and that documents name those that exist."""

import ast
import fnmatch
import json
import re

import pytest

from tests.support.paths import RELIABILITY, ROOT

TESTS = ROOT / "tests"
FOLDERS = {
    "ann", "cli", "client", "encoders", "indexer", "integrations", "media", "page", "project", "query", "server",
    "store",
}  # fmt: skip
MODULES = sorted(TESTS.rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
NAMED = re.compile(r"tests/[\w/]+\.py|::test_\w+…?")


def test_each_module_lies_in_the_folder_of_a_part():
    found = [path for path in MODULES if path.name.startswith("test_")]
    assert {str(path.parent.relative_to(TESTS)) for path in found} == FOLDERS
    assert len({path.name for path in found}) == len(found), "two modules have the same name"
    assert all((path.parent / "__init__.py").is_file() for path in MODULES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_is_shared_comes_from_support(path):
    """A module that takes from another module of tests breaks when that one is moved, and runs its fixtures twice."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide where a name is from"
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in imported:
            assert name.split(".")[0] != "tests" or name.startswith("tests.support"), f"{path.name} imports {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documents_name_tests_that_exist(page):
    """A bare `::test_x` is of the file that was named last before it, and may end in an ellipsis."""
    functions = None
    for word in NAMED.findall(page.read_text(encoding="utf-8")):
        if word.startswith("tests/"):
            assert (ROOT / word).is_file(), word
            tree = ast.parse((ROOT / word).read_text(encoding="utf-8"))
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        else:
            assert functions is not None and fnmatch.filter(functions, word.removeprefix("::").replace("…", "*")), word


def test_the_tests_of_every_mutation_exist():
    listed = json.loads((RELIABILITY / "mutations.json").read_text(encoding="utf-8"))
    assert all((ROOT / name.split("::")[0]).is_file() for each in listed for name in each["tests"])
