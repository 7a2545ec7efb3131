"""Jobs of the server: the indexer, started, followed and cancelled over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest

import clipsearch
from clipsearch.server import ServerSettings, create_app, events
from clipsearch.server.jobs import HISTORY, MAX_FAILED, Job, JobOptions, JobState
from clipsearch.server.routes import jobs as routes
from clipsearch.store.library import locked
from indexer.report import IndexReport
from tests.support.api import SMALL, Gate, ask, served, writable
from tests.support.libraries import index, photos
from tests.support.serving import BEARER


@pytest.fixture
def gate(encoder):
    held = Gate(encoder)
    yield held
    held.open()


@pytest.fixture
def place(tmp_path):
    """A folder with six pictures."""
    photos(tmp_path / "photos", 6)
    return tmp_path


async def reach(gate):
    assert await asyncio.to_thread(gate.reached.wait, 60)


async def end_of(client, job_id):
    """Wait for the end of a job."""
    events_of_job = await client.get(f"/v1/jobs/{job_id}/events")
    assert events_of_job.status_code in (200, 204)
    return (await client.get(f"/v1/jobs/{job_id}")).json()


def parse(stream):
    """The events of a stream, as (id, name, data)."""
    found = []
    for block in stream.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


# --- What a job does


async def test_a_job_indexes_as_the_command_does_and_tells_how_far_it_is(place, gate):
    (place / "photos" / "broken.jpg").write_bytes(b"no picture")
    gate.close()
    with writable(place / "lib", gate, index_folders=(str(place),)) as app:
        async with ask(app) as client:
            started = await client.post("/v1/jobs", json={"paths": [str(place / "photos")]})
            job = started.json()
            assert started.status_code == 202 and job["state"] == "running"
            assert started.headers["location"] == f"/v1/jobs/{job['id']}"
            gate.open()
            stream = await client.get(f"/v1/jobs/{job['id']}/events")
            assert stream.headers["content-type"].startswith("text/event-stream")
            told = parse(stream.text)
            assert [name for _, name, _ in told] == ["progress"] * (len(told) - 1) + ["end"]
            assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
            counts = [data["done"] for _, _, data in told]
            assert counts == sorted(counts) and counts[-1] == told[-1][2]["total"] == 7 and len(set(counts)) >= 4
            shown = (await client.get(started.headers["location"])).json()
            assert shown == told[-1][2] == (await client.get("/v1/jobs")).json()["jobs"][0]
            assert (shown["state"], shown["error"]) == ("done", None)
            report = shown["report"]
            assert (report["added"], report["failures"], report["offline"]) == (6, 1, [])
            assert report["failed"][0]["path"] == str(place / "photos" / "broken.jpg")
            assert app.state.service.engine.count() == 6
            (place / "photos" / "p000.jpg").unlink()
            again = await client.post("/v1/jobs", json={})  # all folders of the library
            assert (await end_of(client, again.json()["id"]))["report"]["removed"] == 1
            assert [each["id"] for each in (await client.get("/v1/jobs")).json()["jobs"]][1] == job["id"]


async def test_cancelling_keeps_what_is_committed_and_the_next_job_goes_on(place, gate):
    gate.close(after=1)
    with writable(place / "lib", gate, index_folders=(str(place / "photos"),)) as app:
        async with ask(app) as client:
            job_id = (await client.post("/v1/jobs", json={"paths": [str(place / "photos")]})).json()["id"]
            await reach(gate)
            cancelled = await client.delete(f"/v1/jobs/{job_id}")
            assert cancelled.status_code == 200 and cancelled.json()["state"] == "stopping"
            gate.open()
            job = await end_of(client, job_id)
            assert job["state"] == "cancelled" and job["ended"] is not None
            added = job["report"]["added"]
            assert 2 <= added < 6 and app.state.service.engine.count() == added
            assert (await client.delete(f"/v1/jobs/{job_id}")).json() == job
            rest = (await client.post("/v1/jobs", json={})).json()["id"]
            assert (await end_of(client, rest))["report"]["added"] == 6 - added


async def test_one_job_runs_at_a_time_and_changes_are_refused_meanwhile(place, gate):
    gate.close()
    with writable(place / "lib", gate, index_folders=(str(place / "photos"),)) as app:
        async with ask(app) as client:
            job_id = (await client.post("/v1/jobs", json={"paths": [str(place / "photos")]})).json()["id"]
            await reach(gate)
            second = await client.post("/v1/jobs", json={"paths": [str(place / "photos")]})
            assert second.status_code == 409 and job_id in second.json()["detail"]
            change = await client.post("/v1/records", json={"records": [{"id": "a", "text": "words"}]})
            assert change.status_code == 423 and job_id in change.json()["detail"]
            assert "retry-after" in change.headers
            gate.open()
            await end_of(client, job_id)
            change = await client.post("/v1/records", json={"records": [{"id": "a", "text": "words"}]})
            assert change.json()["added"] == 1


async def test_a_job_that_fails_says_why(place, encoder, caplog):
    class Broken(Gate):
        def encode_pixels(self, batch):
            raise TypeError("secret of the code")

    folder = str(place / "photos")
    with writable(place / "lib", encoder, timeout=0.1, index_folders=(folder,)) as app:
        async with ask(app) as client:
            with locked(place / "lib"):
                job_id = (await client.post("/v1/jobs", json={"paths": [folder]})).json()["id"]
                job = await end_of(client, job_id)
            assert job["state"] == "failed" and "writing" in job["error"] and job["report"] is None
    with writable(place / "lib", Broken(encoder), index_folders=(folder,)) as app:
        async with ask(app) as client:
            job_id = (await client.post("/v1/jobs", json={"paths": [folder]})).json()["id"]
            job = await end_of(client, job_id)
            assert job["state"] == "failed" and "secret" not in json.dumps(job)


async def test_a_job_that_nobody_knows_is_not_found(place, encoder):
    with writable(place / "lib", encoder) as app:
        async with ask(app) as client:
            for answer in (
                await client.get("/v1/jobs/0"),
                await client.delete("/v1/jobs/0"),
                await client.get("/v1/jobs/0/events"),
            ):
                assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"


# --- Which folders


async def test_only_folders_of_the_library_and_below_those_that_are_allowed_are_indexed(place, encoder):
    for name in ("allowed/deep", "closed", "root/sub"):
        photos(place / name, 1)
    (place / "allowed" / "out").symlink_to(place / "closed")
    index(place / "lib", place / "root", encoder=encoder)
    with writable(place / "lib", encoder, index_folders=(str(place / "allowed"),)) as app:
        async with ask(app) as client:

            async def start(path):
                return await client.post("/v1/jobs", json={"paths": [str(path)]})

            answers = []
            for path in (
                place / "closed",
                place / "nowhere",  # what is not allowed is not looked at
                place / "allowed" / "out",
                place / "allowed" / ".." / "closed",
                f"{place}/allowed-not",
                place / "root" / "sub",
                place,
                "/",
                "allowed",
                f"{place}/allowed\0",
                "",
            ):
                refused = await start(path)
                assert refused.status_code == (422 if path == "" else 403), path
                answers.append(refused.json()["detail"].replace(repr(str(path)), "it"))
            assert len({*answers[:-1]}) == 1  # no answer tells what is there
            assert (await start(place / "allowed" / "nowhere")).status_code == 422
            assert (await client.get("/v1/jobs")).json() == {"jobs": []}
            for path in (place / "root", place / "allowed" / "deep", place / "allowed"):
                done = await end_of(client, (await start(path)).json()["id"])
                assert done["state"] == "done", path
            assert sorted(item.path for item in app.state.service.engine.items()) == [
                str(place / "allowed" / "deep" / "p000.jpg"), str(place / "root" / "sub" / "p000.jpg"),
            ]  # fmt: skip


async def test_no_link_in_a_folder_leads_a_job_out_of_it(place, encoder):
    (place / "secret.txt").write_text("A password that nobody may read.\n")
    for name in ("notes.txt", "p000.txt", "p001.jpg.txt"):
        (place / "photos" / name).symlink_to(place / "secret.txt")
    with writable(place / "lib", encoder, index_folders=(str(place / "photos"),)) as app:
        async with ask(app) as client:
            job_id = (await client.post("/v1/jobs", json={"paths": [str(place / "photos")]})).json()["id"]
            report = (await end_of(client, job_id))["report"]
            assert (report["added"], report["failures"]) == (6, 3)
            engine = app.state.service.engine
            assert not [hit for hit in engine.search("a password", k=20) if hit.modality == "text"]


async def test_an_empty_library_needs_to_be_told_folders(place, encoder):
    with writable(place / "lib", encoder, index_folders=(str(place),)) as app:
        async with ask(app) as client:
            assert (await client.post("/v1/jobs", json={})).status_code == 422


async def test_a_server_that_only_reads_starts_and_cancels_no_job(place, encoder):
    index(place / "lib", place / "photos", encoder=encoder)
    with clipsearch.open(place / "lib", settings=SMALL) as engine:
        app = create_app(engine, ServerSettings(index_folders=(str(place),)))
        async with ask(app) as client:
            assert (await client.post("/v1/jobs", json={})).status_code == 403
            app.state.jobs._jobs.append(job := Job((), JobOptions()))
            assert (await client.delete(f"/v1/jobs/{job.id}")).status_code == 403
            assert job.status.state is JobState.RUNNING


# --- Events


async def test_listeners_all_get_the_events_and_go_on_where_they_were(place, gate):
    gate.close(after=1)
    with served(place / "lib", gate, index_folders=(str(place / "photos"),)) as (app, url):
        async with httpx.AsyncClient(base_url=url, headers=BEARER) as client:
            job_id = (await client.post("/v1/jobs", json={"paths": [str(place / "photos")]})).json()["id"]

            async def listen(until=None):
                found = ""
                async with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
                    async for text in stream.aiter_text():
                        found += text
                        if until and len(parse(found.rpartition("\n\n")[0])) >= until:
                            break
                return parse(found)

            others = [asyncio.create_task(listen()) for _ in range(3)]
            first = await listen(until=2)  # and leaves
            await reach(gate)
            gate.open()
            complete = await asyncio.gather(*others)
            assert complete[0] == complete[1] == complete[2] and complete[0][-1][1] == "end"
            last = first[-1][0]
            rest = await client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(last)})
            assert parse(rest.text) == complete[0][last:]
            over = await client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(complete[0][-1][0])})
            assert over.status_code == 204  # upon which a browser asks no more
            assert app.state.jobs.listeners == 0


async def test_a_listener_that_is_slow_holds_nothing_up_and_what_is_remembered_is_bounded():
    job = Job((), JobOptions())
    stream = events.job_events(job, 0, threading.Event(), lambda job, status: {"done": status.done})
    first = await anext(stream)
    assert first == b'id: 1\nevent: progress\ndata: {"done": 0}\n\n'
    worker = threading.Thread(target=lambda: [job.update(done=n) for n in range(1, 5 * HISTORY)])
    worker.start()
    await asyncio.to_thread(worker.join, 60)
    assert not worker.is_alive()
    job.end(JobState.DONE)
    rest = parse("".join([each.decode() async for each in stream]))
    assert len(rest) == HISTORY and rest[-1][1:] == ("end", {"done": 5 * HISTORY - 1})


async def test_a_quiet_stream_is_kept_alive_and_ends_when_the_server_stops(monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    monkeypatch.setattr(events, "_LOOK", 0.01)
    job, stopping = Job((), JobOptions()), threading.Event()
    stream = events.job_events(job, 1, stopping, lambda job, status: None)
    assert await anext(stream) == b": \n\n"
    stopping.set()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(stream), 60)
    assert job.watchers == 0


async def test_listeners_are_bounded(place, encoder, monkeypatch):
    monkeypatch.setattr(routes, "MAX_LISTENERS", 0)
    with writable(place / "lib", encoder) as app:
        app.state.jobs._jobs.append(job := Job((), JobOptions()))
        async with ask(app) as client:
            refused = await asyncio.wait_for(client.get(f"/v1/jobs/{job.id}/events"), 60)
            assert refused.status_code == 429 and refused.headers["retry-after"] == "5"


async def test_listeners_that_come_all_at_once_are_bounded_too(place, encoder, monkeypatch):
    monkeypatch.setattr(routes, "MAX_LISTENERS", 2)
    with writable(place / "lib", encoder) as app:
        app.state.jobs._jobs.append(job := Job((), JobOptions()))
        async with ask(app) as client:
            burst = {asyncio.create_task(client.get(f"/v1/jobs/{job.id}/events")) for _ in range(8)}
            for _ in range(2000):
                if sum(task.done() for task in burst) == 6:
                    break
                await asyncio.sleep(0.01)
            assert app.state.jobs.listeners == 2
            job.end(JobState.DONE)
            statuses = [(await asyncio.wait_for(task, 60)).status_code for task in burst]
            assert sorted(statuses) == [200] * 2 + [429] * 6 and app.state.jobs.listeners == 0


def test_a_job_that_is_over_does_not_change():
    job = Job(("/photos",), JobOptions())
    job.end(JobState.DONE)
    before = job.status
    job.cancel()
    job.update(done=7)
    job.end(JobState.FAILED, error="late")
    assert job.status == before and before.ended is not None and before.ended <= datetime.now(UTC)


def test_what_is_remembered_of_files_that_failed_is_bounded():
    job = Job((), JobOptions())
    job.end(JobState.DONE, report=IndexReport(failed=[(f"/p{n}.jpg", "bad") for n in range(10 * MAX_FAILED)]))
    assert job.status.failures == 10 * MAX_FAILED and len(job.status.report.failed) == MAX_FAILED


# --- The end of the server


def test_a_server_that_stops_cancels_the_job_and_ends_its_streams(place, gate):
    gate.close(after=1)
    with ThreadPoolExecutor(2) as pool:
        with served(place / "lib", gate, index_folders=(str(place / "photos"),)) as (app, url):
            started = httpx.post(f"{url}/v1/jobs", json={"paths": [str(place / "photos")]}, headers=BEARER)
            job_id = started.json()["id"]
            stream = pool.submit(httpx.get, f"{url}/v1/jobs/{job_id}/events", headers=BEARER, timeout=60)
            assert gate.reached.wait(60)
            while not app.state.jobs.listeners:
                time.sleep(0.01)
            pool.submit(lambda: app.state.service.stopping.wait(60) and gate.open())
        told = parse(stream.result().text)
        assert told[0][1] == "progress" and "done" not in [data["state"] for _, _, data in told]
        status = app.state.jobs.get(job_id).status
        assert status.state is JobState.CANCELLED
    with clipsearch.open(place / "lib") as engine:
        assert status.report.added == engine.count() < 6
