"""Saved searches over HTTP."""

from __future__ import annotations

import json

import pytest

from clipsearch.server import ServerSettings, create_app
from tests.support.api import ask, writable
from tests.support.libraries import index, photos


@pytest.fixture
def app(tmp_path, encoder):
    photos(tmp_path / "photos", 3)
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with writable(tmp_path / "lib", encoder) as made:
        yield made


async def test_searches_are_saved_listed_run_seen_and_deleted(app, tmp_path, encoder):
    async with ask(app) as client:
        assert (await client.get("/v1/searches")).json() == []
        body = {"text": "a picture", "k": 2, "min_confidence": 0, "filters": {"types": ["image"]}}
        made = await client.put("/v1/searches/Sea%2Frun", json=body)
        assert made.status_code == 200 and made.json()["query"] == "a picture"
        assert (await client.get("/v1/searches")).json() == [made.json()]
        whole = (await client.post("/v1/searches/sea%2Frun/run")).json()
        asked = {name: value for name, value in body.items() if name != "filters"}
        expected = (await client.post("/v1/search", json={**asked, "filters": body["filters"]})).json()
        assert {name: whole[name] for name in expected} == expected and whole["mark"] is None and whole["k"] == 2

        photos(tmp_path / "photos", 1, first=9)
        index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
        for _ in range(2):
            new = (await client.post("/v1/searches/sea%2Frun/run", json={"new": True})).json()
            assert [hit["path"][-8:] for hit in new["hits"]] == ["p009.jpg"]
        seen = await client.post("/v1/searches/sea%2Frun/seen", json={"mark": new["mark"]})
        assert seen.status_code == 204
        assert (await client.post("/v1/searches/sea%2Frun/run", json={"new": True})).json()["hits"] == []
        assert (await client.delete("/v1/searches/sea%2Frun")).status_code == 204
        assert (await client.get("/v1/searches")).json() == []


async def test_what_cannot_be_saved_or_run_is_refused(app):
    async with ask(app) as client:
        await client.put("/v1/searches/a", json={"query": 'id:1 + "dog"'})
        for body in (
            {"query": 'image:/etc/passwd + "dog"'},
            {"image_url": "http://127.0.0.1:1/a.jpg"},
            {"text": "a", "filters": {"during": "no date at all"}},
            {"text": "a", "vector": [1.0]},
            {"text": "  "},
        ):
            assert (await client.put("/v1/searches/b", json=body)).status_code == 422, body
        assert [each["name"] for each in (await client.get("/v1/searches")).json()] == ["a"]
        for method, path, body in (
            ("POST", "none/run", None),
            ("POST", "none/seen", {"mark": json.dumps({"saved_at": "", "mark": _mark()})}),
            ("DELETE", "none", None),
        ):
            assert (await client.request(method, f"/v1/searches/{path}", json=body)).status_code == 404, path
        for mark in ("", "{}", "[]", "x" * 300_000, json.dumps({"saved_at": "", "mark": {**_mark(), "id": -1}})):
            assert (await client.post("/v1/searches/a/seen", json={"mark": mark})).status_code == 422
        assert (await client.post("/v1/searches/a/run", json={"new": True, "offset": 1})).status_code == 422


def _mark():
    return {"id": 0, "images": 0, "texts": 0, "revision": 0, "shown": [], "changed": []}


async def test_a_server_that_only_reads_runs_searches(engine, library):
    engine.save_search("pictures", "a picture", k=1)
    async with ask(create_app(engine, ServerSettings())) as client:
        assert [each["name"] for each in (await client.get("/v1/searches")).json()] == ["pictures"]
        found = (await client.post("/v1/searches/pictures/run", json={"new": True})).json()
        for method, path, body in (
            ("PUT", "x", {"text": "a"}),
            ("DELETE", "pictures", None),
            ("POST", "pictures/seen", {"mark": found["mark"]}),
        ):
            assert (await client.request(method, f"/v1/searches/{path}", json=body)).status_code == 403
    engine.delete_search("pictures")
