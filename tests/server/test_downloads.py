"""Downloads: the files of many items in one archive, as a server gives them out."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from zipfile import ZipFile

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.query.engine import SearchEngine
from clipsearch.server import archives, downloads
from clipsearch.server.archives import _Names, zip_items
from clipsearch.server.sending import BusyError
from clipsearch.server.service import Service
from clipsearch.server.settings import ServerSettings
from clipsearch.store.library import Library
from tests.support.api import ask, writable
from tests.support.libraries import index, photo, photos
from tests.support.pictures import encode, noise_picture
from tests.support.serving import inside, serving


@pytest.fixture
def home(tmp_path, encoder):
    """Pictures of equal names in two folders, and a text."""
    photos(tmp_path / "photos" / "a", 2)
    photo(tmp_path / "photos" / "b" / "P000.jpg", 7)
    (tmp_path / "photos" / "notes.txt").write_text("Feed the cat.\n")
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    return tmp_path


@pytest.fixture
def engine(home, encoder):
    with SearchEngine(Library(home / "lib"), encoder=encoder) as opened:
        yield opened


def ids_of(engine):
    return sorted(item.id for item in engine.find())


async def fetch(engine, **request):
    async with inside(engine) as client:
        return await client.post("/v1/download", **request)


def unpack(data):
    with ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None and all(not each.compress_type for each in archive.infolist())
        return {name: archive.read(name) for name in archive.namelist()}


async def test_files_come_as_they_are_with_names_of_their_own(engine, home):
    answer = await fetch(engine, json={"ids": [*ids_of(engine), ids_of(engine)[0], 999]})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="pictures.zip"'
    found = unpack(answer.content)
    assert found.pop("missing.txt") == b"999: there is no such item\n"
    expected = {path.name: path.read_bytes() for path in (home / "photos").rglob("*.*")}
    assert sorted(found, key=str.casefold) == ["notes.txt", "p000 (2).jpg", "P000.jpg", "p001.jpg"] or sorted(
        found, key=str.casefold
    ) == ["notes.txt", "P000 (2).jpg", "p000.jpg", "p001.jpg"]
    assert sorted(found.values()) == sorted(expected.values())


@pytest.mark.parametrize("kind", ["data", "files"])
async def test_a_form_does_as_well(engine, kind):
    ids = [str(each) for each in ids_of(engine)]
    if kind == "data":
        answer = await fetch(engine, data={"ids": ids})
    else:
        answer = await fetch(engine, files=[("ids", (None, each)) for each in ids])
    assert answer.status_code == 200 and len(unpack(answer.content)) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"ids": []}},
        {"json": {"ids": [0]}},
        {"json": {"ids": [1] * 1001}},
        {"json": {"ids": [1], "path": "/etc/passwd"}},
        {"json": ["x"]},
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}},
        {"content": b"ids=1", "headers": {"Content-Type": "text/plain"}},
        {"data": {"ids": "/etc/passwd"}},
        {"files": {"ids": ("a", b"1")}},
        {},
    ],
)
async def test_what_cannot_be_read_is_refused(engine, request_):
    answer = await fetch(engine, **request_)
    assert answer.status_code in (400, 422) and answer.headers["content-type"] == "application/problem+json"


async def test_only_pictures_and_texts_that_were_indexed_are_given_out(engine, home):
    """Neither what a link leads to, nor what a stranger's catalog names, nor what came later under the same name."""
    a, b, c, d = (home / "photos" / name for name in ("a/p000.jpg", "a/p001.jpg", "b/P000.jpg", "notes.txt"))
    secret = photo(home / "secret.jpg", 9)
    a.unlink()
    a.symlink_to(secret)
    b.write_text("A secret.\n")
    c.unlink()
    os.mkfifo(c)
    d.write_text("Another secret.\n")
    (home / "photos" / "key").write_text("A key.\n")
    with closing(sqlite3.connect(home / "lib" / "catalog.db")) as db, db:
        db.execute(
            "INSERT INTO items (root_id, path, modality, size, mtime_ns, content_hash, deleted) "
            "SELECT 1, 'key', 'text', 1, 1, content_hash, 0 FROM items WHERE path = 'notes.txt'"
        )
    answer = await fetch(engine, json={"ids": ids_of(engine)})
    found = unpack(answer.content)
    assert list(found) == ["missing.txt"]
    said = found["missing.txt"].decode()
    assert len(said.splitlines()) == 5 and str(home) not in said
    assert "reached through a link" in said and "has changed since" in said and "not a picture" in said


async def test_records_are_named_by_their_ids(tmp_path, encoder):
    with writable(tmp_path / "lib", encoder) as app:
        engine = app.state.service.engine
        picture = encode(noise_picture(1), "PNG")
        engine.add([{"id": "../etc/sku-17", "image": picture}], keep="bytes")
        engine.add(
            [
                {"id": "NUL", "text": "A blue mug."},
                {"id": "missing.txt", "text": "é"},
                {"id": "v", "vector": [1.0] * engine.encoder.dim},
            ]
        )
        async with ask(app) as client:
            found = unpack((await client.post("/v1/download", json={"ids": ids_of(engine)})).content)
    assert found.pop("missing.txt").decode().endswith("the library keeps only its vector\n")
    assert found == {
        "_etc_sku-17.png": picture,
        "_NUL.txt": b"A blue mug.",
        "missing (2).txt": "é".encode(),
    }


ANY = st.text(st.characters(codec=None), max_size=300)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(ANY, st.sampled_from(["a.jpg", "A.JPG", "..", "con.jpg", "missing.txt", "x/../y.png"])), max_size=6
    )
)
def test_names_are_safe_and_each_is_there_once(given_names):
    names = _Names()
    chosen = [names.choose(name) for name in given_names]
    assert len({name.casefold() for name in chosen} | {"missing.txt"}) == len(chosen) + 1
    for name in chosen:
        assert name and name == name.strip() and not name.startswith(".") and not name.endswith(".")
        assert not set(name) & set('<>:"/\\|?*\0') and name.isprintable()
        assert len(name.encode()) <= 255 and Path(name).name == name


def test_a_name_of_megabytes_takes_no_time():
    """A stranger's catalog may call a record so; it took minutes."""
    names = _Names()
    for name in ("é" * 3_000_000, "." * 3_000_000, "a." + "b" * 3_000_000):
        assert len(names.choose(name).encode()) <= 255


def test_a_file_that_shrinks_or_is_large_ends_a_whole_archive(engine, home, monkeypatch):
    monkeypatch.setattr(archives, "_PIECE", 1000)
    large = home / "photos" / "a" / "p000.jpg"
    large.write_bytes(large.read_bytes() + bytes(100_000))
    first = next(item.id for item in engine.find() if item.path == str(large))
    pieces = zip_items(engine, [first, *ids_of(engine)])
    begun = b"".join(next(pieces) for _ in range(5))
    assert len(begun) < 7000, "no more is held than a few pieces"
    with open(large, "r+b") as file:
        file.truncate(20_000)
    found = unpack(begun + b"".join(pieces))
    assert b"became shorter" in found["missing.txt"] and len(found) == 5


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_client_that_goes_ends_the_work_and_so_many_are_served_at_once(engine, home, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_DOWNLOADS", 1)
    path = home / "photos" / "a" / "p000.jpg"
    path.write_bytes(path.read_bytes() + bytes(50 << 20))
    body = b'{"ids": [%d]}' % next(item.id for item in engine.find() if item.path == str(path))
    head = (
        b"POST /v1/download HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )

    def is_open():
        opened = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
        return str(path) in opened

    with serving(engine) as served:
        shared = served.server.config.app.state.downloads

        def connect():
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
            connection.sendall(head % len(body) + body)
            return connection

        with connect() as connection:
            assert b"200 OK" in connection.recv(1000)
            until(lambda: shared.active == 1 and (not os.path.isdir("/proc/self/fd") or is_open()))
            with connect() as other:
                refused = other.recv(1000)
                assert b" 429 " in refused and b"retry-after: 5" in refused.lower()
        until(lambda: shared.active == 0 and (not os.path.isdir("/proc/self/fd") or not is_open()))
        with connect() as connection:
            assert b"200 OK" in connection.recv(1000)


async def test_a_download_counts_from_its_start_until_nobody_takes_it(engine):
    service = Service(engine, ServerSettings())
    shared = downloads.Downloads(service)
    begun = [await shared.start(zip_items(engine, ids_of(engine))) for _ in range(downloads.MAX_DOWNLOADS)]
    with pytest.raises(BusyError):
        await shared.start(zip_items(engine, ids_of(engine)))
    begun.clear()  # as when a client goes before the first piece
    gc.collect()
    with anyio.fail_after(10):
        while shared.active:
            await anyio.sleep(0.01)
    assert unpack(b"".join([piece async for piece in await shared.start(zip_items(engine, ids_of(engine)))]))
    service.close()


async def test_a_burst_does_not_pass_the_limit(engine):
    ids = ids_of(engine)
    async with inside(engine) as client:
        calls = [client.post("/v1/download", json={"ids": ids}) for _ in range(3 * downloads.MAX_DOWNLOADS)]
        answers = [answer.status_code for answer in await asyncio.gather(*calls)]
    assert answers.count(429) >= 1 and set(answers) == {200, 429}
