"""Records, metadata, deletion and jobs over HTTP leave the library as the engine's own methods do."""

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch import AsyncClient, Client, Filter, Record
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.api import SMALL, Gate, served
from tests.support.libraries import photos
from tests.support.serving import TOKEN, serving


@pytest.fixture
def pair(tmp_path, encoder):
    """An engine, and a client of a server of another library."""
    with clipsearch.open(tmp_path / "own", create=True, model="builtin-small", settings=SMALL):
        pass
    with SearchEngine(Library(tmp_path / "own"), SMALL, encoder, may_be_empty=True) as engine:
        with served(tmp_path / "served", encoder, index_folders=(str(tmp_path),)) as (_, url):
            with Client(url, TOKEN) as client:
                yield engine, client


def records(folder):
    photos(folder, 2)
    path = folder / "p000.jpg"
    return [
        Record("a", text="A mug", metadata={"price": 9.5, "n": 1, "sold": True, "none": None, "tags": ["x", "y"]}),
        {"id": "b", "image": path.read_bytes(), "caption": "a picture"},
        Record("c", image=Image.open(path)),
        Record("d", image=np.full((30, 40, 3), 90, np.uint8)),
        Record("e", vector=np.linspace(-1, 1, 257, dtype=np.float32), modality="text", caption="a vector"),
        Record("f", image=folder / "none.jpg"),
        Record("g"),
        {"id": "h", "text": "x", "colour": "red"},
        {"text": "no id"},
        Record("i", text="x", metadata={"a": object()}),
        Record("j", text="x", vector=[1.0, 2.0]),
        "nothing",
        Record("a", text="A mug again"),
    ]


def test_what_is_added_is_what_the_engine_adds(pair, tmp_path):
    given = records(tmp_path / "photos")
    calls = []
    engine, client = pair
    ours = engine.add(given, keep="thumbnail")
    theirs = client.add(given, keep="thumbnail", progress=lambda *done: calls.append(done))
    assert calls == [(len(given), None)]
    names = [sorted(name for name, _ in report.failed) for report in (ours, theirs)]
    assert names[0] == names[1] and len(names[0]) == 7 and {*"fghij"} <= {*names[0]}
    assert replace(theirs, failed=(), seconds=0) == replace(ours, failed=(), seconds=0)
    assert all(reason for _, reason in theirs.failed)
    here, there = ({item.key: item for item in each.items()} for each in pair)
    for name in ("c", "d"):  # pixels have no file of their own; they are sent as one
        here[name], there[name] = (replace(found[name], content_hash="") for found in (here, there))
    assert here == there
    keys = sorted(here)
    assert engine.vectors(keys).tolist() == client.vectors(keys).tolist()


def test_a_record_that_a_server_does_not_take_fails_alone(pair):
    _, client = pair
    many = {f"n{n}": n for n in range(200)}
    report = client.add([Record("a", text="one"), Record("b", text="two", metadata=many), Record("c" * 600, text="x")])
    assert report.added == 1 and [name for name, _ in report.failed] == ["b", "c" * 600]


def test_batches_are_bounded(pair):
    _, client = pair
    calls = []
    report = client.add(
        ({"id": f"r{n}", "text": f"text {n}"} for n in range(7)), batch_size=3, progress=lambda *a: calls.append(a)
    )
    assert report.added == 7 and calls == [(3, None), (6, None), (7, None)]


def test_items_are_changed_and_deleted(pair):
    for each in pair:
        each.add([{"id": f"r{n}", "text": f"text {n}", "metadata": {"n": n, "x": "y"}} for n in range(6)])
        assert each.update(["r1", "r2", "r1"], metadata={"n": 10}, remove="x", caption="new") == 2
        assert each.update([]) == 0
        assert each.delete(["r3", "none"]) == 1
        assert each.delete([]) == 0
        assert each.delete(filters=Filter(where={"n": {"ge": 5, "lt": 10}})) == 1
    engine, client = pair
    assert list(client.items()) == list(engine.items())
    long = ["ü" * 700 + str(n) for n in range(20)]
    client.add([{"id": key[:500], "text": "x"} for key in long])
    assert client.delete(long + [key[:500] for key in long]) == 1
    with pytest.raises(clipsearch.InvalidInputError, match="UTF-8"):
        client.delete("\udcff")


def test_items_are_tagged_and_collected(pair):
    for each in pair:
        each.add([{"id": f"r{n}", "text": f"text {n}"} for n in range(4)])
        assert each.tag(["r1", each.get("r2").id], add=["beach", "Crete"], remove="x") == 2
        assert each.tag("r1", remove="crete") == 1 and each.tag([], add="x") == 0
        assert each.collect("Summer / 夏 50%", add=["r3", "r1"]).count == 2
        assert each.collect("Summer / 夏 50%", add="r2", remove=["r3"], create=False).count == 2
        assert each.collect("new", add=["r1", "r2"], remove=["r1"]).count == 2
        assert each.rename_collection("new", "Other").name == "Other"
        each.delete_collection("Other")
    engine, client = pair
    assert client.collections() == engine.collections() and len(engine.collections()) == 1
    assert list(client.items()) == list(engine.items())
    assert client.find(Filter(tags=("beach",))).tags == engine.find(Filter(tags=("beach",))).tags


def test_a_job_reports_as_the_engine(pair, tmp_path):
    engine, client = pair
    photos(tmp_path / "photos", 5)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"\xff\xd8no picture")
    (tmp_path / "photos" / "p001.jpg").write_bytes((tmp_path / "photos" / "p001.jpg").read_bytes()[:-2])
    (tmp_path / "photos" / "thing.psb").write_bytes(b"a kind that is not read")
    calls = []
    ours = engine.index(tmp_path / "photos")
    theirs = client.index(tmp_path / "photos", progress=lambda *done: calls.append(done))
    assert replace(theirs, seconds=0) == replace(ours, seconds=0) and ours.added == 5 and len(ours.failed) == 1
    ((_, note),) = ours.notes
    assert ours.passed_over == {".psb": 1} and note.startswith("its end is missing")
    assert calls[-1] == (6, 6)
    assert replace(client.index(), seconds=0) == replace(engine.index(), seconds=0)
    assert [item.path for item in client.items()] == [item.path for item in engine.items()]
    with pytest.raises(clipsearch.AccessDeniedError, match="allow-index"):
        client.index("/")


def test_a_job_ends_early_where_it_should(tmp_path, encoder):
    photos(tmp_path / "photos", 8)
    gate = Gate(encoder)
    gate.close(after=1)
    with served(tmp_path / "lib", gate, index_folders=(str(tmp_path),)) as (_, url), Client(url, TOKEN) as client:

        def should_stop():
            assert gate.reached.wait(30)
            return True

        with Client(url, TOKEN) as other:
            asked = []

            def look(done, total):
                if gate.reached.is_set() and not asked:
                    with pytest.raises(clipsearch.LibraryLockedError):
                        other.index()
                    with pytest.raises(clipsearch.LibraryLockedError):
                        other.add([{"id": "a", "text": "x"}])
                    asked.append(True)

            def stop_then_open():
                found = should_stop()
                look(0, 0)
                gate_opener.start()
                return found

            import threading

            gate_opener = threading.Timer(0.5, gate.open)
            report = client.index([tmp_path / "photos"], progress=look, should_stop=stop_then_open)
        assert report.interrupted and 0 < report.added < 8 and asked


def test_a_server_that_only_reads_says_so(tmp_path, engine):
    with serving(engine, token=TOKEN) as running, Client(running.url, TOKEN) as client:
        assert not client.stats().writable
        for change in (lambda: client.add([{"id": "a", "text": "x"}]), lambda: client.delete("a"), client.index):
            with pytest.raises(clipsearch.AccessDeniedError, match="only reads"):
                change()


def test_changes_are_awaited(tmp_path, encoder):
    with served(tmp_path / "lib", encoder, index_folders=(str(tmp_path),)) as (_, url):
        photos(tmp_path / "photos", 2)

        async def change():
            async with AsyncClient(url, TOKEN) as client:
                added = await client.add([{"id": "a", "text": "x"}])
                changed = await client.update("a", metadata={"n": 1})
                report = await client.index(str(tmp_path / "photos"))
                item = await client.get("a")
                return added.added, changed, report.added, item.metadata, await client.delete("a")

        assert asyncio.run(change()) == (1, 1, 2, {"n": 1}, 1)


def test_rehash_has_the_server_read_every_file(tmp_path, encoder):
    photo = tmp_path / "photos" / "a.bmp"
    photo.parent.mkdir()
    Image.new("RGB", (64, 48), "red").save(photo)
    with served(tmp_path / "lib", encoder, index_folders=(str(tmp_path),)) as (_, url), Client(url, TOKEN) as client:
        assert client.index([photo.parent]).added == 1
        status = photo.stat()
        Image.new("RGB", (64, 48), "blue").save(photo)
        os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
        with closing(sqlite3.connect(tmp_path / "lib" / "catalog.db")) as db:
            db.execute("UPDATE items SET ctime_ns = NULL, inode = NULL")  # so that nothing tells that it has changed
            db.commit()
        assert client.index().unchanged == 1
        assert client.index(rehash=True).changed == 1
