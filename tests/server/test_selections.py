"""What requests say of many items at once: tags."""

from __future__ import annotations

import httpx
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
