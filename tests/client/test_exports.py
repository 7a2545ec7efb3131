"""Exports over HTTP: the files of a local export, of one state, in bounded memory, whole or not at all."""

import asyncio
import json
import shutil
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest

import clipsearch
from clipsearch import AsyncClient, Client, Filter
from clipsearch.client import connection
from clipsearch.errors import (
    AccessDeniedError,
    ClipSearchError,
    InvalidInputError,
    LibraryNotFoundError,
    ServerBusyError,
    ServerError,
    StoreCorruptError,
)
from clipsearch.linalg import to_base64
from clipsearch.query.engine import SearchEngine
from clipsearch.server import downloads, exports
from clipsearch.server.examples import EXPORT
from clipsearch.store.library import Library
from indexer import export_receiving, export_stream, exporting
from indexer.export_files import read_manifest
from indexer.export_import import import_export
from tests.support.cli import run_here
from tests.support.hostile_answers import answering
from tests.support.libraries import index, photos
from tests.support.serving import BEARER, TOKEN, serving

GOOD = [json.loads(line) for line in EXPORT.splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def to_stream(lines):
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def receive(url, kind, folder, timeout=75, **options):
    """Export by a client of either kind."""
    if kind == "waiting":
        with Client(url, TOKEN, timeout=timeout) as client:
            return client.export(folder, **options)

    async def run():
        async with AsyncClient(url, TOKEN, timeout=timeout) as client:
            return await client.export(folder, **options)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def engine(mixed, encoder):
    with SearchEngine(Library(mixed / "lib"), encoder=encoder) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(engine):
    with serving(engine, token=TOKEN) as served:
        yield served.url


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waiting", "awaiting"])
@pytest.mark.parametrize("table", ["jsonl", "csv", "parquet"])
def test_the_files_are_those_of_a_local_export(engine, url, encoder, tmp_path, monkeypatch, table, kind):
    if table == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    for module, at_once in ((exporting, 7), (export_receiving, 7), (export_stream, 3)):
        monkeypatch.setattr(module, "AT_ONCE", at_once)  # many blocks, as of a large library
    steps = []
    here = engine.export(tmp_path / "here", format=table)
    sent = receive(url, kind, tmp_path / "sent", format=table, progress=lambda *step: steps.append(step))
    assert contents(tmp_path / "sent") == contents(tmp_path / "here")
    assert (sent.items, sent.vectors, sent.kept, sent.bytes) == (here.items, here.vectors, here.kept, here.bytes)
    total = here.items + here.vectors
    assert steps[0] == (0, total) and steps[-1] == (total, total) and len(steps) > 1
    import_export(tmp_path / "back", tmp_path / "sent")
    with SearchEngine(Library(tmp_path / "back"), encoder=encoder) as back:
        assert list(back.items()) == list(engine.items()) and back.collections() == engine.collections()


@pytest.mark.slow
def test_filters_apply_and_the_command_asks_a_server(engine, url, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    wanted = ["--tag", "été", "--format", "csv", "--json"]
    there = ["--server", url, "--token-file", tmp_path / "token"]
    code, out, err = run_here("export", tmp_path / "sent", *wanted, *there)
    assert code == 0 and 0 < json.loads(out)["items"] < engine.count() and b"items and vectors to export" in err
    assert run_here("export", tmp_path / "here", *wanted, "--library", engine.library.folder)[0] == 0
    assert contents(tmp_path / "sent") == contents(tmp_path / "here")
    odd = Filter(types=("text",)) & ~Filter(where={"price": {"gt": 1}})
    engine.export(tmp_path / "odd", filters=odd)
    receive(url, "waiting", tmp_path / "here", filters=odd, overwrite=True)
    assert contents(tmp_path / "here") == contents(tmp_path / "odd")
    code, _, err = run_here("export", tmp_path / "sent", *there)
    assert code == 2 and b"replace it: --force" in err
    assert run_here("export", tmp_path / "x", *there, "--library", tmp_path)[0] == 2


@pytest.mark.slow
def test_errors_are_those_of_an_engine_and_leave_nothing(engine, url, tmp_path):
    with Client(url, "0" * 32) as client, pytest.raises(AccessDeniedError):
        client.export(tmp_path / "out")
    with Client(url, TOKEN) as client:
        for options, kind, said in (
            ({"filters": Filter(folders=("/nowhere",))}, InvalidInputError, "not in any indexed folder"),
            ({"format": "xml"}, InvalidInputError, "no format 'xml'"),
            ({"filters": {"tags": ["x"]}}, InvalidInputError, "filters"),
            ({"progress": 3}, InvalidInputError, "progress"),
        ):
            with pytest.raises(kind, match=said):
                client.export(tmp_path / "out", **options)
        with pytest.raises(ZeroDivisionError):
            client.export(tmp_path / "out", progress=lambda done, total: done / (done - total))
        with pytest.raises(InvalidInputError, match="does not exist"):
            client.export(tmp_path / "nowhere" / "out")
    Library.create(tmp_path / "lib").close()
    with SearchEngine(Library(tmp_path / "lib"), may_be_empty=True) as empty, serving(empty, token=TOKEN) as served:
        with pytest.raises(LibraryNotFoundError, match="nothing to export"):
            receive(served.url, "waiting", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["lib"]


@contextmanager
def pieces_of_lines(monkeypatch):
    """Each line is a piece of its own, so that a stream of few items has many."""
    with monkeypatch.context() as patch:
        patch.setattr(export_stream, "_PIECE", 1)
        patch.setattr(export_stream, "AT_ONCE", 1)
        yield patch


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waiting", "awaiting"])
def test_what_happens_in_the_middle_is_an_error_and_leaves_nothing(mixed, encoder, tmp_path, monkeypatch, kind):
    """Damage, a server that stops, a client that reads too slowly."""
    shutil.copytree(mixed / "lib", tmp_path / "lib")
    [segment] = (tmp_path / "lib" / "vectors").glob("text-*")
    data = bytearray(segment.read_bytes())
    data[-2] ^= 64
    segment.write_bytes(data)
    with SearchEngine(Library(tmp_path / "lib"), encoder=encoder) as engine, serving(engine, token=TOKEN) as served:
        with pieces_of_lines(monkeypatch), pytest.raises(StoreCorruptError, match="checksum"):
            receive(served.url, kind, tmp_path / "out")
        service = served.server.config.app.state.service
        with pieces_of_lines(monkeypatch) as patch, pytest.raises(ServerBusyError, match="too slowly"):
            patch.setattr(exports, "LEAST_RATE", 1e12)
            patch.setattr(service, "settings", replace(service.settings, work_seconds=1e-9))
            patch.setattr(service, "result_of", lambda work: work)
            receive(served.url, kind, tmp_path / "out")
        service.stopping.set()
        with pieces_of_lines(monkeypatch), pytest.raises(ServerBusyError, match="stopped before the export"):
            receive(served.url, kind, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["lib"]


@pytest.mark.slow
async def test_an_export_is_of_the_state_of_its_first_piece(tmp_path, encoder):
    photos(tmp_path / "photos", 2)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with SearchEngine(Library(tmp_path / "lib"), encoder=encoder) as engine:
        whole = b"".join(export_stream.stream_export(engine.library, None))
        pieces = export_stream.stream_export(engine.library, None)
        first = next(pieces)
        engine.add([{"id": "late", "text": "late"}])
        engine.delete(filters=Filter(ids=(1,)))
        assert first + b"".join(pieces) == whole


@pytest.fixture(scope="module")
def heavy(tmp_path_factory, encoder):
    """Records of which an export has 12 MB."""
    folder = tmp_path_factory.mktemp("heavy") / "lib"
    with clipsearch.open(folder, create=True, model="builtin-small") as engine:
        vector = np.ones(engine.encoder.dim).tolist()
        engine.add([{"id": f"r{n}", "vector": vector, "metadata": {"x": "y" * 40_000}} for n in range(300)])
        yield engine


@pytest.mark.slow
def test_a_client_that_does_not_read_holds_up_what_is_made_and_one_that_goes_ends_it(heavy, monkeypatch):
    made, real = [], export_stream.stream_export

    def counted(*given):
        for piece in real(*given):
            made.append(len(piece))
            yield piece

    monkeypatch.setattr(downloads, "MAX_DOWNLOADS", 1)
    monkeypatch.setattr(export_stream, "stream_export", counted)
    with serving(heavy, token=TOKEN) as served:
        shared = served.server.config.app.state.downloads
        with httpx.Client(base_url=served.url, headers=BEARER) as client:
            with client.stream("POST", "/v1/export", json={}) as answer:
                assert answer.headers["content-type"] == "application/x-ndjson"
                before = -1
                while before != sum(made):
                    before = sum(made)
                    time.sleep(0.5)
                assert shared.active == 1 and 0 < before < 9 << 20, "what sockets hold, of 12 MB"
                refused = client.post("/v1/export", json={})
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            end = time.monotonic() + 20
            while shared.active:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert sum(made) < 10 << 20
            assert len(client.post("/v1/export", json={}).content.splitlines()) == 602


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waiting", "awaiting"])
def test_neither_side_holds_more_than_a_part(heavy, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(export_receiving, "_WAITING", 1 << 20)
    with serving(heavy, token=TOKEN) as served:
        receive(served.url, kind, tmp_path / "warm", filters=Filter(keys=("r1",)))
        tracemalloc.start()
        try:
            report = receive(served.url, kind, tmp_path / "out")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert report.items == 300 and report.bytes > 12_000_000 and peak < 10 << 20


CHUNKED = {"Transfer-Encoding": "chunked", "Connection": "close"}


def chunked(*parts):
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]


def test_a_task_that_is_cancelled_leaves_nothing(tmp_path):
    gate = threading.Event()

    def body():
        yield from chunked(to_stream(GOOD[:2]))
        gate.wait(20)

    async def run(url):
        async with AsyncClient(url) as client:
            task = asyncio.create_task(client.export(tmp_path / "out"))
            while not list(tmp_path.glob(".out.*.part/items.jsonl")):
                assert not task.done(), task
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled() and not list(tmp_path.iterdir())

    with answering((200, CHUNKED, body())) as (url, _):
        try:
            asyncio.run(run(url))
        finally:
            gate.set()


def add(lines, folder, **options):
    """Take a stream in odd pieces; return the report."""
    data = lines if isinstance(lines, bytes) else to_stream(lines)
    from clipsearch.client.problems import error_of_problem
    from indexer.report import Silent

    with export_receiving.ExportReceiver(
        folder, options.pop("table", "jsonl"), options.pop("overwrite", False), Silent(), error_of_problem
    ) as receiver:
        for start in range(0, len(data), 61):
            receiver.add(data[start : start + 61])
        return receiver.finish()


@pytest.mark.slow
def test_the_example_of_the_description_is_an_export(tmp_path):
    report = add(GOOD, tmp_path / "out")
    assert (report.items, report.vectors) == (1, 1) and read_manifest(tmp_path / "out").encoder.dim == 2
    import_export(tmp_path / "back", tmp_path / "out")
    with clipsearch.open(tmp_path / "back") as back:
        assert [item.tags for item in back.items()] == [("cat",)] and back.vectors(
            "/srv/photos/2024/sofa.jpg"
        ).shape == (
            1,
            2,
        )


def test_a_stream_that_ends_anywhere_before_its_end_leaves_what_was_there(tmp_path):
    add(GOOD, tmp_path / "out")
    before, data = contents(tmp_path / "out"), to_stream(GOOD)
    for size in range(0, len(data) - 1, 37):
        with pytest.raises(ServerError, match=r"broke off before its end\. Nothing is left"):
            add(data[:size], tmp_path / "out", overwrite=True)
        assert contents(tmp_path / "out") == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["waiting", "awaiting"])
def test_a_connection_that_breaks_leaves_nothing(tmp_path, kind):
    data = to_stream(GOOD)
    answers = [
        (CHUNKED, chunked(data[:-9]), r"broke: .*incomplete"),  # cut off
        ({}, data[:-9], "broke off before its end"),  # by a proxy that then says that this was all
        ({"Content-Encoding": "gzip"}, data, "encoding"),
        ({}, b"<html>\n", "cannot be read"),
    ]
    for headers, body, said in answers:
        headers = headers | {"Connection": "close"}
        with answering((200, headers, body)) as (url, _), pytest.raises(ServerError, match=said):
            receive(url, kind, tmp_path / "out")
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["waiting", "awaiting"])
def test_a_stream_may_take_longer_than_a_request_but_must_not_drip(tmp_path, monkeypatch, kind):
    def body():
        for part in chunked(*(to_stream([line]) for line in GOOD)):
            yield part
            time.sleep(0.2)
        yield b"0\r\n\r\n"

    with answering((200, CHUNKED, body())) as (url, _):
        monkeypatch.setattr(connection, "LEAST_RATE", 1)
        assert receive(url, kind, tmp_path / "out", timeout=0.5).items == 1
    with answering((200, CHUNKED, body())) as (url, _):
        monkeypatch.setattr(connection, "LEAST_RATE", 1e9)
        with pytest.raises(ServerBusyError, match="did not answer within"):
            receive(url, kind, tmp_path / "other", timeout=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def changed(number, **values):
    """The good stream with other values in one of its lines."""
    lines = json.loads(json.dumps(GOOD))
    name = next(iter(lines[number]))
    lines[number][name] |= values
    return lines


def with_vector(*numbers):
    return [*GOOD[:2], {**GOOD[2], "data": to_base64(np.array(numbers, np.float32))}, GOOD[3]]


HOSTILE = {
    "another version": (changed(0, version=2), "another version"),
    "no header": (GOOD[1:], "'header'"),
    "two headers": ([GOOD[0], *GOOD], "'end'"),
    "other modalities": (changed(0, vectors={"image": 1}), "'text'"),
    "a negative count": (changed(0, items=-1), "not a number from"),
    "more items": (changed(0, items=2), "fewer items"),
    "fewer items": (changed(0, items=0), "more than the 0 items"),
    "fewer vectors": (changed(0, vectors={"image": 0, "text": 0}), "are not the 0"),
    "no vector": ([*GOOD[:2], GOOD[3]], "fewer items or vectors"),
    "another modality": (changed(2, modality="text"), "are not the 0"),
    "another row": (changed(2, row=1), "are not the 1"),
    "a setting": (changed(0, settings={"x": "y"}), "other settings"),
    "a column": (changed(1, x=1), "other columns"),
    "a number as text": (changed(1, size="1"), "its size is '1'"),
    "true": (changed(1, id=True), "its id is True"),
    "a large number": (changed(1, id=2**63), "its id is"),
    "no number": (to_stream(GOOD).replace(b'"size": 4812345', b'"latitude": NaN'), "NaN is not JSON"),
    "infinity": (to_stream(GOOD).replace(b'"size": 4812345', b'"latitude": 1e999'), "its latitude is inf"),
    "infinity inside": (to_stream(GOOD).replace(b'"size": 4812345', b'"metadata": {"x": 1e999}'), "JSON compliant"),
    "a short vector": (with_vector(1), "not of 2 numbers"),
    "no direction": (with_vector(np.nan, 0), "not of 2 numbers"),
    "a long vector": (with_vector(1e30, 0), "not of 2 numbers"),
    "no base64": ([*GOOD[:2], {**GOOD[2], "data": "?"}, GOOD[3]], "base64|Base64|padding"),
    "a relative root": (changed(3, roots=[GOOD[3]["end"]["roots"][0] | {"path": "srv"}]), "not an absolute path"),
    "roots of nothing": (changed(3, roots=[1]), "subscriptable"),
    "something after": ([*GOOD, GOOD[1]], "follows its end"),
    "no object": ([*GOOD[:1], [1]], "not a JSON object"),
    "another line": ([*GOOD[:1], {"x": 1}], "'end'"),
    "depths": (to_stream(GOOD[:1]) + b"[" * 100_000 + b"\n", "nested too deep|not a JSON"),
    "no end of a line": (to_stream(GOOD[:1]) + b" " * 5000, "has more than 4,000 bytes"),
    "no text": (b"\xff\n", "can't decode"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_hostile_stream_is_left(tmp_path, monkeypatch, name):
    lines, said = HOSTILE[name]
    if name == "no end of a line":
        monkeypatch.setattr(export_receiving, "_MOST", 4000)
    for table in ("jsonl", "csv"):
        with pytest.raises(ServerError, match=f"(?s)cannot be read: .*({said})"):
            add(lines, tmp_path / "out", table=table)
    assert not list(tmp_path.iterdir())


def test_a_problem_in_a_stream_is_the_error_that_it_stands_for(tmp_path):
    kind = "urn:clipsearch:problem:store-corrupt"
    for problem, error, said in (
        ({"type": kind, "title": "t", "detail": "A row is damaged."}, StoreCorruptError, "A row is damaged"),
        ({"type": "about:blank"}, ServerError, "could not end the export"),
        (3, ServerError, "could not end the export"),
    ):
        with pytest.raises(ClipSearchError, match=said) as raised:
            add([*GOOD[:2], {"problem": problem}], tmp_path / "out")
        assert type(raised.value) is error and not list(tmp_path.iterdir())
