"""A mixed load on a server with leave to write, for as long as wanted, and the memory of its process meanwhile."""

from __future__ import annotations

import asyncio
import base64
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.pictures import encode, noise_picture
from tests.support.sentences import SENTENCES
from tests.support.serving import BEARER

SAMPLES_A_RUN = 60
_TIMEOUT = 60.0
_IDS = 40


@dataclass
class Soak:
    """What a run saw. resident: MiB of the process, evenly spread over the run. answers: by kind of work and status,
    0 for a connection that ended without one.
    """

    resident: list[float] = field(default_factory=list)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def growth(self) -> float:
        """MiB that the last quarter of the run takes more than the second, by medians; the first is to warm up."""
        quarter = len(self.resident) // 4
        return statistics.median(self.resident[-quarter:]) - statistics.median(self.resident[quarter : 2 * quarter])


def resident_mib(process: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def soak(url: str, process: int, seconds: float, pause: float) -> Soak:
    """Load a server for some seconds. process: its id. pause: seconds between two requests of a kind."""
    return asyncio.run(_soak(url, process, seconds, pause))


async def _soak(url: str, process: int, seconds: float, pause: float) -> Soak:
    seen, end = Soak(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=url, headers=BEARER, limits=limits, timeout=_TIMEOUT) as client:
        found = (await client.get("/v1/items", params={"type": "image", "limit": 50})).json()["items"]
        ids = [item["id"] for item in found]

        async def repeat(name: str, work: Callable[[int], Awaitable[httpx.Response | None]]) -> None:
            for number in itertools.count():
                if time.monotonic() > end:
                    return
                try:
                    answer = await work(number)
                except httpx.TransportError:  # such as where a connection ends for being idle as it is used again
                    seen.answers[name, 0] += 1
                    continue
                if answer is not None:
                    seen.answers[name, answer.status_code] += 1
                await asyncio.sleep(pause)

        async def watch() -> None:
            while time.monotonic() < end:
                await asyncio.sleep(seconds / SAMPLES_A_RUN)
                seen.resident.append(resident_mib(process))

        kinds = {**_reads(client, ids), **_brings(client), "job": lambda n: _follow(client)}
        kinds["abort"] = lambda n: _abort(url, n)
        await asyncio.gather(watch(), *(repeat(name, work) for name, work in kinds.items()))
    return seen


def _reads(client: httpx.AsyncClient, ids: list[int]) -> dict[str, Callable[[int], Awaitable[httpx.Response]]]:
    def words(n: int) -> str:
        return SENTENCES[n % len(SENTENCES)]

    def of(n: int) -> int:
        return ids[n % len(ids)]

    return {
        "new": lambda n: client.get("/v1/search", params={"q": f"{words(n)} {n}", "k": 20}),
        "repeated": lambda n: client.get("/v1/search", params={"q": words(n % 8)}),
        "filtered": lambda n: client.post("/v1/search", json={"text": words(n), "filters": {"caption": words(n)[:8]}}),
        "terms": lambda n: client.post("/v1/search", json={"query": f"{words(n)} - snow + id:{of(n)}"}),
        "page": lambda n: client.get("/v1/search", params={"q": words(n % 8), "k": 50, "offset": 50 * (n % 6)}),
        "similar": lambda n: client.post("/v1/similar", json={"ids": [of(n)], "unlike": [of(n + 1)]}),
        "find": lambda n: client.post("/v1/find", json={"limit": 50, "offset": 10 * (n % 9)}),
        "item": lambda n: client.get(f"/v1/items/{of(n)}"),
        "image": lambda n: client.get(f"/v1/items/{of(n)}/image"),
        "thumbnail": lambda n: client.get(f"/v1/items/{of(n)}/thumbnail", params={"size": 64 + n % 200}),
        "facets": lambda n: client.get("/v1/facets"),
        "metrics": lambda n: client.get("/v1/metrics"),
        "wrong": lambda n: client.get(f"/v1/search?k={n}&q="),
    }


def _brings(client: httpx.AsyncClient) -> dict[str, Callable[[int], Awaitable[httpx.Response]]]:
    pictures = [encode(noise_picture(number, (320, 240))) for number in range(8)]
    urls = ["data:image/jpeg;base64," + base64.b64encode(data).decode() for data in pictures]

    def record(n: int) -> dict[str, Any]:
        return {"id": f"soak-{n % _IDS}", "image": urls[n % 8], "caption": SENTENCES[n % 200], "metadata": {"n": n}}

    return {
        "picture": lambda n: client.post("/v1/search/image", files={"image": ("a.jpg", pictures[n % 8])}),
        "embed": lambda n: client.post("/v1/embeddings", json={"input": [SENTENCES[n % 288], f"a word {n}"]}),
        "embed picture": lambda n: client.post("/v1/embeddings", json={"input": [{"image": urls[n % 8]}]}),
        "write": lambda n: client.post("/v1/records", json={"records": [record(n)]}),
        "delete": lambda n: client.delete("/v1/records", params={"key": f"soak-{7 * n % _IDS}"}),
    }


async def _follow(client: httpx.AsyncClient) -> httpx.Response:
    """Index what is there already, and follow that to its end."""
    begun = await client.post("/v1/jobs", json={})
    if begun.status_code == 202:
        await client.get(f"/v1/jobs/{begun.json()['id']}/events")
    await asyncio.sleep(1)
    return begun


async def _abort(url: str, number: int) -> None:
    """Go away: in the head of a request, in its body, before its answer, or within it."""
    head = f"Host: {httpx.URL(url).netloc.decode()}\r\nAuthorization: {BEARER['Authorization']}\r\n"
    sent = (
        "GET /v1/search?q=a HTTP/1.1\r\nHo",
        f"POST /v1/search HTTP/1.1\r\n{head}Content-Length: 500\r\nContent-Type: application/json\r\n\r\n" + '{"text"',
        f"GET /v1/search?q=gone+{number} HTTP/1.1\r\n{head}\r\n",
        f"GET /v1/items?limit=200 HTTP/1.1\r\n{head}\r\n",
    )[number % 4]
    async with _connection(url) as (reader, writer):
        writer.write(sent.encode())
        await writer.drain()
        if number % 4 == 3:
            await reader.read(100)


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    given = httpx.URL(url)
    reader, writer = await asyncio.open_connection(given.host, given.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
