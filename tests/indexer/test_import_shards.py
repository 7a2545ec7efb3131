"""Finished shards to a library: once each, in any order, and equal to what a local run makes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from clipsearch.errors import EncoderMismatchError, InvalidInputError
from clipsearch.types import EncoderPin
from indexer.embed_part import embed_part
from indexer.executors.local import LocalExecutor
from indexer.import_shards import import_shards
from indexer.pipeline import IndexOptions, index
from indexer.shard_files import FILES
from indexer.shard_plan import PLAN
from indexer.sources.registry import open_source
from tests.support.paths import ROOT
from tests.support.shards import SETTINGS, plan_of, same_library, table, tables


def embed_all(address, out, encoder, parts=1, only=None):
    plan = plan_of(address, encoder, parts=parts)
    for number in only or range(1, parts + 1):
        embed_part(out, open_source(address), plan, number, SETTINGS, encoder=encoder)
    return plan


def counts(report):
    names = ("added", "changed", "unchanged", "removed", "failed_rows", "imported", "skipped")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


@pytest.fixture
def address(tmp_path):
    return tables(tmp_path / "data", 4, 9)


@pytest.fixture
def local(tmp_path, address, encoder):
    """The library of a local run."""
    index(tmp_path / "local", [address], SETTINGS, encoder=encoder)
    return tmp_path / "local"


def test_an_import_equals_a_local_run(tmp_path, address, local, encoder):
    embed_all(address, tmp_path / "out", encoder, parts=3)
    report = import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
    assert counts(report) == {"added": 28, "failed_rows": 8, "imported": 4}
    same_library(tmp_path / "lib", local)
    again = import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
    assert counts(again) == {"skipped": 4}
    same_library(tmp_path / "lib", local)
    after = index(tmp_path / "lib", [address], SETTINGS, encoder=encoder)  # nothing is left to do
    assert (after.added, after.encoded, after.unchanged) == (0, 0, 28)


def test_what_is_there_from_a_local_run_is_not_imported_again(tmp_path, address, local, encoder):
    embed_all(address, tmp_path / "out", encoder)
    assert counts(import_shards(local, tmp_path / "out", SETTINGS)) == {"skipped": 4}


@pytest.mark.slow
def test_shards_come_in_any_order_and_missing_ones_are_named(tmp_path, address, local, encoder):
    order = [1, 2, 3, 4]
    random.Random(7).shuffle(order)
    for done, part in enumerate(order, 1):
        embed_all(address, tmp_path / "out", encoder, parts=4, only=[part])
        report = import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
        assert (report.imported, report.skipped, len(report.unfinished)) == (1, done - 1, 4 - done)
        missing = sorted(set(order[done:]))
        assert report.commands == [
            f"clipsearch embed '{address}' --out {tmp_path / 'out'} --shard {each}/4" for each in missing
        ]
    same_library(tmp_path / "lib", local)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_shard_is_reported_and_made_again(tmp_path, address, local, encoder, name):
    plan = embed_all(address, tmp_path / "out", encoder, parts=4)
    folder = next(each for each in sorted((tmp_path / "out").iterdir()) if each.is_dir())
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-9] + b"\0" + data[-8:])
    report = import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
    assert (report.imported, len(report.damaged), len(report.commands)) == (3, 1, 1)
    part = int(report.commands[0].split()[-1].split("/")[0])
    embed_part(tmp_path / "out", open_source(address), plan, part, SETTINGS, encoder=encoder)
    if name != "manifest.json":  # whose sizes are as they were, so the damage is only seen by its checksums
        shutil.rmtree(folder, ignore_errors=True)
        embed_part(tmp_path / "out", open_source(address), plan, part, SETTINGS, encoder=encoder)
    assert counts(import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS))["imported"] == 1
    same_library(tmp_path / "lib", local)


@pytest.mark.slow
def test_a_changed_shard_takes_the_place_of_the_former(tmp_path, address, encoder):
    embed_all(address, tmp_path / "out", encoder)
    import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
    table(tmp_path / "data" / "t01.jsonl", 6, pictures=1, bad=0)
    embed_all(address, tmp_path / "out", encoder)
    report = import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
    assert (report.imported, report.skipped) == (1, 3)
    index(tmp_path / "local", [address], SETTINGS, encoder=encoder)
    same_library(tmp_path / "lib", tmp_path / "local")


def test_another_encoder_is_refused(tmp_path, address, encoder):
    plan = embed_all(address, tmp_path / "out", encoder)
    said = json.loads((tmp_path / "out" / PLAN).read_text())
    index(tmp_path / "lib", [address], SETTINGS, encoder=encoder)
    said["encoder"]["fingerprint"] = "0" * 32
    (tmp_path / "out" / PLAN).write_text(json.dumps(said))
    with pytest.raises(EncoderMismatchError):
        import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
    assert plan.encoder != EncoderPin(**said["encoder"])
    report = import_shards(tmp_path / "other", tmp_path / "out", SETTINGS)  # of whose encoder there is no shard
    assert (report.imported, len(report.unfinished)) == (0, 4)


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="holds no shards"):
        import_shards(tmp_path / "lib", tmp_path / "nowhere", SETTINGS)
    assert not (tmp_path / "lib").exists()


def test_a_run_that_is_stopped_goes_on(tmp_path, address, local, encoder):
    embed_all(address, tmp_path / "out", encoder)
    answers = iter([False, False, True])
    report = import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS, should_stop=lambda: next(answers))
    assert (report.imported, report.interrupted) == (2, True)
    assert counts(import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS))["skipped"] == 2
    same_library(tmp_path / "lib", local)


def test_an_executor_makes_the_library_of_a_local_run(tmp_path, address, local, encoder):
    options = IndexOptions(executor=LocalExecutor(encoder))
    report = index(tmp_path / "lib", [address], SETTINGS, options, encoder=encoder)
    assert (report.added, report.failed_rows) == (28, 8)
    same_library(tmp_path / "lib", local)
    again = index(tmp_path / "lib", [address], SETTINGS, options, encoder=encoder)
    assert (again.added, again.encoded, again.unchanged) == (0, 0, 28)


KILLED = """
import os, signal, sys
from pathlib import Path
from clipsearch.config import Settings
from clipsearch.store.writer import Writer
from indexer.import_shards import import_shards
at, calls = int(sys.argv[3]), 0
def dying(self, *args, real=Writer.commit_additions, **more):
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(self, *args, **more)
    if calls == at - 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Writer.commit_additions = dying
import_shards(Path(sys.argv[1]), Path(sys.argv[2]), Settings(threads=1, offline=True))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_an_import_that_is_killed_anywhere_goes_on(tmp_path, address, local, encoder):
    embed_all(address, tmp_path / "out", encoder)
    for at in range(1, 9):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "lib"), str(tmp_path / "out"), str(at)]
        done = subprocess.run(command, cwd=ROOT, timeout=120, check=False, capture_output=True)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    import_shards(tmp_path / "lib", tmp_path / "out", SETTINGS)
    same_library(tmp_path / "lib", local)
