"""Adding records from Python: what is stored, what is encoded again, and what is refused."""

import io
import math
import os
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch import AddReport, Filter, InvalidInputError, Record, Settings
from clipsearch.metadata import MAX_BYTES
from clipsearch.query.engine import SearchEngine
from clipsearch.query.opening import open_or_create
from clipsearch.store.findings import Severity
from clipsearch.store.health import examine
from clipsearch.store.library import Library
from indexer.sources import records as source
from tests.support.libraries import Counting, photo
from tests.support.pictures import encode, noise_picture

SETTINGS = Settings(threads=1, offline=True)
DIM = 8


@pytest.fixture
def engine(tmp_path, encoder):
    """An engine of a new library of the small encoder, which counts its work."""
    library = open_or_create(tmp_path / "lib", SETTINGS, create=True, model="builtin-small", dim=None, timeout=1)
    with SearchEngine(library, SETTINGS, Counting(encoder), timeout=1, may_be_empty=True) as opened:
        yield opened


@pytest.fixture
def vectors(tmp_path):
    """An engine of a new library of vectors that are made elsewhere."""
    with clipsearch.open(tmp_path / "vectors", create=True, model="elsewhere", dim=DIM, settings=SETTINGS) as opened:
        yield opened


def pixels(seed: int) -> np.ndarray:
    return np.asarray(noise_picture(seed, (64, 48)))


def work(engine) -> int:
    """What was encoded since the last call."""
    counting = engine._encoder
    done = counting.pictures + counting.texts
    counting.pictures = counting.texts = 0
    return done


def reasons(report: AddReport) -> dict[str, str]:
    return dict(report.failed)


def assert_sound(folder) -> None:
    assert problems(folder) == []


def problems(folder) -> list[str]:
    found = examine(Library(folder), "clipsearch build")
    return [finding.found for finding in found if finding.severity is not Severity.OK]


def test_a_picture_is_found_however_it_is_given(engine, tmp_path):
    path = photo(tmp_path / "photo.jpg", 1)
    picture = Image.open(io.BytesIO(path.read_bytes()))
    given = {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "picture": picture,
        "array": np.asarray(picture),
    }
    report = engine.add(Record(name, image=image) for name, image in given.items())
    assert (report.added, report.failed) == (5, ())
    hits = engine.search(image=path, k=10)
    assert {hit.item.key for hit in hits} == {*given}
    assert all(hit.score > 0.999 for hit in hits)
    item = engine.get("path")
    assert (item.path, item.key, item.picture.width, item.picture.height) == (str(path), "path", 64, 48)
    assert engine.get("bytes").path == "record:bytes"
    assert_sound(tmp_path / "lib")


def test_a_picture_is_fetched_from_a_url_where_the_settings_allow_it(tmp_path, encoder, web):
    url = web.url("/picture.jpg")
    for allowed in (False, True):
        settings = Settings(threads=1, offline=True, allow_private_urls=allowed)
        library = open_or_create(tmp_path / "lib", settings, create=True, model="builtin-small", dim=None, timeout=1)
        with SearchEngine(library, settings, encoder) as engine:
            report = engine.add([Record("a", image=url), Record("b", image="ftp://a/b")])
        assert "http: and https:" in reasons(report)["b"]
        assert ("not a public address" in reasons(report).get("a", "")) is not allowed
        assert report.added == int(allowed)


def test_a_relative_path_is_made_absolute(engine, tmp_path, monkeypatch):
    photo(tmp_path / "photo.jpg", 1)
    monkeypatch.chdir(tmp_path)
    assert engine.add([Record("a", image="photo.jpg")]).added == 1
    assert engine.get("a").path == str(tmp_path / "photo.jpg")


def test_a_text_is_found_by_its_passages_and_its_words(engine):
    long = "\n\n".join(f"Paragraph {i} tells of the number {i} at some length, and of little else." for i in range(60))
    engine.add([Record("long", text=long), Record("short", text="a red cat on a mat", caption="Kappe")])
    hit = engine.search("a red cat on a mat")[0]
    assert (hit.item.key, hit.passage.text, hit.part) == ("short", "a red cat on a mat", 1)  # after that of its caption
    assert engine.get("long").text == long
    assert len({hit.passage.text for hit in engine.search("number 59", k=1)}) == 1
    for words, found in (("kappe", ["short"]), ("cat", ["short"]), ('"paragraph 59"', ["long"])):
        assert [item.key for item in engine.find(Filter(caption=words))] == found


def test_a_vector_stands_for_the_picture_else_for_the_text(vectors):
    rows = np.eye(DIM)
    given = [
        Record("alone", vector=rows[0] * 1e300),
        Record("as text", vector=rows[1] * 1e-300, modality="text", caption="words"),
        Record("of text", vector=rows[2], text="more words"),
        Record("of picture", vector=rows[3], text="words of a picture", image="/nowhere.jpg"),
    ]
    assert vectors.add(given).added == 4
    found = {}
    for row, name in zip(rows, ("alone", "as text", "of text", "of picture"), strict=False):
        hit = vectors.search(vector=row, k=1)[0]
        assert (hit.item.key, round(hit.score, 3)) == (name, 1.0)
        found[name] = (str(hit.modality), hit.passage.text if hit.passage else None)
    assert found == {
        "alone": ("image", None),
        "as text": ("text", "words"),
        "of text": ("text", "more words"),
        "of picture": ("image", None),
    }


def test_a_library_of_vectors_keeps_texts_for_words_and_refuses_pictures(vectors, tmp_path):
    report = vectors.add(
        [Record("text", text="zebra"), Record("caption", caption="a zebra"), Record("p", image=pixels(1))]
    )
    assert report.added == 2
    assert "must come with its vector" in reasons(report)["p"]
    assert {item.key for item in vectors.find(Filter(caption="zebra"))} == {"text", "caption"}
    vectors.add([Record("text", text="horse")])
    assert {item.key for item in vectors.find(Filter(caption="zebra"))} == {"caption"}
    assert_sound(tmp_path / "vectors")


def test_only_what_has_changed_is_encoded(engine, tmp_path):
    path = photo(tmp_path / "photo.jpg", 1)
    record = {"id": "a", "image": path, "caption": "one", "text": "two", "metadata": {"n": 1}}
    assert engine.add([record]).added == 1
    assert work(engine) == 3
    before = engine.get("a")
    revision = Library(tmp_path / "lib")._revision()
    assert engine.add([record]).unchanged == 1
    assert (work(engine), Library(tmp_path / "lib")._revision()) == (0, revision)
    assert engine.add([record | {"metadata": {"n": 2}}]).replaced == 1
    assert work(engine) == 0
    assert engine.add([record | {"caption": "three"}]).replaced == 1
    assert work(engine) == 2  # its texts, not its picture
    path.write_bytes(encode(noise_picture(2, (64, 48))))
    assert engine.add([record]).replaced == 1
    assert work(engine) == 3
    assert engine.get("a").id == before.id
    assert engine.add([{"id": "a", "text": "two"}]).replaced == 1
    after = engine.get("a")
    assert (after.modality, after.picture, after.caption, after.metadata, after.path) == (
        "text",
        None,
        None,
        {},
        "record:a",
    )
    assert len(engine.search("two", modality="image", k=10)) == 0
    assert_sound(tmp_path / "lib")


def test_a_record_of_one_call_counts_once_for_each_time_it_comes_and_the_last_wins(engine):
    report = engine.add(
        [Record("a", text="one"), Record("b", text="b"), Record("a", text="two"), Record("a", text="three")]
    )
    assert (report.added, report.replaced, report.unchanged, report.failed) == (2, 2, 0, ())
    assert engine.get("a").text == "three"
    report = engine.add([Record("c", image=pixels(1)), Record("c", image=b"no picture")])
    assert (report.added, [name for name, _ in report.failed]) == (1, ["c"])
    assert engine.get("c").picture.width == 64


DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]


class Unreadable(Mapping):
    """A mapping of which nothing can be said."""

    def __getitem__(self, name):
        raise RuntimeError("no")

    __iter__ = __len__ = __repr__ = __getitem__


class Sly(str):
    """A text that cannot be looked up."""

    def __hash__(self):
        raise RuntimeError("no")


BAD = [
    (Record("", text="x"), "0 characters"),
    (Record(None, text="x"), "must be a str, not NoneType"),
    (Record(7, text="x"), "must be a str, not int"),
    (Record("a\0b", text="x"), "no text"),
    (Record("a\ud800b", text="x"), "no text"),
    (Record("a" * 501, text="x"), "501 characters"),
    (Record("a"), "nothing to find it by"),
    (Record("a", text="  ", caption="\n"), "nothing to find it by"),
    (Record("a", text=3), "text must be a str, not int"),
    (Record("a", caption=b"x"), "caption must be a str, not bytes"),
    (Record("a", caption="x" * 70_000), "70000 characters"),
    (Record("a", text="x", metadata=["x"]), "mapping"),
    (Record("a", text="x", metadata={"n": math.nan}), "nan"),
    (Record("a", text="x", metadata={"n": {"m": 1}}), "metadata"),
    (Record("a", text="x", metadata={"n": 2**63}), "64"),
    (Record("a", text="x", metadata={"n": "x" * MAX_BYTES}), "at most 1,048,576 are stored"),
    (Record("a", text="x", metadata={7: 1}), "7"),
    (Record("a", text="x", modality="sound"), "must be image or text"),
    (Record("a", vector=np.ones(DIM + 1)), "(9,)"),
    (Record("a", vector=np.ones((1, DIM))), "(1, 8)"),
    (Record("a", vector=[]), "(0,)"),
    (Record("a", vector="x" * DIM), "must be 8 numbers"),
    (Record("a", vector=["x"] * DIM), "must be 8 numbers"),
    (Record("a", vector=[None] * DIM), "must be 8 numbers"),
    (Record("a", vector=[1j] * DIM), "must be 8 numbers"),
    (Record("a", vector=[[1], [1, 2]]), "must be 8 numbers"),
    (Record("a", vector=np.zeros(DIM)), "is zero"),
    (Record("a", vector=[math.nan] * DIM), "NaN or infinity"),
    (Record("a", vector=[math.inf] * DIM), "NaN or infinity"),
    (Record("a", vector=np.array([np.longdouble("1e4000")] * DIM)), "NaN or infinity"),
    (Record("a", image=7), "type int"),
    (Record("a", image=""), "names no file"),
    (Record("a", image="a\0b"), "names no file"),
    (Record("a", image=b""), "0 bytes"),
    (Record("a", image=np.zeros((4, 4, 4), np.uint8)), "(4, 4, 4)"),
    (Record("a", image=np.zeros((4, 4), np.uint8)), "(4, 4)"),
    (Record("a", image=np.zeros((4, 4, 3), np.float32)), "float32"),
    (Record("a", image=np.zeros((0, 4, 3), np.uint8)), "(0, 4, 3)"),
    (Record("a", image=Image.new("RGB", (20_000, 20_000 // 3))), "over the limit"),
    ({"id": "a", "text": "x", "colour": "red"}, "no field 'colour'"),
    ({"text": "x"}, "must be a str, not NoneType"),
    ("a", "must be a Record or a mapping"),
    (None, "must be a Record or a mapping"),
    (Unreadable(), "cannot be read: TypeError"),
    ({"id": Sly("sly"), "image": Unreadable()}, "type Unreadable"),
    (Record("a", image=Sly(), vector=np.ones(DIM)), "names no file"),
    (Record("a", image="/half/\ud800.jpg", vector=np.ones(DIM)), "names no file"),
    (Record("a", image="https://example.org/\ud800.jpg", vector=np.ones(DIM)), "names no file"),
    (Record("a", text="x", metadata=Unreadable()), "cannot be read: TypeError"),
    (Record("a", text="x", metadata={"n": 10**5000}), "64"),
    (Record("a", text="x", metadata={"n": DEEP}), "only texts may be in a list"),
    (DEEP, "must be a Record or a mapping"),
    ({"x": DEEP}, "no field 'x'"),
]


def test_each_bad_record_fails_alone_with_its_reason(vectors):
    good = [Record(f"good {i}", vector=np.eye(DIM)[i % DIM]) for i in range(len(BAD))]
    vectors.add([Record("a", vector=np.arange(DIM))])
    report = vectors.add(each for pair in zip(good, (bad for bad, _ in BAD), strict=True) for each in pair)
    assert report.added == len(good)
    assert len(report.failed) == len(BAD)
    assert [part for (_, part), (_, reason) in zip(BAD, report.failed, strict=True) if part not in reason] == []
    assert vectors.get("a") is not None
    assert vectors.count() == len(good) + 1


@pytest.mark.parametrize(
    "image",
    [b"no picture", encode(noise_picture(1, (64, 48)))[:300], "/nowhere/a.jpg", "/etc", "/dev/zero"],
    ids=["bytes", "truncated", "missing", "folder", "device"],
)
def test_a_picture_that_cannot_be_read_fails_alone(engine, image):
    report = engine.add([Record("a", text="x"), Record("bad", image=image), Record("b", image=pixels(2))])
    assert (report.added, len(report.failed), report.failed[0][0]) == (2, 1, "bad")
    assert report.failed[0][1].startswith(f"{image}: " if isinstance(image, str) else "")
    assert engine.get("bad") is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_file_may_have_any_name(engine, tmp_path):
    path = os.fsdecode(bytes(tmp_path) + b"/100%25 caf\xe9.jpg")
    with open(path, "wb") as file:
        file.write(photo(tmp_path / "a.jpg", 1).read_bytes())
    assert engine.add([Record("a", image=path)]).added == 1
    assert engine.get("a").path == path and engine.thumbnail("a")
    assert engine.add([Record("a", image=path)]).unchanged == 1


def test_a_folder_that_is_gone_makes_no_path(engine, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    report = engine.add([Record("bad", image="a.jpg"), Record("b", text="x")])
    assert report.added == 1 and "current folder no longer exists" in reasons(report)["bad"]


def test_a_record_that_fails_leaves_the_one_before_as_it_was(engine):
    engine.add([Record("a", image=pixels(1), caption="one")])
    assert engine.add([Record("a", image=b"x", caption="two")]).failed
    assert engine.get("a").caption == "one"


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda engine: engine.add(Record("a", text="x")), "iterable of Record, not Record"),
        (lambda engine: engine.add({"id": "a"}), "iterable of Record, not dict"),
        (lambda engine: engine.add("abc"), "iterable of Record, not str"),
        (lambda engine: engine.add(7), "iterable of Record, not int"),
        (lambda engine: engine.add([], keep="all"), "keep is 'all'"),
        (lambda engine: engine.add([], batch_size=0), "batch_size is 0"),
        (lambda engine: engine.add([], batch_size=1.5), "batch_size is 1.5"),
        (lambda engine: engine.add([], progress=7), "progress must be a function"),
        (lambda engine: engine.index(["/nowhere/at/all"]), "There is no file or folder"),
        (lambda engine: engine.index([7]), "must be a path"),
        (lambda engine: engine.index([], exclude="*.tmp"), "exclude must be a list"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(engine, call, part):
    with pytest.raises(InvalidInputError) as raised:
        call(engine)
    assert part in str(raised.value)


def test_nothing_is_printed_and_progress_is_called(engine, capfd):
    calls = []
    engine.add(
        (Record(str(i), vector=np.ones(257)) for i in range(10)), batch_size=4, progress=lambda *a: calls.append(a)
    )
    assert calls == [(4, None), (8, None), (10, None)]
    assert capfd.readouterr() == ("", "")


def test_what_was_committed_stays_when_the_callers_generator_fails(vectors):
    class OwnError(Exception):
        pass

    def records():
        for i in range(10):
            if i == 9:
                raise OwnError
            yield Record(str(i), vector=np.eye(DIM)[i % DIM])

    with pytest.raises(OwnError):
        vectors.add(records(), batch_size=4)
    assert vectors.count() == 8
    assert vectors.add([Record("x", vector=np.ones(DIM))]).added == 1


def test_buffers_may_be_used_again_for_the_next_record(vectors, engine):
    row, frame = np.zeros(DIM), np.zeros((48, 64, 3), np.uint8)

    def records():
        for i in range(DIM):
            row[:] = np.eye(DIM)[i]
            yield Record(str(i), vector=row)

    def frames():
        for i in range(3):
            frame[:] = pixels(i)
            yield Record(str(i), image=frame)

    vectors.add(records())
    assert [vectors.search(vector=each, k=1)[0].item.key for each in np.eye(DIM)] == [str(i) for i in range(DIM)]
    engine.add(frames())
    assert [engine.search(image=Image.fromarray(pixels(i)), k=1)[0].item.key for i in range(3)] == ["0", "1", "2"]


def test_memory_is_bounded_by_blocks_of_bytes(engine, monkeypatch):
    monkeypatch.setattr(source, "BLOCK_BYTES", 100_000)
    sizes = []
    blocks = source.RecordSource(8, SETTINGS).blocks(
        Record(str(i), image=np.zeros((100, 100, 3), np.uint8)) for i in range(20)
    )
    sizes = [len(block.records) for block in blocks]
    assert (sum(sizes), max(sizes)) == (20, 4)


@pytest.mark.parametrize("keep", ["thumbnail", "bytes"])
def test_a_picture_is_kept_where_that_is_asked_for(engine, tmp_path, keep):
    data = encode(noise_picture(1, (640, 480)))
    engine.add([Record("a", image=data), Record("b", image=Image.open(io.BytesIO(data)))], keep=keep)
    kept = {row.kept: row for row in contents(engine)}
    assert {*kept} == {keep}
    for row in contents(engine):
        picture = Image.open(io.BytesIO(row.picture))
        assert picture.size == ((320, 240) if keep == "thumbnail" else (640, 480))
    assert engine.add([Record("a", image=data)]).unchanged == 1  # what is kept stays
    work(engine)
    assert engine.add([Record("a", image=data, metadata={"n": 1})]).replaced == 1
    assert len(contents(engine)) == 2
    other = "bytes" if keep == "thumbnail" else "thumbnail"
    assert engine.add([Record("a", image=data)], keep=other).replaced == 1
    assert work(engine) == 0
    assert {row.kept for row in contents(engine)} == {keep, other}
    assert_sound(tmp_path / "lib")


def contents(engine):
    with engine.library.query() as connection:
        return connection.exec_driver_sql("SELECT * FROM record_pictures").all()
