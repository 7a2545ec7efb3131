"""The code of docs/recipes.md, word for word, in a folder that has what it names."""

import re

from tests.support.libraries import index, photo, photos
from tests.support.paths import ROOT


def test_the_recipes_run(tmp_path, encoder, monkeypatch, capsys):
    photos(tmp_path / "photos", 12, size=(96, 64))
    photo(tmp_path / "photos" / "copy.jpg", 0, (96, 64))
    photo(tmp_path / "cat.jpg", 20)
    index(tmp_path / "photos" / ".clipsearch", tmp_path / "photos", encoder=encoder)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "recipes.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 6
    names: dict = {}
    for block in blocks:
        exec(block, names)
    keys = names["keys"]
    assert len(names["recommended"]) == 3 and not {*names["recommended"]} & {keys[0], keys[1], keys[-1]}
    assert len(names["similar"]) == 5
    assert names["features"].shape == (4, encoder.dim) and names["new"].shape == (1, encoder.dim)
    original = str(tmp_path / "photos" / "p000.jpg")
    assert str(tmp_path / "photos" / "copy.jpg") in names["copies_of"](original, 0.9999)
    assert len(names["named"]) == 13 and names["named"][0][1].shape == (encoder.dim,)
