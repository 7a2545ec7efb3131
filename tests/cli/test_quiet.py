"""What stays off the screen during a run, and what a run says of files that it passed over."""

import io

import pytest
from PIL import Image, features

from tests.support.cli import run_cli
from tests.support.libraries import photo


def broken_tiff() -> bytes:
    """A TIFF of which libtiff complains on stderr."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    for at in range(200, 3000, 7):
        data[at] ^= 0xFF
    return bytes(data)


@pytest.fixture
def place(tmp_path):
    photo(tmp_path / "photos" / "a.jpg", 1)
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(not features.check("libtiff"), reason="this Pillow has no libtiff")
def test_what_a_library_in_c_writes_is_shown_on_demand_alone(place, capfd):
    (place / "photos" / "bad.tif").write_bytes(broken_tiff())
    with pytest.raises(OSError), Image.open(place / "photos" / "bad.tif") as picture:
        picture.load()
    words = capfd.readouterr().err.strip().rpartition(": ")[2]
    assert words  # it does write
    ran = run_cli("index", "photos", "--library", "lib", "--model", "builtin", cwd=place)
    assert words not in ran.err and "bad.tif: damaged TIFF file" in ran.err and "1 added" in ran.err
    ran = run_cli("index", "--library", "lib", "--retry-failed", "--verbose", "--json", cwd=place)
    assert f"{words}" in ran.err and ran.json["failed"][0]["path"].endswith("bad.tif")


@pytest.mark.slow
def test_files_of_other_kinds_are_counted_by_ending_and_named_on_demand(place):
    for name in ("b.xcf", "c.XCF", "d.xmp", "noend", "a.xmp", "a.jpg.xmp", "A.jpg.json", "B.json", "captions.csv",
                 "e.txt", "a.txt", "Thumbs.db"):  # fmt: skip
        (place / "photos" / name).write_text("image,caption\na.jpg,x\n")
    ran = run_cli("index", "photos", "--library", "lib", "--model", "builtin", "--json", cwd=place)
    assert ran.json["passed_over"] == {".xcf": 2, ".json": 1, ".xmp": 1, "": 1}
    assert "Passed over 5 files of other kinds: 2 .xcf, 1 .json, 1 .xmp, 1 without an ending." in ran.err
    assert "b.xcf" not in ran.err
    ran = run_cli("index", "--library", "lib", "-v", cwd=place)
    named = [line.rpartition("/")[2] for line in ran.err.splitlines() if line.startswith("passed over: ")]
    assert named == ["B.json", "b.xcf", "c.XCF", "d.xmp", "noend"]


def test_pictures_are_read_by_any_of_their_endings(place):
    names = ["b.JPE", "c.jfif", "d.jif", "e.pjpeg", "f.apng", "g.HIF", "h.heics", "i.avifs", "j.mpo"]
    for number, name in enumerate(names):
        photo(place / "photos" / "a.jpg", number).rename(place / "photos" / name)
    ran = run_cli("index", "photos", "--library", "lib", "--model", "builtin", "--json", cwd=place)
    assert (ran.json["added"], ran.json["passed_over"], ran.json["failed"]) == (len(names), {}, [])
