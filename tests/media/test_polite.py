"""Fetching from the web without being a burden: what a real server on this machine sees of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import pytest

from clipsearch.errors import PictureError
from clipsearch.media import polite
from clipsearch.media.polite import CONCURRENCY, MAX_WAIT, PER_HOST, TRIES, PoliteFetcher
from tests.support.web import PICTURE

pytestmark = pytest.mark.filterwarnings("error")


class Server(ThreadingHTTPServer):
    """Counts how many pictures are asked for at the same time, in all and of each host; each waits for others."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), Handler)
        self.lock = threading.Lock()
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.asked: list[str] = []
        self.busy: list[tuple[int, str]] = []
        self.release = threading.Event()
        self.full = threading.Semaphore(0)

    def enter(self, host: str) -> None:
        with self.lock:
            for key in (host, "all"):
                self.now[key] = self.now.get(key, 0) + 1
                self.most[key] = max(self.most.get(key, 0), self.now[key])

    def leave(self, host: str) -> None:
        with self.lock:
            for key in (host, "all"):
                self.now[key] -= 1


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        host = self.headers["Host"].partition(":")[0]
        with self.server.lock:
            self.server.asked.append(self.path)
            status, wait = self.server.busy.pop(0) if self.path == "/busy" and self.server.busy else (200, "")
        self.server.enter(host)
        if self.path == "/held":
            self.server.full.release()
            self.server.release.wait(20)
        body = PICTURE if status == 200 else b""
        self.send_response(status)
        if wait:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.server.leave(host)
        self.wfile.write(body)

    def log_message(self, *unused: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.release.set()
        made.shutdown()
        thread.join()


def fetch_all(server: Server, urls: list[str], expected: int) -> None:
    """Fetch from a thread each; once as many wait at the server as may, let all go on."""
    fetcher = PoliteFetcher(1 << 20, allow_private=True)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda url=url: found.append(fetcher.fetch(url))) for url in urls]
    for thread in threads:
        thread.start()
    for _ in range(expected):
        assert server.full.acquire(timeout=20)
    assert not server.full.acquire(timeout=0.3), "more than may be are asked for at the same time"
    server.release.set()
    for thread in threads:
        thread.join(30)
    assert found == [PICTURE] * len(urls)


def test_a_host_is_asked_for_few_pictures_at_a_time(server: Server) -> None:
    fetch_all(server, [f"http://127.0.0.1:{server.server_port}/held"] * 6, PER_HOST)
    assert server.most["127.0.0.1"] == PER_HOST


def test_all_hosts_together_are_asked_for_a_bounded_number(server: Server) -> None:
    hosts = [f"127.0.0.{number}" for number in range(1, 7)]
    fetch_all(server, [f"http://{host}:{server.server_port}/held" for host in hosts * 2], CONCURRENCY)
    assert server.most["all"] == CONCURRENCY and max(server.most[host] for host in hosts) <= PER_HOST


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_host_is_asked_again_when_it_says(server: Server, status: int) -> None:
    slept: list[float] = []
    server.busy = [(status, "7"), (status, formatdate(time() + 20, usegmt=True))]
    fetcher = PoliteFetcher(1 << 20, allow_private=True, sleep=slept.append)
    assert fetcher.fetch(f"http://127.0.0.1:{server.server_port}/busy") == PICTURE
    assert slept[0] == 7 and 10 < slept[1] <= 20 and len(server.asked) == 3


def test_a_host_that_stays_busy_is_left_alone(server: Server) -> None:
    slept: list[float] = []
    server.busy = [(429, "1")] * 10
    fetcher = PoliteFetcher(1 << 20, allow_private=True, sleep=slept.append)
    with pytest.raises(PictureError, match="429"):
        fetcher.fetch(f"http://127.0.0.1:{server.server_port}/busy")
    assert len(server.asked) == TRIES and slept == [1.0] * (TRIES - 1)


def test_a_host_that_wants_long_is_not_waited_for(server: Server) -> None:
    slept: list[float] = []
    server.busy = [(503, str(int(MAX_WAIT) + 1))]
    fetcher = PoliteFetcher(1 << 20, allow_private=True, sleep=slept.append)
    with pytest.raises(PictureError, match="503"):
        fetcher.fetch(f"http://127.0.0.1:{server.server_port}/busy")
    assert len(server.asked) == 1 and not slept


def test_others_of_a_busy_host_wait_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polite, "PER_HOST", 1)
    server.busy = [(429, "1")]
    sleeping, go_on = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        sleeping.set()
        go_on.wait(20)

    fetcher = PoliteFetcher(1 << 20, allow_private=True, sleep=sleep)
    url = f"http://127.0.0.1:{server.server_port}"
    threads = [threading.Thread(target=fetcher.fetch, args=(f"{url}/{name}",)) for name in ("busy", "other")]
    threads[0].start()
    assert sleeping.wait(20)
    threads[1].start()
    threads[1].join(0.3)
    assert server.asked == ["/busy"]
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert sorted(server.asked) == ["/busy", "/busy", "/other"]


def test_a_picture_over_the_limit_is_refused(server: Server) -> None:
    fetcher = PoliteFetcher(len(PICTURE) - 1, allow_private=True)
    with pytest.raises(PictureError, match="over the limit"):
        fetcher.fetch(f"http://127.0.0.1:{server.server_port}/picture")
    assert polite.MAX_BYTES == 64 << 20


def test_addresses_inside_are_refused_unless_they_are_allowed(server: Server) -> None:
    with pytest.raises(PictureError, match="public"):
        PoliteFetcher(1 << 20, allow_private=False).fetch(f"http://127.0.0.1:{server.server_port}/picture")
    assert not server.asked
