"""Metrics of the server, as Prometheus reads them."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clipsearch.server import ServerSettings, create_app, metrics
from tests.support.api import ask, writable


@pytest.fixture
def app(tmp_path, encoder):
    with writable(tmp_path / "lib", encoder) as made:
        yield made


async def read(client):
    """Each sample, by its name and labels."""
    answer = await client.get("/v1/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def requests(method, route, status):
    return ("clipsearch_requests_total", ("method", method), ("route", route), ("status", str(status)))


async def test_requests_are_counted_by_route_and_status_and_timed(app):
    async with ask(app) as client:
        for path in ("/v1/jobs", "/v1/jobs/one", "/v1/jobs/two", "/v1/jobs/three"):
            await client.get(path)
        found = await read(client)
        assert found[requests("GET", "/v1/jobs", 200)] == 1
        assert found[requests("GET", "/v1/jobs/{job_id}", 404)] == 3
        assert found[("clipsearch_request_seconds_count", ("route", "/v1/jobs/{job_id}"))] == 3
        assert found[("clipsearch_pending_requests",)] == found[("clipsearch_jobs_running",)] == 0
        assert found[("process_resident_memory_bytes",)] > 0
        assert (await read(client))[requests("GET", "/v1/metrics", 200)] == 1


async def test_what_is_refused_counts_and_metrics_need_the_token(app):
    async with ask(app) as client:
        assert (await client.get("/v1/metrics", headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await read(client))[requests("GET", "none", 401)] == 1


async def test_a_client_cannot_make_labels(app):
    async with ask(app) as client:
        before = len(await read(client))
        for n in range(50):
            await client.get(f"/secret-{n}")
            await client.request(f"M{n}", "/v1/jobs")
            await client.get(f"/v1/jobs/{n}", headers={"User-Agent": f"agent-{n}"})
        found = await read(client)
        assert found[requests("GET", "none", 404)] == found[requests("other", "/v1/jobs", 405)] == 50
        assert not any("secret" in str(name) or "agent" in str(name) for name in found)
        assert len(found) - before < 100


async def test_searches_answered_together_are_counted_by_how_many_they_were(app):
    engine = app.state.service.engine
    engine.add([{"id": "a", "text": "a text"}])
    await asyncio.gather(*(engine.asearch("a text") for _ in range(8)))
    sizes = engine.batch_sizes
    assert sum(size * count for size, count in sizes.items()) == 8
    async with ask(app) as client:
        found = await read(client)
        assert found[("clipsearch_search_batch_size_sum",)] == 8
        assert found[("clipsearch_search_batch_size_count",)] == sum(sizes.values())
        assert found[("clipsearch_search_batch_size_bucket", ("le", "64.0"))] == sum(sizes.values())


async def test_items_are_counted_now_and_then(app, monkeypatch):
    items = ("clipsearch_items", ("modality", "text"))
    async with ask(app) as client:
        assert (await read(client))[items] == 0
        app.state.service.engine.add([{"id": "a", "text": "a text"}])
        assert (await read(client))[items] == 0
        monkeypatch.setattr(metrics, "ITEMS_SECONDS", 0.0)
        assert (await read(client))[items] == 1


async def test_metrics_are_there_when_the_queue_is_full_and_each_application_has_its_own(app, monkeypatch):
    other = create_app(app.state.service.engine, ServerSettings())
    monkeypatch.setattr(app.state.service, "_pending", app.state.service.settings.max_queue)
    async with ask(app) as client:
        assert (await client.post("/v1/embeddings", json={"input": "a cat"})).status_code == 429
        found = await read(client)
        assert found[("clipsearch_pending_requests",)] == app.state.service.settings.max_queue
        assert found[requests("POST", "/v1/embeddings", 429)] == 1
    async with ask(other) as client:
        assert requests("POST", "/v1/embeddings", 429) not in await read(client)
