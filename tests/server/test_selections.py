"""What requests say of many items at once: tags, collections, places."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from clipsearch import Filter, Picture, Text
from clipsearch.server import ServerSettings, create_app
from tests.support.api import ask, writable
from tests.support.libraries import index, photos
from tests.support.pictures import encode, exif_block, noise_picture


@pytest.fixture
def app(tmp_path, encoder):
    photos(tmp_path / "photos", 3)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with writable(tmp_path / "lib", encoder) as made:
        yield made


@pytest.fixture
def ids(app):
    return sorted(item.id for item in app.state.service.engine.find())


async def test_tags_are_changed_by_ids_or_keys_and_stand_with_hits_and_items(app, ids):
    async with ask(app) as client:
        done = await client.post("/v1/tags", json={"ids": ids[:2], "add": ["Beach", "sea"]})
        assert done.json() == {"items": 2}
        key = next(item.key for item in app.state.service.engine.find() if item.id == ids[0])
        assert (await client.post("/v1/tags", json={"keys": [key], "add": ["x"], "remove": ["SEA"]})).status_code == 200
        expected = {ids[0]: ["Beach", "x"], ids[1]: ["Beach", "sea"], ids[2]: []}
        found = (await client.get("/v1/search", params={"q": "anything"})).json()["hits"]
        listed = (await client.post("/v1/find", json={})).json()["items"]
        paged = (await client.get("/v1/items")).json()["items"]
        for shown in (found, listed, paged):
            assert {each["id"]: each["tags"] for each in shown} == expected
        assert (await client.get(f"/v1/items/{ids[0]}")).json()["tags"] == expected[ids[0]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        {"ids": [1], "add": [" "]},
        {"ids": [1, 999], "add": ["x"]},
        {"ids": [1]},
        {"add": ["x"]},
        {"ids": [1], "keys": ["x"], "add": ["x"]},
        {"ids": [1], "add": ["x"], "remove": ["X"]},
        {"ids": [1], "add": ["x" * 201]},
        {"ids": [1] * 10_001, "add": ["x"]},
    ],
)
async def test_tags_that_cannot_be_changed_are_refused(app, body):
    async with ask(app) as client:
        refused = await client.post("/v1/tags", json=body)
        assert refused.status_code == 422 and refused.json()["detail"]
    assert not any(item.tags for item in app.state.service.engine.find())


async def test_a_server_that_only_reads_changes_no_tags(engine):
    app = create_app(engine, ServerSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.post("/v1/tags", json={"ids": [1], "add": ["x"]})).status_code == 403


async def test_collections_are_made_changed_renamed_and_deleted(app, ids):
    async with ask(app) as client:
        assert (await client.get("/v1/collections")).json() == []
        made = await client.put("/v1/collections/Sea%2FSand", json={"ids": ids[1:]})
        assert made.json() == {"name": "Sea/Sand", "count": 2, "cover": ids[1]}
        assert (await client.put("/v1/collections/%20empty%20")).json() == {"name": "empty", "count": 0, "cover": None}
        changed = await client.post("/v1/collections/sea%2Fsand", json={"add": ids, "remove": ids[1:2]})
        assert changed.json() == {"name": "Sea/Sand", "count": 3, "cover": ids[2]}
        renamed = await client.patch("/v1/collections/sea%2Fsand", json={"name": "夏天"})
        assert renamed.json()["name"] == "夏天"
        assert [each["name"] for each in (await client.get("/v1/collections")).json()] == ["empty", "夏天"]
        found = await client.post("/v1/find", json={"filters": {"collections": ["夏天"], "ids": ids[:1]}})
        assert [each["id"] for each in found.json()["items"]] == ids[:1]
        only = {"collection": "empty"}
        assert (await client.get("/v1/items", params=only)).json()["items"] == []
        assert (await client.get("/v1/facets", params=only)).json()["total"] == 0
        assert (await client.get("/v1/search", params={**only, "q": "sea"})).json()["hits"] == []
        assert (await client.delete("/v1/collections/夏天")).status_code == 204
        assert (await client.get("/v1/collections")).json() == [{"name": "empty", "count": 0, "cover": None}]


async def test_what_is_no_collection_is_refused(app, ids):
    async with ask(app) as client:
        await client.put("/v1/collections/a")
        await client.put("/v1/collections/b")
        for method, name, body, status in (
            ("POST", "x", {"add": ids}, 404),
            ("PATCH", "x", {"name": "y"}, 404),
            ("DELETE", "x", None, 404),
            ("POST", "a", {"add": [999]}, 422),
            ("PATCH", "a", {"name": "B"}, 422),
            ("PATCH", "a", {"name": "\n"}, 422),
            ("PUT", "c", {"ids": ["x"]}, 422),
            ("PUT", "%00", None, 422),
            ("PUT", "a" * 201, None, 422),
            ("PUT", "%20", None, 422),
        ):
            refused = await client.request(method, f"/v1/collections/{name}", json=body)
            assert refused.status_code == status and refused.json()["detail"], (method, name)
        refused = await client.post("/v1/find", json={"filters": {"collections": ["x"]}})
        assert refused.status_code == 422 and "no collection" in refused.json()["detail"]
        assert [each["count"] for each in (await client.get("/v1/collections")).json()] == [0, 0]


async def test_a_server_that_only_reads_lists_collections(engine):
    app = create_app(engine, ServerSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get("/v1/collections")).json() == []
        for method in ("PUT", "POST", "PATCH", "DELETE"):
            body = {"name": "x"} if method == "PATCH" else {}
            assert (await client.request(method, "/v1/collections/x", json=body)).status_code == 403


async def test_places_are_clusters_of_what_a_box_shows(engine):
    app = create_app(engine, ServerSettings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.post("/v1/places", json={})).json() == {"total": 0, "clusters": [], "bounds": None}
        found = await client.post("/v1/places", json={"filters": {"box": [-10, 170, 10, -170]}, "cells": 5})
        assert found.status_code == 200
        for body in ({"cells": 0}, {"cells": 129}, {"filters": {"box": [1, 2, 3]}}, {"filters": {"box": [9, 0, 1, 0]}}):
            assert (await client.post("/v1/places", json=body)).status_code == 422


async def test_places_are_those_of_the_pictures(tmp_path, encoder):
    (tmp_path / "photos").mkdir()
    for number, gps in enumerate([(48.1, 11.5), (48.1, 11.5), (-33.9, 151.2)]):
        data = encode(noise_picture(number), exif=exif_block(gps=gps))
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(data)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with writable(tmp_path / "lib", encoder) as app:
        async with ask(app) as client:
            found = (await client.post("/v1/places", json={"cells": 8})).json()
    assert found["total"] == 3 and [each["count"] for each in found["clusters"]] == [2, 1]
    assert found["clusters"][0].keys() == {"latitude", "longitude", "count", "id"}
    assert found["bounds"] == pytest.approx([-33.9, 11.5, 48.1, 151.2], abs=1e-3)


async def test_a_picture_that_is_sent_is_a_term_among_others(app, ids):
    engine = app.state.service.engine
    first = engine.find(Filter(ids=ids[:1])).items[0]
    data = Path(first.path).read_bytes()

    async def send(query, **options):
        fields = {"query": query, "options": json.dumps({"k": 3, "modality": "image", **options})}
        async with ask(app) as client:
            return await client.post("/v1/search/image", data=fields, files={"image": ("a.jpg", data)})

    answer = (await send('image:upload + 0.5:"a boat" - "fog"')).json()
    expected = engine.search(Picture("x", image=data) + 0.5 * Text("a boat") - Text("fog"), k=3, modality="image")
    assert [(hit["id"], hit["score"]) for hit in answer["hits"]] == [
        (hit.item.id, round(hit.score, 6)) for hit in expected
    ]
    assert answer["query"] == 'image:"upload" + 0.5:"a boat" - "fog"'
    assert (await send("image:upload", k=1)).json()["hits"][0]["id"] == first.id
    for query, said in (
        ('"a boat"', "Write image:upload"),
        ("image:upload + image:/etc/hostname", "does not read"),
        ("image:upload + image:./upload", "does not read"),
        ('image:upload or "a" and not (b + image:"/etc/hostname")', "does not read"),
        ("(image:upload or boat) and", "no term at column 27"),
        ("image:upload + upload.jpg", "does not read"),
        ("image:upload +", "no term after"),
        ("- image:upload", "only says what not to find"),
    ):
        refused = await send(query)
        assert refused.status_code == 422 and said in refused.json()["detail"], query
    async with ask(app) as client:
        refused = await client.post("/v1/search", json={"query": "image:upload"})
        assert refused.status_code == 422
