"""A change of the encoder: prepared beside the live vectors, flipped, rolled back; interrupted, and amid other work."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from clipsearch.config import Settings
from clipsearch.encoders import registry
from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.query.opening import open_library, open_second
from clipsearch.records import Record
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.records import RecognisedText
from clipsearch.store.second_set import Role
from clipsearch.types import Passage, TextLine
from indexer.reindex import ReindexOptions, reindex
from indexer.spreads import refresh_spreads
from tests.support.libraries import index, photo, photos

SETTINGS = Settings(threads=1, offline=True, batch_size=4, query_cache=False)
QUERIES = ("a red boat", "dogs in the snow", "a sunny beach", "the price of a lamp")
BOX = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.2), (0.1, 0.2))
LONG = "\n\n".join(f"Chapter {i}. " + f"The boat {i} sails along the coast of a far country. " * 12 for i in range(6))


@pytest.fixture(scope="module")
def other(encoder):
    """Another real encoder, of vectors that are as long as those of the first."""
    loaded = registry.load("builtin-base", threads=1, offline=True)
    loaded.encode_texts(["warm"])
    return loaded


def make_files(root: Path) -> Path:
    """Pictures, two of them the same and some with captions, and texts of one passage and of several."""
    photos(root, 9)
    shutil.copy(root / "p003.jpg", root / "copy.jpg")
    (root / "p001.txt").write_text("a red boat called Ada")
    (root / "captions.csv").write_text(
        "image,caption\np002.jpg,two dogs run over the snow\np002.jpg,a winter's day\np004.jpg,a beach\n"
    )
    (root / "notes.txt").write_text("The lamp costs forty crowns.")
    (root / "long.txt").write_text(LONG)
    return root


def fill(library: Path, root: Path, encoder, pictures: Path) -> None:
    """Index files, add records, and recognise text in a picture."""
    index(library, root, encoder=encoder, settings=SETTINGS)
    data = [photo(pictures / f"r{i}.jpg", 100 + i) for i in range(3)]
    with SearchEngine(Library(library), SETTINGS, encoder) as engine:
        engine.add([Record("lamp", image=data[0].read_bytes(), caption="a lamp", text=LONG[:900])], keep="bytes")
        engine.add(
            [Record("chair", image=data[1], metadata={"price": 49}), Record("words", text="A text about boats.")]
        )
        if not engine.count(Filter(tags=("mine",))):
            engine.tag(["lamp", str(root / "p001.jpg")], add=["mine"])
            engine.collect("best", ["chair", str(root / "p000.jpg")])
    with closing(Library(library)) as opened, opened.writer() as writer:
        with opened.read() as snapshot:
            item = snapshot.items_by_id([snapshot.ids_of_keys([str(root / "p005.jpg")])[str(root / "p005.jpg")][0]])[0]
        lines = (TextLine("EXIT 12 to the harbour", BOX, 0.9),)
        passages = (Passage(lines[0].text, 1, 1),)
        vectors = encoder.encode_texts([lines[0].text])
        writer.commit_text([RecognisedText(item.id, item.content_hash, "ocr", lines, passages, vectors)])
        refresh_spreads(opened, writer, lambda: encoder, again=True)  # over all rows, as a reindex measures them


@pytest.fixture(scope="module")
def filled(tmp_path_factory, encoder, other):
    """Files; a library of them by the one encoder, and the same one by the other encoder from the start."""
    base = tmp_path_factory.mktemp("filled")
    root = make_files(base / "photos")
    fill(base / "one", root, encoder, base / "records")
    fill(base / "two", root, other, base / "records")
    return base


@pytest.fixture
def place(filled, tmp_path):
    """A library of its own, by the first encoder, of files that it shares with the others."""
    shutil.copytree(filled / "one", tmp_path / "lib")
    return tmp_path / "lib"


def answers(library: Path, encoder=None, queries=QUERIES):
    """All that searches say, and where it is."""
    with SearchEngine(Library(library), SETTINGS, encoder) as engine:
        found = [engine.search(query, k=20, modality=kind) for query in queries for kind in (None, "image", "text")]
        found += engine.search_batch(vectors=engine.vectors(["lamp", "chair", "words"]), k=20)
        return [said(each) for each in found]


def said(results):
    return [(hit.item.key, hit.modality, round(hit.score, 3), hit.confidence and round(hit.confidence, 3), hit.passage)
            for hit in results]  # fmt: skip


def run(library: Path, encoder=None, **options):
    """Reindex; options: fields of ReindexOptions, and what `reindex` takes."""
    extra = {key: options.pop(key) for key in ("should_stop", "progress", "notify") if key in options}
    return reindex(library, SETTINGS, ReindexOptions(**options), encoder=encoder, **extra)


def assert_whole(library: Path) -> None:
    with closing(Library(library)) as opened:
        wrong = [f.found for f in examine(opened, "clipsearch build") if f.severity is not Severity.OK]
    assert wrong == []


# --- What comes of it


def test_it_answers_as_a_library_of_the_other_encoder_from_the_start(place, filled, encoder, other):
    before, ids = answers(place, encoder), {p: e.id for p, e in read_state_of(place).items()}
    report = run(place, other)
    assert (report.before, report.encoder, report.flipped) == ("builtin-small", "builtin-base", True)
    assert report.encoded == report.items == report.total == 15 and not report.missing
    assert answers(place, other) == answers(filled / "two", other) != before
    assert {p: e.id for p, e in read_state_of(place).items()} == ids
    with SearchEngine(Library(place), SETTINGS, other) as engine:
        assert sorted(item.key for item in engine.find(Filter(tags=("mine",)))) == tagged(filled)
        assert len(engine.find(Filter(collections=("best",)))) == 2
        assert engine.get("chair").metadata == {"price": 49}
    assert_whole(place)
    back = run(place, encoder, back=True)
    assert back.flipped and back.encoded == 0
    assert answers(place, encoder) == before
    assert_whole(place)


def tagged(filled: Path) -> list[str]:
    return sorted(["lamp", str(filled / "photos" / "p001.jpg")])


def read_state_of(library: Path):
    """Items by path, read past the code under test; records have no words there."""
    import sqlite3
    from types import SimpleNamespace

    with closing(sqlite3.connect(library / "catalog.db")) as db:
        return {path: SimpleNamespace(id=number) for number, path in db.execute("SELECT id, path FROM items")}


def test_the_old_vectors_answer_until_the_flip_and_the_new_ones_can_be_asked_before(place, filled, encoder, other):
    before = answers(place, encoder)
    report = run(place, other, flip=False)
    assert not report.flipped and report.items == 15
    assert answers(place, encoder) == before
    with closing(Library(place)) as library:
        second = library.second
        assert (second.role, second.encoder.name, second.items, second.missing) == (
            Role.PREPARED,
            "builtin-base",
            15,
            0,
        )
    with open_second(place, SETTINGS) as engine:
        found = [said(engine.search(query, k=20)) for query in QUERIES]
    with open_library(filled / "two", SETTINGS) as engine:
        assert found == [said(engine.search(query, k=20)) for query in QUERIES]
    flipped = run(place)
    assert flipped.flipped and flipped.encoded == 0
    assert answers(place, other) == answers(filled / "two", other)


# --- Amid other work


class Meddler:
    """Progress that does something when the first items were encoded."""

    def __init__(self, act) -> None:
        self._act, self.calls = act, 0

    def scanned(self, files: int) -> None: ...
    def preparing(self) -> None: ...
    def start(self, total: int) -> None: ...

    def advance(self, files: int) -> None:
        self.calls += 1
        if self.calls == 1:
            self._act()


def own_place(filled: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A library with files of its own, that a test may change."""
    shutil.copytree(filled / "photos", tmp_path / "photos")
    return tmp_path / "lib", tmp_path / "photos"


def test_what_is_added_changed_and_deleted_meanwhile_is_caught_up_before_the_flip(filled, tmp_path, encoder, other):
    library, root = own_place(filled, tmp_path)
    fill(library, root, encoder, tmp_path / "records")
    later = tmp_path / "later"
    later.mkdir()

    def meddle():
        photo(root / "new.jpg", 500)
        photo(root / "p006.jpg", 501)  # other content
        (root / "p000.jpg").unlink()
        (root / "p001.txt").write_text("a green boat called Eve")
        shutil.move(root / "p007.jpg", root / "moved.jpg")
        index(library, root, encoder=encoder, settings=SETTINGS)
        with SearchEngine(Library(library), SETTINGS, encoder) as engine:
            engine.add([Record("added", text="a ship in a harbour"), Record("words", text="another text")])
            engine.delete(["chair"])
            engine.tag([str(root / "p002.jpg")], add=["meanwhile"])

    report = run(library, other, progress=Meddler(meddle))
    assert report.flipped and not report.missing
    expected = tmp_path / "expected"
    index(expected, root, encoder=other, settings=SETTINGS)
    with (
        SearchEngine(Library(library), SETTINGS, other) as engine,
        SearchEngine(Library(expected), SETTINGS, other) as at,
    ):
        keys = {item.key for item in engine.items()}
        assert keys == {item.key for item in at.items()} | {"lamp", "words", "added"}
        for item in at.items():
            assert np.allclose(engine.vectors(item.key), at.vectors(item.key), atol=1e-3), item.key
        assert engine.search("a ship in a harbour", k=1, hybrid=False)[0].item.key == "added"
        assert engine.find(Filter(tags=("meanwhile",))).total == 1
    assert_whole(library)
    # What came after the flip is encoded by the old encoder too, before it answers again.
    photo(root / "after.jpg", 502)
    index(library, root, encoder=other, settings=SETTINGS)
    back = run(library, encoder, back=True)
    assert back.flipped and back.encoded == 1
    again = tmp_path / "again"
    index(again, root, encoder=encoder, settings=SETTINGS)
    with (
        SearchEngine(Library(library), SETTINGS, encoder) as engine,
        SearchEngine(Library(again), SETTINGS, encoder) as at,
    ):
        for item in at.items():
            assert np.allclose(engine.vectors(item.key), at.vectors(item.key), atol=1e-3), item.key
    assert_whole(library)


def test_a_reader_sees_the_answers_of_one_set_whatever_happens(place, encoder, other):
    """Threads search all the time, across three flips; each answer is that of one encoder, and none fails."""
    expected = [answer_of(place, encoder)]
    run(place, other)
    expected.append(answer_of(place, other))
    assert expected[0] != expected[1]
    stop, seen, wrong = threading.Event(), [], []

    def look(engine):
        while not stop.is_set():
            try:
                seen.append(expected.index(said(engine.search(QUERIES[0], k=20))))
            except Exception as error:
                wrong.append(repr(error))
                return

    with SearchEngine(Library(place), SETTINGS) as engine:
        threads = [threading.Thread(target=look, args=(engine,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for which in (encoder, other, encoder):
            count = len(seen)
            assert run(place, which, back=True).flipped
            while len(seen) < count + 6 and not wrong:
                stop.wait(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert {*seen} == {0, 1} and seen[-1] == 0


def answer_of(library, encoder):
    with SearchEngine(Library(library), SETTINGS, encoder) as engine:
        return said(engine.search(QUERIES[0], k=20))


def test_an_open_engine_goes_on_with_the_new_encoder(place, encoder, other):
    """It searches, adds and indexes after the flip as one that was opened after it; it was given the old encoder."""
    with SearchEngine(Library(place), SETTINGS, encoder) as engine:
        before = engine.search("a red boat", k=5)
        run(place, other)
        after = engine.search("a red boat", k=5)
        assert (before.encoder, after.encoder) == ("builtin-small", "builtin-base")
        assert engine.encoder.fingerprint == other.fingerprint
        assert engine.add([Record("late", text="a red boat called Ada")]).added == 1
        assert np.allclose(engine.vectors("late"), other.encode_texts(["a red boat called Ada"]), atol=1e-3)
        assert engine.index().failed == []
