"""Short forms of the long runs under benchmarks/reliability/: the same scripts, with fewer trials."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.support.paths import RELIABILITY

SKIPPED = 77


def reliability(name: str, *options: object) -> subprocess.CompletedProcess[str]:
    """Run a script of its own; skip with its reason where it cannot be made here."""
    command = [sys.executable, RELIABILITY / f"{name}.py", "--no-write", *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    return done


def passes(name: str, *options: object) -> str:
    """Run a script, which must find nothing; return what it printed."""
    done = reliability(name, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 failures\n")
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kills", ("--trials", 20, "--steps", 4)),
        ("faults", ("--trials", 60, "--rooms", 2)),
        ("flips", ("--trials", 300)),
        ("truncation", ("--trials", 120)),
        ("power_cut", ("--trials", 20)),
        ("mixed", ("--minutes", 0.5)),
    ],
)
def test_nothing_is_lost(encoder, name, options):
    if name == "kills" and not shutil.which("cc"):  # no disk that counts its steps
        options = ("--trials", 20, "--steps", 0)
    passes(name, *options)


@pytest.mark.slow
def test_power_cuts_are_seen_where_nothing_is_flushed(encoder):
    """The control: a writer that never waits for the disk loses what it committed."""
    done = reliability("power_cut", "--trials", 12, "--careless")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed: 0" not in done.stdout
