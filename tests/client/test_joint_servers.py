"""Libraries of servers searched as one, over real connections: what they find equals what one library does."""

import json
import re
from contextlib import ExitStack

import pytest

import clipsearch
from clipsearch import Client, ServerError
from clipsearch.client.part import RemoteSnapshot
from tests.support.cli import run_here as run
from tests.support.joined import READS, SEARCHES, SETTINGS, fill, make, records, seen
from tests.support.serving import TOKEN, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, encoder):
    """One library, and three as one: two that servers have, and one of this machine."""
    whole, parts = make(tmp_path_factory.mktemp("joint"), encoder)
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(part, token=TOKEN)).url for part in parts[:2]]
        clients = [stack.enter_context(Client(url, TOKEN)) for url in urls]
        joint = stack.enter_context(clipsearch.open([*clients, parts[2]], settings=SETTINGS))
        joint._encoder = encoder
        yield whole, joint
    for engine in (whole, *parts):
        engine.close()


@pytest.mark.parametrize("name", SEARCHES)
def test_libraries_of_servers_find_what_one_does(libraries, name):
    whole, joint = libraries
    expected, found = (SEARCHES[name](each) for each in (whole, joint))
    assert seen(found) == seen(expected)


@pytest.mark.parametrize("name", READS)
def test_libraries_of_servers_say_what_one_does(libraries, name):
    whole, joint = libraries
    assert READS[name](joint) == READS[name](whole)


@pytest.fixture
def shards(tmp_path, encoder, monkeypatch):
    """A library of this machine, and a server of another."""
    monkeypatch.setenv("CLIPSEARCH_TOKEN", TOKEN)
    near, far = (fill(tmp_path / name, encoder, [records(i, 2 * i, 2)]) for i, name in enumerate(("near", "far")))
    near.close()
    with far, serving(far, token=TOKEN) as served:
        yield tmp_path / "near", served


def test_a_server_that_is_down_is_an_error_or_a_warning(shards, encoder):
    near, served = shards
    down = "http://127.0.0.1:9"
    with clipsearch.open([near, served.url, down], settings=SETTINGS) as joint:
        joint._encoder = encoder
        with pytest.raises(ServerError, match=re.escape(down)):
            joint.search("a dog")
    with clipsearch.open([near, served.url, down], partial=True, settings=SETTINGS) as joint:
        joint._encoder = encoder
        found = joint.search("a dog", k=9)
        assert {joint.library_of(hit.item) for hit in found} == {str(near), served.url}
        assert any("http://127.0.0.1:9 is not searched" in each for each in found.warnings)


def test_a_search_begins_again_when_a_server_changes(shards, encoder, monkeypatch):
    near, served = shards
    with clipsearch.open([near, served.url], settings=SETTINGS) as joint:
        joint._encoder = encoder
        look_up, writes = RemoteSnapshot.matches, []

        def matches(self, *given):
            if not writes:
                writes.append(True)
                engine.add([{"id": "new", "text": "a violin"}])
            return look_up(self, *given)

        engine = clipsearch.open(near.parent / "far", settings=SETTINGS)
        engine._encoder = encoder
        monkeypatch.setattr(RemoteSnapshot, "matches", matches)
        with engine:
            assert "new" in [hit.item.key for hit in joint.search("a violin", k=9)]
        assert writes


def test_the_command_line_searches_several(shards):
    near, served = shards
    env = {"CLIPSEARCH_TOKEN": TOKEN, "CLIPSEARCH_DAEMON": "0"}
    both = ["--shards", f"{near},{served.url}"]
    code, out, err = run("find", "--json", *both, **env)
    assert code == 0 and {item["id"] for item in json.loads(out)["items"]} == {1, 2, (1 << 40) + 1, (1 << 40) + 2}, err
    code, out, err = run("query", "--json", "a dog", "--shards", near, "--shards", served.url, **env)
    assert code == 0 and len(json.loads(out)["hits"]) == 4, err
    code, out, err = run("similar", str((1 << 40) + 1), "--json", *both, **env)
    assert code == 0 and len(json.loads(out)["hits"]) == 3, err
    lost = [*both, "--shards", near / "none"]
    assert run("find", *lost, **env)[0] == 3
    code, out, err = run("find", "--json", "--partial", *lost, **env)
    assert code == 0 and len(json.loads(out)["items"]) == 4 and b"is not searched" in err
    for wrong, said in (
        (["find", "--partial"], b"--shards"),
        (["find", *both, "--library", near], b"--library"),
        (["find", *both, "--server", served.url], b"--server"),
        (["query", "a", "--html=a.html", *both], b"this machine"),
    ):
        code, out, err = run(*wrong, **env)
        assert code == 2 and said in err and not out
