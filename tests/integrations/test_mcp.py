"""The MCP server, asked by the client of the official SDK: over stdio, over streamable HTTP, and in this process."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from io import BytesIO

import anyio
import httpx2
import numpy as np
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

import clipsearch
from clipsearch.access import Access
from clipsearch.cli.main import cli
from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError, InvalidInputError, LibraryNotFoundError
from clipsearch.integrations.mcp import build_server
from clipsearch.integrations.mcp.reading import MAX_PICTURE_BYTES
from tests.support.cli import COMMAND, environment
from tests.support.libraries import index, photo, photos
from tests.support.pictures import encode, noise_picture

READING = ["find", "get_image", "search", "similar", "stats"]
WRITING = ["add_image", "add_text", "delete", "update"]
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoder):
    """Five pictures, two of which have metadata, two texts, and a picture that is not indexed."""
    made = tmp_path_factory.mktemp("mcp")
    photos(made / "photos", 4)
    photo(made / "photos" / "large.jpg", 9, (1600, 1200))
    (made / "photos" / "roses.txt").write_text("How to prune roses in winter.\n")
    (made / "photos" / "rust.txt").write_text("How to remove rust from a bicycle.\n")
    photo(made / "private.jpg", 50)
    index(made / "lib", made / "photos", encoder=encoder)
    with clipsearch.open(made / "lib") as engine:
        engine.update(key(made, "p000.jpg"), metadata={"price": 10, "brand": "acme", "sizes": ["S", "L"]})
        engine.update(key(made, "p001.jpg"), metadata={"price": 30, "brand": "zoo"})
    return made


def key(folder, name):
    return str(folder / "photos" / name)


@pytest.fixture(scope="module")
def engine(folder, encoder):
    with clipsearch.open(folder / "lib", settings=Settings(threads=1, offline=True)) as opened:
        yield opened


def ask(server, *calls, **options):
    """Call tools one after the other, each (name, arguments); return the results."""

    async def run():
        async with Client(server, **options) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return anyio.run(run)


def answer(server, name, **arguments):
    (result,) = ask(server, (name, arguments))
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


def refusal(server, name, **arguments):
    (result,) = ask(server, (name, arguments))
    assert result.is_error
    return result.content[0].text


def tools(server, **options):
    async def run():
        async with Client(server, **options) as client:
            return (await client.list_tools()).tools

    return {tool.name: tool for tool in anyio.run(run)}


def stdio(folder, *options, **env):
    return StdioServerParameters(
        command=str(COMMAND), args=["mcp", "--library", str(folder / "lib"), *options], env=environment(env)
    )


@contextmanager
def over_http(folder, *options, **env):
    """Run `clipsearch mcp --http` on a free port; yield its address."""
    command = [COMMAND, "mcp", "--http", "--port", "0", "--library", folder / "lib", *options]
    with subprocess.Popen(
        [str(word) for word in command],
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stderr.readline()
            found = re.search(r"http://\S+/mcp", line)
            assert found, line + process.stderr.read()
            yield found[0]
        finally:
            process.terminate()
            out, err = process.communicate(timeout=20)
            assert out == "" and "Traceback" not in err, err


def test_over_stdio_an_assistant_searches_and_looks(folder):
    calls = [
        ("stats", {}),
        ("search", {"text": "pruning roses", "k": 2, "modality": "text"}),
        ("get_image", {"key": key(folder, "p000.jpg"), "side": 32}),
        ("search", {"text": " "}),
    ]
    stats, found, picture, refused = ask(stdio(folder), *calls)
    assert stats.structured_content["items"] == 7 and stats.structured_content["encoder"] == "builtin-small"
    assert found.structured_content["hits"][0]["key"] == key(folder, "roses.txt")
    assert picture.content[0].mime_type == "image/jpeg"
    assert Image.open(BytesIO(base64.b64decode(picture.content[0].data))).size == (32, 24)
    assert refused.is_error and "empty" in refused.content[0].text


def test_stdout_has_nothing_but_the_protocol(folder):
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    }
    calls = [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "search", "arguments": {"text": "x"}}},
        {"jsonrpc": "2.0", "id": 3, "method": "prompts/get", "params": {"name": "nobody"}},
    ]
    command = [str(COMMAND), "mcp", "--library", str(folder / "lib")]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = []
        for message in (hello, *calls):
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            if "id" in message:
                lines.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        rest, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 0 and rest == "" and "Traceback" not in err, err
    assert [line["id"] for line in lines] == [1, 2, 3]
    assert lines[0]["result"]["serverInfo"]["name"] == "clipsearch" and "instructions" in lines[0]["result"]
    assert lines[1]["result"]["structuredContent"]["hits"]


@pytest.mark.slow
def test_over_http_an_assistant_searches(folder):
    with over_http(folder) as url:
        for options in ({}, {"mode": "legacy"}):  # the protocol of this year, and the handshake of earlier ones
            found, picture = ask(
                url,
                ("search", {"text": "rust on a bicycle", "modality": "text", "k": 1}),
                ("get_image", {"key": key(folder, "large.jpg")}),
                **options,
            )
            assert found.structured_content["hits"][0]["key"] == key(folder, "rust.txt")
            assert len(picture.content[0].data) * 3 // 4 <= MAX_PICTURE_BYTES
        _refuses_other_sites(url)
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"x": "x" * (1 << 20)}}
        assert httpx2.post(url, json=body, headers={"accept": "application/json"}).status_code == 413


def _refuses_other_sites(url):
    """A page that reaches this machine by a name of its own, or from a site of its own, is refused."""
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accept = {"accept": "application/json, text/event-stream"}
    assert httpx2.post(url, json=ping, headers={**accept, "host": "evil.example"}).status_code == 421
    assert httpx2.post(url, json=ping, headers={**accept, "origin": "http://evil.example"}).status_code == 403
    assert httpx2.post(url, json=ping, headers=accept).status_code not in (401, 403, 421)


def test_over_http_a_token_opens_the_door(folder):
    async def run(url, token):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return [tool.name for tool in (await client.list_tools()).tools]

    with over_http(folder, "--allow-write", CLIPSEARCH_MCP_TOKEN=TOKEN) as url:
        assert sorted(anyio.run(run, url, TOKEN)) == sorted([*READING, *WRITING])
        for headers in ({}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}):
            assert httpx2.post(url, json={}, headers=headers).status_code == 401


def test_only_this_machine_is_served_without_a_token():
    for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1"):
        Access(host).check()
    Access("0.0.0.0", 0, TOKEN, allow_write=True).check()
    for host, writes in (("0.0.0.0", False), ("example.org", False), ("127.0.0.1", True)):
        with pytest.raises(InvalidInputError, match="token"):
            Access(host, allow_write=writes).check()
    with pytest.raises(InvalidInputError, match="at least 16"):
        Access("0.0.0.0", token="short").check()


def test_the_command_refuses_what_it_cannot_serve(folder, tmp_path):
    def serve(*options):
        cli.main(["mcp", *options], standalone_mode=False)

    with pytest.raises(InvalidInputError, match="--token"):
        serve("--http", "--host", "0.0.0.0", "--library", str(folder / "lib"))
    with pytest.raises(LibraryNotFoundError):
        serve("--library", str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidInputError, match="cannot listen"):
        serve("--http", "--port", str(taken.getsockname()[1]), "--library", str(folder / "lib"))


def test_without_the_extra_the_command_names_it(folder, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("clipsearch.integrations.mcp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    with pytest.raises(ClipSearchError, match=r"pip install 'clipsearch\[mcp\]'"):
        cli.main(["mcp", "--library", str(folder / "lib")], standalone_mode=False)


def test_tools_are_described_and_only_reading_ones_are_listed(engine):
    listed = tools(build_server(engine))
    assert sorted(listed) == READING
    for tool in listed.values():
        assert tool.annotations.read_only_hint and tool.annotations.open_world_hint is False
        assert len(tool.description) > 40 and not re.search(r"\n ", tool.description)
        assert tool.name == "get_image" or tool.output_schema["type"] == "object"
        for argument in tool.input_schema["properties"].values():
            assert "description" in argument or "$ref" in json.dumps(argument)
    assert "Unknown tool" in refusal(build_server(engine), "delete", keys=["x"])
    writing = tools(build_server(engine, allow_write=True))
    assert sorted(writing) == sorted([*READING, *WRITING])
    assert all(not writing[name].annotations.read_only_hint for name in WRITING)


def test_answers_are_pages_of_one_ranking(engine):
    server = build_server(engine)
    whole = answer(server, "search", text="a picture", k=7)
    first = answer(server, "search", text="a picture", k=3)
    second = answer(server, "search", text="a picture", k=3, offset=first["next_offset"])
    assert [*first["hits"], *second["hits"]] == whole["hits"][:6]
    assert {"query", "encoder", "library", "confident", "warnings"} <= set(first)
    listed = answer(server, "find", limit=5)
    rest = answer(server, "find", limit=5, offset=listed["next_offset"])
    assert listed["total"] == 7 and rest["next_offset"] is None
    assert len({item["key"] for item in [*listed["items"], *rest["items"]]}) == 7


def test_a_query_of_terms_and_one_by_items(engine, folder):
    server = build_server(engine)
    item = engine.get(key(folder, "p000.jpg"))
    composed = answer(server, "search", query=f'id:{item.id} - "rust"', k=2)
    assert len(composed["hits"]) == 2
    like = answer(server, "similar", keys=[item.key], unlike=[key(folder, "p001.jpg")], k=7, modality="image")
    assert {hit["key"] for hit in like["hits"]}.isdisjoint({item.key, key(folder, "p001.jpg")})
    assert len(like["hits"]) == 3
    several = answer(server, "similar", keys=[key(folder, "p000.jpg"), key(folder, "roses.txt")])
    assert len(several["hits"]) == 5


def test_filters_reach_the_engine(engine, folder):
    server = build_server(engine)

    def found(**filters):
        listed = answer(server, "find", filters=filters)
        return sorted(os.path.basename(item["key"]) for item in listed["items"])

    assert found(where={"price": {"lt": 20}}) == ["p000.jpg"]
    assert found(where={"brand": ["acme", "zoo"]}) == ["p000.jpg", "p001.jpg"]
    assert found(types=["text"]) == ["roses.txt", "rust.txt"]
    assert found(min_width=1000) == ["large.jpg"]
    assert found(folders=[str(folder / "photos")], caption="rust") == ["rust.txt"]
    assert found(during="1999") == found(after="2001", before="2002") == []
    hits = answer(server, "search", text="a picture", filters={"where": {"price": {"ge": 30}}})["hits"]
    assert [hit["metadata"] for hit in hits] == [{"price": 30, "brand": "zoo"}]
    assert (
        answer(server, "find", filters={"where": {"sizes": {"contains": "L"}}})["items"][0]["metadata"]["price"] == 10
    )


def test_words_are_understood_where_that_is_wanted(engine):
    server = build_server(engine)
    asked = {"text": "roses in July 1999", "k": 2}
    plain = answer(server, "search", **asked)
    assert len(plain["hits"]) == 2 and plain.get("understood") is None
    understood = answer(server, "search", **asked, understand=True)
    assert understood["hits"] == [] and understood["understood"]["text"] == "roses"
    assert understood["understood"]["filters"]["taken_from"].startswith("1999-07-01")
    terms = answer(server, "search", query='"a picture" + "July 1999"', understand=True, k=2)
    assert len(terms["hits"]) == 2 and terms.get("understood") is None


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("search", {}, "one of `text` and `query`"),
        ("search", {"text": "a", "query": "b"}, "one of `text` and `query`"),
        ("search", {"query": '"horse" +'}, "term"),
        ("search", {"text": "a", "k": 0}, "greater than or equal to 1"),
        ("search", {"text": "a", "k": 1000}, "less than or equal to 100"),
        ("search", {"text": "a", "offset": 10**9}, "less than or equal to"),
        ("search", {"text": "x" * 5000}, "at most 4000"),
        ("search", {"text": "a", "filters": {"colour": "red"}}, "Extra inputs"),
        ("search", {"text": "a", "filters": {"where": {"price": {"near": 3}}}}, "near"),
        ("search", {"text": "a", "filters": {"during": "2024", "after": "2023"}}, "not by both"),
        ("search", {"text": "a", "filters": {"folders": ["/nowhere"]}}, "nowhere"),
        ("similar", {"keys": []}, "at least 1"),
        ("similar", {"keys": ["nobody"]}, "No item has the key 'nobody'"),
        ("similar", {"keys": ["k"] * 101}, "at most 100"),
        ("get_image", {"key": "nobody"}, "No item has the key 'nobody'"),
        ("get_image", {"key": "x", "side": 5000}, "less than or equal to 1024"),
        ("nothing", {}, "Unknown tool"),
    ],
)
def test_mistakes_are_errors_that_say_what_to_do(engine, tool, arguments, said):
    text = refusal(build_server(engine), tool, **arguments)
    assert said in text and "Traceback" not in text


def test_a_query_names_no_file_and_no_address(engine, folder):
    """Else whoever writes the queries could have any picture read, or any address asked."""
    server = build_server(engine)
    hidden = f'("a" or not (b and image:"{folder}/private.jpg"))'
    for written in (
        f"image:{folder}/private.jpg",
        f"{folder}/private.jpg",
        "http://127.0.0.1:1/x.jpg",
        "cat.png",
        hidden,
    ):
        assert "no pictures by path or URL" in refusal(server, "search", query=written)
    assert answer(server, "search", text=str(folder / "private.jpg"), k=1)["hits"]  # words like any others


def test_only_pictures_of_the_library_are_shown(engine, folder):
    server = build_server(engine)
    for name in (str(folder / "private.jpg"), f"{folder}/photos/../private.jpg", "/etc/passwd"):
        assert "No item has the key" in refusal(server, "get_image", key=name)
    assert "it is a text" in refusal(server, "get_image", key=key(folder, "roses.txt"))


def test_a_picture_is_bounded_in_bytes(tmp_path, encoder):
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    (tmp_path / "noise.png").write_bytes(encode(Image.fromarray(noise), "PNG"))
    index(tmp_path / "lib", tmp_path / "noise.png", encoder=encoder)
    with clipsearch.open(tmp_path / "lib") as engine:
        name = str(tmp_path / "noise.png")
        assert len(engine.thumbnail(name, side=1024)) > MAX_PICTURE_BYTES
        (result,) = ask(build_server(engine), ("get_image", {"key": name, "side": 1024}))
    data = base64.b64decode(result.content[0].data)
    assert len(data) <= MAX_PICTURE_BYTES and Image.open(BytesIO(data)).size[0] > 300


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf_8_break_no_answer(tmp_path, encoder):
    path = os.fsdecode(bytes(tmp_path) + b"/photos/caf\xe9.jpg")
    os.mkdir(tmp_path / "photos")
    with open(path, "wb") as file:
        file.write(photo(tmp_path / "a.jpg", 1).read_bytes())
    index(tmp_path / "lib", tmp_path / "photos", encoder=encoder)
    with clipsearch.open(tmp_path / "lib") as engine:
        (item,) = answer(build_server(engine), "find")["items"]
    assert item["path"].endswith("caf\\udce9.jpg")


def test_an_empty_library_says_how_to_fill_it(folder, tmp_path, encoder):
    (tmp_path / "empty").mkdir()
    index(tmp_path / "lib", tmp_path / "empty", encoder=encoder)
    with clipsearch.open(tmp_path / "lib") as engine:
        server = build_server(engine)
        assert answer(server, "stats")["items"] == 0


def test_an_assistant_that_may_write_adds_changes_and_deletes(tmp_path, encoder):
    picture = base64.b64encode(encode(noise_picture(3, (640, 480)))).decode()
    with clipsearch.open(tmp_path / "lib", create=True, model="builtin-small") as engine:
        server = build_server(engine, allow_write=True)
        assert answer(server, "stats") | {"items": 0, "writable": True} == answer(server, "stats")
        made = answer(
            server, "add_text", key="note-1", text="Prune roses in winter.", metadata={"price": 3, "new": True}
        )
        assert made == {"added": 1, "replaced": 0, "unchanged": 0}
        assert answer(server, "add_image", key="pic", data=picture, caption="clouds", metadata={"tags": ["a"]})["added"]
        assert answer(server, "add_text", key="note-1", text="Prune apple trees.")["replaced"] == 1

        hit = answer(server, "search", text="apple trees", k=1)["hits"][0]
        assert (hit["key"], hit["text"], hit["metadata"]) == ("note-1", "Prune apple trees.", {})
        (shown,) = ask(server, ("get_image", {"key": "pic", "side": 64}))
        assert Image.open(BytesIO(base64.b64decode(shown.content[0].data))).size == (64, 48)

        assert answer(server, "update", keys=["note-1"], metadata={"price": 5, "on": False}) == {"items": 1}
        assert answer(server, "update", keys=["note-1"], remove=["on"]) == {"items": 1}
        (item,) = answer(server, "find", filters={"where": {"price": 5}})["items"]
        assert item["metadata"] == {"price": 5}
        assert answer(server, "update", keys=["pic"], caption="a lighthouse") == {"items": 1}
        (item,) = answer(server, "find", filters={"caption": "lighthouse"})["items"]
        assert (item["key"], item["caption"]) == ("pic", "a lighthouse")
        assert answer(server, "delete", keys=["note-1", "nobody"]) == {"items": 1}
        assert [item["key"] for item in answer(server, "find")["items"]] == ["pic"]

        mistakes = [
            ("add_image", {"key": "x", "data": "%%%"}, "not base64"),
            ("add_image", {"key": "x", "data": base64.b64encode(b"/etc/passwd").decode()}, "not a picture"),
            ("add_image", {"key": "x", "data": "AAAA", "metadata": {"a": {"b": 1}}}, "validation error"),
            ("add_text", {"key": "", "text": "words"}, "at least 1"),
            ("add_text", {"key": "x", "text": "   "}, "x"),
            ("update", {"keys": ["nobody"], "metadata": {"a": 1}}, "nobody"),
        ]
        for tool, arguments, said in mistakes:
            assert said in refusal(server, tool, **arguments)
        assert answer(server, "stats")["items"] == 1


def test_long_texts_are_cut_and_long_answers_refused(tmp_path):
    with clipsearch.open(tmp_path / "lib", create=True, model="elsewhere", dim=4) as engine:
        long = {f"value {i}": "x" * 900 for i in range(20)}
        text = "words " * 2000
        engine.add(clipsearch.Record(f"n{i}", text=text, vector=[1, i, 0, 0], metadata=long) for i in range(60))
        server = build_server(engine)
        (item,) = answer(server, "find", limit=1)["items"]
        assert len(item["text"]) == 2000 and item["text"].endswith("…")
        assert "Ask for fewer items" in refusal(server, "find", limit=60)
