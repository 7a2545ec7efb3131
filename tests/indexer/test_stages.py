"""The stages of a run: loading by chunks, commits beside the encoding, statements by batches."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import Engine, event

from clipsearch.config import Settings
from clipsearch.errors import LibraryError
from clipsearch.store.library import Library
from clipsearch.store.records import Failed, FileRecord
from clipsearch.store.writer import Committed
from indexer import decode
from indexer.commit import CommitStage
from indexer.decode import Decoder, load_all
from indexer.encode import EncodedBatch
from indexer.report import IndexReport
from tests.support.libraries import Counting, counts, index, paths_found, photo, photos

PATIENCE = 60


class Writing:
    """A writer that tells when it is asked to commit, and waits until it may go on."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.committed: list[str] = []
        self._fails = fails

    def commit(self, outcomes, roots):
        self.asked.set()
        assert self.go_on.wait(PATIENCE)
        if self._fails:
            raise LibraryError("The disk is full.")
        self.committed += [outcome.record.path for outcome in outcomes]
        return Committed()


class Untended:
    def tend(self, writer):
        pass


def stage(writer):
    return CommitStage(writer, None, None, Untended(), IndexReport(), lambda: False)


def test_a_commit_that_fails_while_a_run_is_stopped_is_an_error():
    class Filling(Writing):
        def commit(self, outcomes, roots):
            self._fails = bool(self.committed)
            return super().commit(outcomes, roots)

    writer = Filling()
    writer.go_on.set()
    done = stage(writer).run(map(batch, "abc"), {1: "/"})
    next(done)
    with pytest.raises(LibraryError, match="full"):
        done.close()


def batch(name):
    return EncodedBatch(1, [Failed(FileRecord(1, name, 0, 0), "a reason")], frozenset({name}))


def test_the_next_batch_is_taken_while_one_is_committed():
    writer = Writing()

    def batches():
        yield batch("a")
        assert writer.asked.wait(PATIENCE)
        writer.go_on.set()  # a commit that is waited for here would never end
        yield batch("b")

    assert [done.files for done in stage(writer).run(batches(), {1: "/"})] == [1, 1]
    assert writer.committed == ["a", "b"]


def test_a_commit_that_fails_ends_the_run_before_another_is_begun():
    writer = Writing(fails=True)
    writer.go_on.set()
    taken = []

    def batches():
        for name in "abcd":
            taken.append(name)
            yield batch(name)

    with pytest.raises(LibraryError, match="full"):
        list(stage(writer).run(batches(), {1: "/"}))
    assert taken == ["a", "b"]


def test_what_was_handed_over_is_committed_though_the_run_ends():
    writer = Writing()

    def batches():
        yield batch("a")
        assert writer.asked.wait(PATIENCE)
        threading.Timer(0.05, writer.go_on.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(stage(writer).run(batches(), {1: "/"}))
    assert writer.committed == ["a"]


def test_what_was_encoded_is_committed_though_the_run_is_stopped():
    writer = Writing()
    writer.go_on.set()
    done = stage(writer).run(map(batch, "abcd"), {1: "/"})
    next(done)
    done.close()
    assert writer.committed == ["a", "b"]


def statements(folder, count, encoder):
    """Index `count` pictures in one batch; return the statements that SQLAlchemy ran, counted, and the report."""
    photos(folder / "photos", count)
    asked: Counter[str] = Counter()

    def note(connection, cursor, statement, *_):
        asked[statement] += 1

    event.listen(Engine, "before_cursor_execute", note)
    try:
        settings = Settings(threads=1, offline=True, batch_size=200)
        return asked, index(folder / "lib", folder / "photos", encoder=encoder, settings=settings)
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_statements_grow_with_batches_not_with_files(tmp_path, encoder):
    few, report = statements(tmp_path / "few", 40, encoder)  # enough for what is measured at the end of a run
    assert counts(report) == {"added": 40, "encoded": 40}
    many, report = statements(tmp_path / "many", 95, encoder)
    assert counts(report) == {"added": 95, "encoded": 95}
    assert sum(many.values()) - sum(few.values()) < 20


def test_content_is_encoded_once_however_many_batches_it_is_spread_over(tmp_path, encoder):
    for number in range(24):
        photo(tmp_path / "photos" / f"p{number:02d}.jpg", number % 3)
    counting = Counting(encoder)
    settings = Settings(threads=2, offline=True, batch_size=2)
    assert counts(index(tmp_path / "lib", tmp_path / "photos", encoder=counting, settings=settings)) == {
        "added": 24,
        "encoded": 3,
    }
    assert counting.pictures == 3
    assert len(paths_found(tmp_path / "lib", encoder)) == 24


def test_pages_of_the_list_are_read_while_batches_are_committed(tmp_path, encoder):
    folder = tmp_path / "lib"
    photos(tmp_path / "photos", 1)
    index(folder, tmp_path / "photos", encoder=encoder)
    records = [FileRecord(1, f"f{number:03d}", 1, 1) for number in range(60)]
    library = Library(folder)
    with library.writer() as writer:
        writer.ledger.note(records, retry_failed=False)
        stop = threading.Event()
        errors, commits = [], []

        def commit():
            try:
                while not stop.is_set():
                    commits.append(writer.commit([Failed(record, "a reason") for record in records[:5]]))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=commit)
        thread.start()
        try:
            while len(commits) < 5 and not errors:
                assert list(writer.ledger.todo(page=2)) == records
        finally:
            stop.set()
            thread.join()
    assert errors == []


@pytest.mark.parametrize(("size", "most"), [(10, 32), (1 << 20, 4), (3 << 20, 1), (9 << 20, 1)])
def test_files_are_loaded_by_chunks_of_so_many_bytes_in_order(size, most):
    records = [FileRecord(1, str(number), size, 0) for number in range(400)]
    chunks = []

    def load(chunk):
        chunks.append(len(chunk))
        return chunk

    assert list(load_all(iter(records), load, 2, 200)) == records
    assert max(chunks) == most


def test_a_few_files_are_spread_over_the_threads():
    chunks = []

    def load(chunk):
        chunks.append(len(chunk))
        return chunk

    list(load_all((FileRecord(1, str(number), 1, 0) for number in range(8)), load, 2, 200))
    assert max(chunks) <= 2


def test_files_that_are_not_begun_are_left_when_a_run_ends():
    begun, ending = [], threading.Event()

    def load(chunk):
        for record in chunk:
            begun.append(record)
            if len(begun) > 100:
                assert ending.wait(PATIENCE)
            yield record

    loaded = load_all((FileRecord(1, str(number), 1, 0) for number in range(10_000)), load, 2, 1000)
    next(loaded)
    while len(begun) < 102:
        pass
    threading.Timer(0.05, ending.set).start()
    loaded.close()
    assert len(begun) <= 104


def test_files_are_read_by_chunks_whoever_asks(tmp_path, encoder):
    asked = []

    def find_known(hashes):
        asked.append(len(hashes))
        return ()

    photos(tmp_path, 50)
    records = [FileRecord(1, path.name, 0, 0) for path in sorted(tmp_path.iterdir())]
    assert len(list(Decoder(encoder, Settings(), {1: str(tmp_path)}, find_known)(records))) == 50
    assert max(asked) == 32


@pytest.mark.parametrize(("slow_seconds", "least", "most"), [(60.0, 1, 2), (0.005, 3, 8)])
def test_few_threads_read_at_a_time_unless_the_storage_is_slow(
    tmp_path, encoder, monkeypatch, slow_seconds, least, most
):
    photos(tmp_path, 60)
    records = [FileRecord(1, path.name, 0, 0) for path in sorted(tmp_path.iterdir())]
    lock, reading, seen = threading.Lock(), [], []
    read = decode.read_regular

    def slow(path, limit):
        with lock:
            reading.append(path)
            seen.append(len(reading))
        time.sleep(0.01)
        try:
            return read(path, limit)
        finally:
            with lock:
                reading.remove(path)

    monkeypatch.setattr(decode, "read_regular", slow)
    monkeypatch.setattr(decode, "_SLOW_SECONDS", slow_seconds)
    decoder = Decoder(encoder, Settings(), {1: str(tmp_path)})
    assert len(list(load_all(records, decoder, 8))) == 60
    assert least <= max(seen) <= most


def test_no_more_files_are_under_way_than_wait_for_a_batch():
    begun = []

    def load(chunk):
        begun.extend(chunk)
        return chunk

    loaded = load_all((FileRecord(1, str(number), 1, 0) for number in range(10_000)), load, 2, 100)
    next(loaded)
    loaded.close()
    assert len(begun) <= 100 + 32
