"""A change of the encoder: prepared beside the live vectors, flipped, rolled back; interrupted, and amid other work."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch.config import Settings
from clipsearch.encoders import registry
from clipsearch.errors import InvalidInputError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.query.opening import open_library, open_second
from clipsearch.records import Record
from clipsearch.store import second_set
from clipsearch.store.backup import back_up
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from clipsearch.store.records import RecognisedText
from clipsearch.store.second_set import Role
from clipsearch.types import Modality, Passage, TextLine
from indexer.reindex import ReindexOptions, discard, reindex
from indexer.repair import repair
from indexer.spreads import refresh_spreads
from tests.support.cli import run_cli, start_cli
from tests.support.libraries import index, photo, photos
from tests.support.serve_command import running

pytestmark = pytest.mark.slow

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
            assert run(place, which, back=True).flipped
            count = len(seen)
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


# --- What cannot be encoded


def test_items_that_cannot_be_encoded_hold_the_flip_and_are_not_lost(filled, tmp_path, encoder, other):
    library, root = own_place(filled, tmp_path)
    index(library, root, encoder=encoder, settings=SETTINGS)
    pictures = [photo(tmp_path / f"r{i}.jpg", 200 + i) for i in range(4)]
    data = [path.read_bytes() for path in pictures]
    with SearchEngine(Library(library), SETTINGS, encoder) as engine:
        engine.add([Record("dropped", image=data[0], caption="a lamp that is gone")])
        engine.add([Record("thumbnail", image=data[1])], keep="thumbnail")
        engine.add([Record("given", vector=encoder.encode_texts(["x"])[0])])
        engine.add([Record("file", image=pictures[2]), Record("changed", image=pictures[3])])
        engine.tag([str(root / "p001.jpg"), "dropped"], add=["mine"])
        before = {item.key for item in engine.items()}
    saved = (root / "p001.jpg").read_bytes()
    (root / "p001.jpg").unlink()
    photo(root / "p006.jpg", 777)
    (root / "notes.txt").unlink()
    photo(pictures[3], 778)
    report = run(library, other)
    assert not report.flipped and report.total - report.items == 7
    reasons = {Path(path).name: reason for path, reason in report.missing}
    assert reasons == {
        "p001.jpg": "its file is gone",
        "notes.txt": "its file is gone",
        "p006.jpg": "its file has changed since it was indexed; bring the library up to date first: clipsearch index",
        "dropped": "its picture is not kept; add it again",
        "thumbnail": "only a thumbnail of its picture is kept; add it again",
        "given": "its picture is not kept; add it again",
        "changed": "its picture is not kept, and its file has changed; add it again",
    }
    with SearchEngine(Library(library), SETTINGS, encoder) as engine:
        assert engine.search("anything", k=50).encoder == "builtin-small"
    flipped = run(library, allow_missing=True)
    assert flipped.flipped and len(flipped.missing) == 7
    with SearchEngine(Library(library), SETTINGS, other) as engine:
        assert {item.key for item in engine.items()} == before
        assert {item.key for item in engine.find(Filter(tags=("mine",)))} == {str(root / "p001.jpg"), "dropped"}
        assert engine.search("lamp gone", k=3)[0].item.key == "dropped"
        ids = {item.key: item.id for item in engine.items()}
        with pytest.raises(InvalidInputError, match="has no vector"):
            engine.vectors("thumbnail")
    assert_whole(library)
    (root / "p001.jpg").write_bytes(saved)
    index(library, root, encoder=other, settings=SETTINGS)
    with SearchEngine(Library(library), SETTINGS, other) as engine:
        for name in ("p001.jpg", "p006.jpg"):
            key = str(root / name)
            assert engine.search(image=root / name, k=1, modality="image")[0].score > 0.99
            assert engine.get(key).id == ids[key]
        assert engine.get(str(root / "p001.jpg")).tags == ("mine",)
        assert engine.get(str(root / "notes.txt")) is None
    assert_whole(library)
    back = run(library, encoder, back=True, allow_missing=True)
    assert back.flipped
    with SearchEngine(Library(library), SETTINGS, encoder) as engine:
        assert np.allclose(engine.vectors("given"), encoder.encode_texts(["x"]), atol=1e-3)
        assert engine.vectors("thumbnail").shape == (1, encoder.dim)
    assert_whole(library)


def test_nothing_is_flipped_where_nothing_can_be_encoded(filled, tmp_path, encoder, other):
    library, root = own_place(filled, tmp_path)
    index(library, root, encoder=encoder, settings=SETTINGS)
    shutil.rmtree(root)
    report = run(library, other, allow_missing=True)
    assert not report.flipped and report.items == 0 and len(report.missing) == report.total == 12
    assert "cannot be reached" in report.missing[0][1] or "is gone" in report.missing[0][1]


def test_what_makes_no_sense_is_refused(place, tmp_path, encoder, other):
    with pytest.raises(InvalidInputError, match="Name the new encoder"):
        run(place)
    with pytest.raises(InvalidInputError, match="no way back"):
        run(place, back=True)
    with pytest.raises(InvalidInputError, match="has the vectors of builtin-small already"):
        run(place, encoder)
    assert discard(place) is None
    run(place, other, flip=False)
    with pytest.raises(InvalidInputError, match="no way back"):
        run(place, back=True)
    third = Narrow(encoder)
    with pytest.raises(InvalidInputError, match=r"of builtin-base, which is being prepared.*--discard"):
        run(place, third)
    assert discard(place).encoder.name == "builtin-base"
    report = run(place, third)
    assert report.flipped
    with SearchEngine(Library(place), SETTINGS, third) as engine:
        assert engine.vectors("lamp").shape == (1, 96)
        assert engine.search("a red boat called Ada", k=1)[0].path.endswith("p001.jpg")
    assert_whole(place)


class Narrow:
    """An encoder of shorter vectors: the first numbers of those of a real one."""

    name, fingerprint, dim = "narrow", "ab" * 16, 96

    def __init__(self, encoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def _cut(self, vectors):
        short = vectors[:, : self.dim]
        return short / np.linalg.norm(short, axis=1, keepdims=True)

    def encode_pixels(self, batch):
        return self._cut(self._encoder.encode_pixels(batch))

    def encode_images(self, pictures):
        return self._cut(self._encoder.encode_images(pictures))

    def encode_texts(self, texts):
        return self._cut(self._encoder.encode_texts(texts))

    def encode_queries(self, texts):
        return self._cut(self._encoder.encode_queries(texts))


# --- Interrupted


def test_a_run_that_is_stopped_after_each_batch_ends_as_one_that_is_not(place, filled, other):
    runs = []
    while not runs or runs[-1].interrupted:
        batches = Meddler(lambda: None)
        runs.append(run(place, other, progress=batches, should_stop=lambda seen=batches: seen.calls >= 1))
        assert len(runs) < 30
    assert len(runs) > 3 and [each.flipped for each in runs] == [False] * (len(runs) - 1) + [True]
    assert sum(each.encoded for each in runs) == 15, "something was encoded twice"
    assert answers(place, other) == answers(filled / "two", other)


@pytest.mark.slow
def test_processes_that_are_killed_lose_a_batch_at_most_and_the_next_goes_on(place, filled, other):
    chance, killed, items, wait = random.Random(3), 0, [0], 4.0
    command = ("reindex", "--model", "builtin-base", "--no-flip", "--batch-size", "1", "--threads", "1", "--offline")
    for _ in range(40):
        process = start_cli(*command, "--library", place)
        try:
            process.communicate(timeout=chance.uniform(0.3, wait))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        with closing(Library(place)) as library:
            items.append(library.second.items if library.second else 0)
        assert answers(place, queries=())  # the old vectors answer
        if items[-1] == 15:
            break
        wait *= 1.05
    assert items == sorted(items) and items[-1] == 15 and killed
    assert run_cli("reindex", "--flip", "--library", place).code == 0
    assert answers(place, other) == answers(filled / "two", other)
    assert_whole(place)


# --- The command, and what looks after a library


@pytest.mark.slow
def test_the_command_prepares_compares_flips_goes_back_and_discards(place, filled):
    here = ("--library", place)
    done = run_cli("reindex", "--model", "builtin-base", "--no-flip", "--json", *here, "--offline")
    assert done.code == 0 and done.json["flipped"] is False and done.json["items"] == 15
    said = run_cli("status", *here).out.decode()
    assert "prepared  builtin-base" in said and "15 of 15 items" in said
    captions = filled / "photos" / "captions.csv"
    compared = run_cli("eval", captions, "--compare", "prepared", "--json", *here)
    sides = [side["encoder"] for side in compared.json["sides"]]
    assert sides == ["builtin-small", "builtin-base"] and compared.json["difference"]
    from_start = run_cli("eval", captions, "--compare", filled / "two", "--json", *here).json
    assert compared.json["sides"][1]["text_to_image"] == from_start["sides"][1]["text_to_image"]
    flipped = run_cli("reindex", "--flip", *here)
    assert flipped.code == 0 and "builtin-base answers now" in flipped.err
    assert run_cli("status", "--json", *here).json["second_set"]["role"] == "kept"
    assert run_cli("reindex", "--rollback", *here).code == 0
    assert run_cli("status", "--json", *here).json["encoder"]["name"] == "builtin-small"
    assert "Discarded" in run_cli("reindex", "--discard", *here).err
    assert run_cli("status", "--json", *here).json["second_set"] is None
    assert run_cli("reindex", "--rollback", *here).code == 2
    assert run_cli("reindex", "--flip", "--no-flip", *here).code == 2


@pytest.mark.slow
def test_a_server_goes_on_with_the_new_encoder(place, filled, other):
    """It is a process of its own, and so is what flips; requests come all the time."""
    stop, seen, wrong = threading.Event(), [], []
    with running(place, CLIPSEARCH_THREADS="1") as (_, url), clipsearch.Client(url) as client:

        def ask():
            while not stop.is_set():
                try:
                    found = client.search(QUERIES[0], k=20)
                    seen.append((found.encoder, [(hit.item.key, round(hit.score, 3)) for hit in found]))
                except Exception as error:
                    wrong.append(repr(error))
                    return

        thread = threading.Thread(target=ask)
        thread.start()
        assert run_cli("reindex", "--model", "builtin-base", "--library", place, "--offline").code == 0
        while not wrong and (not seen or seen[-1][0] != "builtin-base"):
            stop.wait(0.05)
        stop.set()
        thread.join()
    assert not wrong
    first, last = (
        [each for name, each in seen if name == "builtin-small"],
        [each for name, each in seen if name != "builtin-small"],
    )
    expected = [(key, score) for key, _, score, *_ in answer_of(filled / "two", other)]
    assert first and all(each == first[0] for each in first) and all(each == expected for each in last)


@pytest.mark.slow
def test_a_backup_has_the_set_that_answers(place, tmp_path, encoder, other):
    run(place, other)
    with closing(Library(place)) as library:
        back_up(library, tmp_path / "backup")
    with closing(Library(tmp_path / "backup")) as backup:
        assert backup.second is None and backup.encoder.name == "builtin-base"
    assert answers(tmp_path / "backup", other) == answers(place, other)
    assert_whole(tmp_path / "backup")


def test_damage_of_the_second_set_is_found_and_made_good(place, filled, other):
    run(place, other, flip=False)
    with closing(Library(place)) as library, library.query() as connection:
        segment = second_set.get_segments(connection, Modality.IMAGE)[0]
    file = place / "vectors" / segment.name
    data = bytearray(file.read_bytes())
    data[3] ^= 64
    file.write_bytes(data)
    with pytest.raises(StoreCorruptError, match="damaged"):
        run(place, other)
    assert run_cli("verify", "--library", place).code == 5
    report = repair(place, SETTINGS)
    assert report.damage == ["the second set of vectors"] and report.remaining == []
    again = run(place, other)
    assert again.flipped and again.encoded == 1
    made, expected = (answers(folder, other) for folder in (place, filled / "two"))
    # What was made again has the last row, so that of two copies, the other one comes first now.
    assert [sorted(each, key=repr) for each in made] == [sorted(each, key=repr) for each in expected]
    assert_whole(place)


@pytest.mark.slow
def test_a_second_set_of_missing_files_is_made_again(place, filled, other):
    run(place, other, flip=False)
    with closing(Library(place)) as library, library.query() as connection:
        names = second_set.segment_names(connection)
    for name in names:
        (place / "vectors" / name).unlink()
    repair(place, SETTINGS)
    assert run(place, other).encoded == 15
    assert answers(place, other) == answers(filled / "two", other)


@pytest.mark.slow
def test_an_index_belongs_to_its_set(place, encoder, other):
    """The approximate index is built before the flip, by the plan of the library, and comes back with a rollback."""
    with SearchEngine(Library(place), SETTINGS, encoder) as engine:
        engine.build(index="pq4", target_recall=0.8)
    before = answers(place, encoder)
    with closing(Library(place)) as library, library.read() as snapshot:
        first = [snapshot.generation(modality) for modality in Modality]
    run(place, other)
    with closing(Library(place)) as library, library.read() as snapshot:
        second = [snapshot.generation(modality) for modality in Modality]
    assert [each and each.kind for each in first] == [each and each.kind for each in second]
    assert_whole(place)
    run(place, encoder, back=True)
    with closing(Library(place)) as library, library.read() as snapshot:
        assert [snapshot.generation(modality) for modality in Modality] == first
    assert answers(place, encoder) == before
