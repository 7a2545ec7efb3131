"""Opening libraries from Python: making them, which encoder they have, who writes, and what else they hold."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch import (
    EncoderMismatchError,
    EncoderUnavailableError,
    Filter,
    InvalidInputError,
    LibraryError,
    LibraryLockedError,
    LibraryNotFoundError,
    Record,
    Settings,
)
from clipsearch.query.engine import SearchEngine
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.metadata_index import declared
from indexer.report import reporting
from tests.support.cli import run_cli
from tests.support.damage import sql
from tests.support.libraries import Counting, index, photos

SETTINGS = Settings(threads=1, offline=True)
DIM = 8


def vectors(folder, **options):
    return clipsearch.open(folder, create=True, model="elsewhere", dim=DIM, settings=SETTINGS, **options)


def record(name: str, row: int = 0) -> Record:
    return Record(name, vector=np.eye(DIM)[row])


def test_a_library_is_made_only_where_that_is_asked_for(tmp_path):
    with pytest.raises(LibraryNotFoundError):
        clipsearch.open(tmp_path / "lib", settings=SETTINGS)
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small", settings=SETTINGS) as engine:
        assert list(engine.search("anything")) == list(engine.find()) == []
        assert (engine.library.encoder.name, engine.count()) == ("builtin-small", 0)
    with clipsearch.open(tmp_path / "lib", settings=SETTINGS) as engine:
        assert list(engine.search("anything")) == []


def test_metadata_is_indexed_where_that_is_declared(tmp_path):
    with vectors(tmp_path / "lib", index_metadata=["price"]) as engine:
        engine.add([Record("a", vector=np.eye(DIM)[0], metadata={"price": 3, "brand": "x"})])
    with vectors(tmp_path / "lib", index_metadata="brand") as engine, engine.library.query() as connection:
        assert [*declared(connection)] == ["price", "brand"]
        assert engine.count(Filter(where={"price": {"lt": 5}, "brand": "x"})) == 1
    with Library(tmp_path / "lib").writer(), vectors(tmp_path / "lib", index_metadata=["price"], timeout=0) as engine:
        assert engine.count() == 1  # nothing is left to index, so no lock is needed
    for wrong in ([""], [3], 3):
        with pytest.raises(InvalidInputError):
            vectors(tmp_path / "lib", index_metadata=wrong)


def test_an_encoder_that_is_unavailable_leaves_nothing_behind(tmp_path):
    with pytest.raises(EncoderUnavailableError):
        clipsearch.open(tmp_path / "lib", create=True, model="no-such-thing", settings=SETTINGS)
    assert not (tmp_path / "lib").exists()


@pytest.mark.parametrize("create", [True, False])
def test_a_library_of_another_encoder_is_refused(tmp_path, create):
    with vectors(tmp_path / "lib") as engine:
        engine.add([record("a")])
    for model, dim in (("other", None), ("builtin-small", None), ("other", DIM), ("elsewhere", DIM + 1)):
        with pytest.raises(EncoderMismatchError):
            clipsearch.open(tmp_path / "lib", create=create, model=model, dim=dim, settings=SETTINGS)
    for model, dim in (("elsewhere", None), ("elsewhere", DIM), (None, None), ("auto", None)):
        with clipsearch.open(tmp_path / "lib", create=create, model=model, dim=dim, settings=SETTINGS) as engine:
            assert engine.count() == 1


def test_an_empty_library_may_be_given_another_encoder(tmp_path):
    vectors(tmp_path / "lib").close()
    with clipsearch.open(tmp_path / "lib", create=True, model="other", dim=3, settings=SETTINGS) as engine:
        assert engine.add([Record("a", vector=[1, 2, 3])]).added == 1


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"dim": 0, "model": "m"}, "dim is 0"),
        ({"dim": True, "model": "m"}, "dim is True"),
        ({"dim": 8}, "model must name"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": "x"}, "timeout is 'x'"),
    ],
)
def test_a_wrong_argument_is_refused(tmp_path, options, part):
    with pytest.raises(InvalidInputError) as raised:
        clipsearch.open(tmp_path / "lib", create=True, settings=SETTINGS, **options)
    assert part in str(raised.value)
    assert not (tmp_path / "lib").exists()


HOLD = """
import sys, time
from pathlib import Path
from clipsearch.store.library import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_writer_waits_and_is_then_refused(tmp_path):
    with vectors(tmp_path / "lib", timeout=0.2) as engine:
        engine.add([record("a")])
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path / "lib")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert holder.stdout.readline() == b"held\n"
            for call in (lambda: engine.add([record("b")]), lambda: engine.delete("a"), engine.index, engine.build):
                with pytest.raises(LibraryLockedError):
                    call()
            assert engine.count() == 1  # a reader does not wait
            with vectors(tmp_path / "lib", timeout=60) as patient:
                waiting = threading.Thread(target=patient.add, args=([record("b")],))
                waiting.start()
                time.sleep(0.1)
                holder.communicate(b"\n")
                waiting.join()
            assert engine.count() == 2
        finally:
            holder.kill()
            holder.wait()


def test_threads_that_share_an_engine_take_turns(tmp_path):
    with vectors(tmp_path / "lib") as engine:
        threads = [
            threading.Thread(target=engine.add, args=([record(f"{i} {j}", j) for j in range(DIM)],)) for i in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert engine.count() == 6 * DIM


def test_a_call_within_a_call_is_refused_and_not_waited_for_for_ever(tmp_path):
    with vectors(tmp_path / "lib", timeout=0.1) as engine:

        def records():
            yield record("a")
            engine.add([record("b")])

        with pytest.raises(LibraryLockedError):
            engine.add(records())
        assert engine.add([record("c")]).added == 1


def test_a_closed_engine_refuses_every_call(tmp_path):
    engine = vectors(tmp_path / "lib")
    engine.add([record("a")])
    engine.close()
    engine.close()
    calls = [
        lambda: engine.add([record("b")]),
        lambda: engine.delete("a"),
        lambda: engine.update("a", metadata={"n": 1}),
        lambda: engine.index([tmp_path]),
        engine.build,
        lambda: engine.get("a"),
        engine.count,
        lambda: engine.search(vector=np.ones(DIM)),
    ]
    for call in calls:
        with pytest.raises(LibraryError, match="is closed"):
            call()
    with vectors(tmp_path / "lib") as again:
        assert again.count() == 1


def test_a_library_that_may_not_be_written_is_one_clear_error(tmp_path, monkeypatch):
    with vectors(tmp_path / "lib") as engine:
        engine.add([record("a")])

        def refuse(self, **_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("filelock.FileLock.acquire", refuse)
        with pytest.raises(LibraryError, match="cannot be written"):
            engine.add([record("b")])
        assert engine.count() == 1


@pytest.mark.slow
def test_index_from_python_is_what_the_command_does(tmp_path, encoder, caplog):
    photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    calls = []
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small", settings=SETTINGS) as engine:
        report = engine.index(tmp_path / "photos", exclude=["p000*"], progress=lambda *numbers: calls.append(numbers))
        assert (report.added, len(report.failed), report.interrupted) == (2, 1, False)
        assert calls[-1] == (3, 3)
        assert engine.count() == 2
        assert engine.index().unchanged == 3  # the broken one too
        assert engine.index([tmp_path / "photos"], exclude=[]).added == 1
    ran = run_cli("index", "--library", tmp_path / "lib")
    assert ran.code == 0


def test_index_from_python_stops_after_a_batch_and_what_is_committed_stays(tmp_path, encoder):
    paths = photos(tmp_path / "photos", 8)
    settings = Settings(threads=1, offline=True, batch_size=2)
    done = []
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small", settings=settings) as engine:
        report = engine.index(
            tmp_path / "photos",
            progress=lambda count, total: done.append(count),
            should_stop=lambda: max(done, default=0) >= 2,
        )
        assert report.interrupted and 2 <= report.added < 8
        assert engine.count() == report.added
        paths[0].unlink()
        assert engine.index().added == 8 - report.added


def test_progress_begins_again_with_each_step_of_a_run():
    """As the text in pictures is recognised after they are encoded."""
    calls = []
    progress = reporting(lambda done, total: calls.append((done, total)))
    for total in (3, 5):
        progress.start(total)
        progress.advance(2)
    assert calls == [(0, 3), (2, 3), (0, 5), (2, 5)]


def test_links_are_followed_only_within_folders_that_are_named(tmp_path, encoder):
    """Neither a file, a folder, a sidecar nor a table is read through a link that leads out; nothing is lost."""
    root, open_folder, closed = tmp_path / "photos", tmp_path / "open", tmp_path / "closed"
    photos(root, 2)
    photos(open_folder, 1, first=10)
    photos(closed / "sub", 2, first=20)
    (closed / "words.txt").write_text("A secret that nobody may read.\n")
    (closed / "table.csv").write_text("image,caption\np001.jpg,another secret\n")
    (root / "in").symlink_to(open_folder)
    (root / "out").symlink_to(closed / "sub")
    (root / "out.jpg").symlink_to(closed / "sub" / "p020.jpg")
    (root / "p000.txt").symlink_to(closed / "words.txt")
    (root / "captions.csv").symlink_to(closed / "table.csv")
    (root / "readme.txt").symlink_to(closed / "words.txt")
    (root / "gone.jpg").symlink_to(closed / "gone.jpg")
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small", settings=SETTINGS) as engine:
        report = engine.index(root, within=[open_folder])
        assert sorted(item.path for item in engine.items()) == [
            str(root / name) for name in ("in/p010.jpg", "p000.jpg", "p001.jpg")
        ]
        assert not any(item.caption for item in engine.items())
        assert sorted(Path(path).name for path, _ in report.failed) == ["out", "out.jpg", "p000.txt", "readme.txt"]
        assert engine.index(root).added == 3  # two pictures and a text
        assert engine.index(within=[]).removed == 0
        assert engine.count() == 6


@pytest.mark.slow
def test_records_and_files_do_not_disturb_each_other(tmp_path, encoder):
    """Neither runs, nor deleting, forgetting, compaction, nor a copy of the same picture touches the other."""
    paths = photos(tmp_path / "photos", 4)
    counting = Counting(encoder)
    index(tmp_path / "lib", tmp_path / "photos", encoder=counting)
    with SearchEngine(Library(tmp_path / "lib"), SETTINGS, counting, may_be_empty=True) as engine:
        engine.add([Record("copy", image=paths[0].read_bytes(), text="a copy"), Record("/a/path", text="not a path")])
        assert engine.count() == 6
        assert {hit.item.key for hit in engine.search(image=paths[0], k=2)} == {str(paths[0]), "copy"}
        paths[0].unlink()
        assert engine.index().removed == 1
        assert engine.get("copy").text == "a copy"
        photos(tmp_path / "photos", 1)
        assert engine.index().added == 1
        assert [hit.item.caption for hit in engine.search(image=paths[0], k=2)] == [None, None]
        engine.delete("copy")
        assert engine.count() == 5
        engine.add([Record("copy", image=paths[0].read_bytes())])
    for command in (["forget", tmp_path / "photos"], ["build"], ["repair"], ["dupes"]):
        ran = run_cli(*command, "--library", tmp_path / "lib")
        assert ran.code == 0, (command, ran.err)
    with SearchEngine(Library(tmp_path / "lib"), SETTINGS, counting) as engine:
        assert sorted(item.key for item in engine.items()) == ["/a/path", "copy"]
        assert engine.search(image=paths[0], k=1)[0].item.key == "copy"


def test_a_backup_has_the_records(tmp_path):
    with vectors(tmp_path / "lib") as engine:
        engine.add([Record("a", vector=np.eye(DIM)[0], text="words", metadata={"n": 1})])
    assert run_cli("backup", tmp_path / "copy", "--library", tmp_path / "lib").code == 0
    assert run_cli("restore", tmp_path / "copy", "--library", tmp_path / "restored").code == 0
    with clipsearch.open(tmp_path / "restored", settings=SETTINGS) as engine:
        item = engine.get("a")
        assert (item.text, item.metadata) == ("words", {"n": 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE items SET path = 'b', digest = digest + 1",
        "UPDATE item_metadata SET data = '{\"n\":2}', digest = 7",
        "UPDATE record_contents SET text = 'others', digest = 7",
    ],
)
def test_a_damaged_record_is_reported_and_repair_removes_it(tmp_path, statement):
    with vectors(tmp_path / "lib") as engine:
        engine.add([Record("a", vector=np.eye(DIM)[0], text="words", metadata={"n": 1})])
    table = statement.split()[1]
    sql(tmp_path / "lib", f"DROP TRIGGER {table}_changed", statement)
    found = examine(Library(tmp_path / "lib"), "clipsearch build")
    damaged = [finding.found for finding in found if finding.severity is Severity.PROBLEM]
    assert any(table in found for found in damaged), damaged
    with vectors(tmp_path / "lib") as engine:
        assert list(engine.search(vector=np.ones(DIM))) == []  # it is never shown
    ran = run_cli("repair", "--library", tmp_path / "lib")
    assert (ran.code, b"it was added from Python; add it again" in ran.out + ran.err.encode()) == (0, True), ran
    assert run_cli("verify", "--library", tmp_path / "lib").code == 0
    with vectors(tmp_path / "lib") as engine:
        assert engine.add([Record("a", vector=np.eye(DIM)[0], text="words")]).added == 1
