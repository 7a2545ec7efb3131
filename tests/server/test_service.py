"""What bounds the work of all requests."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from clipsearch.server import service as services
from clipsearch.server.embeddings import embed
from clipsearch.server.forms_embeddings import EmbeddingsRequest
from clipsearch.server.problems import of_error
from clipsearch.server.routes import match
from clipsearch.server.sending import BusyError
from clipsearch.server.service import MATCHES, UPLOAD_THREADS, OverdueError, Service
from clipsearch.server.settings import ServerSettings
from tests.support.api import ask, writable


@pytest.fixture
def service(engine):
    made = Service(engine, ServerSettings())
    yield made
    made.close()


@pytest.mark.parametrize("stops", [True, False])
async def test_a_request_that_the_end_of_the_server_cuts_off_is_answered(service, stops):
    gate = threading.Event()
    request = asyncio.create_task(service.run(gate.wait, 20))
    await asyncio.sleep(0)
    assert service.pending == 1
    if stops:
        service.stopping.set()
    request.cancel()
    with pytest.raises(OverdueError if stops else asyncio.CancelledError):
        await request
    gate.set()


async def test_uploads_that_take_long_hold_up_only_each_other(service):
    gate = threading.Event()
    uploads = [asyncio.create_task(service.run_upload(gate.wait, 20)) for _ in range(UPLOAD_THREADS + 4)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(service.run(service.engine.count), 20) > 0
    assert service.pending == len(uploads)
    gate.set()
    assert await asyncio.gather(*uploads) == [True] * len(uploads)


async def test_comparisons_hold_up_no_upload_and_none_of_them_waits(service, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(match, "_open", lambda *_: None)
    monkeypatch.setattr(match, "_match", lambda *_: gate.wait(20))
    monkeypatch.setattr(match.payloads, "matches", lambda found, whole: {"found": found})

    def ask_match():
        return match.match(service, SimpleNamespace(read=lambda: asyncio.sleep(0, b"")))

    comparisons = [asyncio.create_task(ask_match()) for _ in range(MATCHES)]
    while service._matching < MATCHES:
        await asyncio.sleep(0.01)
    with pytest.raises(BusyError) as caught:
        await ask_match()
    assert of_error(caught.value).headers["retry-after"] == "5"
    assert await asyncio.wait_for(service.run_upload(int), 10) == 0
    gate.set()
    await asyncio.gather(*comparisons)
    assert (await ask_match()).status_code == 200


def test_pictures_are_decoded_no_longer_than_somebody_waits(engine):
    late = Service(engine, ServerSettings(work_seconds=-1))
    with pytest.raises(OverdueError, match="fewer"):
        embed(late, EmbeddingsRequest.model_validate({"input": [{"image": "data:image/png;base64,AAAA"}]}))
    late.close()


@pytest.mark.parametrize("what", ["deleted", "made again", "put back"])
async def test_a_library_that_is_no_longer_there_is_not_served(tmp_path, encoder, monkeypatch, what):
    monkeypatch.setattr(services, "LOOK_SECONDS", 0.0)
    folder = tmp_path / "lib"
    with writable(folder, encoder) as app:
        app.state.service.engine.add([{"id": "a", "text": "words"}])
        async with ask(app) as client:
            assert (await client.get("/v1/ready")).status_code == 200
            folder.rename(tmp_path / "away")
            if what == "made again":
                with writable(folder, encoder):
                    pass
            for answer in (
                await client.get("/v1/ready"),
                await client.get("/v1/search?q=words"),
                await client.get("/v1/items/1"),
                await client.post("/v1/records", json={"records": [{"id": "b", "text": "words"}]}),
                await client.post("/v1/jobs", json={}),
            ):
                assert answer.status_code == 503 and "Restart the server" in answer.json()["detail"]
            assert "clipsearch_items{" not in (await client.get("/v1/metrics")).text
            if what == "put back":
                (tmp_path / "away").rename(folder)
                assert (await client.get("/v1/ready")).status_code == 200
