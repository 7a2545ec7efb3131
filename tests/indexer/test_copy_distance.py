"""How far an encoder moves copies: measured on a few pictures when a library is made and when it has doubled."""

import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from clipsearch.config import Settings
from clipsearch.copy_distance import MAX_SHARE, MIN_DISTANCE, NEAR_TIMES, USUAL_SHARE, CopyDistance, estimate, measure
from clipsearch.store.library import Library
from clipsearch.types import EncoderPin
from indexer.copy_distance import cut_margins
from tests.support.documents import make_pdf
from tests.support.libraries import Place, photos
from tests.support.pictures import noise_picture
from tests.support.vectors import unit


def distance(library):
    with closing(Library(library)) as opened, opened.read() as snapshot:
        return snapshot.copy_distance()


def store(library, value):
    with closing(Library(library)) as opened, opened.writer() as writer:
        writer.set_setting("copy_distance", value)


def test_nine_pictures_are_encoded_again_once_a_library_has_enough_and_again_when_it_has_doubled(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    photos(place.root, 31)
    assert place.run()["worked"] == 2 * 31  # each preprocessed and encoded
    assert distance(place.library).rows == 0
    photos(place.root, 1, first=31)
    assert place.run()["worked"] == 2 * (1 + 9)
    first = distance(place.library)
    assert first.rows == 32 and 0 < first.distance < 1
    photos(place.root, 31, first=32)
    assert place.run()["worked"] == 2 * 31
    assert distance(place.library) == first
    photos(place.root, 1, first=63)
    assert place.run()["worked"] == 2 * (1 + 9)
    assert distance(place.library).rows == 64


def test_a_library_of_an_earlier_version_is_measured_by_the_next_run_and_answers_before(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    photos(place.root, 40)
    place.run()
    measured = distance(place.library)
    store(place.library, None)
    before = distance(place.library)
    assert before.rows == 0 and before.distance > 0
    assert place.run()["worked"] == 2 * 9
    assert distance(place.library) == measured
    assert "worked" not in place.run()


def test_pages_of_documents_are_not_taken_for_pictures(tmp_path, encoder):
    """Of 9 rows among these most are pages, whose distance cannot be measured: every run tried again."""
    pytest.importorskip("pypdfium2")
    place = Place(tmp_path, encoder)
    photos(place.root, 10)
    (place.root / "book.pdf").write_bytes(make_pdf([f"0 0 {n + 9} {4 * n + 9} re f".encode() for n in range(60)]))
    place.run()
    assert distance(place.library).rows > 32
    assert "worked" not in place.run()


def swap(library, path, other):
    """Write other bytes of the same length, and keep what a run looks at as the catalog has it."""
    state = path.stat()
    path.write_bytes(other.read_bytes()[: state.st_size].ljust(state.st_size, b"\0"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with closing(sqlite3.connect(library / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE items SET ctime_ns = ? WHERE path = ?", (path.stat().st_ctime_ns, path.name))


def test_files_that_are_not_what_was_encoded_or_are_away_do_not_count(tmp_path, encoder):
    place = Place(tmp_path, encoder)
    paths = photos(place.root, 40)
    place.run()
    for path in paths[:10]:
        swap(place.library, path, paths[20])
    store(place.library, None)
    assert place.run()["worked"] == 2 * 6  # three of the nine that are chosen are among the first ten
    assert distance(place.library).rows == 40
    for path in paths[15:35]:
        swap(place.library, path, paths[36])
    store(place.library, None)
    assert "worked" not in place.run() and distance(place.library).rows == 0
    shutil.move(place.root, tmp_path / "elsewhere")
    assert "worked" not in place.run() and distance(place.library).rows == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("preprocess", MemoryError),
        ("preprocess", RuntimeError),
        ("encode_pixels", MemoryError),
        ("encode_pixels", OSError),
    ],
)
def test_a_failure_while_it_is_measured_ends_no_run(tmp_path, encoder, monkeypatch, name, error):
    place = Place(tmp_path, encoder)
    photos(place.root, 32)
    place.run()
    store(place.library, None)

    def fail(*given):
        raise error("on purpose")

    monkeypatch.setattr(encoder, name, fail)
    assert place.run()["unchanged"] == 32 and distance(place.library).rows == 0
    monkeypatch.undo()
    place.run()
    assert distance(place.library).rows == 32


@pytest.mark.slow
def test_worker_processes_decode_the_pictures_where_they_decode_all(tmp_path, encoder):
    found = {}
    for isolate in (False, True):
        place = Place(tmp_path / str(isolate), encoder)
        photos(place.root, 33)
        place.run(settings=Settings(threads=1, offline=True, isolate=isolate))
        found[isolate] = distance(place.library)
    assert found[False] == found[True] and found[True].rows == 33


@pytest.mark.parametrize(
    "value", ["", "[]", "{", '{"distance": 0.1}', '{"distance": "x", "rows": 5}', '{"distance": NaN, "rows": 5}',
              '{"distance": -1, "rows": 5}', '{"distance": 0.9, "rows": 5}', '{"distance": 0.01, "rows": Infinity}',
              '{"distance": 0.01, "rows": 0}', "[" * 100_000]
)  # fmt: skip
def test_a_setting_that_means_nothing_is_estimated_instead(tmp_path, encoder, value):
    assert CopyDistance.load(value) is None
    if value == "[]":
        place = Place(tmp_path, encoder)
        photos(place.root, 9)
        place.run()
        store(place.library, value)
        assert distance(place.library).rows == 0


def test_a_distance_is_kept_as_it_was():
    assert CopyDistance.load(CopyDistance(0.0123456, 77).dump()) == CopyDistance(0.0123456, 77)


def test_another_encoder_starts_without(tmp_path):
    library = Library.create(tmp_path / "lib")
    library.pin(EncoderPin("one", "1" * 40, 16))
    store(tmp_path / "lib", CopyDistance(0.01, 40).dump())
    assert distance(tmp_path / "lib").rows == 40
    library.pin(EncoderPin("other", "2" * 40, 16))
    library.close()
    assert distance(tmp_path / "lib").rows == 0


def test_the_estimate_is_a_share_of_the_distance_of_two_pictures_whatever_the_range_and_the_copies():
    rows = unit(200, 3)
    wide = estimate(rows).distance
    assert wide == pytest.approx(USUAL_SHARE, rel=0.05)
    narrow = np.hstack([rows, np.full((200, 1), 3.0, np.float32)]) / np.sqrt(10)
    assert estimate(narrow.astype(np.float32)).distance == pytest.approx(wide / 10, rel=1e-3)
    doubled = np.repeat(rows, 2, axis=0)
    assert estimate(doubled).distance == pytest.approx(wide, rel=0.05)
    assert estimate(rows[:3]).distance == USUAL_SHARE
    assert estimate(np.repeat(rows[:1], 50, axis=0)).distance == USUAL_SHARE


def test_an_encoder_that_cannot_tell_copies_does_not_take_all_for_one():
    rows = unit(100, 4)
    assert measure(np.full(12, 1.0), rows, 100).distance == pytest.approx(MAX_SHARE, rel=0.05)
    assert NEAR_TIMES * MAX_SHARE <= 0.5
    assert measure(np.zeros(12), rows, 100).distance == MIN_DISTANCE


def test_a_cut_takes_the_margins_and_keeps_the_size():
    pixels = np.asarray(noise_picture(1, (100, 50)))
    cut = cut_margins(pixels)
    assert cut.shape == pixels.shape and cut.dtype == np.uint8
    box = noise_picture(1, (100, 50)).crop((6, 3, 94, 47)).resize((100, 50))
    assert np.abs(cut.astype(int) - np.asarray(box)).mean() < 3
