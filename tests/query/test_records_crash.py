"""A process that dies while it adds, updates or deletes records: what a call returned is there, and all is sound."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch import Record, Settings
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from tests.support.disk import crash_at_every_step, in_runner

SETTINGS = Settings(threads=1, offline=True)
DIM = 4


def opened(folder: Path) -> clipsearch.SearchEngine:
    return clipsearch.open(folder, create=True, model="m", dim=DIM, settings=SETTINGS)


def record(name: str, version: int) -> Record:
    row = np.random.default_rng(version).standard_normal(DIM)
    return Record(name, vector=row, text=f"text {version}", metadata={"version": version})


def before(folder: Path) -> None:
    with opened(folder) as engine:
        engine.add([record(name, 0) for name in "abcd"])


def change(folder: Path) -> None:
    """Replace two, add two, in commits of two."""
    with opened(folder) as engine:
        engine.add([record(name, 1) for name in "abef"], batch_size=2)


def crash_runner(prepared: Path, scratch: Path) -> None:
    crash_at_every_step(prepared, scratch, change)


def versions(folder: Path) -> dict[str, int]:
    """The version of each record, which its text, metadata and vector agree on; nothing in the library is damaged."""
    with opened(folder) as engine:
        items = {item.key: item for item in engine.items()}
        found = {name: item.metadata["version"] for name, item in items.items()}
        vectors = engine.vectors([*found])
        for (name, version), vector in zip(found.items(), vectors, strict=True):
            row = record(name, version).vector
            assert items[name].text == f"text {version}"
            assert vector @ row / np.linalg.norm(row) > 0.999
    library = Library(folder)
    assert [each.found for each in examine(library, "b") if each.severity is Severity.PROBLEM] == []
    library.close()
    return found


@pytest.mark.slow
def test_a_process_that_dies_at_any_step_leaves_whole_batches(tmp_path):
    before(tmp_path / "prepared")
    results = in_runner(__name__, "crash_runner", tmp_path / "prepared", tmp_path)
    assert [code for code, _ in results] == [99] * (len(results) - 1) + [0]
    old = dict.fromkeys("abcd", 0)
    allowed = [old, old | dict.fromkeys("ab", 1), old | dict.fromkeys("abef", 1)]
    reached = []
    for _, folder in results:
        found = versions(folder)
        assert found in allowed
        reached.append(allowed.index(found))
        shutil.rmtree(folder)
    assert reached == sorted(reached)
    assert {*reached} == {0, 1, 2}


WRITER = """
import random, sys
from pathlib import Path
import tests.query.test_records_crash as t
chance = random.Random(int(sys.argv[2]))
with t.opened(Path(sys.argv[1])) as engine:
    state = {item.key: item.metadata["version"] for item in engine.items()}
    for version in range(max(state.values(), default=0) + 1, 1000):
        names = chance.sample("abcdefghijkl", 3)
        if chance.random() < 0.3:
            print("delete", version, *names, flush=True)
            engine.delete(names)
        else:
            print("add", version, *names, flush=True)
            engine.add([t.record(name, version) for name in names])
        print("done", version, flush=True)
"""


@pytest.mark.slow
def test_what_a_call_returned_is_there_after_a_kill_at_any_time(tmp_path):
    folder, chance = tmp_path / "lib", random.Random(1)
    before(folder)
    state = versions(folder)
    for run in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(run)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        said = [process.stdout.readline().split()]
        deadline = time.monotonic() + chance.uniform(0, 0.7)
        while time.monotonic() < deadline:
            said.append(process.stdout.readline().split())
        process.send_signal(signal.SIGKILL)
        said += [line.split() for line in process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
        after = state
        for words in said:
            state, after = (after, after) if words[:1] == ["done"] else (state, applied(state, words))
        found = versions(folder)
        assert found in (state, after), (found, said[-3:])
        state = found


def applied(state: dict[str, int], words: list[str]) -> dict[str, int]:
    """The state after a call, as the writer announced it; a line that the kill cut off announces nothing."""
    if len(words) != 5:
        return state
    call, version, *names = words
    if call == "delete":
        return {name: each for name, each in state.items() if name not in names}
    return state | dict.fromkeys(names, int(version))
