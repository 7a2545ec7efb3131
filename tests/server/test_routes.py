"""What the routes answer: the same as the engine."""

import asyncio
import importlib
import inspect
import json
import socket

import httpx
import pytest

from clipsearch import Filter, Indexed
from clipsearch.server import payloads
from clipsearch.server.app import ROUTES
from clipsearch.store.library import Library
from tests.support.libraries import index, photo
from tests.support.sentences import SENTENCES, sentence_library
from tests.support.serving import connect, inside, serving


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
        assert both.status_code == 422 and "takes one of" in both.json()["detail"]


async def test_health_and_stats(engine):
    async with inside(engine) as client:
        assert (await client.get("/v1/health")).json() == {"status": "alive"}
        assert (await client.get("/v1/ready")).json() == {"status": "ready"}
        stats = (await client.get("/v1/stats")).json()
        assert (stats["pictures"], stats["texts"], stats["writable"]) == (8, 1, False)


async def test_commits_of_others_are_found_at_once(tmp_path, encoder):
    from clipsearch.query.engine import SearchEngine

    photo(tmp_path / "p" / "one.jpg", 1)
    index(tmp_path / "library", tmp_path / "p", encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        async with inside(engine) as client:
            assert (await client.get("/v1/stats")).json()["items"] == 1
            photo(tmp_path / "p" / "two.jpg", 2)
            index(tmp_path / "library", tmp_path / "p", encoder=encoder)
            found = (await client.get("/v1/search", params={"q": "anything"})).json()["hits"]
            assert len(found) == 2


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
