"""What the routes answer: the same as the engine."""

import asyncio
import importlib
import inspect
import itertools
import json
import os
import re
import socket

import httpx
import pytest

from clipsearch import Filter, Indexed
from clipsearch.query.engine import SearchEngine
from clipsearch.server import payloads
from clipsearch.server.app import ROUTES
from clipsearch.store.library import Library, locked
from tests.support.api import ask, writable
from tests.support.libraries import index, photo
from tests.support.pictures import encode, noise_picture
from tests.support.sentences import SENTENCES, sentence_library
from tests.support.serving import BEARER, TOKEN, connect, inside, serving


@pytest.fixture
def own(tmp_path, encoder):
    """A library of its own with one picture, and the picture."""
    path = photo(tmp_path / "p" / "a.jpg", 1)
    index(tmp_path / "library", tmp_path / "p", encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        yield engine, path


def plain(payload):
    return json.loads(payloads.json_response(payload).body)


async def test_searches_are_those_of_the_engine(engine):
    async with inside(engine) as client:
        said = "a red bicycle"
        expected = plain(payloads.answer(engine.search(said, k=3), 3))
        assert (await client.get("/v1/search", params={"q": said, "k": 3})).json() == expected
        assert (await client.post("/v1/search", json={"text": said, "k": 3})).json() == expected
        asked = {"query": "id:2 - id:3", "k": 2, "offset": 1, "modality": "image"}
        found = engine.search(Indexed(2) - Indexed(3), k=2, offset=1, modality="image")
        assert (await client.post("/v1/search", json=asked)).json() == plain(payloads.answer(found, 2))
        liked = (await client.post("/v1/similar", json={"ids": [2], "unlike": [3], "k": 2})).json()
        assert liked["hits"] == plain(payloads.answer(engine.search(Indexed(2) - Indexed(3), k=2), 2))["hits"]


@pytest.mark.slow
async def test_pages_go_on_where_a_cutoff_leaves_hits_out(tmp_path, encoder):
    cutoffs = ({}, {"min_confidence": 0.4}, {"min_score": 0.3}, {"cut": True})
    with sentence_library(tmp_path / "library", encoder) as engine:
        async with inside(engine) as client:
            for words, cutoff in itertools.product(SENTENCES[::60], cutoffs):
                whole = [hit.item.id for hit in engine.search(words, k=300, **cutoff)][:80]
                paged, offset = [], 0
                while offset is not None and len(paged) < 80:
                    asked = {"text": words, "k": 7, "offset": offset, **cutoff}
                    page = (await client.post("/v1/search", json=asked)).json()
                    paged += [hit["id"] for hit in page["hits"]]
                    offset = page["next_offset"]
                assert paged[:80] == whole or (paged == whole[: len(paged)] and not page["hits"])


async def test_an_item_is_named_by_key_and_a_query_may_be_a_vector(engine):
    item = engine.find().items[0]
    async with inside(engine) as client:
        by_key = (await client.post("/v1/search", json={"key": item.key, "k": 2})).json()
        assert by_key == (await client.post("/v1/search", json={"id": item.id, "k": 2})).json()
        vector = engine.vectors(item.key)[0].tolist()
        first = (await client.post("/v1/search", json={"vector": vector, "kind": "image", "k": 1})).json()["hits"][0]
        assert first["id"] == item.id and first["score"] > 0.999


async def test_a_picture_is_sent_along(engine, pictures):
    data = (pictures / "sea" / "p002.jpg").read_bytes()
    async with inside(engine) as client:
        sent = {"files": {"image": data}, "data": {"options": '{"k": 1}'}}
        (hit,) = (await client.post("/v1/search/image", **sent)).json()["hits"]
        assert hit["path"].endswith("p002.jpg") and hit["score"] > 0.999
        assert (await client.post("/v1/search/image", files={"image": b"no picture"})).status_code == 422


async def test_filters_hold_in_every_form(engine, pictures):
    hills = str(pictures / "hills")
    expected = {item.id for item in engine.find(Filter(folders=(hills,)))}
    async with inside(engine) as client:
        paged = (await client.get("/v1/items", params={"folder": hills})).json()
        listed = (await client.post("/v1/find", json={"filters": {"folders": [hills]}})).json()
        either = {"any_of": [{"folders": [hills]}, {"ids": [min(expected)]}], "none_of": [{"types": ["text"]}]}
        mixed = (await client.post("/v1/find", json={"filters": either})).json()
    for found in (paged, listed, mixed):
        assert {item["id"] for item in found["items"]} == expected


async def test_items_come_page_by_page(engine):
    async with inside(engine) as client:
        ids, cursor = [], None
        while True:
            params = {"limit": 4} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/items", params=params)).json()
            ids += [item["id"] for item in page["items"]]
            if (cursor := page["cursor"]) is None:
                break
        assert ids == [item.id for item in engine.items()]
        newest = [item.id for item in engine.find()]
        found = (await client.post("/v1/find", json={"limit": 2, "offset": 3})).json()
        assert [item["id"] for item in found["items"]] == newest[3:5] and found["next_offset"] == 5


async def test_facets_are_what_the_filters_count(engine, pictures):
    async with inside(engine) as client:
        found = (await client.get("/v1/facets")).json()
        assert found["total"] == engine.count() == 9
        assert {each["value"] for each in found["folders"]} == {str(pictures / n) for n in ("", "sea", "hills")}
        for each in found["folders"]:
            assert each["count"] == engine.count(Filter(folders=(each["value"],)))
        fewer = (await client.post("/v1/facets", json={"filters": {"types": ["text"]}})).json()
        assert fewer["modalities"] == [{"value": "text", "count": 1}]


async def test_texts_are_read_as_they_were_indexed(own, tmp_path):
    engine, picture = own
    note = tmp_path / "p" / "note.txt"
    note.write_bytes("A grey café.\r\n".encode("utf-16"))
    engine.index([note])
    item = engine.find(Filter(types=("text",))).items[0]
    text, version = f"/v1/items/{item.id}/text", item.content_hash[:16]
    async with inside(engine) as client:
        said = await client.get(text, params={"v": version})
        assert said.text == "A grey café.\n" and said.headers["content-type"] == "text/plain; charset=utf-8"
        assert "immutable" in said.headers["cache-control"]
        assert (await client.get(text, params={"length": 6})).text == "A grey"
        assert (await client.get(f"/v1/items/{engine.get(str(picture)).id}/text")).status_code == 404
        note.unlink()
        note.symlink_to(tmp_path / "elsewhere.txt")
        (tmp_path / "elsewhere.txt").write_text("A secret.")
        assert (await client.get(text)).status_code == 404


async def test_pictures_are_sent_once(engine):
    item = engine.find(Filter(types=("image",))).items[0]
    async with inside(engine) as client:
        shown = (await client.get(f"/v1/items/{item.id}")).json()
        thumbnail = await client.get(shown["thumbnail"], params={"v": shown["content_hash"][:16], "size": 32})
        assert thumbnail.headers["content-type"] == "image/jpeg" and "immutable" in thumbnail.headers["cache-control"]
        again = {"If-None-Match": f'"x", W/{thumbnail.headers["etag"]}'}
        assert (await client.get(shown["thumbnail"], params={"size": 32}, headers=again)).status_code == 304
        assert (await client.get(shown["thumbnail"], params={"size": 64}, headers=again)).status_code == 200
        whole = await client.get(f"/v1/items/{item.id}/image")
        with open(item.path, "rb") as file:
            assert whole.content == file.read()
        assert whole.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("what", ["image", "thumbnail"])
async def test_a_file_that_changed_since_is_sent_as_what_it_is(tmp_path, encoder, what):
    path = tmp_path / "p/one.bmp"
    first, second = (encode(noise_picture(seed, (64, 48)), "BMP") for seed in (1, 2))
    path.parent.mkdir()
    path.write_bytes(first)
    index(tmp_path / "library", path.parent, encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        async with inside(engine) as client:
            shown = (await client.get("/v1/items/1")).json()
            version = shown["thumbnail"].partition("?")[2]
            before = await client.get(f"/v1/items/1/{what}?{version}")
            assert "immutable" in before.headers["cache-control"]
            path.write_bytes(second)
            os.utime(path, ns=(shown["mtime_ns"],) * 2)  # size and time are as they were, the change time is not
            known = {"If-None-Match": before.headers["etag"]}
            after = await client.get(f"/v1/items/1/{what}?{version}", headers=known)
            assert after.status_code == 200 and after.content != before.content
            assert after.headers["cache-control"] == "private, no-cache"
            known = {"If-None-Match": after.headers["etag"]}
            assert (await client.get(f"/v1/items/1/{what}", headers=known)).status_code == 304


async def test_a_kept_picture_that_is_replaced_has_another_tag(tmp_path, encoder):
    with writable(tmp_path / "lib", encoder) as app:
        engine, tags = app.state.service.engine, set()
        async with ask(app) as client:
            for seed in (1, 2):
                engine.add([{"id": "a", "image": encode(noise_picture(seed, (64, 48)))}], keep="bytes")
                tags.add((await client.get("/v1/items/1/image")).headers["etag"])
    assert len(tags) == 2


async def test_errors_are_problems(engine):
    text = engine.find(Filter(types=("text",))).items[0].id
    async with inside(engine) as client:
        wrong = await client.post("/v1/search", json={"query": 'cat + "dog'})
        assert wrong.status_code == 422 and wrong.headers["content-type"] == "application/problem+json"
        assert wrong.json()["position"] == 7 and wrong.json()["type"].endswith("query-syntax")
        for path, status in (("/v1/items/999", 404), (f"/v1/items/{text}/thumbnail", 404), ("/v1/nowhere", 404)):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert (await client.put("/v1/stats")).status_code == 405
        assert "openapi.json" in (await client.put("/v1/stats")).json()["detail"]
        assert "openapi.json" in (await client.get("/v1/nothing")).json()["detail"]
        both = await client.post("/v1/search", json={"text": "a", "id": 1})
        assert both.status_code == 422 and both.json()["detail"].startswith("body: a search takes one of")
        cut_off = await client.post("/v1/search", content=b'{"text": ', headers={"Content-Type": "application/json"})
        assert (cut_off.status_code, cut_off.json()["title"]) == (400, "The request cannot be read")
        assert "character 10" in cut_off.json()["detail"]
        form = await client.post("/v1/search/image", files={"image": b"x"}, data={"options": "{"})
        assert form.status_code == 422


async def test_remedies_are_for_who_asks_over_http(engine):
    wrong = [{"text": ""}, {"id": 999}, {"key": "unknown"}, {"query": "id:999"}, {"query": 'cat + "dog'}]
    wrong += [{"text": "cat", "filters": {"folders": ["/nowhere"]}}]
    async with inside(engine) as client:
        for asked in wrong:
            answer = await client.post("/v1/search", json=asked)
            assert answer.status_code == 422
            assert not re.search(r"clipsearch [a-z]|clipsearch\.|--|Python", answer.json()["detail"]), answer.text


async def test_that_another_process_writes_is_told_over_http(tmp_path, encoder):
    with writable(tmp_path / "lib", encoder, timeout=0.0) as app:
        async with ask(app) as client:
            with locked(tmp_path / "lib"):
                busy = await client.post("/v1/records", json={"records": [{"id": "a", "text": "words"}]})
    assert busy.status_code == 423 and busy.headers["retry-after"] == "5"
    assert not re.search(r"clipsearch [a-z]|clipsearch\.|--|Python", busy.json()["detail"]), busy.text


async def test_head_is_answered_as_get_without_a_body(engine):
    async with inside(engine, token=TOKEN) as client:
        for path in ("/v1/items/1/thumbnail", "/v1/items/1/image", "/v1/stats", "/v1/search?q=cat", "/v1/items/999"):
            got = await client.get(path, headers=BEARER)
            head = await client.head(path, headers=BEARER)
            assert head.status_code == got.status_code and head.content == b""
            assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))
        assert (await client.head("/v1/stats")).status_code == 401
        assert (await client.head("/v1/similar", headers=BEARER)).status_code == 405
        counted = (await client.get("/v1/metrics", headers=BEARER)).text
        assert 'method="HEAD",route="/v1/stats",status="200"' in counted
    with serving(engine) as served, httpx.Client(base_url=served.url) as real:
        for _ in range(2):  # on one connection
            assert real.head("/v1/items/1/image").headers["content-type"] == "image/jpeg"


async def test_pages_end_where_offsets_do(engine, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_OFFSET", 4)
    async with inside(engine) as client:
        for offset, following in ((0, 3), (3, None)):
            for path, name in (("/v1/find", "limit"), ("/v1/search", "k")):
                asked = {"offset": offset, name: 3} | ({"text": "cat"} if name == "k" else {})
                assert (await client.post(path, json=asked)).json()["next_offset"] == following


async def test_health_and_stats(engine):
    async with inside(engine) as client:
        assert (await client.get("/v1/health")).json() == {"status": "alive"}
        assert (await client.get("/v1/ready")).json() == {"status": "ready"}
        stats = (await client.get("/v1/stats")).json()
        assert (stats["pictures"], stats["texts"], stats["writable"]) == (8, 1, False)


async def test_commits_of_others_are_found_at_once(tmp_path, encoder):
    photo(tmp_path / "p" / "one.jpg", 1)
    index(tmp_path / "library", tmp_path / "p", encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        async with inside(engine) as client:
            assert (await client.get("/v1/stats")).json()["items"] == 1
            photo(tmp_path / "p" / "two.jpg", 2)
            index(tmp_path / "library", tmp_path / "p", encoder=encoder)
            found = (await client.get("/v1/search", params={"q": "anything"})).json()["hits"]
            assert len(found) == 2


@pytest.mark.slow
@pytest.mark.parametrize("clients", [64])
def test_many_clients_get_what_one_gets(tmp_path, encoder, clients):
    with sentence_library(tmp_path / "library", encoder) as engine, serving(engine) as served:
        wanted = SENTENCES[::4][:clients]
        expected = [plain(payloads.answer(engine.search(words, k=7), 7)) for words in wanted]

        async def ask():
            limits = httpx.Limits(max_connections=clients)
            async with httpx.AsyncClient(base_url=served.url, limits=limits, timeout=60) as client:
                asked = [client.post("/v1/search", json={"text": words, "k": 7}) for words in wanted]
                return [answer.json() for answer in await asyncio.gather(*asked)]

        assert asyncio.run(ask()) == expected


def test_no_request_waits_for_a_thread_without_need():
    """FastAPI calls a plain function that a route depends on in a thread, which takes longer than the function."""

    def parts(dependant):
        yield from (each for part in dependant.dependencies for each in (part.call, *parts(part)))

    routers = [importlib.import_module(f"clipsearch.server.routes.{name}").router for name in ROUTES]
    found = [route for router in routers for route in router.routes]
    calls = {call for route in found for call in (route.dependant.call, *parts(route.dependant))}
    assert len(found) > 20 and [call for call in calls if not inspect.iscoroutinefunction(call)] == []


def test_connections_send_at_once(engine):
    with serving(engine) as served, connect(served) as connection:
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in connection.recv(100)
        (state,) = served.server.server_state.connections
        found = state.transport.get_extra_info("socket")
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
