"""One writer, many readers: threads, processes, read-only folders, Ctrl-C."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clipsearch.config import Settings
from clipsearch.errors import LibraryLockedError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.types import Modality
from tests.support.catalogs import raw_catalog
from tests.support.cli import BIND, run_cli, run_cli_bound, start_cli
from tests.support.libraries import REPORT_KEYS, Counting, counts, index, paths_found, photo, photos
from tests.support.state import read_state, tree_digest

MODEL = ("--model", "builtin-small")


class Pausing(Counting):
    """The real encoder, which stops at a batch until it is told to go on."""

    def __init__(self, encoder: object, at: int) -> None:
        super().__init__(encoder)
        self._at = at
        self._batches = 0
        self.paused = threading.Event()
        self.go_on = threading.Event()

    def encode_pixels(self, batch):
        self._batches += 1
        if self._batches == self._at:
            self.paused.set()
            assert self.go_on.wait(60)
        return super().encode_pixels(batch)


@pytest.fixture
def paused_run(tmp_path, encoder) -> Iterator[tuple[Path, Path, Pausing]]:
    """A run over 30 pictures that has committed two batches of five and stands before the third."""
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 30)
    pausing = Pausing(encoder, at=3)
    settings = Settings(threads=1, offline=True, batch_size=5)
    run = threading.Thread(target=index, args=(library, root), kwargs={"encoder": pausing, "settings": settings})
    run.start()
    assert pausing.paused.wait(60)
    wait_until(lambda: len(read_state(library).live) == 10)  # the second is committed beside the third
    yield root, library, pausing
    pausing.go_on.set()
    run.join(60)
    assert len(read_state(library).live) == 30


def test_a_second_writer_is_refused_at_once_and_told_why(paused_run, encoder):
    root, library, _ = paused_run
    for command in (["index", root, *MODEL], ["index", root, "--dry-run"], ["forget", root], ["build"]):
        ran = run_cli(*command, "--library", library)
        assert ran.code == 4, (command, ran)
        assert "is writing to the library" in ran.err
        assert ran.out == b""
    with pytest.raises(LibraryLockedError, match="Another process, or another engine of this one, is writing"):
        index(library, root, encoder=encoder)


def test_readers_see_what_is_committed_while_a_run_is_under_way(paused_run, encoder):
    _, library, pausing = paused_run
    engine = SearchEngine(Library(library), encoder=encoder)
    assert len(engine.search("a picture", k=99)) == 10
    ran = run_cli("query", "a picture", "-k", 99, "--json", "--library", library)
    assert ran.code == 0, ran
    assert len(ran.json["hits"]) == 10
    status = run_cli("status", "--json", "--library", library)
    assert status.code == 0, status
    assert status.json["modalities"]["image"]["files"] == 10
    pausing.go_on.set()
    wait_until(lambda: len(engine.search("a picture", k=99)) == 30)


def wait_until(happens) -> None:
    for _ in range(6000):
        if happens():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within a minute")


@pytest.mark.slow
def test_readers_of_all_kinds_see_only_committed_states(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    known = photos(root, 8)
    assert counts(index(library, root, encoder=encoder))["added"] == 8
    photos(root, 96, first=8)
    done = threading.Event()
    problems: list[BaseException] = []
    seen: list[list[int]] = []
    engine = SearchEngine(Library(library), encoder=encoder)
    vector = encoder.encode_queries(["a picture"])[0]

    def read(shared: bool) -> None:
        sizes: list[int] = []
        seen.append(sizes)
        try:
            while not done.is_set():
                own = engine if shared else SearchEngine(Library(library), encoder=encoder)
                results = own.search(vector=vector, k=1000)
                assert len({hit.item.id for hit in results}) == len(results)
                assert all(a.score >= b.score for a, b in itertools.pairwise(results))
                assert os.path.basename(known[0]) in {os.path.basename(hit.path) for hit in results}
                sizes.append(len(results))
                if not shared:
                    own.library.close()
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=read, args=(i % 2 == 0,)) for i in range(4)]
    process = start_cli("index", root, "--library", library, "--batch-size", 8, "--threads", 1)
    for reader in readers:
        reader.start()
    while process.poll() is None:
        ran = run_cli("query", "a picture", "-k", 1000, "--paths", "--library", library)
        assert ran.code == 0
        assert (ran.out.count(b"\n") - 8) % 8 == 0
    process.communicate()
    assert process.returncode == 0
    done.set()
    for reader in readers:
        reader.join()
    assert not problems
    for sizes in seen:
        assert sizes == sorted(sizes)
        assert {size % 8 for size in sizes} == {0}
    assert len(engine.search("a picture", k=1000)) == 104


@pytest.mark.slow
def test_one_engine_is_shared_by_16_threads_while_files_come_and_go(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    paths = photos(root, 24)
    index(library, root, encoder=encoder)
    engine = SearchEngine(Library(library), encoder=encoder)
    query = {path: engine.search(image=path, k=1)[0] for path in paths[:8]}
    problems: list[BaseException] = []
    vectors = {path: encoder.encode_images([opened(path)])[0] for path in query}
    stop = threading.Event()

    def search(number: int) -> None:
        try:
            for i in range(40):
                path = paths[(number + i) % 8]
                (hit,) = engine.search(vector=vectors[path], k=1)
                assert hit.path == str(path)
                assert hit.item.id == query[path].item.id
                assert hit.score == pytest.approx(query[path].score, abs=1e-5)
        except BaseException as error:
            problems.append(error)

    def change() -> None:
        try:
            turn = 0
            while not stop.is_set():
                turn += 1
                photo(root / "extra.jpg", 500 + turn)
                paths[23].unlink(missing_ok=True) if turn % 2 else photo(paths[23], 23)
                index(library, root, encoder=encoder)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=search, args=(i,)) for i in range(16)]
    changer = threading.Thread(target=change)
    for thread in (*threads, changer):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    changer.join()
    assert not problems


def opened(path: Path):
    from clipsearch.media.decode import read_picture

    return read_picture(path, min_side=224, max_pixels=10**6)[0]


def test_a_snapshot_stays_as_it_was(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 3)
    index(library, root, encoder=encoder)
    reader = Library(library)
    with reader.read() as snapshot:
        before = snapshot.rows(Modality.IMAGE).gather(np.arange(3))
        photos(root, 3, first=3)
        (root / "p000.jpg").unlink()
        index(library, root, encoder=encoder)
        with reader.read() as newer:
            assert len(newer.rows(Modality.IMAGE)) == 6
            assert newer.live(Modality.IMAGE).sum() == 5
        assert len(snapshot.rows(Modality.IMAGE)) == 3
        assert snapshot.live(Modality.IMAGE) is None
        assert sorted(snapshot.matches(Modality.IMAGE, [0, 1, 2])) == [0, 1, 2]
        assert np.array_equal(snapshot.rows(Modality.IMAGE).gather(np.arange(3)), before)


# --- Folders that cannot be written


@pytest.fixture
def read_only(tmp_path, encoder) -> Iterator[Path]:
    """A folder with a library that the commands run by run_cli_bound may only read."""
    photos(tmp_path / "photos", 4)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    yield tmp_path / "lib"
    set_mode(tmp_path / "lib", 0o755, 0o644)


def set_mode(folder: Path, folders: int, files: int) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(folders if path.is_dir() else files)
    folder.chmod(folders)


def answers(library: Path) -> int:
    """How many paths a query gives to somebody who may not write; status must work too."""
    assert run_cli_bound("status", "--library", library, cwd=library.parent).code == 0
    ran = run_cli_bound("query", "a picture", "-k", 99, "--paths", "--library", library, cwd=library.parent)
    assert ran.code == 0, ran
    return ran.out.count(b"\n")


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_read_only_library_answers_and_cannot_be_changed(read_only):
    set_mode(read_only, 0o555, 0o444)
    before = tree_digest(read_only)
    assert answers(read_only) == 4
    photos(read_only.parent / "photos", 1, first=9)
    ran = run_cli_bound("index", read_only.parent / "photos", "--library", read_only, cwd=read_only.parent)
    assert ran.code == 1, ran
    assert "cannot be written" in ran.err
    assert tree_digest(read_only) == before


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_read_only_library_with_the_log_of_a_killed_writer_answers(read_only, encoder):
    """The log is there and belongs to somebody else, as after a kill on a shared disk."""
    root = read_only.parent / "photos"
    photos(root, 40, first=4, size=(48, 32))
    process = start_cli("index", root, "--library", read_only, "--batch-size", 4, "--threads", 1)
    wait_until(lambda: (read_only / "catalog.db-wal").exists() and len(read_state(read_only).live) > 4)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    expected = len(read_state(read_only).live)
    assert expected > 4
    assert (read_only / "catalog.db-wal").stat().st_size
    set_mode(read_only, 0o555, 0o444)
    assert answers(read_only) == expected


def revision(library: Path) -> int:
    with raw_catalog(library) as db:
        return int(db.execute("SELECT value FROM settings WHERE key = 'revision'").fetchone()[0])


READER = """
import sys
from pathlib import Path
from clipsearch.store.library import Library
from clipsearch.types import Modality
library = Library(Path(sys.argv[1]))
for _ in sys.stdin:
    with library.read() as snapshot:
        rows = len(snapshot.rows(Modality.IMAGE))
        live = snapshot.matches(Modality.IMAGE, list(range(rows)))
    print(rows, len(live), flush=True)
"""


@pytest.mark.slow
@pytest.mark.sqlite
def test_somebody_who_may_only_read_sees_what_the_owner_adds(read_only):
    set_mode(read_only, 0o555, 0o444)
    if os.geteuid() != 0:
        pytest.skip("needs two users: the owner, and one who may only read")
    command = [sys.executable, "-c", BIND, sys.executable, "-c", READER, str(read_only)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:

        def ask() -> str:
            reader.stdin.write("\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert ask() == "4 4"
        photos(read_only.parent / "photos", 60, first=4)
        assert run_cli("index", "--library", read_only).code == 0
        assert ask() == "64 64"
        photos(read_only.parent / "photos", 1, first=90)
        assert run_cli("index", "--library", read_only).code == 0
        assert ask() == "65 65"
        reader.stdin.close()
        assert reader.wait(60) == 0


@pytest.mark.slow
def test_a_log_that_a_run_left_is_folded_into_the_catalog(tmp_path, encoder):
    """So that a catalog.db copied to a read-only medium after a run holds everything."""
    photos(tmp_path / "photos", 4)
    for command in (["index", "photos", *MODEL], ["build"], ["forget", "photos/p000.jpg"]):
        assert run_cli(*command, "--library", "lib", cwd=tmp_path).code == 0
        assert not (tmp_path / "lib/catalog.db-wal").exists(), command
    assert len(paths_found(tmp_path / "lib", encoder)) == 3


# --- Ctrl-C


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_batch_says_so_and_the_next_run_goes_on(tmp_path, encoder, number):
    root, library = tmp_path / "photos", tmp_path / "lib"
    total = 80
    photos(root, total, size=(48, 32))
    command = ("index", root, "--library", library, *MODEL, "--batch-size", 2, "--threads", 1, "--json")
    process = start_cli(*command)
    wait_until(lambda: process.poll() is not None or ((library / "vectors").exists() and any_segment(library)))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    text = err.decode()
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert "Stopping after this batch" in text
    assert "Stopped early. Committed:" in text
    report = json.loads(out)
    assert list(report) == REPORT_KEYS
    state = read_state(library)
    assert 0 < len(state.live) < total
    assert report["added"] == report["encoded"] == len(state.live)
    assert report["removed"] == 0
    again = run_cli(*command)
    assert again.code == 0
    assert again.json["added"] == total - report["added"]
    assert again.json["unchanged"] == report["added"]


def any_segment(library: Path) -> bool:
    return any(path.stat().st_size for path in (library / "vectors").iterdir())


def test_an_interrupted_run_removes_nothing(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    paths = photos(root, 10)
    index(library, root, encoder=encoder)
    paths[0].unlink()
    photos(root, 10, first=20)
    asked = iter([False, False, False, True])
    settings = Settings(threads=1, offline=True, batch_size=2)
    report = index(library, root, encoder=encoder, settings=settings, should_stop=lambda: next(asked, True))
    assert report.interrupted
    assert report.removed == 0
    assert 0 < report.added < 10
    final = index(library, root, encoder=encoder)
    assert (final.removed, final.added) == (1, 10 - report.added)


def test_an_interrupt_while_the_walk_runs_changes_nothing(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    paths = photos(root, 4)
    index(library, root, encoder=encoder)
    before = read_state(library)
    paths[0].unlink()
    photo(root / "new.jpg", 77)
    report = index(library, root, encoder=encoder, should_stop=lambda: True)
    assert report.interrupted
    assert read_state(library) == before


@pytest.mark.slow
def test_a_second_interrupt_stops_at_once(tmp_path, encoder):
    root, library = tmp_path / "photos", tmp_path / "lib"
    photos(root, 60, size=(48, 32))
    process = start_cli("index", root, "--library", library, *MODEL, "--batch-size", 60, "--threads", 1)
    wait_until(lambda: process.poll() is not None or (library / "vectors").exists())
    for _ in range(50):
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT), err
    assert b"Traceback" not in err
    read_state(library)
    assert run_cli("index", root, "--library", library, *MODEL).code == 0
    assert len(read_state(library).live) == 60
