"""A real server of pictures on this machine, with all that servers get wrong."""

from __future__ import annotations

import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from tests.support.pictures import encode, noise_picture

PICTURE = encode(noise_picture(1, (64, 48)))


class Web(ThreadingHTTPServer):
    """Serves what Handler has; requests: the path and the headers of each."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def asked(self) -> list[str]:
        return [path for path, _ in self.requests]

    def url(self, path: str, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.server_port}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients go away as they like."""


class Handler(BaseHTTPRequestHandler):
    """`/to/URL` redirects there; `/loop` to itself; the rest is what its name says."""

    protocol_version = "HTTP/1.1"
    server: Web

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        if self.path.startswith("/to/"):
            return self.answer(302, b"", Location=unquote(self.path[4:]))
        getattr(self, self.path.strip("/").partition(".")[0].partition("?")[0], self.missing)()

    def picture(self) -> None:
        # what a server says of the type is not what counts
        self.answer(200, PICTURE, **{"Content-Type": "application/octet-stream", "Set-Cookie": "a=b"})

    def loop(self) -> None:
        self.answer(302, b"", Location="/loop")

    def cookie(self) -> None:
        self.answer(302, b"", Location="/picture.jpg", **{"Set-Cookie": "a=b"})

    def page(self) -> None:
        self.answer(200, b"<!doctype html><title>a picture</title>", **{"Content-Type": "text/html; charset=utf-8"})

    def words(self) -> None:
        self.answer(200, b"no picture at all, but words of some length", **{"Content-Type": "image/jpeg"})

    def empty(self) -> None:
        self.answer(200, b"")

    def forbidden(self) -> None:
        self.answer(403, b"")

    def odd(self) -> None:
        self.answer(799, b"")

    def long(self) -> None:
        self.answer(200, PICTURE[:100], **{"Content-Length": "1000000"})

    def endless(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(PICTURE)

    def chunked(self) -> None:
        self.answer(200, b"%x\r\n%b\r\n0\r\n\r\n" % (len(PICTURE), PICTURE), **{"Transfer-Encoding": "chunked"})

    def cut(self) -> None:
        self.close_connection = True
        self.answer(200, PICTURE[:-100], **{"Content-Length": str(len(PICTURE))})

    def half(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PICTURE[:-450])

    def missing(self) -> None:
        self.answer(404, b"nothing here")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        if "Transfer-Encoding" not in headers:
            headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *unused: object) -> None:
        """Nothing."""


class Dripping(socketserver.BaseRequestHandler):
    """Says how an answer begins, and then a byte at a time, for as long as two seconds."""

    def handle(self) -> None:
        start = getattr(self.server, "start")  # noqa: B009 - it has no type
        self.request.sendall(start)
        for _ in range(100):
            time.sleep(0.02)
            self.request.sendall(b"a")


@contextmanager
def serving(certificate: str | None = None) -> Iterator[Web]:
    """A server at work. certificate: a file with a key and a certificate, to speak TLS."""
    with Web() as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        with _running(server):
            yield server


@contextmanager
def dripping(start: bytes) -> Iterator[int]:
    """A server that answers so and then slowly; its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        server.handle_error = lambda *unused: None  # type: ignore[method-assign]
        server.start = start  # type: ignore[attr-defined]
        with _running(server):
            yield server.server_address[1]


@contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
