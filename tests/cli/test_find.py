"""`clipsearch find` and the filter options of `clipsearch query`."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

import clipsearch
from clipsearch.cli.find import find as command
from clipsearch.cli.requests import SearchRequest, answer
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, from_values
from clipsearch.query.options import SearchOptions
from tests.support.cli import run_cli
from tests.support.libraries import index
from tests.support.pictures import noise_picture

PICTURES = [
    ("new.jpg", (64, 48), "Canon", "EOS 5D", "2024:07:02 12:00:00", 48.86),
    ("old.jpg", (48, 64), "NIKON", "D70", "2023:01:05 09:30:00", 50.0),
    ("../alone.jpg", (48, 64), "NIKON", "D70", "2022:01:05 09:30:00", 50.0),
    ("sub/square.png", (64, 64), None, None, None, None),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("find")
    (folder / "photos" / "sub").mkdir(parents=True)
    for seed, (name, size, make, model, taken, north) in enumerate(PICTURES):
        picture = noise_picture(seed, size)
        exif = Image.Exif()
        if taken and north:
            exif[0x010F], exif[0x0110] = make, model
            exif.get_ifd(0x8769)[0x9003] = taken
            exif.get_ifd(0x8825).update({1: "N", 2: (north, 0.0, 0.0), 3: "E", 4: (2.35, 0.0, 0.0)})
        picture.save(folder / "photos" / name, exif=exif)
    (folder / "photos" / "walk.txt").write_text("A dog on the beach. 海滩上的狗。\n")
    for number, name in enumerate(["photos/sub/square.png", "photos/walk.txt"]):
        os.utime(folder / name, (1_000_000_000 + number, 1_000_000_000 + number))
    index(folder / ".clipsearch", folder / "photos", folder / "alone.jpg", encoder=encoder)
    return folder


@pytest.fixture
def run(home, monkeypatch, capsysbinary):
    """Run `clipsearch find` in this process."""
    monkeypatch.chdir(home)

    def find(*arguments: str) -> bytes:
        command.main(list(arguments), standalone_mode=False)
        return capsysbinary.readouterr().out

    return find


EVERYTHING = ["new.jpg", "old.jpg", "../alone.jpg", "walk.txt", "sub/square.png"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", EVERYTHING),
        ("--after 2024", ["new.jpg"]),
        ("--before 2024", ["old.jpg", "../alone.jpg"]),
        ("--on 2023-01-05", ["old.jpg"]),
        ("--camera canon", ["new.jpg"]),
        ("--camera canon --camera d7", ["new.jpg", "old.jpg", "../alone.jpg"]),
        ("--not --camera canon --not --camera nikon", ["walk.txt", "sub/square.png"]),
        ("--not --camera=canon --type jpeg", ["old.jpg", "../alone.jpg"]),
        ("--type png,text", ["walk.txt", "sub/square.png"]),
        ("--orientation portrait --in photos", ["old.jpg"]),
        ("--min-width 64 --min-height 64", ["sub/square.png"]),
        ("--near 48.86,2.35,1", ["new.jpg"]),
        ("--caption 海滩", ["walk.txt"]),
        ("--caption dog --caption beach", ["walk.txt"]),
        ("--in photos/sub --in alone.jpg", ["../alone.jpg", "sub/square.png"]),
        ("--not --in photos/sub -k 2", ["new.jpg", "old.jpg"]),
        ("--after 2023 --after 2024", ["new.jpg"]),
        ("--min-width 10000", []),
    ],
)
def test_find_lists_what_filters_allow_newest_first(run, home, arguments, expected):
    paths = run("--paths", *arguments.split()).decode().split("\n")[:-1]
    assert [os.path.relpath(path, home / "photos") for path in paths] == expected


def test_a_table_shows_dates_and_sizes_and_says_when_there_is_more(home):
    done = run_cli("find", "-k", "4", "--in", "photos", cwd=home)
    lines = done.out.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["id", *(line.split()[0] for line in lines[1:])]
    assert " 2024-07-02 12:00  64 x 48 " in lines[1] and lines[1].endswith(
        "photos/new.jpg  city=Paris country=France region=Île-de-France"
    )
    assert "~2001-09-09" in lines[3] and lines[3].endswith("photos/walk.txt")
    assert done.err == ""
    done = run_cli("find", "-k", "1", cwd=home)
    assert done.err == "The newest 1 of 5. More: -k N; all: --paths\n"
    assert run_cli("find", "--after", "2099", cwd=home).err == "No match.\n"


def test_json_says_what_is_known_of_each(home):
    answer = run_cli("find", "--json", "--after", "2024", cwd=home).json
    assert list(answer) == ["library", "total", "items"] and answer["total"] == 1
    [item] = answer["items"]
    assert item.pop("id") > 0
    assert item == {
        "key": str(home / "photos" / "new.jpg"),
        "path": str(home / "photos" / "new.jpg"),
        "modality": "image",
        "taken_at": "2024-07-02T12:00:00",
        "camera": "Canon EOS 5D",
        "width": 64,
        "height": 48,
        "latitude": 48.86,
        "longitude": 2.35,
        "caption": None,
        "text": None,
        "metadata": {"city": "Paris", "country": "France", "region": "Île-de-France"},
        "tags": [],
        "media": None,
        "duration": None,
        "pages": None,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--paths", "--after", "2024-02-30"],
            "column 9 is 30, but must be from 1 to 29. This is about --after '2024-02-30', argument 2.",
        ),
        (["--on", "banana"], "'banana' cannot be read as a date"),
        (["--type", "jpeg,banana"], "There is no type 'banana'. Use image, text, "),
        (["--in", "photos", "--orientation=round"], "This is about --orientation 'round', argument 3."),
        (["--near", "48,x,3"], "'x' at column 4 of '48,x,3' is not a number"),
        (["--near", "48,3"], "is not three numbers"),
        (["--near", "148,3,1"], "The latitude is 148, but"),
        (["--min-width", "1.5"], "'1.5' is not a whole number of pixels"),
        (["--caption", 'a "b'], "The quote at column 3"),
        (["--in", "/nowhere"], "'/nowhere' is not in any indexed folder"),
        (["--after", "2024", "--before", "2023"], "Swap the times"),
        (["--not", "-k", "3"], "no filter after --not"),
        (["--camera", "x", "--not"], "no filter after --not"),
        (["--not", "--not", "--camera", "x"], "no filter after --not"),
        (["--json", "--paths"], "Only one of"),
    ],
)
def test_bad_input_is_named_with_its_place(run, arguments, message):
    with pytest.raises(InvalidInputError) as caught:
        run(*arguments)
    assert message in str(caught.value)


def test_bad_input_is_wrong_usage_on_the_command_line(home):
    done = run_cli("query", "x", "--after", "2024-13", cwd=home)
    assert (done.code, done.out) == (2, b"")
    assert done.err.endswith("must be from 1 to 12. This is about --after '2024-13', argument 2.\n")


def test_a_query_takes_filters_and_fills_k(home, encoder):
    done = run_cli("query", "a picture", "--json", "-k", "2", "--not", "--camera", "canon", "--type", "image", cwd=home)
    assert done.code == 0, done.err
    assert [os.path.basename(hit["path"]) for hit in done.json["hits"]] != [] and len(done.json["hits"]) == 2
    assert all("new.jpg" not in hit["path"] for hit in done.json["hits"])
    done = run_cli("query", "a", "-", "b", "--paths", "--caption", "beach", cwd=home)
    assert done.out.decode() == f"{home / 'photos' / 'walk.txt'}\n"


def test_a_filter_travels_to_the_daemon_as_json(home):
    wanted = Filter(folders=(str(home / "photos"),)) & ~Filter(types=("png",)) & Filter(ids=[1, 2, 3, 4, 5])
    options = SearchOptions(k=9, filters=wanted)
    asked = SearchRequest(text="a picture", options=options, shape="paths", folder=str(home))
    arrived = SearchRequest.from_values(json.loads(json.dumps(asked.to_values())))
    with clipsearch.open(home / ".clipsearch") as engine:
        lines = answer(engine, arrived).out.decode().splitlines()
        assert sorted(map(os.path.basename, lines)) == ["new.jpg", "old.jpg", "walk.txt"]
    for values in ({"colour": "red"}, {"taken_from": "x"}, {"all_of": [{"near": 3}]}, {"all_of": 3}):
        with pytest.raises(InvalidInputError):
            from_values(values)


def test_the_engine_finds_without_an_encoder(home, tmp_path):
    with clipsearch.open(home / ".clipsearch") as engine:
        found = engine.find(limit=2)
        assert (len(found), found.total, os.path.basename(found[0].path)) == (2, 5, "new.jpg")
        assert engine.find(~Filter()).total == 0
        assert [item.modality for item in engine.find(Filter(types=("text",)))] == ["text"]
        with pytest.raises(InvalidInputError, match="limit"):
            engine.find(limit=0)
    empty = tmp_path / "empty"
    clipsearch.store.library.Library.create(empty).close()
    with clipsearch.open(empty) as engine:
        assert engine.find().total == 0
