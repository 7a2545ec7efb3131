"""The files of the page: which there are, how they are sent, and to whom."""

import gzip
import re

import pytest

from clipsearch.server.page_files import POLICY, read_page_files
from tests.support.paths import ROOT
from tests.support.serving import TOKEN, inside

FOLDER = ROOT / "clipsearch" / "server" / "page"
NAVIGATION = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def test_the_page_needs_no_token_and_may_load_only_its_own(engine):
    async with inside(engine, token=TOKEN) as client:
        assert (await client.get("/v1/stats")).status_code == 401
        page = await client.get("/", headers=NAVIGATION)
        assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == POLICY and "unsafe" not in POLICY and "*" not in POLICY
        assert page.headers["x-content-type-options"] == "nosniff" and page.headers["cache-control"] == "no-cache"
        assert page.content == (FOLDER / "index.html").read_bytes()


def test_no_script_stands_in_the_page_itself():
    """The policy of the page would stop one, and so what the page needs."""
    page = (FOLDER / "index.html").read_text()
    assert (
        page.count("<script") == len(re.findall(r'<script (?:type="module" )?src="/page/\w+\.js"></script>', page)) > 0
    )
    assert not re.search(r"\son\w+\s*=|javascript:|\sstyle\s*=|<style", page)


async def test_every_file_of_the_page_is_sent_with_its_type(engine):
    types = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".json": "application/json",
             ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json", ".png": "image/png"}  # fmt: skip
    names = {path.name for path in FOLDER.iterdir()}
    assert names == set(read_page_files()) and {"index.html", "app.js", "style.css"} <= names
    async with inside(engine) as client:
        for path in FOLDER.iterdir():
            sent = await client.get(f"/page/{path.name}")
            assert sent.status_code == 200 and sent.content == path.read_bytes()
            assert sent.headers["content-type"].split(";")[0] == types[path.suffix]


@pytest.mark.parametrize("name", ["", "none.js", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "APP.JS", "a/app.js",
                                  "app.js%00", "/etc/passwd", "index.html/"])  # fmt: skip
async def test_only_these_names_are_known(engine, name):
    async with inside(engine) as client:
        assert (await client.get(f"/page/{name}")).status_code == 404


async def test_what_the_client_has_is_not_sent_again(engine):
    async with inside(engine) as client:
        plain = await client.get("/page/app.js", headers={"Accept-Encoding": "identity"})
        packed = await client.get("/page/app.js", headers={"Accept-Encoding": "br, gzip;q=0.5"})
        assert plain.content == packed.content and "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip" and packed.headers["vary"] == "Accept-Encoding"
        assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, 9, mtime=0))
        assert plain.headers["etag"] != packed.headers["etag"]
        for first, encoding in ((plain, "identity"), (packed, "gzip")):
            headers = {"Accept-Encoding": encoding, "If-None-Match": f'"x", W/{first.headers["etag"]}'}
            again = await client.get("/page/app.js", headers=headers)
            assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == first.headers["etag"]
        assert "content-encoding" not in (await client.get("/", headers={"Accept-Encoding": "gzip;q=0, *;q=0"})).headers


async def test_a_head_is_the_answer_without_its_body(engine):
    async with inside(engine) as client:
        for path in ("/", "/page/app.js"):
            whole, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert {**whole.headers} == {**head.headers}
        assert (await client.post("/")).status_code == 405


async def test_the_page_is_no_part_of_the_api(engine):
    async with inside(engine) as client:
        await client.get("/page/app.js")
        paths = (await client.get("/v1/openapi.json")).json()["paths"]
        assert all(path.startswith("/v1/") for path in paths)
        assert 'route="/page/{name}"' in (await client.get("/v1/metrics")).text
