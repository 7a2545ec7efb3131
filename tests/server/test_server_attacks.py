"""One attack for each defence of the HTTP server; it fails where the defence is taken away."""

import asyncio
import gc
import json
import logging
import os
import select
import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from clipsearch import InvalidInputError, access
from clipsearch.client.connection import KEEP_SECONDS
from clipsearch.errors import LibraryError
from clipsearch.query.engine import SearchEngine
from clipsearch.server import connections
from clipsearch.server import sending as sending_module
from clipsearch.server.app import create_app
from clipsearch.server.attempts import FailedTokens
from clipsearch.server.settings import ServerSettings
from clipsearch.store.folder import open_folder
from clipsearch.store.library import Library
from tests.support.libraries import index, photo
from tests.support.pictures import encode, noise_picture, odd_corpus
from tests.support.serving import BEARER, TOKEN, connect, inside, serving


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.168.1.5"},
        {"allow_write": True},
        {"token": "short"},
        {"allowed_hosts": ("photos.example.org",)},
    ],
)
def test_nobody_is_let_in_without_a_token(engine, settings):
    with pytest.raises(InvalidInputError, match="token"):
        create_app(engine, ServerSettings(**settings))


async def test_the_token_is_needed_for_all_that_says_something(engine):
    async with inside(engine, token=TOKEN) as client:
        for path in (
            "/v1/stats",
            "/v1/search?q=a",
            "/v1/items/1/image",
            "/v1/openapi.json",
            "/v1/health/",
            "/v1//ready",
        ):
            assert (await client.get(path)).status_code == 401, path
        assert (await client.get("/v1/stats", params={"token": TOKEN})).status_code == 401
        assert (await client.get("/v1/stats", headers=BEARER)).status_code == 200
        assert (await client.get("/v1/health")).status_code == 200


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    compare = access.hmac.compare_digest
    monkeypatch.setattr(access.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    settings = ServerSettings(token=TOKEN)
    assert settings.admits(f"Bearer {TOKEN}") and not settings.admits(f"Bearer {TOKEN[:-1]}x")
    assert len(compared) == 2


def test_nothing_is_open_unless_it_is_said():
    settings = ServerSettings()
    assert settings.host == "127.0.0.1" and not settings.allow_write
    assert not (settings.allow_urls or settings.allowed_hosts or settings.index_folders)


def test_an_address_of_a_network_is_no_fresh_one():
    """Whoever has one address of IPv6 has 2 ** 64 of them."""
    failed = FailedTokens()
    for number in range(10):
        failed.record(f"2001:db8::{number:x}", f"Bearer {number}")
        failed.record(f"192.0.2.{number}", f"Bearer {number}")
    assert failed.wait("2001:db8::ffff") > 0
    assert failed.wait("2001:db8:0:1::1") == failed.wait("192.0.2.1") == 0


async def test_wrong_tokens_are_counted(engine):
    async with inside(engine, token=TOKEN) as client:
        wrong = [{"Authorization": f"Bearer {number:032}"} for number in range(12)]
        tried = [(await client.get("/v1/stats", headers=headers)).status_code for headers in wrong]
        assert tried == [401] * 10 + [429] * 2
        late = await client.get("/v1/stats", headers=BEARER)
        assert late.status_code == 429 and 0 < int(late.headers["retry-after"]) <= 60


def test_no_token_is_logged(engine, caplog, capfd, monkeypatch):
    monkeypatch.setattr(engine, "count", lambda *unused: 1 / 0)
    with caplog.at_level(logging.DEBUG), serving(engine, token=TOKEN) as served, connect(served) as connection:
        head = (
            f"GET /v1/stats HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode())
        answer = read_all(connection)
    assert b" 500 " in answer and b"nosniff" in answer and b"ZeroDivisionError" not in answer
    assert "ZeroDivisionError" in caplog.text + capfd.readouterr().err
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(ServerSettings(token=TOKEN))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8756", "127.0.0.1.evil.example", ""])
async def test_another_name_for_this_machine_is_refused(engine, host):
    async with inside(engine) as client:
        assert (await client.get("/v1/stats", headers={"Host": host})).status_code == 403
        assert (await client.get("/v1/stats", headers={"Host": "localhost:8756"})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_pages_of_other_sites_are_refused(engine, headers):
    async with inside(engine) as client:
        answer = await client.get("/v1/stats", headers=headers)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
        assert (await client.get("/v1/stats", headers={"Origin": "http://127.0.0.1:8756"})).status_code == 200


async def test_a_link_of_another_site_leads_to_the_page_only(engine):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    pages, others = ("/", "/page/nothing.js"), ("/v1/stats", "/v1/items/1/image", "/v1/health", "/page")
    for settings, refused in (({}, 404), ({"token": TOKEN}, 401)):
        async with inside(engine, **settings) as client:
            for path in pages:
                assert (await client.get(path, headers=link)).status_code != 403
                assert (await client.get(path)).status_code != 401
                for headers in (
                    {"Sec-Fetch-Site": "cross-site"},
                    link | {"Sec-Fetch-Mode": "no-cors"},
                    link | {"Sec-Fetch-Dest": "iframe"},
                    link | {"Host": "evil.example"},
                    link | {"Origin": "https://evil.example"},
                ):
                    assert (await client.get(path, headers=headers)).status_code == 403, headers
                assert (await client.post(path, headers=link)).status_code == 403
            for path in others:
                assert (await client.get(path, headers=link)).status_code == 403, path
            assert (await client.get("/page/%2e%2e/v1/stats")).status_code == 404
            assert (await client.get("/pages")).status_code == refused


async def test_a_query_names_no_file_and_no_address(engine, pictures, web):
    secret = str(pictures / "sea" / "p001.jpg")
    async with inside(engine) as client:
        hidden = f'"a" or "b" and not (c and image:"{secret}")'
        for query in (f"image:{secret}", secret, "./p.jpg", web.url("/a.jpg"), f"cat - {secret}", hidden):
            answer = await client.post("/v1/search", json={"query": query})
            assert answer.status_code == 422 and "does not read" in answer.json()["detail"], query
        answer = await client.post("/v1/search", json={"image_url": web.url("/a.jpg")})
        assert answer.status_code == 422 and "fetches no URLs" in answer.json()["detail"]
        for path in ("/v1/items/..%2f..%2fetc%2fpasswd/image", f"/v1/items/{secret}/image"):
            assert (await client.get(path)).status_code in (404, 422)
    assert web.asked == []
    async with inside(engine, allow_urls=True) as client:
        for url in (secret, "file:///etc/passwd", "ftp://localhost/a.jpg"):
            answer = await client.post("/v1/search", json={"image_url": url})
            assert answer.status_code == 422 and "http or https only" in answer.json()["detail"]
            assert (await client.post("/v1/search", json={"query": f"image:{url}"})).status_code == 422


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433", "127.1", "0", "[::ffff:127.0.0.1]", "[::]",
     "[64:ff9b::7f00:1]", "user@127.0.0.1", "127.0.0.1.", "①②⑦.⓪.⓪.①", "169.254.169.254"],
)  # fmt: skip
async def test_no_address_of_this_machine_or_its_network_is_fetched(engine, web, host):
    async with inside(engine, allow_urls=True) as client:
        url = f"http://{host}:{web.server_port}/picture.jpg"
        for asked in ({"image_url": url}, {"query": f'image:"{url}"'}):
            assert (await client.post("/v1/search", json=asked)).status_code == 422
    assert web.asked == []


async def test_forms_of_other_sites_are_refused(engine):
    """A form needs no leave to be sent anywhere, with any picture."""
    async with inside(engine, token=TOKEN, allow_write=True) as client:
        for path in ("/v1/search/image", "/v1/records/image"):
            for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                sent = {"files": {"image": b"x"}, "data": {"id": "a"}, "headers": {**headers, **BEARER}}
                assert (await client.post(path, **sent)).status_code == 403


async def test_odd_pictures_are_answered(engine, tmp_path):
    odd_corpus(tmp_path)
    async with inside(engine) as client:
        for path in sorted(tmp_path.iterdir()):
            if path.is_file():
                answer = await client.post("/v1/search/image", files={"image": (path.name, path.read_bytes())})
                assert answer.status_code in (200, 422), path


@pytest.fixture
def own(tmp_path, encoder):
    """A library whose one picture a test may replace."""
    path = photo(tmp_path / "p" / "one.jpg", 1)
    index(tmp_path / "library", tmp_path / "p", encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        yield engine, path


@pytest.mark.parametrize("what", ["image", "thumbnail"])
async def test_a_file_that_became_a_link_is_not_given_out(own, tmp_path, what):
    engine, path = own
    item = engine.find().items[0].id
    async with inside(engine) as client:
        assert (await client.get(f"/v1/items/{item}/{what}")).status_code == 200
        secret = photo(tmp_path / "secret.jpg", 2)
        path.unlink()
        path.symlink_to(secret)
        assert (await client.get(f"/v1/items/{item}/{what}")).status_code == 404
        path.unlink()
        os.mkfifo(path)
        assert (await client.get(f"/v1/items/{item}/{what}")).status_code == 404
        held = os.open(path, os.O_RDWR)
        os.write(held, secret.read_bytes())
        assert (await client.get(f"/v1/items/{item}/{what}")).status_code == 404
        os.close(held)


def test_nothing_but_a_regular_file_is_opened(tmp_path):
    """What is read of another kind is refused later too: this is what keeps a device from being read at all."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with open_folder(tmp_path) as folder:
        for name in ("fifo", "folder"):
            with pytest.raises(LibraryError, match="regular file"):
                folder.open(name, os.O_RDONLY)
        os.close(folder.open("file", os.O_RDONLY))


async def test_a_file_that_is_no_picture_is_not_given_out(own):
    engine, path = own
    path.write_text("<script>alert(1)</script>")
    async with inside(engine) as client:
        assert (await client.get(f"/v1/items/{engine.find().items[0].id}/image")).status_code == 404


async def test_a_request_is_bounded_in_bytes(engine):
    async def endless():
        for _ in range(1000):
            yield b" " * 4096

    async with inside(engine, max_body=10_000, max_upload=20_000) as client:
        json_type = {"Content-Type": "application/json"}
        said = await client.post("/v1/search", content=b" " * 10_001, headers=json_type)
        assert said.status_code == 413 and said.headers["content-type"] == "application/problem+json"
        assert (await client.post("/v1/search", content=endless(), headers=json_type)).status_code == 413
        for length, status in (("9" * 5000, 413), ("\xb2", 422)):
            declared = {**json_type, "Content-Length": length.encode("latin-1")}
            assert (await client.post("/v1/search", content=b"{}", headers=declared)).status_code == status
        upload = await client.post("/v1/search/image", files={"image": b"x" * 20_001})
        assert upload.status_code == 413
        assert (await client.post("/v1/search/image", files={"image": b"x" * 15_000})).status_code == 422


@pytest.mark.parametrize("is_declared", [True, False])
async def test_bodies_under_way_are_bounded_together(engine, is_declared):
    begun, free = asyncio.Event(), asyncio.Event()

    async def held():
        yield b'--a\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        yield b"x" * (1000 if is_declared else 120_000)
        begun.set()
        await free.wait()
        yield b"x" * (119_000 if is_declared else 1000) + b"\r\n--a--\r\n"

    async with inside(engine, max_body=1000, max_upload=150_000, max_in_flight=200_000) as client:
        head = {"Content-Type": "multipart/form-data; boundary=a"}
        head |= {"Content-Length": str(120_000 + 78)} if is_declared else {}
        first = asyncio.create_task(client.post("/v1/search/image", content=held(), headers=head))
        picture = {"files": {"image": b"x" * 100_000}}
        await asyncio.wait_for(begun.wait(), 20)
        second = await client.post("/v1/search/image", **picture)
        assert second.status_code == 429 and second.headers["retry-after"] == "1"
        assert (await client.post("/v1/search/image", files={"image": b"x" * 1000})).status_code == 422
        assert (await client.post("/v1/search", json={"text": "cat"})).status_code == 200
        free.set()
        assert (await first).status_code in (400, 422)
        assert (await client.post("/v1/search/image", **picture)).status_code == 422


async def test_who_has_no_token_takes_no_room(engine):
    async with inside(engine, token=TOKEN) as client:
        for path in ("/v1/session", "/v1/health", "/", "/page/a.js"):
            assert (await client.post(path, content=b"x" * 65_537)).status_code == 413
        assert (await client.post("/v1/search/image", content=b"x" * (40 << 20))).status_code == 401


async def test_json_is_bounded_in_values(engine):
    """Reading it holds the event loop up."""
    async with inside(engine) as client:
        for value, many in ((b"[],", 110_000), (b'"a":0,', 110_000), (b"1,", 210_000), (b"{}", 210_000)):
            sent = {"content": b"[" + value * many, "headers": {"Content-Type": "application/json"}}
            answer = await client.post("/v1/embeddings", **sent)
            assert answer.status_code == 413 and "values" in answer.json()["detail"]
        many = {"content": b"[" + b"1," * 500_000, "headers": {"Content-Type": "application/json"}}
        assert (await client.post("/v1/records", **many)).status_code in (400, 403)  # vectors of records have many
        assert (await client.post("/v1/records", **many | {"content": b"[" * 1_000_001})).status_code == 413
        assert (await client.post("/v1/search/image", files={"image": b"," * 2_000_000})).status_code == 422


def test_a_slow_body_is_given_up(engine):
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    with serving(engine, body_seconds=0.3) as served, connect(served) as connection:
        connection.sendall(head + b"Content-Type: application/json\r\n\r\n{")
        assert b" 408 " in read_all(connection)


def test_a_body_that_drips_is_given_up(engine):
    """Each piece comes in time, and all of it would take for ever."""
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    )
    with serving(engine, body_seconds=0.5) as served, connect(served) as connection:
        connection.sendall(head)
        end = time.monotonic() + 20
        while not select.select([connection], [], [], 0.1)[0]:
            assert time.monotonic() < end
            connection.sendall(b" ")
        assert b" 408 " in read_all(connection)


def test_a_body_that_came_fast_may_not_stop(engine):
    head = b"POST /v1/search/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n"
    with serving(engine, body_seconds=1.0) as served, connect(served) as connection:
        part = b'--a\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        connection.sendall(head + b"Content-Type: multipart/form-data; boundary=a\r\n\r\n" + part + bytes(8 << 20))
        assert b" 408 " in read_all(connection)


@pytest.mark.parametrize("start", [b"", b"GET /v1/health HTTP/1.1\r\nHost: local"])
def test_a_slow_head_is_cut_off(engine, start):
    with serving(engine, head_seconds=0.3) as served, connect(served) as connection:
        connection.sendall(start)
        assert read_all(connection) == b""
        with connect(served) as other:  # nor on a connection that was used before
            other.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/hea")
            assert read_all(other).count(b"HTTP/1.1") == 1


def test_a_connection_may_be_idle_between_requests_but_not_within_a_head(engine):
    """Were it ended as early as clients end theirs, a request on its way would get no answer."""
    ask = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert connections.KEEP_SECONDS > 120 > KEEP_SECONDS
    with serving(engine, head_seconds=0.3) as served, connect(served) as connection:
        assert served.server.config.timeout_keep_alive == connections.KEEP_SECONDS
        for _ in range(2):
            connection.sendall(ask)
            answer = b""
            while b'"alive"' not in answer:
                part = connection.recv(1 << 16)
                assert part, answer
                answer += part
            time.sleep(0.6)
        connection.sendall(ask[:-4])
        assert read_all(connection) == b""


def test_connections_that_say_nothing_make_room_for_one_that_asks(engine):
    ask = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving(engine, max_connections=8) as served, ExitStack() as stack:
        silent = [stack.enter_context(connect(served)) for _ in range(24)]
        for _ in range(8):
            with connect(served) as connection:
                connection.sendall(ask)
                assert b" 200 " in read_all(connection)
        assert served.connections <= 9
        assert read_all(silent[0]) == b""  # those that waited longest were cut off


def test_a_connection_too_many_is_told_so(engine, held_count):
    begun, free = held_count
    work = b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with serving(engine, max_connections=2) as served, connect(served) as one, connect(served) as two:
        one.sendall(work)
        two.sendall(work)
        until(lambda: served.server.config.http_protocol_class.waiting == {})
        assert begun.wait(20)
        with connect(served) as three:
            three.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = read_all(three)
        assert b" 503 " in answer and b"application/problem+json" in answer and b"retry-after: 1" in answer.lower()
        free.set()
        assert b" 200 " in read_all(one) and b" 200 " in read_all(two)


def test_a_client_that_does_not_read_is_cut_off(own):
    engine, path = own
    path.write_bytes(path.read_bytes() + bytes(40 << 20))
    item = engine.find().items[0].id
    with serving(engine, send_seconds=0.3) as served, connect(served) as connection:
        connection.sendall(f"GET /v1/items/{item}/image HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        until(lambda: served.connections == 1)
        until(lambda: served.connections == 0)
        assert len(read_all(connection)) < 40 << 20


async def test_a_picture_is_bounded_in_pixels(engine):
    data = encode(noise_picture(1, (200, 100)), "PNG")
    async with inside(engine, max_pixels=10_000) as client:
        answer = await client.post("/v1/search/image", files={"image": data})
        assert answer.status_code == 422 and "pixels" in answer.json()["detail"]
    async with inside(engine) as client:
        assert (await client.post("/v1/search/image", files={"image": data})).status_code == 200


@pytest.fixture
def held_count(engine, monkeypatch):
    """Hold up whoever counts the items: events that it began, and that it may go on."""
    begun, free = threading.Event(), threading.Event()
    count = engine.count

    def slow(*given):
        begun.set()
        free.wait(20)
        return count(*given)

    monkeypatch.setattr(engine, "count", slow)
    return begun, free


async def test_requests_beyond_the_queue_are_told_to_come_back(engine, held_count):
    begun, free = held_count
    async with inside(engine, max_queue=1) as client:
        first = asyncio.create_task(client.get("/v1/stats"))
        await asyncio.to_thread(begun.wait, 20)
        refused = await client.get("/v1/search?q=cat")
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert (await client.get("/v1/health")).status_code == 200
        free.set()
        assert (await first).status_code == 200
        assert (await client.get("/v1/search?q=cat")).status_code == 200


async def test_long_work_is_given_up(engine, monkeypatch):
    free = threading.Event()
    monkeypatch.setattr(engine, "count", lambda *unused: free.wait(20) and 0)
    async with inside(engine, work_seconds=0.2, max_queue=1) as client:
        answer = await client.get("/v1/stats")
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert (await client.get("/v1/stats")).status_code == 429  # the work goes on, and counts
        free.set()


async def test_nested_filters_are_refused(engine):
    async with inside(engine) as client:
        for depth in (40, 300, 20_000):
            nested = '{"none_of":[' * depth + "{}" + "]}" * depth
            sent = {"content": '{"filters":' + nested + "}", "headers": {"Content-Type": "application/json"}}
            assert (await client.post("/v1/find", **sent)).status_code in (400, 422)
        for wrong in ({"ids": [2**70]}, {"min_width": 2**70}, {"near": {"latitude": 1e999, "longitude": 0, "km": 1}}):
            content = json.dumps({"filters": wrong})
            answer = await client.post("/v1/find", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, wrong
        for path in (f"/v1/items/{2**70}", "/v1/search?q=a&k=100000", f"/v1/search?q=a&offset={2**70}"):
            assert (await client.get(path)).status_code == 422


async def test_every_response_is_bound(engine):
    async with inside(engine, token=TOKEN) as client:
        for path in ("/v1/stats", "/v1/items/1/thumbnail", "/v1/items/1/image", "/v1/nowhere"):
            for headers in ({}, BEARER):
                answer = await client.get(path, headers=headers)
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["cross-origin-resource-policy"] == "same-origin"
                assert answer.headers["referrer-policy"] == "no-referrer" and "server" not in answer.headers
                assert answer.headers["cache-control"] == "no-store" or answer.status_code == 200


async def test_writing_needs_leave(engine):
    from fastapi import Depends

    from clipsearch.server.access import require_write

    for allowed, status in ((False, 403), (True, 200)):
        settings = {"token": TOKEN, "allow_write": allowed}
        async with inside(engine, **settings) as client:
            app = client._transport.app
            app.post("/v1/probe", dependencies=[Depends(require_write)])(lambda: {})
            assert (await client.post("/v1/probe", headers=BEARER)).status_code == status


def test_a_stop_waits_for_what_was_asked(engine, held_count):
    begun, free = held_count
    with serving(engine) as served:
        connection = connect(served)
        connection.sendall(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert begun.wait(20)
        threading.Timer(0.3, free.set).start()
    with connection:
        assert b" 200 " in read_all(connection)


def read_all(connection):
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionError:
        pass
    return found


def until(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


async def test_pictures_that_are_being_sent_are_bounded_together(own, monkeypatch):
    """A large file costs a stranger's library nothing, and who reads it slowly holds it in memory."""
    engine, _ = own
    app = create_app(engine, ServerSettings())
    sending = app.state.service.sending
    monkeypatch.setattr(sending_module, "MOST", 10_000)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    item = next(item.id for item in engine.find() if item.picture)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8756") as client:
        with sending.hold(9_999):
            refused = await client.get(f"/v1/items/{item}/image")
            assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
            assert (await client.get(f"/v1/items/{item}/thumbnail")).status_code == 200
        assert (await client.get(f"/v1/items/{item}/image")).status_code == 200
    gc.collect()
    assert sending.held == 0
