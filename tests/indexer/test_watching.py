"""Folders that are watched: real reports of the system, and real polling, until the library has what is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from clipsearch.config import Settings
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library, locked
from indexer.changed_paths import MOST_PATHS, ChangedPaths, Settling, to_index
from indexer.report import IndexReport
from indexer.watching import WatchOptions, watch
from tests.support.cli import COMMAND, environment
from tests.support.libraries import Counting, Place, photo, photos
from tests.support.pictures import encode, noise_picture
from tests.support.state import read_state

pytest.importorskip("watchdog")
PATIENCE = 120


def wait_for(condition: Callable[[], bool], what: str = "it never came to be", patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Watched:
    """A library that a thread keeps up to date."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.reports: list[IndexReport] = []
        self.notes: list[str] = []

    @property
    def names(self) -> set[str]:
        return set(read_state(self.place.library).live)

    def has(self, *names: str) -> None:
        wait_for(lambda: self.names == set(names), f"{sorted(self.names)} instead of {sorted(names)}")


@contextmanager
def watching(place: Place, poll: float | None = None, every: float = 3600, quiet: float = 0.2) -> Iterator[Watched]:
    watched, stop, errors = Watched(place), threading.Event(), []

    def run() -> None:
        try:
            watch(
                place.library, [str(place.root)], Settings(threads=1, offline=True),
                WatchOptions(poll, Settling(quiet, 4 * quiet), every),
                on_run=watched.reports.append, notify=watched.notes.append, should_stop=stop.is_set,
            )  # fmt: skip
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: len(watched.reports) >= 2 or bool(errors))  # the second one is from after it began to watch
        yield watched
    finally:
        stop.set()
        thread.join(PATIENCE)
        assert not thread.is_alive() and not errors, errors


@pytest.fixture
def place(tmp_path, encoder) -> Place:
    made = Place(tmp_path, encoder)
    photos(made.root, 3)
    made.run()
    return made


NAMES = ("p000.jpg", "p001.jpg", "p002.jpg")


@pytest.mark.slow
@pytest.mark.parametrize("poll", [None, 0.3], ids=["reports", "polling"])
def test_what_changes_is_indexed_by_itself(place, poll):
    ids = place.ids()
    with watching(place, poll) as watched:
        photo(place.root / "new.jpg", 50)
        watched.has(*NAMES, "new.jpg")
        (place.root / "p000.jpg").unlink()
        watched.has("p001.jpg", "p002.jpg", "new.jpg")
        os.rename(place.root / "p001.jpg", place.root / "renamed.jpg")
        watched.has("renamed.jpg", "p002.jpg", "new.jpg")
        assert place.ids()["renamed.jpg"] == ids["p001.jpg"]
        photos(place.root / "deep/er", 2, first=60)
        watched.has("renamed.jpg", "p002.jpg", "new.jpg", "deep/er/p060.jpg", "deep/er/p061.jpg")
        os.rename(place.root / "deep", place.root / "other")
        watched.has("renamed.jpg", "p002.jpg", "new.jpg", "other/er/p060.jpg", "other/er/p061.jpg")
        photo(place.root / "other/er/p062.jpg", 62)  # in a folder that was renamed
        wait_for(lambda: "other/er/p062.jpg" in watched.names)
        shutil.rmtree(place.root / "other")
        watched.has("renamed.jpg", "p002.jpg", "new.jpg")


@pytest.mark.slow
def test_content_replaced_in_place_and_captions_are_seen(place):
    path = place.root / "a.bmp"
    path.write_bytes(encode(noise_picture(1, (16, 12)), "BMP"))
    os.utime(path, ns=(5, 5))
    with watching(place) as watched:
        before = read_state(place.library).live["a.bmp"].content_hash
        path.write_bytes(encode(noise_picture(2, (16, 12)), "BMP"))
        os.utime(path, ns=(5, 5))
        wait_for(lambda: read_state(place.library).live["a.bmp"].content_hash != before)
        for text in ("a red boat", "a bear"):
            (place.root / "p001.txt").write_text(text)
            wait_for(lambda text=text: captions(place) == {text})
        (place.root / "p001.txt").unlink()
        wait_for(lambda: not captions(place))
        (place.root / "captions.csv").write_text("image,caption\np002.jpg,a lamp\n")
        wait_for(lambda: captions(place) == {"a lamp"})
        assert not any(report.failed for report in watched.reports)


def captions(place: Place) -> set[str]:
    with SearchEngine(Library(place.library), encoder=place.encoder) as engine:
        return {item.caption for item in engine.find().items if item.caption}


@pytest.mark.slow
def test_a_burst_of_ten_thousand_files_is_indexed_whole(place):
    data = (place.root / "p000.jpg").read_bytes()
    with watching(place):
        for number in range(10_000):
            folder = place.root / f"burst{number // 2000}"
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(data)
        wait_for(lambda: count_items(place) == 10_003, patience=600)
        shutil.rmtree(place.root / "burst0")
        wait_for(lambda: count_items(place) == 8_003, patience=600)


def count_items(place: Place) -> int:
    with closing(sqlite3.connect(place.library / "catalog.db")) as db:
        (count,) = db.execute("SELECT count(*) FROM items WHERE NOT deleted").fetchone()
        return int(count)


@pytest.mark.slow
def test_another_writer_is_waited_for_and_may_write_between_runs(place):
    with watching(place) as watched:
        with locked(place.library, timeout=30):
            photo(place.root / "new.jpg", 50)
            wait_for(lambda: any("Another process" in line for line in watched.notes))
        watched.has(*NAMES, "new.jpg")
        with SearchEngine(Library(place.library), encoder=place.encoder) as engine:
            assert engine.tag(sorted(place.ids().values()), add=["sea"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("poll", [None, 0.3], ids=["reports", "polling"])
def test_a_root_that_goes_and_comes_back_loses_nothing_and_is_watched_again(place, poll):
    away = place.root.with_name("away")
    with watching(place, poll) as watched:
        place.root.rename(away)
        wait_for(lambda: any(report.offline for report in watched.reports))
        assert watched.names == set(NAMES)
        away.rename(place.root)
        photo(place.root / "new.jpg", 50)
        watched.has(*NAMES, "new.jpg")
        time.sleep(3)  # until the roots are looked at again
        photo(place.root / "newer.jpg", 51)
        watched.has(*NAMES, "new.jpg", "newer.jpg")


@pytest.mark.slow
def test_what_is_left_out_starts_no_run(place):
    inside = place.root / ".clipsearch"
    shutil.copytree(place.library, inside)
    place.library = inside
    place.run()
    with watching(place) as watched:
        count = len(watched.reports)
        (place.root / ".hidden.jpg").write_bytes(b"x")
        (place.root / "part.tmp").write_bytes(b"x")
        time.sleep(2)
        assert len(watched.reports) == count  # not its own writing, above all
        photo(place.root / "new.jpg", 50)
        watched.has(*NAMES, "new.jpg")


@pytest.mark.slow
def test_the_encoder_stays_loaded(place, monkeypatch):
    from indexer import pipeline

    loads = []
    monkeypatch.setattr(pipeline, "pinned_encoder", lambda *_: loads.append(1) or Counting(place.encoder))
    with watching(place) as watched:
        for seed in (50, 51, 52):
            photo(place.root / f"n{seed}.jpg", seed)
            wait_for(lambda seed=seed: f"n{seed}.jpg" in watched.names)
    assert len(loads) == 1


@pytest.mark.slow
def test_the_command_reports_and_ends_at_an_interrupt(place):
    arguments = ["watch", str(place.root), "--library", str(place.library), "--json", "--quiet", "0.2"]
    command = subprocess.Popen(
        [COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({}), text=True
    )
    try:
        assert "Watching" in command.stderr.readline()
        photo(place.root / "new.jpg", 50)
        assert json.loads(command.stdout.readline())["added"] == 1
        command.send_signal(signal.SIGINT)
        assert command.wait(PATIENCE) == 0
        assert "Traceback" not in command.stderr.read()
    finally:
        command.kill()
        command.communicate()


# --- What is gathered


def test_changes_are_taken_once_they_settle():
    changes = ChangedPaths(Settling(quiet=3600, latest=7200))
    changes.add(["/a/b.jpg"])
    assert changes.take() == set()
    changes = ChangedPaths(Settling(quiet=3600, latest=0))
    changes.add(["/a/b.jpg", "/a/c.jpg"])
    assert changes.take() == {"/a/b.jpg", "/a/c.jpg"} and changes.take() == set()
    changes.add_all()
    changes.add(["/a/b.jpg"])
    assert changes.take() is None and changes.take() == set()


def test_of_many_paths_their_folders_are_kept_and_of_many_folders_nothing():
    changes = ChangedPaths(Settling(0, 0))
    changes.add(f"/a/{number % 3}/{number}.jpg" for number in range(MOST_PATHS + 1))
    assert changes.take() == {"/a/0", "/a/1", "/a/2"}
    for _ in range(3):  # the folders are not gathered into the one above them
        changes.add(f"/a/b/{number}.jpg" for number in range(MOST_PATHS + 1))
    assert changes.take() == {"/a/b"}
    changes.add(f"/a/{number}/x.jpg" for number in range(MOST_PATHS + 1))
    assert changes.take() is None


@pytest.mark.slow
def test_nothing_above_a_root_is_indexed(place):
    photo(place.root.parent / "beside.jpg", 90)
    with watching(place) as watched:
        for round_number in range(3):
            photos(place.root / "more", 1, first=100 + round_number)
            (place.root.parent / "beside.jpg").touch()
            os.utime(place.root)
            wait_for(lambda n=round_number: f"more/p{100 + n}.jpg" in watched.names)
        assert "beside.jpg" not in watched.names and len(watched.names) == 6


def test_what_lies_beside_pictures_leads_to_them(tmp_path):
    for name in ("a.jpg", "b.png", "c.txt", "notes.md"):
        (tmp_path / name).write_bytes(b"x")
    os.symlink(tmp_path / "a.jpg", tmp_path / "link.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    at = lambda *names: sorted(str(tmp_path / name) for name in names)  # noqa: E731
    assert to_index(at("a.xmp")) == to_index(at("a.jpg.txt"))[:1] == at("a.jpg")
    assert to_index(at("gone.jpg", "c.txt")) == at("c.txt", "gone.jpg")
    assert to_index(at("part.tmp", "pipe.jpg")) == []
    assert to_index(at("captions.csv")) == to_index(at("link.jpg")) == [str(tmp_path)]


def test_a_path_is_left_out_with_the_folder_that_it_lies_in():
    from clipsearch.store.roots import Rules
    from indexer.sources.folder import is_left_out

    rules = Rules(("old", "*.gif"))
    for path in ("old/a.jpg", "x/old/a.jpg", "a.gif", ".git/a.jpg", "x/.hidden/a.jpg", "node_modules/a/b.png"):
        assert is_left_out(path, rules)
    assert not is_left_out("x/a.jpg", rules) and not is_left_out("", rules)
