"""Hostile drawings and documents behind the server: each is refused, and the server goes on answering."""

import asyncio

import pytest

from clipsearch.media import drawing
from clipsearch.query.engine import SearchEngine
from clipsearch.server import pictures
from clipsearch.store.library import Library
from tests.support.documents import make_pdf
from tests.support.films import scenes, write_film
from tests.support.hostile_drawings import SVG_OF_MASKS, pdf_of_forms
from tests.support.libraries import index
from tests.support.serving import inside

SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='20' height='10'><rect width='20' height='10' fill='red'/></svg>"
JPEG = b"\xff\xd8\xff"


@pytest.fixture
def drawn(tmp_path, encoder):
    """A folder of an SVG and a PDF, and an engine of its library."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.svg").write_bytes(SVG)
    (folder / "b.pdf").write_bytes(make_pdf(["A cat on a sofa"]))
    report = index(tmp_path / "library", folder, encoder=encoder)
    assert report.added == 2
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        yield folder, engine


async def items(client):
    found = (await client.get("/v1/items")).json()["items"]
    return {item["path"].rpartition(".")[2]: f"/v1/items/{item['id']}/thumbnail" for item in found}


async def test_a_drawing_and_a_page_have_a_thumbnail(drawn):
    async with inside(drawn[1]) as client:
        for url in (await items(client)).values():
            answer = await client.get(url)
            assert answer.status_code == 200 and answer.content.startswith(JPEG)
        answer = await client.post("/v1/search/image", files={"image": SVG})
        assert answer.status_code == 200 and answer.json()["hits"][0]["path"].endswith("a.svg")


@pytest.mark.slow
async def test_hostile_ones_are_refused_while_the_server_answers(drawn, monkeypatch):
    monkeypatch.setattr(drawing, "SECONDS", 3)
    folder, engine = drawn
    async with inside(engine) as client:
        urls = await items(client)
        (folder / "a.svg").write_bytes(SVG_OF_MASKS)
        (folder / "b.pdf").write_bytes(pdf_of_forms())
        asked = [asyncio.ensure_future(client.get(url)) for url in urls.values()]
        while pictures._DRAWINGS._value:
            await asyncio.sleep(0.01)
        assert (await client.get("/v1/stats")).status_code == 200
        assert not any(each.done() for each in asked)
        for answer in await asyncio.gather(*asked):
            assert answer.status_code == 404 and "could not be drawn within" in answer.json()["detail"]
        answer = await client.post("/v1/search/image", files={"image": SVG_OF_MASKS})
        assert answer.status_code == 422 and "could not be drawn within" in answer.json()["detail"]
        (folder / "a.svg").write_bytes(SVG)
        assert (await client.get(urls["svg"])).status_code == 200


async def test_where_too_many_are_drawn_the_server_is_busy(drawn):
    async with inside(drawn[1]) as client:
        urls = await items(client)
        with pictures._turn(pictures._DRAWINGS), pictures._turn(pictures._DRAWINGS):
            answers = [await client.get(url) for url in urls.values()]
            answers.append(await client.post("/v1/search/image", files={"image": SVG}))
        for answer in answers:
            assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert (await client.get(urls["pdf"])).status_code == 200


async def test_a_frame_of_a_film_does_not_wait_long_for_others(tmp_path, encoder):
    pytest.importorskip("av")
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "a.mp4", scenes([1], 1))
    index(tmp_path / "library", tmp_path / "films", encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine:
        async with inside(engine) as client:
            url = (await items(client))["mp4"]
            with pictures._turn(pictures._FRAMES), pictures._turn(pictures._FRAMES):
                answer = await client.get(url)
                assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
            assert (await client.get(url)).status_code == 200
