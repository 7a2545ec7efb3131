"""Embeddings over HTTP, in the shapes of OpenAI's API, and the same for pictures."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from clipsearch.server import ServerSettings, create_app
from tests.support.api import SMALL, ask, writable
from tests.support.pictures import encode, noise_picture

PICTURE = encode(noise_picture(1, (64, 48)))
URL = "data:image/jpeg;base64," + base64.b64encode(PICTURE).decode()


@pytest.fixture(scope="module")
def engine(tmp_path_factory, encoder):
    with writable(tmp_path_factory.mktemp("embeddings") / "lib", encoder) as app:
        yield app.state.service.engine


@pytest.fixture
def app(engine):
    """Embedding changes nothing, so that reading is enough."""
    return create_app(engine, ServerSettings())


async def embed(app, **body):
    async with ask(app) as client:
        return await client.post("/v1/embeddings", json=body)


async def test_the_answer_has_the_shape_of_openai(app, engine):
    texts = ["a cat on a sofa", "a dog"]
    answer = (await embed(app, input=texts, model=engine.encoder.name, user="someone")).json()
    assert set(answer) == {"object", "data", "model", "usage"}
    assert (answer["object"], answer["model"]) == ("list", engine.encoder.name)
    assert [(set(each), each["object"], each["index"]) for each in answer["data"]] == [
        ({"object", "index", "embedding"}, "embedding", place) for place in (0, 1)
    ]
    rows = np.array([each["embedding"] for each in answer["data"]], np.float32)
    assert np.array_equal(rows, engine.embed(texts=texts))
    tokens = sum(map(engine.encoder.count_tokens, texts))
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (await embed(app, input=texts[0])).json()["data"][0]["embedding"] == answer["data"][0]["embedding"]


async def test_base64_is_of_float32_in_little_endian(app, engine):
    answer = (await embed(app, input="a cat", encoding_format="base64")).json()
    row = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    assert np.array_equal(row, engine.embed(texts=["a cat"])[0])


async def test_texts_are_queries_where_that_is_said(app, engine):
    answer = (await embed(app, input=["a cat"], kind="query")).json()
    expected = engine.embed(texts=["a cat"], kind="query")[0]
    assert np.array_equal(np.array(answer["data"][0]["embedding"], np.float32), expected)


async def test_pictures_and_texts_keep_their_places(app, engine):
    answer = (await embed(app, input=["a cat", {"image": URL}, {"text": "a dog"}, {"image": URL}])).json()
    rows = np.array([each["embedding"] for each in answer["data"]], np.float32)
    assert np.array_equal(rows[[0, 2]], engine.embed(texts=["a cat", "a dog"]))
    assert np.allclose(rows[[1, 3]], engine.embed(images=[PICTURE]), atol=1e-3)
    assert answer["usage"]["total_tokens"] == sum(map(engine.encoder.count_tokens, ["a cat", "a dog"]))


async def test_the_official_client_reads_it(app, engine):
    openai = pytest.importorskip("openai")
    async with ask(app) as http:
        client = openai.AsyncOpenAI(api_key="0123456789abcdef", base_url="http://localhost/v1", http_client=http)
        made = await client.embeddings.create(input=["a cat"], model=engine.encoder.name)
        assert np.array_equal(np.array(made.data[0].embedding, np.float32), engine.embed(texts=["a cat"])[0])
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(input=["a cat"], model="text-embedding-3-small")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"input": "a cat", "model": "text-embedding-3-small"}, 404, "text-embedding-3-small"),
        ({"input": "a cat", "dimensions": 7}, 422, "dimensions"),
        ({"input": ""}, 422, ""),
        ({"input": []}, 422, ""),
        ({"input": ["a cat", " "]}, 422, "input[1]"),
        ({"input": [1, 2, 3]}, 422, ""),
        ({"input": [[1, 2], [3]]}, 422, ""),
        ({"input": ["a"] * 2049}, 422, ""),
        ({"input": "a" * 32_769}, 422, ""),
        ({"input": ["a " * 16_000] * 9}, 422, "262,144"),
        ({"input": [{"image": URL}] * 65}, 422, "64"),
        ({"input": [{"image": "/etc/hostname"}]}, 422, "data:"),
        ({"input": [{"image": "http://127.0.0.1:1/a.jpg"}]}, 422, "data:"),
        ({"input": [{"image": "data:image/png;base64,bm8gcGljdHVyZQ=="}]}, 422, "picture"),
        ({"input": [{"image": URL, "text": "both"}]}, 422, ""),
        ({"input": "a cat", "encoding_format": "int8"}, 422, ""),
        ({"model": "builtin-small"}, 422, ""),
    ],
)
async def test_what_cannot_be_embedded_is_a_problem(app, body, status, said):
    answer = await embed(app, **body)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


async def test_a_picture_larger_than_the_server_decodes_is_refused(engine):
    answer = await embed(create_app(engine, ServerSettings(max_pixels=1000)), input=["a cat", {"image": URL}])
    assert answer.status_code == 422 and "input[1]" in answer.json()["detail"]


async def test_urls_are_no_pictures_even_where_searches_may_fetch_them(engine, web):
    app = create_app(engine, ServerSettings(allow_urls=True))
    assert (await embed(app, input=[{"image": web.url("/picture")}])).status_code == 422
    assert not web.requests


async def test_a_library_of_vectors_that_were_made_elsewhere_embeds_nothing(tmp_path):
    import clipsearch

    with clipsearch.open(tmp_path / "lib", create=True, model="ours", dim=4, settings=SMALL) as engine:
        answer = await embed(create_app(engine, ServerSettings()), input="a cat")
        assert answer.status_code in (409, 503) and answer.headers["content-type"] == "application/problem+json"


async def test_embedding_waits_in_the_queue_of_the_server(engine, monkeypatch):
    app = create_app(engine, ServerSettings(max_queue=1))
    monkeypatch.setattr(app.state.service, "_pending", 1)
    answer = await embed(app, input="a cat")
    assert answer.status_code == 429 and "retry-after" in answer.headers
