"""clipsearch eval: figures of a library by captions of its own pictures."""

import shutil

import numpy as np
import pytest

from clipsearch.cli.eval import eval as eval_command
from clipsearch.errors import InvalidInputError
from clipsearch.media.captions import read_captions
from clipsearch.progress import SilentStages
from clipsearch.query.eval.benchmark_set import find_pictures, pair_up
from clipsearch.query.eval.evaluation import Side, evaluate
from clipsearch.query.opening import open_library
from clipsearch.store.library import Library
from clipsearch.types import Modality
from tests.support.cli import run_cli
from tests.support.libraries import index, photo

WORDS = ["a cat", "a red car", "two dogs", "a beach in summer", "a cup of coffee", "a rocket"]
METRICS = [
    *(f"{name}@{k}" for name in ("recall", "hit_rate") for k in (1, 5, 10)), "mrr", "ndcg@10", "median_rank",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    """Twelve pictures; the first six have two captions each; one caption is of two pictures."""
    folder = tmp_path_factory.mktemp("eval")
    for seed in range(12):
        photo(folder / "photos" / "some" / f"p{seed}.jpg", seed)
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    rows = [(f"photos/some/p{i}.jpg", f"{words}{more}") for i, words in enumerate(WORDS) for more in ("", " outside")]
    rows.append(("photos/some/p1.jpg", "a cat"))
    write(folder / "captions.csv", rows)
    return folder


def write(path, rows, encoding="utf-8"):
    path.write_bytes("".join(["image,caption\n", *(f"{i},{c}\n" for i, c in rows)]).encode(encoding))
    return path


def run(home, encoder, path="captions.csv", sides=1, **options):
    engine = open_library(home / ".clipsearch")
    engine._encoder = encoder
    with engine:
        return evaluate(home / path, [Side(engine)] * sides, SilentStages(), **options)


def expected_ranks(home, encoder, asked, gallery_names):
    """Ranks by sorting the full table of scores: what `eval` must agree with."""
    with Library(home / ".clipsearch").read() as snapshot:
        rows = {picture.path: picture.row for picture in snapshot.pictures()}
        vectors = snapshot.rows(Modality.IMAGE).gather(
            np.array([rows[str(home / name)] for name in gallery_names], np.int64)
        )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = encoder.encode_queries(asked.texts) @ vectors.T
    right = np.zeros(table.shape, bool)
    places = [gallery_names.index(name) for name in asked.names]
    right[asked.text_of, np.array(places)[asked.picture_of]] = True
    order = np.argsort(-table, axis=1)
    by_text = np.argwhere(np.take_along_axis(right, order, 1))[:, 1] + 1
    table, right = table.T[places], right.T[places]
    order = np.argsort(-table, axis=1)
    return by_text, np.argwhere(np.take_along_axis(right, order, 1))[:, 1] + 1


@pytest.mark.parametrize("captioned_only", [False, True])
def test_ranks_are_those_of_a_full_sort(home, encoder, captioned_only):
    found = run(home, encoder, captioned_only=captioned_only)
    names = [f"photos/some/p{i}.jpg" for i in range(6 if captioned_only else 12)]
    by_text, by_picture = expected_ranks(home, encoder, found.asked, names)
    side = found.sides[0]
    assert side.gallery == len(names)
    assert side.ranks["text_to_image"].ranks.tolist() == by_text.tolist()
    assert side.ranks["image_to_text"].ranks.tolist() == by_picture.tolist()
    assert side.ranks["text_to_image"].right.tolist() == [2, *[1] * 11]  # "a cat" is of two pictures
    assert side.ranks["image_to_text"].right.tolist() == [2, 3, 2, 2, 2, 2]
    estimate = side.figures["text_to_image"]["mrr"]
    assert estimate.low <= estimate.value <= estimate.high


def test_a_side_compared_with_itself_differs_by_nothing_at_all(home, encoder):
    """Both sides are resampled with the same draws: independent ones would give an interval around 0."""
    differences = run(home, encoder, sides=2).differences
    values = [(e.value, e.low, e.high) for figures in differences.values() for e in figures.values()]
    assert values == [(0.0, 0.0, 0.0)] * 18


def test_copies_are_one_picture(home, encoder, tmp_path):
    shutil.copytree(home / "photos", tmp_path / "photos")
    shutil.copy(tmp_path / "photos" / "some" / "p0.jpg", tmp_path / "photos" / "copy.jpg")
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    write(tmp_path / "c.csv", [("p0.jpg", "a cat"), ("copy.jpg", "a cat"), ("copy.jpg", "a dog")])
    found = run(tmp_path, encoder, "c.csv")
    assert found.sides[0].gallery == 12 and found.asked.names == ("p0.jpg",) and found.asked.repeated == (3,)
    one = run(home, encoder, "captions.csv").sides[0].ranks["text_to_image"]
    assert found.sides[0].ranks["text_to_image"].first[0] >= one.first[0]


@pytest.mark.parametrize("name", ["p3.jpg", "some/p3.jpg", "./photos/some/p3.jpg", "photos/../photos/some/p3.jpg"])
def test_a_picture_is_found_by_path_or_by_the_end_of_it(home, encoder, name):
    write(home / "one.csv", [(name, "two dogs")])
    assert run(home, encoder, "one.csv").asked.names == (name,)


def test_part_of_a_name_is_no_name(home, encoder):
    write(home / "one.csv", [("3.jpg", "two dogs"), ("p3.jpg", "two dogs")])
    found = run(home, encoder, "one.csv")
    assert found.asked.left_out == (2,) and found.asked.names == ("p3.jpg",)


def test_a_name_of_two_pictures_is_refused_with_its_line(encoder, tmp_path):
    for folder, seed in (("a", 1), ("b", 2)):
        photo(tmp_path / "photos" / folder / "p.jpg", seed)
    index(tmp_path / ".clipsearch", tmp_path / "photos", encoder=encoder)
    write(tmp_path / "c.csv", [("a/p.jpg", "x"), ("p.jpg", "y")])
    with pytest.raises(InvalidInputError, match=r"(?s)Line 3: 'p.jpg' matches 2 .*Write more"):
        run(tmp_path, encoder, "c.csv")


def test_pictures_that_are_not_there_are_left_out_and_told(home):
    write(home / "some.csv", [("p0.jpg", "a cat"), ("gone.jpg", "a dog"), ("p1.jpg", "a cup"), ("p1.jpg", "a cup")])
    done = run_cli("eval", "some.csv", "--json", cwd=home)
    assert done.code == 0, done.err
    assert done.json["left_out"] == [3] and done.json["repeated"] == [5]
    assert "1 captions of pictures not in the library (line 3)" in done.err and "(line 5)" in done.err
    with Library(home / ".clipsearch").read() as snapshot:
        found = find_pictures(snapshot.pictures(), snapshot.copied(), read_captions(home / "some.csv"), home)
    write(home / "none.csv", [("gone.jpg", "a dog")])
    with pytest.raises(InvalidInputError, match=r"None of the 1 pictures .* 'gone.jpg' in line 2. Index them"):
        pair_up(read_captions(home / "none.csv"), [found])


@pytest.mark.slow
def test_json_is_the_contract_and_the_plot_is_a_picture(home):
    pytest.importorskip("matplotlib")
    done = run_cli("eval", "captions.csv", "--template", "a photo of {}", "--json", "--plot", "r.png", cwd=home)
    assert done.code == 0, done.err
    answer = done.json
    assert list(answer) == [
        "captions", "pictures", "texts", "left_out", "repeated", "resamples", "interval", "sides", "difference",
    ]  # fmt: skip
    assert (answer["pictures"], answer["texts"], answer["resamples"], answer["interval"]) == (6, 12, 1000, 0.95)
    assert [side["templates"] for side in answer["sides"]] == [[], ["a photo of {}"]]
    for side in answer["sides"]:
        assert list(side) == ["library", "encoder", "templates", "gallery", "text_to_image", "image_to_text"]
    for figures in (*answer["sides"], answer["difference"]):
        for direction in ("text_to_image", "image_to_text"):
            assert list(figures[direction]) == METRICS
            assert all(list(each) == ["value", "low", "high"] for each in figures[direction].values())
    assert (home / "r.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_compares_two_libraries(home, encoder, tmp_path):
    index(tmp_path / "other", home / "photos" / "some" / "p0.jpg", encoder=encoder)
    done = run_cli("eval", "captions.csv", "--compare", tmp_path / "other", cwd=home)
    assert done.code == 0, done.err
    lines = done.out.decode().splitlines()
    assert lines[0].startswith(f"A: {home}") and lines[1].startswith("B: ") and "2 captions, 1 pictures" in lines[1]
    assert lines[3].split() == ["text", "->", "image", "A", "B", "B", "-", "A"]
    assert [line.split()[0] for line in lines[4:13]] == METRICS
    assert "harder" in done.err and "not in both libraries" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["captions.csv", "--compare", ".", "--template", "{}"], "each make a comparison"),
        (["captions.csv", "--template", "a photo"], r"must contain \{\} once"),
        (["captions.csv", "--plot", "r.gif"], "cannot be written as 'r.gif'"),
        (["captions.csv", "--plot", "nowhere/r.png"], "folder 'nowhere' for the plot"),
        (["nowhere.csv"], "cannot be read"),
    ],
)
def test_wrong_use_is_told_before_any_work(home, monkeypatch, arguments, message):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(home)
    with pytest.raises(InvalidInputError, match=message):
        eval_command.main(arguments, standalone_mode=False)


def test_without_matplotlib_it_says_what_to_install(home, monkeypatch):
    import importlib.util

    from clipsearch.cli.plotting import check_plot

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"pip install 'clipsearch\[plot\]'"):
        check_plot("r.png")
