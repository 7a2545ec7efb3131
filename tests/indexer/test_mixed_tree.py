"""The short form of a tree of everything: each file becomes what it was made for, and a second run encodes nothing."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_tree_of_every_kind_of_file(tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("imagecodecs")
    pytest.importorskip("pypdfium2")
    pytest.importorskip("resvg_py")
    command = [sys.executable, ROOT / "benchmarks" / "mixed_tree.py", "--files", "60", "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
