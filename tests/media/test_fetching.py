"""Pictures from a URL: a real server on this machine, and every way in which one can be wrong or mean harm."""

import shutil
import subprocess
import threading

import httpcore2
import pytest

import clipsearch
from clipsearch.errors import ClipSearchError, InvalidInputError, PictureError
from clipsearch.media.fetch import MAX_REDIRECTS, fetch_picture, is_public
from clipsearch.paths import is_url
from tests.support.web import PICTURE, dripping, serving

PUBLIC = "93.184.216.34"


def fetch(url, *, allow_private=True, max_bytes=10**6, **options):
    limits = {"min_side": 48, "max_pixels": 10**6, "max_bytes": max_bytes, "allow_private": allow_private}
    return fetch_picture(url, **limits, **options)


class Rerouted(httpcore2.SyncBackend):
    """Connects to the test's own server whatever the address is, and keeps that; `dead` ones refuse."""

    def __init__(self, dead=()):
        self.addresses = []
        self._dead = dead

    def connect_tcp(self, host, port, *rest):
        self.addresses.append(host)
        if host in self._dead:
            raise httpcore2.ConnectError(ConnectionRefusedError(111, "Connection refused"))
        return super().connect_tcp("127.0.0.1", port, *rest)


@pytest.mark.parametrize(
    "path", ["/picture.jpg", "/chunked", "/picture?a=b&c=%20#top", "/to//picture.ü", "/to/a/../../chunked"]
)
def test_a_picture_is_fetched_and_decoded(web, path):
    assert fetch(web.url(path)).size == (64, 48)


def test_what_is_sent_says_who_asks_and_nothing_else(web, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fetch(web.url("/cookie"))
    assert web.asked == ["/cookie", "/picture.jpg"]
    for _, headers in web.requests:
        assert headers.pop("Host") == f"127.0.0.1:{web.server_port}"
        assert headers.pop("User-Agent") == f"clipsearch/{clipsearch.__version__}"
        assert set(headers) == {"Accept", "Accept-Encoding"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/nothing.jpg", r"the server answers 404 Not Found\. Check the address"),
        ("/forbidden", "the server answers 403 Forbidden"),
        ("/odd", r"the server answers 799\. "),
        ("/page", "a web page, not a picture. Open it"),
        ("/words.jpg", "not a picture that clipsearch can read"),
        ("/empty", "the answer is empty"),
        ("/long", r"1000000 bytes, over the limit of 50000 \(setting max_picture_bytes\)"),
        ("/endless", r"more bytes than the limit of 50000 \(setting max_picture_bytes\)"),
        ("/cut", "the answer of the server is cut off"),
        ("/half", "truncated JPEG file"),
        ("/loop", rf"redirected more than {MAX_REDIRECTS} times"),
        ("/to//nothing.jpg", r"redirected to http://127\.0\.0\.1:\d+/nothing\.jpg: the server answers 404"),
        ("/to/ftp://example.org/a.jpg", "it redirects to an address that is not allowed. The URL begins with ftp:"),
        ("/to/http://me:secret@example.org/a", r"not allowed. The URL http://example\.org/a contains a user name"),
        ("/to/http://%5B::1/", "it redirects to something that is not a URL"),
    ],
)
def test_what_is_no_picture_is_told_with_its_url(web, path, message):
    with pytest.raises(PictureError, match=message) as error:
        fetch(web.url(path), max_bytes=50_000)
    assert str(error.value).startswith(f"{web.url(path)}: ")


def test_no_more_is_read_than_tells_what_it_is(web):
    """Not a byte of what is too long, and not the end of what is no picture."""
    fetch(web.url("/picture.jpg"), max_bytes=len(PICTURE))
    with pytest.raises(PictureError, match="over the limit"):
        fetch(web.url("/picture.jpg"), max_bytes=len(PICTURE) - 1)
    with (
        dripping(b"HTTP/1.1 200 OK\r\n\r\n" + b"<svg>" * 20) as port,
        pytest.raises(PictureError, match="not a picture"),
    ):
        fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("scheme", "start"),
    [
        ("http", b"HTTP/1.1 200 OK\r\nX: "),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + PICTURE[:50]),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n" + PICTURE[:50]),
        ("https", b"\x16\x03\x03\x40\x00"),
        ("http", b""),
    ],
    ids=["headers", "body", "endless body", "TLS", "status"],
)
def test_a_server_that_drips_holds_nothing(scheme, start):
    with dripping(start) as port, pytest.raises(PictureError, match=r"it took longer than 0\.2 seconds"):
        fetch(f"{scheme}://127.0.0.1:{port}/", seconds=0.2)


def test_a_name_that_is_not_resolved_in_time_holds_nothing():
    done = threading.Event()
    with pytest.raises(PictureError, match=r"it took longer than 0\.1 seconds"):
        fetch("http://slow.test/a.jpg", seconds=0.1, resolve=lambda *unused: done.wait(5) and [])
    done.set()


@pytest.mark.parametrize(
    "url", ["ftp://a/b.jpg", "file:///etc/passwd", "data:image/png;base64,aaaa", "FILE://x", "gopher://x/"]
)
def test_other_schemes_are_refused(url):
    assert is_url(url)
    with pytest.raises(InvalidInputError, match="only over http: and https:"):
        fetch(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:secret@example.org/a.jpg", "user name or a password"),
        ("https://example.org/a.jpg dog", "There is a space in the URL"),
        ("http:///a.jpg", "names no server"),
        ("http://a:0/", "names no server, or an impossible port"),
        ("http://a:65536/", "names no server, or an impossible port"),
        ("http://a\0b/", "is not a URL"),
        ("http://[::1/", "is not a URL"),
        ("http://a/\udcff", "is not a URL"),
        ("http://\udcff/", "is not a URL"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url, message):
    with pytest.raises(InvalidInputError, match=message) as error:
        fetch(url)
    assert "secret" not in str(error.value) and "\0" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("nowhere.invalid", "cannot be resolved"),
        ("a..b", "cannot be resolved"),
        ("a" * 64 + ".org", "cannot be resolved"),
    ],
)
def test_a_name_that_is_none_is_told(host, message):
    with pytest.raises(PictureError, match=message):
        fetch(f"http://{host}/a.jpg")


def test_a_server_that_is_not_there_is_told():
    with serving() as gone:
        url = gone.url("/a.jpg?" + "long" * 50)
    with pytest.raises(
        PictureError, match=r"^http://127\.0\.0\.1:\d+/a\.jpg: the server cannot be reached \(Connection refused\)"
    ):
        fetch(url)


PRIVATE = [
    "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "0.0.0.0", "0", "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1",
    "255.255.255.255", "[::]", "[::1]", "[::ffff:10.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fe80::1]",
    "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]",
    "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2001::1]", "[4000::1]", "[100::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_that_are_not_public_are_refused(host):
    network = Rerouted()
    with pytest.raises(
        ClipSearchError, match=r"not a public address.*ALLOW_PRIVATE_URLS=1|is not a URL|cannot be resolved"
    ):
        fetch(f"http://{host}/a.jpg", allow_private=False, network=network)
    assert not network.addresses


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::8.8.8.8"]
)
def test_addresses_that_are_public_are_not(address):
    assert is_public(address)


def test_a_name_is_resolved_once_and_connected_to_what_was_checked(web):
    """A name that changes to an address of this machine right after it was looked at (DNS rebinding)."""
    answers, network = [[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]], Rerouted()
    url = web.url("/picture.jpg", host="rebinding.test")
    options = {"allow_private": False, "network": network, "resolve": lambda *unused: answers.pop(0)}
    fetch(url, **options)
    assert network.addresses == [PUBLIC] and len(answers) == 2
    assert web.requests[0][1]["Host"] == f"rebinding.test:{web.server_port}"
    with pytest.raises(PictureError, match=r"rebinding\.test is at 127\.0\.0\.1, not a public address"):
        fetch(url, **options)
    assert network.addresses == [PUBLIC]


def test_every_address_of_a_name_is_checked_before_any_is_connected_to():
    network = Rerouted()
    with pytest.raises(PictureError, match=r"is at ::1, not a public address"):
        fetch("http://two.test/", allow_private=False, network=network, resolve=lambda *unused: [PUBLIC, "::1"])
    assert not network.addresses


def test_the_next_address_is_taken_where_one_does_not_answer(web):
    network = Rerouted(dead={"2606:4700::1111"})
    url = web.url("/picture.jpg", host="two.test")
    fetch(url, allow_private=False, network=network, resolve=lambda *unused: ["2606:4700::1111", PUBLIC])
    assert network.addresses == ["2606:4700::1111", PUBLIC]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "inside.test"])
def test_redirects_to_addresses_that_are_not_public_are_refused(web, host):
    network, url = Rerouted(), web.url(f"/to/{web.url('/picture.jpg', host=host)}", host="public.test")
    known = {"public.test": [PUBLIC], "inside.test": ["10.0.0.7"]}
    with pytest.raises(PictureError, match=rf"redirected to http://{host}:.*: .*not a public address"):
        fetch(url, allow_private=False, network=network, resolve=lambda name, port: known.get(name, ["127.0.0.1"]))
    assert network.addresses == [PUBLIC] and len(web.requests) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a key and the certificate of pictures.test, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=pictures.test", "-addext", "subjectAltName=DNS:pictures.test"]
    made = subprocess.run([openssl, "req", *kind, *name, "-keyout", file, "-out", f"{file}.crt"], capture_output=True)
    if made.returncode:
        pytest.skip("openssl makes no such certificate")
    file.write_bytes(file.read_bytes() + file.with_name("both.pem.crt").read_bytes())
    return str(file)


@pytest.fixture(scope="module")
def secure(certificate):
    with serving(certificate) as web:
        yield web


def fetch_secure(secure, host, path="/picture.jpg"):
    url = secure.url(path, scheme="https", host=host)
    return fetch(url, allow_private=False, network=Rerouted(), resolve=lambda *unused: [PUBLIC])


def test_a_certificate_is_verified_against_the_name(secure, certificate, monkeypatch):
    """Though it is an address that is connected to."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    assert fetch_secure(secure, "pictures.test").size == (64, 48)
    with pytest.raises(PictureError, match=r"cannot prove its identity \(Hostname mismatch, .*other\.test"):
        fetch_secure(secure, "other.test")
    with pytest.raises(PictureError, match=r"cannot prove its identity \(IP address mismatch"):
        fetch_secure(secure, PUBLIC)


def test_a_certificate_that_nobody_vouches_for_is_refused(secure):
    secure.requests.clear()
    with pytest.raises(PictureError, match=r"cannot prove its identity \(self-signed certificate\)\. Check"):
        fetch_secure(secure, "pictures.test")
    assert not secure.requests


def test_a_redirect_from_https_to_http_is_refused(web, secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    with pytest.raises(PictureError, match="redirects from https to http://127"):
        fetch_secure(secure, "pictures.test", f"/to/{web.url('/picture.jpg')}")
    assert not web.requests


def test_a_server_that_speaks_no_tls_is_told(web):
    with pytest.raises(PictureError, match="does not use TLS correctly"):
        fetch(web.url("/picture.jpg", scheme="https"))


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"])
def test_what_is_not_http_is_told(answer):
    with dripping(answer + b"\0" * 200_000) as port, pytest.raises(PictureError, match="is cut off, or is not HTTP"):
        fetch(f"http://127.0.0.1:{port}/")
