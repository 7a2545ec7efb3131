"""Changing a library over HTTP: adding, changing and deleting records."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from dataclasses import replace

import pytest

import clipsearch
from clipsearch.errors import MediaError
from clipsearch.server import ServerSettings, create_app, writes
from clipsearch.server.service import OverdueError
from tests.support.api import SMALL, ask, writable
from tests.support.libraries import index, photos
from tests.support.pictures import encode, noise_picture

PICTURE = encode(noise_picture(1, (64, 48)))


def data_url(data=PICTURE, kind="image/jpeg"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture
def app(tmp_path, encoder):
    with writable(tmp_path / "lib", encoder) as made:
        yield made


async def add(client, *records, **options):
    return await client.post("/v1/records", json={"records": records, **options})


async def test_records_are_added_and_replaced_and_what_cannot_be_used_fails_alone(app):
    async with ask(app) as client:
        report = (
            await add(
                client,
                {"id": "picture", "image": data_url(), "caption": "a mug with a cat", "metadata": {"price": 12.5}},
                {"id": "text", "text": "A blue mug.", "metadata": {"sold": True, "sizes": ["S", "L"], "n": 3}},
                {"id": "bad", "image": data_url(b"no picture")},
                {"id": "empty"},
            )
        ).json()
        assert (report["added"], report["replaced"], report["unchanged"]) == (2, 0, 0)
        assert {each["id"] for each in report["failed"]} == {"empty", "bad"}
        engine = app.state.service.engine
        assert engine.get("text").metadata == {"sold": True, "sizes": ["S", "L"], "n": 3}
        assert engine.search(image=PICTURE, k=1)[0].item.key == "picture"
        assert engine.thumbnail("picture", side=32).startswith(b"\xff\xd8")  # which is kept unless asked otherwise
        again = (await add(client, {"id": "text", "text": "A red mug."}, {"id": "picture", "image": data_url()})).json()
        assert again["replaced"] == 2 and engine.count() == 2
        assert (await add(client, {"id": "text", "text": "A red mug."})).json()["unchanged"] == 1


async def test_a_record_may_come_with_its_vector(app):
    dim = app.state.service.engine.encoder.dim
    async with ask(app) as client:
        report = (
            await add(
                client,
                {"id": "v", "vector": [1.0] * dim},
                {"id": "short", "vector": [1.0] * (dim - 1)},
                {"id": "zero", "vector": [0.0] * dim},
            )
        ).json()
        assert report["added"] == 1 and {each["id"] for each in report["failed"]} == {"short", "zero"}
        assert app.state.service.engine.search(vector=[1.0] * dim, k=1)[0].score > 0.999


@pytest.mark.parametrize(
    "image",
    [
        "/etc/hostname",
        "{folder}/p000.jpg",
        "file://{folder}/p000.jpg",
        "http://127.0.0.1:1/a.jpg",
        "data:text/html;base64,aGk=",
        "data:image/jpeg,raw",
        "data:image/jpeg;base64,****",
        "DATA:image/jpeg;base64,",
    ],
)
async def test_a_picture_comes_with_its_bytes_and_no_path_or_url_is_opened(app, tmp_path, image):
    """With URLs allowed, no path is opened either."""
    photos(tmp_path, 1)
    url = image.format(folder=tmp_path)
    async with ask(app) as client:
        report = (await add(client, {"id": "a", "image": url})).json()
        assert report["added"] == 0 and len(report["failed"]) == 1
        assert app.state.service.engine.count() == 0


async def test_urls_are_fetched_only_where_they_are_allowed_and_public(tmp_path, encoder, web):
    photos(tmp_path, 1)
    given = [
        {"id": "url", "image": web.url("/picture")},
        {"id": "path", "image": str(tmp_path / "p000.jpg")},
        {"id": "file", "image": f"file://{tmp_path}/p000.jpg"},
        {"id": "bytes", "image": data_url()},
    ]
    for allowed, private, expected in ((False, True, 1), (True, False, 1), (True, True, 2)):
        settings = replace(SMALL, allow_private_urls=private)
        with writable(tmp_path / f"{allowed}{private}", encoder, settings, allow_urls=allowed) as app:
            async with ask(app) as client:
                report = (await add(client, *given)).json()
        assert (report["added"], len(report["failed"])) == (expected, 4 - expected)
        assert bool(web.requests) == (expected == 2)


async def test_a_picture_is_uploaded(app):
    async with ask(app) as client:

        async def upload(data=PICTURE, **fields):
            return await client.post("/v1/records/image", data=fields, files={"image": ("a.jpg", data, "image/jpeg")})

        added = await upload(id="up", caption="a mug", metadata='{"price": 9}')
        assert added.json()["added"] == 1
        item = app.state.service.engine.get("up")
        assert (item.caption, dict(item.metadata)) == ("a mug", {"price": 9})
        assert (await upload(id="bare", keep="null")).json()["added"] == 1
        with pytest.raises(MediaError):
            app.state.service.engine.thumbnail("bare")
        app.state.service.engine.delete("bare")
        for refused in (
            await upload(id="bad", keep="all"),
            await upload(b"no picture", id="bad"),
            await upload(b"", id="bad"),
            await upload(id="bad", metadata="{"),
            await upload(id="bad", metadata="[1]"),
            await upload(id="bad", metadata="[" * 100_000),
            await upload(id="x" * 501),
            await upload(),
        ):
            assert refused.status_code == 422
            assert refused.headers["content-type"] == "application/problem+json"
        assert app.state.service.engine.count() == 1


async def test_what_may_bring_pictures_may_have_more_bytes(tmp_path, encoder):
    with writable(tmp_path / "lib", encoder, max_body=len(PICTURE) // 2, max_upload=4 * len(PICTURE)) as app:
        async with ask(app) as client:
            file = {"image": ("a.jpg", PICTURE, "image/jpeg")}
            assert (await add(client, {"id": "a", "image": data_url()})).json()["added"] == 1
            assert (await client.post("/v1/records/image", data={"id": "b"}, files=file)).json()["added"] == 1
            embedding = await client.post("/v1/embeddings", json={"input": [{"image": data_url()}]})
            assert embedding.status_code == 200
            long = {"filters": {"caption": "x" * len(PICTURE)}}
            assert (await client.post("/v1/records/delete", json=long)).status_code == 413
            assert (await add(client, *[{"id": "c", "image": data_url()}] * 4)).status_code == 413


async def test_pictures_of_records_are_bounded_in_pixels(tmp_path, encoder):
    with writable(tmp_path / "lib", encoder, max_pixels=2000) as app:
        async with ask(app) as client:
            report = (await add(client, {"id": "a", "image": data_url()}, {"id": "b", "text": "words"})).json()
            assert report["added"] == 1 and "over the limit of 2000" in report["failed"][0]["reason"]
            sent = {"data": {"id": "c"}, "files": {"image": ("a.jpg", PICTURE, "image/jpeg")}}
            refused = await client.post("/v1/records/image", **sent)
            assert refused.status_code == 422 and "over the limit of 2000" in refused.json()["detail"]


async def test_what_is_said_of_items_changes_for_all_or_for_none(app):
    async with ask(app) as client:
        await add(
            client, {"id": "a", "image": data_url(), "metadata": {"price": 1, "old": 2}}, {"id": "b", "text": "hi"}
        )
        engine = app.state.service.engine
        change = await client.patch("/v1/records", json={"keys": ["a"], "metadata": {"price": 3}, "remove": ["old"]})
        assert change.json() == {"items": 1} and dict(engine.get("a").metadata) == {"price": 3}
        by_id = {"ids": [engine.get("a").id], "caption": "a new caption"}
        assert (await client.patch("/v1/records", json=by_id)).json() == {"items": 1}
        assert engine.get("a").caption == "a new caption"
        for bad in (
            {"keys": ["a", "unknown"], "metadata": {"price": 4}},
            {"ids": [engine.get("a").id, 999], "metadata": {"price": 4}},
            {"metadata": {"price": 4}},
            {"keys": ["a"], "ids": [1], "metadata": {"price": 4}},
            {"keys": ["a"], "metadata": {"price": {"nested": 4}}},
            {"keys": ["a"], "metadata": {"price": 2**70}},
            {"keys": ["a"], "unknown": 1},
        ):
            assert (await client.patch("/v1/records", json=bad)).status_code == 422, bad
        assert dict(engine.get("a").metadata) == {"price": 3}


async def test_items_are_deleted_by_key_by_id_and_by_filter_but_never_all_at_once(app, tmp_path):
    async with ask(app) as client:
        await add(client, *({"id": f"r{n}", "text": f"text {n}", "metadata": {"n": n}} for n in range(6)))
        engine = app.state.service.engine
        assert (await client.delete("/v1/records", params={"key": ["r0", "unknown"]})).json() == {"items": 1}
        assert (await client.delete("/v1/records", params={"id": [engine.get("r1").id, 999]})).json() == {"items": 1}
        both = {"keys": ["r2", "r4", "r5"], "ids": [engine.get("r4").id, engine.get("r5").id, engine.get("r3").id]}
        either = {"any_of": [{"where": {"n": 4}}, {"where": {"n": 5}}], "none_of": [{"where": {"n": {"lt": 4}}}]}
        asked = {"filters": {"all_of": [both, either]}}
        assert (await client.post("/v1/records/delete", json=asked)).json() == {"items": 2}
        assert [item.key for item in engine.items()] == ["r2", "r3"]
        for refused in (
            await client.delete("/v1/records"),
            await client.delete("/v1/records", params={"id": [1], "key": ["r2"]}),
            await client.delete("/v1/records", params={"id": ["x"]}),
            await client.post("/v1/records/delete", json={"filters": {}}),
            await client.post("/v1/records/delete", json={"filters": {"where": {}, "tags": []}}),
            await client.post("/v1/records/delete", json={}),
        ):
            assert refused.status_code == 422
        assert engine.count() == 2


async def test_files_that_are_deleted_stay_on_the_disk(tmp_path, encoder):
    (path,) = photos(tmp_path / "photos", 1)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with writable(tmp_path / "lib", encoder) as app:
        async with ask(app) as client:
            assert (await client.delete("/v1/records", params={"key": str(path)})).json() == {"items": 1}
        assert path.exists() and app.state.service.engine.count() == 0


async def test_a_server_that_only_reads_changes_nothing(tmp_path, encoder):
    (path,) = photos(tmp_path / "photos", 1)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with clipsearch.open(tmp_path / "lib", settings=SMALL) as engine:
        async with ask(create_app(engine, ServerSettings())) as client:
            for refused in (
                await add(client, {"id": "a", "text": "words"}),
                await client.post("/v1/records/image", data={"id": "a"}, files={"image": PICTURE}),
                await client.patch("/v1/records", json={"keys": [str(path)], "metadata": {"n": 1}}),
                await client.delete("/v1/records", params={"key": str(path)}),
                await client.post("/v1/records/delete", json={"filters": {"types": ["image"]}}),
            ):
                assert refused.status_code == 403 and "--allow-write" in refused.json()["detail"]
        assert engine.count() == 1 and not engine.get(str(path)).metadata


async def test_changes_take_turns_and_those_that_wait_hold_no_thread(app, monkeypatch):
    monkeypatch.setattr(writes, "MAX_WAITING", 6)
    go, at_work = threading.Event(), threading.Semaphore(0)

    def change():
        at_work.release()
        assert go.wait(60)

    waiting = [asyncio.create_task(app.state.writes.run(change)) for _ in range(6)]
    assert await asyncio.to_thread(at_work.acquire, timeout=60)
    async with ask(app) as client:
        refused = await asyncio.wait_for(add(client, {"id": "a", "text": "words"}), 60)
        assert refused.status_code == 429 and "retry-after" in refused.headers
        assert app.state.service.pending == 1 and not at_work.acquire(blocking=False)
        go.set()
        await asyncio.gather(*waiting)
        assert (await add(client, {"id": "a", "text": "words"})).json()["added"] == 1


async def test_a_change_that_takes_too_long_keeps_its_turn_until_it_ends(tmp_path, encoder):
    go, at_work, begun = threading.Event(), threading.Event(), []

    def change():
        at_work.set()
        assert go.wait(60)

    with writable(tmp_path / "lib", encoder, work_seconds=0.2) as app:
        with pytest.raises(OverdueError):
            await app.state.writes.run(change)
        assert at_work.is_set()
        with pytest.raises(OverdueError, match="before"):
            await app.state.writes.run(begun.append, 1)
        assert begun == []
        go.set()
        for _ in range(2000):
            with contextlib.suppress(OverdueError):
                await app.state.writes.run(begun.append, 2)
                break
        assert begun == [2]
