"""clipsearch label: which label fits each picture, and how sure that is."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from clipsearch.cli.label import label, read_labels
from clipsearch.errors import ClipSearchError, InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.eval.evaluation import encode_templates
from clipsearch.query.labelling import TEMPLATES, label_pictures
from clipsearch.query.opening import open_library
from clipsearch.types import Modality
from tests.support.cli import run_cli
from tests.support.libraries import index
from tests.support.pictures import photograph

LABELS = ["cat", "coffee", "rocket"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("label")
    for place, name in (("a", "chelsea.png"), ("a", "coffee.png"), ("b", "rocket.jpg")):
        (folder / "photos" / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(photograph(name), folder / "photos" / place / name)
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n")
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


def test_chances_are_the_softmax_of_scaled_cosines_and_the_right_label_wins(home, encoder):
    with open_library(home / ".clipsearch") as engine:
        engine._encoder = encoder
        (found,) = label_pictures(engine, LABELS)
        with engine.library.read() as snapshot:
            rows = snapshot.rows(Modality.IMAGE).gather(np.arange(3))
        (some,) = label_pictures(engine, LABELS, filters=Filter(folders=(str(home / "photos" / "b"),)))
    texts = encoder.encode_texts([f"a photo of a {name}" for name in LABELS])
    assert TEMPLATES == ("a photo of a {}",)
    powers = np.exp(encoder.logit_scale * (rows @ texts.T).astype(np.float64))
    np.testing.assert_allclose(found.chances, powers / powers.sum(axis=1, keepdims=True), atol=2e-3)
    assert found.chances.sum(axis=1) == pytest.approx(1.0)
    names = [Path(picture.path).stem for picture in found.pictures]
    best = dict(zip(names, found.chances.argmax(axis=1).tolist(), strict=True))
    assert best == {"chelsea": 0, "coffee": 1, "rocket": 2}
    assert [Path(picture.path).stem for picture in some.pictures] == ["rocket"] and some.chances.shape == (1, 3)


def test_templates_are_averaged(encoder):
    rows = encode_templates(encoder, ["cat", "dog"], ["{}", "a drawing of a {}"])
    plain, drawn = (
        encoder.encode_texts(["cat", "dog"]),
        encoder.encode_texts(["a drawing of a cat", "a drawing of a dog"]),
    )
    expected = (plain + drawn) / np.linalg.norm(plain + drawn, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_csv_and_json_are_the_contract(home, monkeypatch, capfdbinary):
    monkeypatch.chdir(home)
    done = run_cli("label", "--labels", "cat,coffee,rocket", "--json", "-k", "2", cwd=home)
    assert done.code == 0, done.err
    assert list(done.json) == ["library", "encoder", "labels", "templates", "scale", "pictures"]
    assert done.json["labels"] == LABELS and len(done.json["pictures"]) == 3
    for picture in done.json["pictures"]:
        assert list(picture) == ["id", "path", "labels"] and len(picture["labels"]) == 2
        first, second = picture["labels"]
        assert list(first) == ["label", "probability"] and first["probability"] >= second["probability"]
    label.main(["photos/a", "--labels", "cat,coffee,rocket", "--csv"], standalone_mode=False)
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode())))
    assert [Path(row["path"]).name for row in rows] == ["chelsea.png", "coffee.png"]
    assert list(rows[0]) == ["id", "path", *LABELS]
    assert sum(float(rows[0][name]) for name in LABELS) == pytest.approx(1.0, abs=1e-5)


def test_a_table_has_a_line_a_picture(home, monkeypatch, capfdbinary):
    monkeypatch.chdir(home)
    label.main(["--labels", "cat, coffee", "-k", "1", "--template", "{}"], standalone_mode=False)
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert len(lines) == 3 and lines[0].startswith("photos/a/chelsea.png: cat ")


def test_labels_come_from_a_file_where_there_is_one(tmp_path):
    (tmp_path / "labels.txt").write_bytes("\ufeffa cat\r\n\r\n猫, black\n".encode())
    assert read_labels(str(tmp_path / "labels.txt")) == ["a cat", "猫, black"]
    assert read_labels("cat, dog") == ["cat", "dog"]
    (tmp_path / "gbk.txt").write_bytes("一只猫坐在沙发上".encode("gbk"))
    with pytest.raises(InvalidInputError, match="Save the file as UTF-8"):
        read_labels(str(tmp_path / "gbk.txt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "cat"], "two or more"),
        (["--labels", "cat,,dog"], "empty"),
        (["--labels", "cat,dog,cat"], "'cat' occurs twice"),
        (["--labels", "cat,dog", "--template", "a photo"], "once, where the text goes"),
        (["--labels", "cat,dog", "--csv", "--json"], "Only one"),
        (["--labels", "cat,dog", "nowhere"], "not in any indexed folder"),
        (["--labels", "cat,dog", "--library", "nowhere"], "no library"),
    ],
)
def test_wrong_use_is_told(home, monkeypatch, arguments, message):
    monkeypatch.chdir(home)
    with pytest.raises(ClipSearchError, match=message):
        label.main(arguments, standalone_mode=False)
