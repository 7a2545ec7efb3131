"""The short form of benchmarks/reliability/hostile.py: hostile files cost themselves, and nothing else."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support.paths import RELIABILITY


@pytest.fixture(scope="module")
def hostile():
    """The module of the long form, which stands in no package."""
    paths = [str(RELIABILITY), str(RELIABILITY.parent)]
    sys.path[:0] = paths
    import hostile

    yield hostile
    for path in paths:
        sys.path.remove(path)


@pytest.mark.skipif(os.name != "posix", reason="the corpus has names and files of POSIX")
def test_hostile_files_are_reported_and_all_others_indexed(tmp_path, hostile, encoder):
    expected = hostile.make(tmp_path / "files", short=True)
    assert len(expected) > 300
    row = hostile.check(tmp_path / "files", tmp_path / "library", expected, "--no-isolate")
    assert row["crashes"] == 0 and not row["wrong"], row
    # Below the 2 GiB that one picture may take; a bomb that is decoded takes more.
    assert row["peak_mib"] < 1200
