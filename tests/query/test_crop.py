"""Searching by a part of a picture: how it is written, what is cut, and that it is the same through every door."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipsearch import InvalidInputError, Picture, Text
from clipsearch.cli.query import query
from clipsearch.config import Settings
from clipsearch.crop import Crop
from clipsearch.query.embedding import open_image
from clipsearch.query.engine import SearchEngine
from clipsearch.query.options import SearchOptions
from clipsearch.store.library import Library
from tests.support.cli import run_cli
from tests.support.libraries import index, photos
from tests.support.pictures import encode, noise_picture, write_exif_jpeg

BAD = [
    "", "0,0,1", "0,0,1,1,1", "a,b,c,d", "0,0,0,1", "0,0,1,0", "-0.1,0,1,1", "0.5,0,0.6,1", "0,0.5,1,0.6", "nan,0,1,1",
    "0,0,inf,1", "1,0,0.1,1", "0,0,10,10", "0,0,0,10px", "0,0,1.5,2px", "-1,0,5,5px", "0,0,10%,10%", (0, 0, 1), 7,
    b"0,0,1,1", (0, 0, None, 1), [[0], 0, 1, 1],
]  # fmt: skip


@pytest.mark.parametrize("written", BAD, ids=repr)
def test_what_is_no_part_of_a_picture_is_an_error_that_says_how_to_write_one(written):
    with pytest.raises(InvalidInputError, match=r"X,Y,WIDTH,HEIGHT"):
        Crop.read(written)


@given(
    edges=st.tuples(*[st.integers(0, 1000)] * 4).filter(lambda e: e[2] and e[3]),
    in_pixels=st.booleans(),
)
def test_a_crop_is_read_as_it_is_printed(edges, in_pixels):
    values = edges if in_pixels else [edge / 2000 for edge in edges]
    crop = Crop(*values, in_pixels)
    assert Crop.read(str(crop)) == crop and Crop.read(crop) is crop


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    edges=st.tuples(*[st.floats(0, 1)] * 2, *[st.floats(0.001, 1)] * 2),
)
def test_any_share_of_any_picture_has_a_pixel_of_it(size, edges):
    left, top, width, height = edges
    crop = Crop(left * (1 - width), top * (1 - height), width, height)
    cut = crop.cut(Image.new("RGB", size))
    assert all(1 <= side <= whole for side, whole in zip(cut.size, size, strict=True))


def test_the_right_pixels_are_cut():
    picture = noise_picture(1, (40, 20))
    pixels = np.asarray(picture)
    assert np.array_equal(Crop.read((0.25, 0.5, 0.5, 0.5)).cut(picture), pixels[10:20, 10:30])
    assert np.array_equal(Crop.read("3,4,5,6px").cut(picture), pixels[4:10, 3:8])
    with pytest.raises(InvalidInputError, match="beyond the picture of 40 x 20 pixels"):
        Crop.read("30,0,11,5px").cut(picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_is_of_the_upright_picture(tmp_path, orientation):
    upright = write_exif_jpeg(tmp_path / "a.jpg", orientation, size=(96, 64))
    for written in ((0.5, 0.25, 0.5, 0.5), "48,16,48,32px"):
        cut = open_image(tmp_path / "a.jpg", 16, Settings(), written)
        expected = np.asarray(upright.crop((48, 16, 96, 48)).resize(cut.size), np.int16)
        assert np.abs(np.asarray(cut, np.int16) - expected).mean() < 8


def test_a_small_part_of_a_large_picture_keeps_its_pixels(tmp_path):
    (tmp_path / "large.jpg").write_bytes(encode(noise_picture(2, (3000, 2000))))
    whole = open_image(tmp_path / "large.jpg", 200, Settings())
    assert whole.width < 1000
    assert open_image(tmp_path / "large.jpg", 200, Settings(), (0.4, 0.4, 0.1, 0.1)).size == (300, 200)
    assert open_image(tmp_path / "large.jpg", 200, Settings(), "100,100,50,40px").size == (50, 40)


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("crop")
    photos(folder / "photos", 6)
    both = Image.new("RGB", (128, 48))
    both.paste(noise_picture(2, (64, 48)), (0, 0))
    both.paste(noise_picture(4, (64, 48)), (64, 0))
    both.save(folder / "both.png")
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture(scope="module")
def engine(home, encoder):
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as opened:
        yield opened


def test_a_search_by_a_part_finds_what_is_like_that_part(engine, home):
    for crop, name in (((0, 0, 0.5, 1), "p002.jpg"), ("64,0,64,48px", "p004.jpg"), ([0.5, 0, 0.5, 1], "p004.jpg")):
        assert engine.search(image=home / "both.png", crop=crop)[0].path.endswith(name)
    cut = Image.open(home / "both.png").crop((64, 0, 128, 48))
    whole, part = engine.search(image=cut), engine.search(image=home / "both.png", crop=(0.5, 0, 0.5, 1))
    assert whole.hits == part.hits and part.query == str(home / "both.png")


async def test_awaited_searches_by_different_parts_do_not_mix(engine, home):
    image = home / "both.png"
    first = await engine.asearch(image=image, crop=(0, 0, 0.5, 1))
    second = await engine.asearch(image=image, crop=(0.5, 0, 0.5, 1))
    assert (first[0].path[-8:], second[0].path[-8:]) == ("p002.jpg", "p004.jpg")


def test_a_part_is_of_a_picture_only(engine, home):
    for wanted in ({"text": "a"}, {"text": Text("a")}, {"text": Picture(str(home / "both.png"))}, {"vector": [1.0]}):
        with pytest.raises(InvalidInputError, match="Name the picture"):
            engine.search(**wanted, crop=(0, 0, 0.5, 1))
    with pytest.raises(InvalidInputError, match="Name the picture"):
        engine.answer("a", options=SearchOptions(crop="0,0,0.5,1"))


def test_options_with_a_part_survive_json():
    options = SearchOptions(crop=(0.25, 0, 0.5, 1))
    assert options.to_values() == {"crop": "0.25,0,0.5,1"}
    assert SearchOptions.from_values(options.to_values()) == options == SearchOptions(crop="0.25, 0, 0.5, 1")


@pytest.mark.slow
def test_the_commands_take_a_part(home):
    for words in (("query", "--image", "both.png"), ("query", "./both.png"), ("similar", "both.png")):
        done = run_cli(*words, "--crop", "0.5,0,0.5,1", "-k", "1", "--paths", cwd=home)
        assert done.code == 0 and done.out.endswith(b"p004.jpg\n"), done.err
    own = run_cli("similar", "photos/p004.jpg", "--crop", "0,0,40,40px", "--paths", cwd=home)
    assert b"p004.jpg" not in own.out and own.out.count(b"\n") == 5
    for words in (("query", "a cat"), ("query", "--like", "1")):
        done = run_cli(*words, "--crop", "0,0,0.5,1", cwd=home)
        assert done.code == 2 and "Name the picture: --image FILE" in done.err


def test_the_command_searches_by_a_part_in_the_picture_that_it_names(home, monkeypatch, capfdbinary):
    monkeypatch.chdir(home)
    query.main(["--image", "both.png", "--crop", "0.5,0,0.5,1", "-k", "1", "--paths"], standalone_mode=False)
    assert capfdbinary.readouterr().out.endswith(b"p004.jpg\n")
