"""The text in pictures: indexed, found, kept, changed, moved, deleted and repaired; begun late, stopped and gone on."""

import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, ImageOps

from clipsearch.config import Settings
from clipsearch.encoders.builtin.encoder import BuiltinEncoder
from clipsearch.errors import EncoderError, InvalidInputError, PictureError
from clipsearch.filtering import Filter
from clipsearch.media import ocr
from clipsearch.query.engine import SearchEngine
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from indexer.picture_reader import DirectReader
from indexer.repair import repair
from tests.support.cli import run_cli, start_cli
from tests.support.libraries import Place, compact
from tests.support.libraries import index as index_library
from tests.support.paths import ROOT
from tests.support.signs import save_sign

sys.path.insert(0, str(ROOT / "tools"))
from demo import copy_shipped

SIGNS = {
    "exit.png": "EXIT 12",
    "exist.png": "EXIST 14",
    "extra.png": "EXTRA",
    "station.png": "北京火车站",
    "none.png": "",
}
COLOURS = ("#204060", "#306030", "#603060", "#7a4a20", "#404040")


class Album(Place):
    """A place whose pictures have text in them."""

    def search(self, text, **options):
        with SearchEngine(Library(self.library), encoder=self.encoder) as engine:
            return engine.search(text, **options)

    def named(self, caption):
        with SearchEngine(Library(self.library), encoder=self.encoder) as engine:
            return sorted(os.path.basename(item.path) for item in engine.find(Filter(caption=caption)))

    def read_pictures(self, **options):
        """Index; return how many pictures were read."""
        return index_library(self.library, self.root, encoder=self.encoder, **options).read

    def is_whole(self):
        opened = Library(self.library)
        try:
            found = {finding.severity for finding in examine(opened, lambda name, total: None)}
            return found <= {Severity.OK, Severity.NOTE}
        finally:
            opened.close()


@pytest.fixture
def album(tmp_path, encoder):
    made = Album(tmp_path, encoder)
    for (name, text), colour in zip(SIGNS.items(), COLOURS, strict=True):
        save_sign(made.root / name, text, background=colour)
    return made


def test_words_are_found_and_shown_where_they_stand(album):
    assert album.read_pictures(ocr=True) == 5
    hit = album.search("exit 12", k=3)[0]
    assert os.path.basename(hit.path) == "exit.png"
    (line,) = hit.recognised
    assert line.text == "EXIT 12" and len(line.box) == 4 and all(0 <= v <= 1 for corner in line.box for v in corner)
    station = album.search("火车站", k=1)[0]
    assert os.path.basename(station.path) == "station.png" and station.recognised[0].text == "北京火车站"
    assert album.named("exit") == ["exit.png"] and album.named("车站") == ["station.png"]
    assert album.named("ex*") == ["exist.png", "exit.png", "extra.png"]
    assert album.is_whole()


@pytest.mark.slow
@pytest.mark.parametrize(("query", "first"), [("exit", "exit.png"), ("exist", "exist.png"), ("extra", "extra.png")])
def test_exact_words_rank_above_near_ones(album, query, first):
    album.read_pictures(ocr=True)
    assert os.path.basename(album.search(query, k=1)[0].path) == first


def test_text_is_found_by_meaning(album):
    save_sign(album.root / "coffee.png", "Fresh coffee", background="#101010")
    album.read_pictures(ocr=True)
    assert os.path.basename(album.search("a hot drink", k=1, modality="text")[0].path) == "coffee.png"


@pytest.mark.slow
def test_signs_take_no_place_from_photographs_that_fit(tmp_path, encoder):
    album = Album(tmp_path, encoder)
    copy_shipped(album.root)
    words = "hotel museum pharmacy harbour platform theatre bakery police airport garden tickets".split()
    for path, word in zip(sorted(album.root.iterdir()), words, strict=True):
        with Image.open(path) as opened:
            picture = ImageOps.contain(opened.convert("RGB"), (480, 480))
        sign = Image.new("RGB", (picture.width // 2, picture.height // 12), "gold")
        ImageDraw.Draw(sign).text((8, 2), word.upper(), "black", ImageFont.load_default(sign.height - 8))
        picture.paste(sign, (4, 4))
        picture.save(path)
    queries = ("a cat", "a cup of coffee", "a rocket at night", "a man with a camera", "a house")
    album.read_pictures()
    without = {query: album.search(query, k=1)[0].path for query in queries}
    album.read_pictures(ocr=True)
    assert {query: album.search(query, k=1)[0].path for query in queries} == without
    assert album.named("pharmacy") == [os.path.basename(album.search("pharmacy", k=1)[0].path)]


def test_a_library_without_it_catches_up_and_encodes_no_picture_again(album):
    assert album.read_pictures() == 0 and album.named("exit") == []
    album.encoder.pictures = album.encoder.preprocessed = 0
    assert album.read_pictures(ocr=True) == 5 and album.named("exit") == ["exit.png"]
    assert (album.encoder.pictures, album.encoder.preprocessed) == (0, 0)


def test_a_second_run_loads_nothing(album, monkeypatch):
    album.read_pictures(ocr=True)
    monkeypatch.setattr(ocr, "TextRecogniser", None)
    assert album.read_pictures(ocr=True) == album.read_pictures() == 0


@pytest.mark.slow
def test_the_choice_is_kept_until_it_is_taken_back(album):
    album.read_pictures(ocr=True)
    save_sign(album.root / "cafe.png", "Museum")
    assert album.read_pictures() == 1 and album.named("museum") == ["cafe.png"]
    save_sign(album.root / "later.png", "Library")
    assert album.read_pictures(ocr=False) == album.read_pictures() == 0
    assert album.named("library") == [] and album.named("museum") == ["cafe.png"]


def test_another_model_reads_again_only_when_asked(album, monkeypatch):
    album.read_pictures(ocr=True)
    monkeypatch.setattr(ocr, "_RULES", "another")
    assert album.read_pictures() == 0
    assert album.read_pictures(ocr=True) == 5 and album.named("exit") == ["exit.png"]
    assert album.read_pictures(ocr=True) == 0 and album.is_whole()


def test_a_changed_file_is_read_again(album):
    album.read_pictures(ocr=True)
    save_sign(album.root / "exit.png", "Entrance")
    assert album.read_pictures() == 1
    assert album.named("exit") == [] and album.named("entrance") == ["exit.png"] and album.is_whole()


def test_captions_change_and_the_text_stays(album):
    album.read_pictures(ocr=True)
    for caption in ("a blue wall", "a green wall", ""):
        (album.root / "exit.txt").write_text(caption) if caption else (album.root / "exit.txt").unlink()
        assert album.read_pictures() == 0
        assert album.named("exit") == ["exit.png"]
        assert album.named("wall") == (["exit.png"] if caption else [])
        assert album.search("exit 12", k=1)[0].recognised[0].text == "EXIT 12"
        assert album.is_whole()


def test_moved_copied_deleted_and_compacted(album):
    album.read_pictures(ocr=True)
    (album.root / "exit.png").rename(album.root / "moved.png")
    shutil.copy(album.root / "station.png", album.root / "copy.png")
    (album.root / "extra.png").unlink()
    assert album.read_pictures() == 1  # the copy, whose text is known
    assert album.named("exit") == ["moved.png"] and album.named("火车站") == ["copy.png", "station.png"]
    assert album.named("extra") == []
    opened = Library(album.library)
    compact(opened)
    opened.close()
    assert album.is_whole() and album.named("exit") == ["moved.png"]
    assert album.search("exit 12", k=1)[0].recognised[0].text == "EXIT 12"
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        assert db.execute("SELECT count(*) FROM recognised_text").fetchone() == (5,)
    save_sign(album.root / "extra.png", "EXTRA", background=COLOURS[2])
    assert album.read_pictures() == 1 and album.named("extra") == ["extra.png"]


def test_a_deleted_file_comes_back_with_its_text(album):
    album.read_pictures(ocr=True)
    (album.root / "exit.png").rename(album.root.parent / "kept.png")
    album.read_pictures()
    assert album.named("exit") == []
    (album.root.parent / "kept.png").rename(album.root / "exit.png")
    assert album.read_pictures() == 0 and album.named("exit") == ["exit.png"] and album.is_whole()


def test_a_forgotten_folder_leaves_no_text(album):
    album.read_pictures(ocr=True)
    assert run_cli("forget", album.root, "--library", album.library).code == 0
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        assert db.execute("SELECT count(*) FROM recognised_text").fetchone() == (0,)


def test_a_picture_that_cannot_be_read_fails_alone(album, monkeypatch):
    read = ocr.TextRecogniser.read

    def fail_on_one(self, picture):
        if np.asarray(picture)[0, 0].tolist() == [0x20, 0x40, 0x60]:
            raise ocr.PictureError("its text cannot be recognised (on purpose)")
        return read(self, picture)

    monkeypatch.setattr(ocr.TextRecogniser, "read", fail_on_one)
    report = index_library(album.library, album.root, encoder=album.encoder, ocr=True)
    assert (report.read, report.with_text, report.failed) == (5, 3, [])
    assert album.named("exist") == ["exist.png"] and album.read_pictures() == 0


@pytest.mark.slow
def test_a_reading_that_failed_is_not_that_of_a_copy_and_is_retried_when_asked(album, monkeypatch):
    def fail(self, picture):
        raise PictureError("its text cannot be recognised (on purpose)")

    monkeypatch.setattr(ocr.TextRecogniser, "read", fail)
    assert album.read_pictures(ocr=True) == 5 and album.is_whole()
    monkeypatch.undo()
    shutil.copy(album.root / "exit.png", album.root / "copy.png")
    assert album.read_pictures() == 1 and album.named("exit") == ["copy.png"]
    assert album.read_pictures(retry_failed=True) == 5 and album.named("exit") == ["copy.png", "exit.png"]
    assert album.read_pictures(retry_failed=True) == 0 and album.is_whole()


def raise_memory(*given, **named):
    raise MemoryError("on purpose")


def raise_runtime(*given, **named):
    raise RuntimeError("on purpose")


def raise_decoder_memory(*given, **named):
    raise PictureError("needs too much (on purpose)") from MemoryError()


def raise_encoder(*given, **named):
    raise EncoderError("on purpose")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "name", "fail"),
    [
        (ocr.TextRecogniser, "read", raise_memory),
        (ocr.TextRecogniser, "read", raise_runtime),
        (DirectReader, "prepare", raise_decoder_memory),
        (DirectReader, "prepare", raise_memory),
        (BuiltinEncoder, "encode_texts", raise_encoder),
        (BuiltinEncoder, "encode_texts", raise_memory),
    ],
)
def test_what_fails_for_now_is_left_for_the_next_run(album, monkeypatch, caplog, place, name, fail):
    for path in [*album.root.iterdir()]:
        if path.name != "exit.png":
            path.unlink()
    album.run()
    monkeypatch.setattr(place, name, fail)
    assert album.read_pictures(ocr=True) == 0 and "is left for the next run" in caplog.text
    monkeypatch.undo()
    assert album.read_pictures() == 1 and album.named("exit") == ["exit.png"]


@pytest.mark.slow
def test_damaged_text_is_not_shown_and_is_repaired(album):
    album.read_pictures(ocr=True)
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        db.create_function("clipsearch_digest", -1, lambda *values: 1)
        db.execute("DROP TRIGGER recognised_text_changed")
        db.execute("UPDATE recognised_text SET lines = replace(lines, 'EXIT', 'EVIL')")
        db.commit()
    assert album.search("exit 12", k=1)[0].recognised == ()
    assert not album.is_whole()
    assert "1 recognised text" in repair(album.library, Settings(threads=1), encoder=album.encoder).damage
    assert album.read_pictures() == 1 and album.is_whole()
    assert album.search("exit 12", k=1)[0].recognised[0].text == "EXIT 12"


BOX = "[[0, 0], [1, 0], [1, 1], [0, 1]]"
NOT_LINES = [
    "[",
    "7",
    "null",
    '{"a": 1}',
    '[["EXIT", 3, 1]]',
    '[["EXIT", [["a", 1]], 1]]',
    "[" * 5000,
    f'[["EXIT", {BOX.replace("1", "1" * 400)}, 1]]',
    f'[["EXIT", {BOX.replace("1", "NaN")}, 1]]',
    f'[["EXIT", {BOX.replace("1", "1e999")}, 1]]',
    f'[["EXIT", {BOX.replace("1", "1.5")}, 1]]',
    f'[["EXIT", {BOX}, NaN]]',
    f'[["EXIT", {BOX}, -1]]',
    f'[["EXIT", {BOX}, 1], ["EXIT", [[0, 0]], 1]]',
    f'[[["EXIT"], {BOX}, 1]]',
]


def write_lines(album, lines):
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        db.execute("DROP TRIGGER IF EXISTS recognised_text_changed")
        db.execute("UPDATE recognised_text SET lines = ?, digest = NULL", (lines,))
        db.commit()
    return album.search("exit 12", k=1)[0].recognised


@pytest.fixture(scope="module")
def read_album(tmp_path_factory, encoder):
    made = Album(tmp_path_factory.mktemp("read"), encoder)
    save_sign(made.root / "exit.png", "EXIT 12")
    made.read_pictures(ocr=True)
    return made


@pytest.mark.parametrize("lines", NOT_LINES, ids=lambda lines: lines[:40])
def test_lines_that_nobody_wrote_are_not_shown(read_album, tmp_path, encoder, lines):
    album = Album(tmp_path, encoder)
    shutil.copytree(read_album.library, album.library)
    assert write_lines(album, lines) == ()


def test_a_line_is_no_longer_than_one_that_is_written(album):
    album.read_pictures(ocr=True)
    (line,) = write_lines(album, f'[["EXIT {"x" * 1_000_000}\\ud800", {BOX}, 1]]')
    assert line.text == "EXIT " + "x" * 495
    (line,) = write_lines(album, f'[["EXIT\\u001b[31m\\ud800 1", {BOX}, 1]]')
    assert line.text == "EXIT [31m 1"


def test_worker_processes_decode(album):
    settings = Settings(threads=1, isolate=True)
    report = index_library(album.library, album.root, encoder=album.encoder, settings=settings, ocr=True)
    assert (report.read, report.with_text) == (5, 4) and album.named("exit") == ["exit.png"]


def test_without_the_extra_asking_fails_and_a_kept_choice_warns(album, monkeypatch, caplog):
    album.read_pictures(ocr=True)
    save_sign(album.root / "cafe.png", "Museum")
    monkeypatch.setattr(ocr.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"clipsearch\[ocr\]"):
        album.read_pictures(ocr=True)
    assert album.read_pictures() == 0 and "pip install 'clipsearch[ocr]'" in caplog.text
    monkeypatch.undo()
    assert album.read_pictures() == 1


@pytest.mark.slow
def test_a_stop_between_batches_keeps_what_was_read(album):
    album.run()
    for i in range(20):
        save_sign(album.root / f"n{i}.png", f"Number {i}", background=f"#30{i:02d}40")
    album.run()
    done: list[int] = []

    class Progress:
        def __getattr__(self, name):
            return lambda *given: done.append(given[0]) if name == "advance" else None

    report = index_library(
        album.library, album.root, encoder=album.encoder, ocr=True, progress=Progress(), should_stop=lambda: bool(done)
    )
    assert report.interrupted and report.read == 16
    assert album.read_pictures() == 9 and album.is_whole()


@pytest.mark.slow
def test_the_commands_show_it(album):
    ran = run_cli("index", album.root, "--ocr", "--json", "--library", album.library, "--model", "builtin-small")
    assert ran.code == 0 and (ran.json["read"], ran.json["with_text"]) == (5, 4)
    assert "Recognised text in 4 of 5 pictures." in ran.err
    found = run_cli("query", "exit 12", "-k", "1", "--library", album.library)
    assert 'text in the picture: "EXIT 12" (top)' in found.out.decode()
    (hit,) = run_cli("query", "exit 12", "-k", "1", "--json", "--library", album.library).json["hits"]
    assert hit["recognised"][0]["text"] == "EXIT 12" and np.shape(hit["recognised"][0]["box"]) == (4, 2)
    json.dumps(hit)


@pytest.mark.slow
def test_a_killed_run_loses_no_more_than_a_batch(album):
    for i in range(30):
        save_sign(album.root / f"n{i:02d}.png", f"Number {100 + i}", background=f"#3040{i + 20}")
    album.run()
    started = start_cli("index", "--ocr", "--threads", "1", "--library", album.library)
    deadline = time.monotonic() + 120
    count = 0
    while not count and time.monotonic() < deadline:
        with closing(sqlite3.connect(album.library / "catalog.db")) as db:
            (count,) = db.execute("SELECT count(*) FROM recognised_text").fetchone()
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    with closing(sqlite3.connect(album.library / "catalog.db")) as db:
        (count,) = db.execute("SELECT count(*) FROM recognised_text").fetchone()
    assert 16 <= count < 35 and count % 16 == 0
    assert album.read_pictures() == 35 - count and album.is_whole()
    assert all(album.named(str(100 + i)) == [f"n{i:02d}.png"] for i in range(30))
