"""Finding the picture that another one was made from: crops, mirror images, filters, screenshots, and none at all."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

import clipsearch
from clipsearch import Filter, InvalidInputError, PictureError
from clipsearch.cli.match import match
from clipsearch.media import local_features
from clipsearch.media.local_features import describe, locate
from clipsearch.query import originals
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.libraries import index, photos
from tests.support.pictures import noise_picture, photograph

NAMES = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "hubble_deep_field.jpg")
ABSENT = "retina.jpg"


def real_photo(name):
    picture = Image.open(photograph(name)).convert("RGB")
    picture.thumbnail((480, 480))
    return picture


def part(picture, left, top, width, height):
    size = picture.size
    edges = (left * size[0], top * size[1], (left + width) * size[0], (top + height) * size[1])
    return picture.crop(tuple(map(round, edges)))


def screenshot(picture):
    screen = Image.new("RGB", (500, 1000), "white")
    screen.paste((20, 20, 24), (0, 0, 500, 120))
    shown = picture.resize((500, round(picture.height * 500 / picture.width)))
    screen.paste(shown, (0, 300))
    return screen


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("match")
    photos(folder / "photos", 4)
    for name in NAMES:
        real_photo(name).save(folder / "photos" / f"{name[:-4]}.jpg", quality=90)
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture(scope="module")
def engine(home, encoder):
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as opened:
        yield opened


def found(engine, picture, **options):
    return [os.path.basename(each.path) for each in engine.match(picture, **options)]


EDITS = {
    "a part": lambda p: part(p, 0.3, 0.2, 0.55, 0.55),
    "a mirror image": ImageOps.mirror,
    "a part, mirrored": lambda p: ImageOps.mirror(part(p, 0.3, 0.2, 0.55, 0.55)),
    "smaller": lambda p: p.resize((p.width // 2, p.height // 2)),
    "grey": lambda p: p.convert("L").convert("RGB"),
    "turned": lambda p: p.rotate(20, expand=True),
    "in a frame": lambda p: ImageOps.expand(p, 80, "white"),
    "a screenshot": screenshot,
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_finds_its_original_alone(engine, edit):
    matches = engine.match(EDITS[edit](real_photo("astronaut.png")))
    assert [os.path.basename(each.path) for each in matches] == ["astronaut.jpg"]
    assert (
        matches[0].mirrored == ("mirror" in edit)
        and matches[0].rank == 1
        and matches[0].points >= local_features.MIN_POINTS
    )


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", NAMES)
def test_every_edit_of_every_picture_finds_its_original(engine, name, edit):
    assert found(engine, EDITS[edit](real_photo(name))) == [f"{name[:-4]}.jpg"]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_box_says_where_the_part_lies(engine, mirrored):
    where = (0.3, 0.2, 0.55, 0.6)
    cut = part(real_photo("astronaut.png"), *where)
    (best,) = engine.match(ImageOps.mirror(cut) if mirrored else cut)
    assert best.box == pytest.approx(where, abs=0.02) and best.mirrored is mirrored


def test_a_picture_that_is_not_there_has_no_match(engine):
    matches = engine.match(real_photo(ABSENT))
    assert len(matches) == 0 and matches.compared == 9 and matches.unread == ()


def test_with_a_picture_without_points_nothing_is_compared(engine):
    for picture in (Image.new("RGB", (1, 1)), Image.new("RGB", (200, 200), "red"), noise_picture(99, (300, 200))):
        matches = engine.match(picture)
        assert len(matches) == 0 and matches.compared == 0 and "too few details" in matches.warnings[-1]


def test_a_crop_of_the_picture_is_looked_for(engine):
    both = Image.new("RGB", (800, 400))
    both.paste(real_photo("coffee.png").resize((400, 400)), (0, 0))
    both.paste(real_photo("astronaut.png").resize((400, 400)), (400, 0))
    assert found(engine, both, crop=(0.5, 0, 0.5, 1)) == ["astronaut.jpg"]
    assert found(engine, both, crop="0,0,400,400px", k=1) == ["coffee.jpg"]


def test_filters_and_k_hold(engine, home, encoder, tmp_path):
    cat = real_photo("chelsea.png")
    assert found(engine, cat, filters=Filter(types=("png",))) == []
    for number in range(3):
        cat.save(tmp_path / f"{number}.jpg", quality=50 + 20 * number)
    index(tmp_path / "library", tmp_path, encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as copies:
        assert sorted(found(copies, part(cat, 0, 0, 0.7, 0.7))) == ["0.jpg", "1.jpg", "2.jpg"]
        assert [each.rank for each in copies.match(cat, k=2)] == [1, 2]


@pytest.mark.slow
def test_several_libraries_are_looked_through_as_one(home, encoder, tmp_path):
    real_photo(ABSENT).save(tmp_path / "eye.jpg")
    index(tmp_path / "library", tmp_path, encoder=encoder)
    with clipsearch.open([home / ".clipsearch", tmp_path / "library"]) as joint:
        for name, whole in (("eye.jpg", ABSENT), ("astronaut.jpg", "astronaut.png")):
            assert found(joint, EDITS["a part"](real_photo(whole))) == [name]


def test_bad_input_is_an_error(engine):
    for options in ({"k": 0}, {"crop": (0, 0, 2, 1)}, {"crop": "0,0,9000,1px"}, {"filters": {"types": ["png"]}}):
        with pytest.raises(InvalidInputError):
            engine.match(real_photo("chelsea.png"), **options)
    with pytest.raises(PictureError):
        engine.match(b"no picture")


@pytest.mark.slow
def test_files_that_are_gone_are_reported_and_nothing_is_claimed_of_them(
    home, encoder, tmp_path, monkeypatch, capfdbinary
):
    shutil.copytree(home / "photos", tmp_path / "photos")
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    (tmp_path / "photos" / "astronaut.jpg").unlink()
    (tmp_path / "photos" / "coffee.jpg").write_bytes(b"\xff\xd8\xff no picture any more")
    with SearchEngine(Library(tmp_path / ".clipsearch"), encoder=encoder) as engine:
        matches = engine.match(real_photo("astronaut.png"))
    assert len(matches) == 0 and matches.compared == 9
    reasons = {os.path.basename(each.item.path): each.reason for each in matches.unread}
    assert next(iter(reasons)) == "astronaut.jpg" and reasons["astronaut.jpg"] == "there is no such file"
    assert "JPEG" in reasons["coffee.jpg"] and matches.unread[0].score > 0.9
    monkeypatch.chdir(tmp_path)
    match.main([str(home / "photos" / "astronaut.jpg")], standalone_mode=False)
    done = capfdbinary.readouterr()
    assert done.out == b"" and b"No match. 9 pictures were compared." in done.err
    assert b"cannot be read now: 2 pictures" in done.err and b"astronaut.jpg: there is no such file" in done.err


def test_a_link_in_place_of_a_file_is_not_followed(home, encoder, tmp_path):
    shutil.copytree(home / "photos", tmp_path / "photos")
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    (tmp_path / "photos" / "astronaut.jpg").unlink()
    (tmp_path / "photos" / "astronaut.jpg").symlink_to(home / "photos" / "astronaut.jpg")
    with SearchEngine(Library(tmp_path / ".clipsearch"), encoder=encoder) as engine:
        matches = engine.match(real_photo("astronaut.png"))
    assert len(matches) == 0 and "through a link" in matches.unread[0].reason


def test_a_record_that_keeps_its_picture_is_found(tmp_path):
    data = io.BytesIO()
    real_photo("astronaut.png").save(data, "JPEG")
    with clipsearch.open(tmp_path / "library", create=True, model="builtin-small") as engine:
        engine.add([{"id": "kept", "image": data.getvalue()}], keep="bytes")
        engine.add([{"id": "not kept", "image": data.getvalue(), "text": "other"}])
        matches = engine.match(EDITS["a part"](real_photo("astronaut.png")))
    assert [each.item.key for each in matches] == ["kept"]
    assert [each.item.key for each in matches.unread] == ["not kept"]


def test_a_search_ends_once_a_match_is_certain_or_the_time_is_over(engine, monkeypatch):
    monkeypatch.setattr(originals, "_AT_ONCE", 1)
    picture = real_photo("astronaut.png")
    assert engine.match(picture).compared == 1
    monkeypatch.setattr(originals, "SECONDS", 0.0)
    matches = engine.match(real_photo(ABSENT))
    assert matches.compared == 1 and "1 of 9 candidates were compared" in matches.warnings[0]


def test_no_more_candidates_are_read_than_said(engine, monkeypatch):
    monkeypatch.setattr(originals, "CANDIDATES", 3)
    assert engine.match(real_photo(ABSENT)).compared == 3


def test_the_command_prints_a_table_paths_and_json(home, tmp_path, monkeypatch, capfdbinary):
    cut = part(real_photo("astronaut.png"), 0.3, 0.2, 0.55, 0.6)
    ImageOps.mirror(cut).save(tmp_path / "cut.png")
    monkeypatch.chdir(home)

    def ran(*arguments):
        match.main([*arguments, str(tmp_path / "cut.png")], standalone_mode=False)
        done = capfdbinary.readouterr()
        assert done.err == b""
        return done.out

    head, line = ran().decode().splitlines()
    assert head.split() == ["#", "points", "left,top,width,height", "file"]
    assert line.endswith("  photos/astronaut.jpg  (mirrored)") and line.startswith("1 ")
    assert ran("--paths") == os.fsencode(home / "photos" / "astronaut.jpg") + b"\n"
    payload = json.loads(ran("--json"))
    assert list(payload) == ["query", "encoder", "library", "matches", "compared", "unread"]
    assert list(payload["matches"][0]) == ["rank", "id", "key", "path", "score", "points", "box", "mirrored"]
    assert json.dumps(payload["matches"][0]["box"]) != "[]"


def test_without_opencv_the_error_says_what_to_install(engine, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(InvalidInputError, match=r"clipsearch\[match\]"):
        engine.match(real_photo("chelsea.png"))


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (3, 3), (5000, 40)])
def test_pictures_of_any_shape_are_described(size):
    features = describe(noise_picture(3, size), local_features.SIDE)
    assert max(features.size) <= local_features.SIDE and features.points.shape == (len(features.descriptors), 2)
    assert len(features.points) <= local_features.MAX_POINTS
    assert locate(features, features) is None or len(features.points) >= local_features.MIN_POINTS


def test_unrelated_points_agree_on_nothing():
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (200, 300, 3), np.uint8)) for _ in range(4)]
    described = [describe(picture, 320) for picture in noise]
    assert all(len(each.points) > 100 for each in described)
    assert all(locate(one, other) is None for one in described for other in described if one is not other)
    assert locate(described[0], described[0]).box == pytest.approx((0, 0, 1, 1), abs=0.01)
