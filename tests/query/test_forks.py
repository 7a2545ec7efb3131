"""An engine that was opened before a fork is used by parent and child, as servers with workers do."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.sentences import sentence_library

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
def test_parent_and_children_search_on(encoder, tmp_path, kind):
    folder = sentence_library(tmp_path / "library", encoder, kind).library.folder
    command = [sys.executable, "-m", "tests.support.forked", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines() == [*["child: same", "left with 0"] * 4, "pool: same same", "parent: same"]
