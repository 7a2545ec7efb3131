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
def test_kills_at_random_moments_and_at_steps_on_the_disk(encoder):
    steps = 4 if shutil.which("cc") else 0  # without a compiler there is no disk that counts its steps
    passes("kills", "--trials", 8, "--steps", steps, "--only", "index, changes", "import-embeddings", "label --save")


@pytest.mark.slow
def test_a_disk_that_fails(encoder):
    passes("faults", "--trials", 12, "--rooms", 1, "--only", "index, changes", "forget")


@pytest.mark.slow
def test_flipped_bits(encoder):
    passes("flips", "--trials", 50, "--records", 260)


@pytest.mark.slow
def test_files_that_are_cut(encoder):
    passes("truncation", "--trials", 30, "--records", 260)


@pytest.mark.slow
def test_power_cuts(encoder):
    passes("power_cut", "--trials", 6)


@pytest.mark.slow
def test_readers_and_writers_at_once(encoder):
    passes("mixed", "--minutes", 0.07)


@pytest.mark.slow
def test_power_cuts_are_seen_where_nothing_is_flushed(encoder):
    """The control: a writer that never waits for the disk loses what it committed."""
    done = reliability("power_cut", "--trials", 12, "--careless")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed: 0" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kills", ("--trials", 60, "--steps", 12)),
        ("faults", ("--trials", 200, "--rooms", 6)),
        ("flips", ("--trials", 1000)),
        ("truncation", ("--trials", 400)),
        ("power_cut", ("--trials", 40)),
        ("mixed", ("--minutes", 1)),
    ],
)
def test_the_longer_forms(encoder, name, options):
    passes(name, *options)
