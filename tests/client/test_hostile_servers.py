"""Servers that are none of ours, or mean harm: a clear error, within bounds, and the token stays where it belongs."""

import asyncio
import contextlib
import copy
import json
import logging
import os
import pickle
import socket
import threading
import warnings

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clipsearch
from clipsearch import AsyncClient, Client
from clipsearch.client import answers, connection
from clipsearch.client.address import read_address
from clipsearch.client.calls import Call
from clipsearch.client.problems import Reply, read_reply
from tests.support.hostile_answers import ANSWER, EXPLANATION, HIT, LISTS, UNDERSTOOD, answering
from tests.support.pictures import noise_picture
from tests.support.serving import TOKEN

PROBLEM = {"Content-Type": "application/problem+json"}


def problem(status, kind, detail, **headers):
    body = {"type": f"urn:clipsearch:problem:{kind}", "title": "t", "status": status, "detail": detail}
    return status, PROBLEM | headers, json.dumps(body).encode()


STATS = {
    "library": "/lib", "items": 1, "pictures": 1, "texts": 0, "encoder": None, "dimensions": None, "writable": False,
    "version": "1",
}  # fmt: skip
GOOD = (200, {}, json.dumps(STATS).encode())


@pytest.mark.parametrize(
    "said",
    [
        (200, {}, b"<html>Welcome</html>"),
        (200, {}, b""),
        (200, {}, b"[]"),
        (200, {}, b"{}"),
        (200, {}, json.dumps({**STATS, "items": "1"}).encode()),
        (200, {}, json.dumps({**STATS, "items": True}).encode()),
        (200, {}, b'{"items": NaN}'),
        (200, {}, b"[" * 100_000),
        (200, {}, b"\xff\xfe"),
        (200, {}, b'{"items": ' + b"9" * 5000 + b"}"),
        (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b" + b"0" * 50),
        (200, {"Content-Length": "9" * 40}, b""),
        (200, {"Content-Length": "999999999999"}, b""),
        (204, {}, b""),
        (404, {}, b"Not Found"),
        (500, {}, b"boom"),
        (502, {}, b"<html>Bad Gateway</html>"),
        (418, PROBLEM, b'{"type": 3}'),
        (500, PROBLEM, b"[" * 100_000),
        (302, {"Location": "http://169.254.169.254/"}, b""),
        (599, {}, b""),
    ],
)
def test_what_is_no_answer_is_one_clear_error(said):
    with answering(said) as (url, _), Client(url) as client:
        with pytest.raises(clipsearch.ServerError) as error:
            client.stats()
    assert url in str(error.value) and len(str(error.value)) < 500


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=8,
)
EXPLAINED = {**ANSWER, "hits": [{**HIT, "explanation": EXPLANATION}], "understood": UNDERSTOOD}
READERS = [
    (answers.read_results("q", 0), ANSWER),
    (answers.read_results("q", 0), EXPLAINED),
    (answers.read_listing, LISTS),
    (answers.read_page, LISTS),
    (answers.read_looked(1), LISTS),
    (answers.read_stats, STATS),
    (answers.read_vectors(1), {"dimensions": 1, "data": "AACAPw=="}),
    (answers.read_embeddings(1), {"data": [{"embedding": "AACAPw=="}]}),
]


def places(value, path=()):
    """The path of each value in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*path, name))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_an_answer_with_anything_in_any_place_is_read_or_refused(data):
    read, good = data.draw(st.sampled_from(READERS))
    read(good)
    changed = {"answer": copy.deepcopy(good)}
    path = ("answer", *data.draw(st.sampled_from(sorted(places(good), key=str))))
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = data.draw(values)
    call = Call("GET", "/v1/x", read)
    body = json.dumps(changed["answer"]).encode("utf-8", "surrogatepass")
    try:
        read_reply(Reply(200, {}, body), call, read_address("http://127.0.0.1"))
    except clipsearch.ServerError:
        pass


@pytest.mark.parametrize(
    "changed",
    [
        {"understood": {}},
        {"understood": {**UNDERSTOOD, "filters": {"evil": 1}}},
        {"understood": {**UNDERSTOOD, "parts": [1]}},
        {"hits": [{**HIT, "explanation": {**EXPLANATION, "words": [{"source": "text", "text": "a", "spans": []}]}}]},
    ],
)
def test_what_is_shown_of_an_answer_is_there_or_it_is_refused(changed):
    read = answers.read_results("q", 0)
    good = read(copy.deepcopy(EXPLAINED))
    assert good.understood == UNDERSTOOD and good[0].explanation.words[0].words == ("q",)
    with pytest.raises(ValueError):
        read({**EXPLAINED, **changed})


def test_an_answer_without_an_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(connection, "MAX_ANSWER", 1 << 20)

    def forever():
        for _ in range(200):
            yield b"4000\r\n" + b" " * 0x4000 + b"\r\n"

    said = (200, {"Transfer-Encoding": "chunked"}, forever())
    with answering(said) as (url, _), Client(url) as client:
        with pytest.raises(clipsearch.ServerError, match="more than"):
            client.stats()


def test_an_answer_that_drips_is_given_up():
    stop = threading.Event()

    def drip():
        while not stop.wait(0.05):
            yield b"1\r\n \r\n"

    said = (200, {"Transfer-Encoding": "chunked"}, drip())
    with answering(said) as (url, _), Client(url, timeout=0.3) as client:
        with pytest.raises(clipsearch.ServerBusyError, match="timeout="):
            client.stats()
        stop.set()


@contextlib.contextmanager
def dripping(start, drip):
    """A server that sends a beginning, and then a piece again and again, each well before the timeout of a read."""
    stop = threading.Event()

    def answer(listener):
        with listener.accept()[0] as taken, contextlib.suppress(OSError):
            taken.sendall(start)
            while not stop.wait(0.05):
                taken.sendall(drip)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


DRIPS = {
    "informed": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "head": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "first line": (b"", b"H"),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
}


@pytest.mark.parametrize("start, drip", DRIPS.values(), ids=DRIPS)
async def test_an_answer_that_drips_is_given_up_wherever_it_does(start, drip):
    """Each byte of it would begin the timeout of a read again."""
    with dripping(start, drip) as url:
        client = AsyncClient(url, timeout=0.5)
        with pytest.raises(clipsearch.ServerBusyError, match="timeout="):
            async with asyncio.timeout(20):
                await client.stats()
        await client.close()


@pytest.mark.parametrize("start, drip", DRIPS.values(), ids=DRIPS)
def test_a_client_that_waits_gives_up_too(start, drip):
    with dripping(start, drip) as url, Client(url, timeout=0.5) as client:
        ended = []

        def ask():
            with pytest.raises(clipsearch.ServerBusyError, match="timeout="):
                client.stats()
            ended.append(True)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(20)
        assert ended


def test_a_server_that_reads_an_upload_slowly_is_given_up():
    stop = threading.Event()

    def take(listener):
        with listener.accept()[0] as taken:
            while not stop.wait(0.05):
                taken.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        thread = threading.Thread(target=take, args=(listener,))
        thread.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.5) as client:
            with pytest.raises(clipsearch.ServerBusyError, match="timeout="):
                client.search(image=noise_picture(0, (3000, 2000)))
        stop.set()
        thread.join()


class Dropping:
    """A server that ends connections: of each request it reads the head, and answers from the `drops`-th on."""

    def __init__(self, drops, answer=b""):
        self.asked, self._drops, self._answer = 0, drops, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                with self._listener.accept()[0] as taken:
                    taken.recv(1 << 16)
                    self.asked += 1
                    if self.asked > self._drops:
                        taken.sendall(self._answer)

    def __enter__(self):
        self._thread = threading.Thread(target=self.serve)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


ANSWERED = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GOOD[2]), GOOD[2])


async def test_a_connection_that_ends_before_the_answer_begins_is_tried_once_more():
    """As one that was idle does, where the server ends it while the request is on its way."""
    with Dropping(1, ANSWERED) as server, Client(server.url) as client:
        assert client.stats().items == 1 and server.asked == 2
    with Dropping(1, ANSWERED) as server:
        async with AsyncClient(server.url) as client:
            assert (await client.stats()).items == 1 and server.asked == 2
    with Dropping(9) as server, Client(server.url) as client:
        with pytest.raises(clipsearch.ServerError, match="broke"):
            client.stats()
        assert server.asked == 2


async def test_a_change_is_not_sent_twice():
    with Dropping(1) as server, Client(server.url) as client:
        with pytest.raises(clipsearch.ServerError, match="broke"):
            client.delete("a")
        assert server.asked == 1
    with Dropping(1) as server:
        async with AsyncClient(server.url) as client:
            with pytest.raises(clipsearch.ServerError, match="broke"):
                await client.delete("a")
            assert server.asked == 1


def test_an_answer_that_is_cut_off_is_not_asked_for_again():
    with Dropping(0, ANSWERED[:-5]) as server, Client(server.url) as client:
        with pytest.raises(clipsearch.ServerError, match="broke"):
            client.stats()
        assert server.asked == 1


def test_a_server_that_is_silent_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, timeout=0.2) as client, pytest.raises(clipsearch.ServerBusyError, match="timeout="):
            client.stats()


async def test_what_cannot_be_reached_says_so():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Client(url) as client, pytest.raises(clipsearch.ServerError, match="cannot be reached"):
        client.stats()
    async with AsyncClient(url) as waiting:
        with pytest.raises(clipsearch.ServerError, match="cannot be reached"):
            await waiting.search_batch(texts=["a"] * 5)
    with Client("http://no-such-host.invalid") as client, pytest.raises(clipsearch.ServerError, match="reached"):
        client.stats()


def test_http_where_https_is_asked_for_is_no_crash():
    with answering(GOOD) as (url, _), Client(url.replace("http:", "https:"), TOKEN) as client:
        with pytest.raises(clipsearch.ServerError):
            client.stats()


def test_what_was_refused_for_the_load_is_asked_again():
    busy = problem(429, "busy", "The server is busy.", **{"Retry-After": "0"})
    overdue = problem(503, "overdue", "It took too long.", **{"Retry-After": "0"})
    with answering(busy, overdue, GOOD) as (url, asked), Client(url) as client:
        assert client.stats().items == 1 and len(asked) == 3
    with answering(busy) as (url, asked), Client(url) as client:
        with pytest.raises(clipsearch.ServerBusyError, match="busy"):
            client.stats()
        assert len(asked) == 4
    with answering(busy, (200, {}, b'{"items": 1}')) as (url, asked), Client(url) as client:
        assert client.delete("a") == 1 and len(asked) == 2
    with answering(busy, GOOD) as (url, asked):

        async def ask():
            async with AsyncClient(url) as client:
                return await client.stats()

        assert asyncio.run(ask()).items == 1 and len(asked) == 2


@pytest.mark.parametrize("wait", [None, "60", "-1", "x", "9" * 30, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_what_asks_for_a_long_wait_is_not_asked_again(wait):
    headers = {} if wait is None else {"Retry-After": wait}
    with answering(problem(429, "busy", "Busy.", **headers), GOOD) as (url, asked), Client(url) as client:
        with pytest.raises(clipsearch.ServerBusyError):
            client.stats()
        assert len(asked) == 1


def test_a_change_that_may_have_begun_is_not_sent_again():
    said = problem(503, "overdue", "It took too long.", **{"Retry-After": "0"})
    with answering(said) as (url, asked), Client(url) as client:
        for change in (lambda: client.add([{"id": "a", "text": "x"}]), lambda: client.delete("a"), client.index):
            asked.clear()
            with pytest.raises(clipsearch.ServerBusyError):
                change()
            assert len(asked) == 1


def test_a_token_follows_no_redirect_and_is_in_no_text(caplog):
    with answering(GOOD) as (other, leaked):
        moved = (307, {"Location": f"{other}/v1/stats"}, b"")
        with answering(moved) as (url, asked), caplog.at_level(logging.DEBUG), Client(url, TOKEN) as client:
            with pytest.raises(clipsearch.ServerError, match="redirects") as error:
                client.stats()
            shown = f"{client!r} {error.value} {vars(client)} {client._connection._link!r} {caplog.text}"
    assert asked[0][2]["Authorization"] == f"Bearer {TOKEN}" and TOKEN not in asked[0][1]
    assert not leaked and TOKEN not in shown
    with pytest.raises(TypeError):
        pickle.dumps(client)
    with pytest.raises(TypeError):
        copy.copy(client)


def test_no_proxy_hears_the_token(monkeypatch):
    with answering(GOOD) as (proxy, heard), answering(GOOD) as (url, asked):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        with Client(url, TOKEN) as client:
            client.stats()
    assert asked and not heard


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "é" * 20, 3, "x" * 5000])
def test_a_token_that_no_header_can_bring_is_refused_unseen(token):
    with pytest.raises(clipsearch.InvalidInputError) as error:
        Client("http://127.0.0.1", token)
    assert not token or str(token) not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8756", "127.0.0.1", "", "ftp://host", "http://", "http://a b", "http://h:99999", "http://h:0", 3,
     "http://h/?q=1", "http://h/#a", "http://[::1", "http://h\\x", "file:///etc/passwd", "http://h\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    with pytest.raises(clipsearch.InvalidInputError):
        Client(url)


def test_no_password_is_taken_or_shown():
    with pytest.raises(clipsearch.InvalidInputError) as error:
        Client("https://me:secret@host/")
    assert "secret" not in str(error.value)


def test_a_token_goes_unencrypted_to_this_machine_alone():
    for url in ("http://photos.example.org", "http://192.168.1.5:8756", "http://127.0.0.1.example.org", "http://[::2]"):
        with pytest.raises(clipsearch.InvalidInputError, match="allow_http"):
            Client(url, TOKEN)
        with pytest.raises(clipsearch.InvalidInputError, match="allow_http"):
            AsyncClient(url, TOKEN)
        Client(url).close()
        Client(url, TOKEN, allow_http=True).close()
    for url in ("http://localhost:1", "http://127.0.0.9", "http://[::1]:8756/x/", "https://photos.example.org/v1"):
        Client(url, TOKEN).close()


def test_addresses_may_have_a_path():
    assert read_address("https://h/photos/").url == read_address("https://h/photos/v1").url == "https://h/photos"
    with answering(GOOD) as (url, asked), Client(f"{url}/photos/") as client:
        client.stats()
    assert asked[0][1] == "/photos/v1/stats"


def test_a_wrong_token_is_told_from_none(served):
    for token, what in ((None, "needs a token"), ("wrong" * 5, "does not take the token")):
        with Client(served.url, token) as client, pytest.raises(clipsearch.AccessDeniedError, match=what):
            client.stats()


@pytest.mark.parametrize("timeout", [0, -1, "3", True, float("nan"), float("inf")])
def test_a_timeout_is_a_number_of_seconds(timeout):
    with pytest.raises(clipsearch.InvalidInputError, match="timeout"):
        Client("http://127.0.0.1", timeout=timeout)


def test_certificates_that_are_not_there_are_one_error(tmp_path):
    for name in ("none.pem", "empty.pem"):
        (tmp_path / "empty.pem").write_text("")
        with pytest.raises(clipsearch.InvalidInputError, match="certificates"):
            Client("https://127.0.0.1", ca_file=str(tmp_path / name))


async def test_a_closed_client_says_so(served):
    client = Client(served.url, TOKEN)
    client.close()
    with pytest.raises(clipsearch.LibraryError, match="closed"):
        client.count()
    waiting = AsyncClient(served.url, TOKEN)
    await waiting.close()
    with pytest.raises(clipsearch.LibraryError, match="closed"):
        await waiting.count()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_client_works_after_a_fork(client, engine):
    expected = client.count()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads of the server, which the child has no use for
        child = os.fork()
    if not child:
        try:
            os.write(writer, str(client.count()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == str(expected) == str(client.count())
    os.waitpid(child, 0)


def test_a_hostile_key_stays_a_value(client, served):
    for key in ("../../etc/passwd", "a?b=c&key=d", "%2e%2e", "\r\nX: y"):
        assert client.get(key) is None and client.delete(key) == 0
    assert httpx.get(f"{served.url}/v1/health").status_code == 200


def test_what_is_too_large_is_told_from_a_broken_connection(client):
    for _ in range(3):
        with pytest.raises(clipsearch.InvalidInputError, match="33,554,432 bytes"):
            client.search(image=bytes(40 << 20))
