"""One library, an engine for it, and clients of a server of it over real connections."""

import asyncio
import inspect

import pytest

from clipsearch import AsyncClient, Client
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.api import SMALL
from tests.support.libraries import index, photos
from tests.support.serving import TOKEN, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def engine(folder, encoder):
    """Pictures, a text, and records: with captions, long texts, metadata."""
    photos(folder / "photos" / "sea", 5)
    photos(folder / "photos" / "hills", 3, first=10)
    (folder / "photos" / "note.txt").write_text("A note about a red bicycle.\n")
    index(folder / "library", folder / "photos", encoder=encoder)
    with SearchEngine(Library(folder / "library"), SMALL, encoder, may_be_empty=True) as opened:
        opened.add(
            [
                {"id": "sku-1", "text": "A red mug. " * 400, "metadata": {"price": 9.5, "tags": ["mug"], "sold": True}},
                {"id": "sku-2", "text": "A blue bicycle", "metadata": {"price": 120, "none": None, "名": "自行车"}},
                {"id": "sku-3", "image": (folder / "photos/sea/p001.jpg").read_bytes(), "caption": "waves " * 500},
            ],
            keep="thumbnail",
        )
        opened.tag(["sku-1", 2], add=["mug", "Kitchen"])
        opened.collect("Summer", add=["sku-3", 4])
        yield opened


@pytest.fixture(scope="module")
def served(engine, folder):
    settings = {"token": TOKEN, "allow_write": True, "index_folders": (str(folder),)}
    with serving(engine, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(served):
    with Client(served.url, TOKEN) as opened:
        yield opened


class Awaited:
    """The methods of an AsyncClient for code that is not asynchronous: each is run to its end by a loop."""

    def __init__(self, opened, loop):
        self._opened, self._loop = opened, loop

    def __getattr__(self, name):
        def call(*args, **kwargs):
            return self._loop.run_until_complete(self._run(getattr(self._opened, name)(*args, **kwargs)))

        return call

    async def _run(self, found):
        return await found if inspect.isawaitable(found) else [each async for each in found]


@pytest.fixture(scope="module")
def awaited(served):
    with asyncio.Runner() as runner:
        opened = AsyncClient(served.url, TOKEN)
        yield Awaited(opened, runner.get_loop())
        runner.run(opened.close())


@pytest.fixture(params=["waiting", "awaiting"])
def remote(request, client, awaited):
    """A client of either kind."""
    return client if request.param == "waiting" else awaited
