"""Search by a picture at a URL: by the engine, in the language of queries, and from the shell."""

import os

import numpy as np
import pytest

from clipsearch import Picture, Text, parse
from clipsearch.cli.daemon.client import identify
from clipsearch.cli.daemon.fast_path import is_answered
from clipsearch.config import Settings, load_settings
from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from indexer.importing import import_embeddings
from tests.support.cli import run_cli
from tests.support.libraries import index, photos

ALLOWED = {"CLIPSEARCH_ALLOW_PRIVATE_URLS": "1"}


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    """A folder with a library, whose p001.jpg is the picture that the server has."""
    folder = tmp_path_factory.mktemp("urls")
    photos(folder / "photos", 8)
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture(scope="module")
def engine(home, encoder):
    settings = Settings(threads=1, offline=True, allow_private_urls=True)
    with SearchEngine(Library(home / ".clipsearch"), settings, encoder) as opened:
        yield opened


def test_a_picture_at_a_url_finds_itself(engine, home, web):
    """`offline` is about model hubs."""
    url = web.url("/picture.jpg")
    results = engine.search(image=url, k=3, exclude_self=True)
    assert results.query == url and web.asked == ["/picture.jpg"]
    assert (results[0].path, results[0].score) == (str(home / "photos" / "p001.jpg"), pytest.approx(1, abs=1e-3))


def test_a_url_is_a_term_like_any_picture(engine, home, web):
    url = web.url("/picture.jpg")
    at_url, as_file = (engine.search(Picture(source) + Text("a fence")) for source in (url, f"{home}/photos/p001.jpg"))
    assert [(hit.path, hit.score) for hit in at_url] == [(hit.path, hit.score) for hit in as_file]
    assert at_url.query == f'image:"{url}" + "a fence"'


def test_the_term_that_cannot_be_fetched_is_named(engine, web):
    gone = web.url("/gone.jpg")
    with pytest.raises(PictureError, match=f"^Term 2: {gone}: the server answers 404"):
        engine.search(Text("a fence") + Picture(gone))
    with pytest.raises(PictureError, match=f"^{gone}: the server"):
        engine.search(Picture(gone))
    with pytest.raises(InvalidInputError, match=r"^Term 1: The URL begins with ftp:"):
        engine.search(parse("ftp://example.org/a.png + text:fence"))


@pytest.mark.parametrize(
    "url", ["http://a/b", "HTTPS://a/b.php?c=d.jpg", "ftp://a/b", "data:image/png;base64,aa", "s3://a"]
)
def test_whatever_is_a_url_is_a_picture(url):
    assert parse(url) == parse(f'image:"{url}"') and parse(f'text:"{url}"') != parse(url)


@pytest.mark.parametrize("words", ["ratio 3://4", "data: what it is", "c://x", "a cat, a dog", "http:"])
def test_words_are_not(words):
    assert parse(f'text:"{words}"') == parse(f'"{words}"') or words.startswith("c:")


def test_a_record_of_that_url_is_itself(tmp_path, encoder, web):
    names = [web.url("/picture.jpg"), "https://example.org/b.jpg", "https://example.org/c.jpg?d=e"]
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((3, encoder.dim)).astype(np.float32))
    (tmp_path / "v.jsonl").write_text("".join(f'{{"path": "{name}"}}\n' for name in names))
    import_embeddings(tmp_path / "l", str(tmp_path / "v.npy"), encoder="builtin-small", items=tmp_path / "v.jsonl")
    with SearchEngine(Library(tmp_path / "l"), Settings(allow_private_urls=True), encoder) as engine:
        assert {hit.path for hit in engine.search(image=names[0])} == set(names)
        assert {hit.path for hit in engine.search(image=names[0], exclude_self=True)} == set(names[1:])
    web.requests.clear()
    similar = run_cli("similar", names[0], "--paths", "--library", tmp_path / "l")
    assert set(similar.out.decode().split()) == set(names[1:]) and not web.requests


@pytest.mark.parametrize("arguments", [["query"], ["query", "--image"], ["similar"]], ids=" ".join)
def test_the_commands_take_a_url_and_fetch_it_once(home, web, arguments):
    done = run_cli(*arguments, web.url("/picture.jpg"), "--paths", "-k", "1", cwd=home, env=ALLOWED)
    assert (done.code, done.out, done.err) == (0, os.fsencode(home / "photos" / "p001.jpg") + b"\n", "")
    assert web.asked == ["/picture.jpg"]


def test_what_is_wrong_is_said_once_and_asked_for_once(home, web):
    done = run_cli("query", web.url("/gone.jpg"), cwd=home, env=ALLOWED)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert done.err.startswith(f"clipsearch: {web.url('/gone.jpg')}: the server answers 404 Not Found. Check")
    assert web.asked == ["/gone.jpg"]


def test_this_machine_is_not_asked_unless_that_is_allowed(home, web):
    done = run_cli("query", web.url("/picture.jpg"), "+", "a fence", cwd=home)
    assert done.code == 2 and "127.0.0.1 is not a public address" in done.err
    assert "CLIPSEARCH_ALLOW_PRIVATE_URLS=1" in done.err and not web.requests
    assert not load_settings().allow_private_urls


def test_no_daemon_is_asked_for_a_url(tmp_path, monkeypatch):
    """Not even where a file could be meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:" / "a").mkdir(parents=True)
    (tmp_path / "http:" / "a" / "b.jpg").write_bytes(b"")
    assert os.path.isfile("http://a/b.jpg")
    with pytest.raises(ValueError, match="is no file"):
        identify("http://a/b.jpg")
    assert not is_answered(["query", "http://a/b.jpg"])
