"""As a library, clipsearch writes nothing to stdout or stderr and warns nobody: it logs, under one name."""

import logging
import subprocess
import sys

import pytest
from PIL import Image

import clipsearch
from tests.support.libraries import index, photos
from tests.support.paths import ROOT
from tests.support.sentences import sentence_library

SCRIPT = """
import asyncio, sys, logging
import clipsearch
from clipsearch import Filter, Settings, Text

library, picture, heard = sys.argv[1:]
if heard == "heard":
    logging.basicConfig(filename=library + ".log", level=logging.DEBUG)
with clipsearch.open(library, settings=Settings(offline=True, query_cache=False)) as engine:
    engine.search("a dog on a beach", collapse=True, cut=True, hybrid=True)
    engine.search(image=picture)
    engine.search("собака на пляже")
    engine.search(Text("a dog") - Text("snow"), filters=Filter(caption="dog"))
    engine.search("word " * 500)
    engine.search_batch(texts=["a dog", "a cat"], k=40)
    asyncio.run(engine.asearch("a dog"))
    engine.find(limit=3)
    engine.add([{"id": "a", "text": "a cat"}, {"id": "b", "image": picture}, {"id": "", "text": "bad"}])
    engine.update("a", metadata={"price": 3})
    engine.delete("b")
    for kind in ("ivfpq", "pq4", "auto"):
        engine.build(index=kind)
        engine.search("a dog on a beach")
    try:
        engine.search(image="/nowhere.jpg")
    except clipsearch.PictureError:
        pass
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "p.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["captions", "few pictures"])
def test_nothing_is_written(encoder, tmp_path, picture, kind):
    if kind == "captions":
        sentence_library(tmp_path / "library", encoder)
    else:
        photos(tmp_path / "photos", 3)
        index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    command = [sys.executable, "-W", "always", "-c", SCRIPT, str(tmp_path / "library"), str(picture), "deaf"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_what_it_has_to_say_is_logged_under_one_name(encoder, tmp_path, picture):
    sentence_library(tmp_path / "library", encoder)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "library"), str(picture), "heard"]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)
    lines = [line.split(":") for line in (tmp_path / "library.log").read_text().splitlines()]
    assert {line[1] for line in lines if line[0] in ("WARNING", "ERROR")} <= {"clipsearch"}


def test_the_logger_has_a_handler_that_drops():
    assert clipsearch.__name__ == "clipsearch"
    assert any(isinstance(each, logging.NullHandler) for each in logging.getLogger("clipsearch").handlers)
