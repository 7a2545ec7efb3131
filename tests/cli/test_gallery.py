"""Sheets by their pixels, pages by a parser and a browser, folders of copies by their files; hostile names."""

import base64
import os
import shutil
import stat
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from clipsearch.config import Settings
from clipsearch.durable import replace_file
from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.gallery import lettering
from clipsearch.gallery.folder import copy_files, link_files
from clipsearch.gallery.lettering import Lettering
from clipsearch.gallery.page import render_page
from clipsearch.gallery.sheet import draw_sheet
from clipsearch.gallery.tiles import Tile, read_thumbnail, to_tiles
from tests.support.pictures import encode, exif_block, pixel_bomb

SETTINGS = Settings(threads=2)
RED, GREEN = (220, 30, 30), (20, 160, 40)
HOSTILE = [
    "a\"b'c.png",
    "line\nbreak.png",
    "<script>alert(1)<",
    "&amp;.png",
    "caf\udce9.png",
    "\u202egnp.exe.png",
    " .png",
]


def colour(path, rgb=RED, size=(90, 60)):
    Image.new("RGB", size, rgb).save(path, "PNG")
    return str(path)


def near(pixel, rgb):
    return max(abs(a - b) for a, b in zip(pixel, rgb, strict=True)) < 12


def needs_names(folder, *names):
    """Make the files, or skip where the file system does not take such names."""
    try:
        return [colour(folder / name) for name in names]
    except (OSError, UnicodeEncodeError) as error:
        pytest.skip(f"this file system takes no such names: {error}")


@pytest.fixture
def no_fonts(monkeypatch, tmp_path):
    """A system without fonts."""
    for name in ("XDG_DATA_DIRS", "XDG_DATA_HOME", "HOME", "WINDIR"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    if lettering.sys.platform == "darwin":
        pytest.skip("the font folders of this system cannot be moved")
    lettering.system_fonts.cache_clear()
    yield
    lettering.system_fonts.cache_clear()


def test_hits_become_tiles_with_what_the_table_says_of_them():
    hit = {"rank": 3, "path": "/p/a.png", "part": None, "score": 0.12345, "confidence": 0.5}
    text = {"rank": 4, "path": "/p/n.txt", "part": {"text": "roses"}, "score": 0.1, "confidence": None}
    picture, passage = to_tiles([hit, text])
    assert picture.figures == "3  0.123  50%" and picture.passage is None and picture.name == "a.png"
    assert passage.figures == "4  0.100" and passage.passage == "roses"


def test_a_sheet_shows_pictures_upright_and_says_why_others_are_grey(tmp_path):
    # Stored lying; the EXIF orientation makes it stand, red above green.
    lying = Image.new("RGB", (80, 160), RED)
    lying.paste(GREEN, (0, 80, 80, 160))
    lying = lying.transpose(Image.Transpose.ROTATE_90)
    (tmp_path / "turned.jpg").write_bytes(encode(lying, exif=exif_block(orientation=6)))
    (tmp_path / "bomb.png").write_bytes(pixel_bomb())
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    names = ["turned.jpg", "bomb.png", "broken.jpg", "missing.jpg"]
    tiles = [Tile(rank, str(tmp_path / name), 0.5, None) for rank, name in enumerate(names, 1)]
    tiles.append(Tile(5, "https://example.org/a.jpg"))
    tiles.append(Tile(6, str(tmp_path / "notes.txt"), passage="a cat " * 500))
    sheet = draw_sheet("a red thing", tiles, SETTINGS).picture
    assert sheet.width == 2 * 20 + 3 * 256 + 2 * 14, "six tiles, three beside each other"
    top = 20 + Lettering(20).line_height + 14
    centre, pitch = (20 + 128, top + 128), 256 + 14
    assert near(sheet.getpixel((centre[0], centre[1] - 50)), RED)
    assert near(sheet.getpixel((centre[0], centre[1] + 50)), GREEN)
    assert near(sheet.getpixel((centre[0] + pitch, centre[1] + 60)), (201, 201, 201)), "the bomb is a grey tile"
    below = sheet.crop((20, top + 256, 20 + 256, top + 256 + 40)).convert("L")
    assert below.getextrema()[0] < 100, "there is a caption in dark ink"
    last = sheet.crop((20 + 2 * pitch, sheet.height - 20 - 40 - 256 - 4, sheet.width - 20, sheet.height - 20 - 44))
    assert last.getpixel((2, 2)) == (255, 255, 255) and last.convert("L").getextrema()[0] < 100, "a passage is written"


def test_a_thumbnail_fits_its_box_and_its_reason_does_not_name_the_path(tmp_path):
    assert read_thumbnail(colour(tmp_path / "wide.png", size=(3000, 10)), (256, 256), SETTINGS).size == (256, 1)
    assert read_thumbnail(colour(tmp_path / "small.png"), (256, 256), SETTINGS).size == (90, 60)
    for path in (tmp_path / "none.png", tmp_path, "https://example.org/a.jpg"):
        with pytest.raises(PictureError) as caught:
            read_thumbnail(str(path), (64, 64), SETTINGS)
        assert str(path) not in str(caught.value)


def test_many_tiles_are_small_and_none_at_all_is_said(tmp_path):
    path = colour(tmp_path / "a.png")
    assert draw_sheet("q", [Tile(n, path) for n in range(1, 122)], SETTINGS).picture.width < 13 * 150
    assert draw_sheet("q", [], SETTINGS).picture.size[0] > 256


def test_a_sheet_without_fonts_escapes_what_it_cannot_write(no_fonts):
    letters = Lettering(14)
    assert letters.wrap("café 猫", 1000, 3) == ["cafe \\u732b"]
    assert letters.escaped == {"猫"}


def test_each_character_is_set_in_a_font_that_has_it():
    letters = Lettering(14)
    if letters.wrap("猫", 100, 1) != ["猫"]:
        pytest.skip("no font with Chinese characters is installed")
    canvas = Image.new("L", (40, 20), "white")
    letters.draw(lettering.ImageDraw.Draw(canvas), (0, 0), "猫犬", "black")
    one, other = canvas.crop((0, 0, 14, 20)), canvas.crop((14, 0, 28, 20))
    assert one.tobytes() != other.tobytes(), "two boxes would look the same"


def test_lines_are_cut_in_the_middle_and_wrapped_at_spaces():
    letters = Lettering(14)
    cut = letters.cut("a-very-long-name-of-a-photograph-from-the-summer.jpeg", 120)
    assert "…" in cut and cut.startswith("a-v") and cut.endswith(".jpeg")
    assert letters.cut("short", 120) == "short"
    lines = letters.wrap("some words and " + "x" * 60 + " at the end of it all", 100, 3)
    assert len(lines) == 3 and lines[0] == "some words" and lines[-1].endswith("…")
    assert letters.wrap("", 100, 3) == []


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(data.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_holds_its_pictures_and_leads_to_the_files(tmp_path):
    paths = needs_names(tmp_path, *HOSTILE)
    tiles = [Tile(rank, path, 0.5, 0.25) for rank, path in enumerate(paths, 1)]
    page = Page(render_page('"><script>x</script>', "7 matches", tiles, SETTINGS))
    assert not page.all("script") and '"><script>x</script>' in page.text
    assert [a["href"] for a in page.all("a")] == [Path(path).as_uri() for path in paths]
    assert [img["alt"] for img in page.all("img")] == [tile.name for tile in tiles]
    for img in page.all("img"):
        kind, data = img["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(BytesIO(base64.b64decode(data))) as picture:
            assert near(picture.getpixel((45, 30)), RED)
    assert "\u202e" not in page.text and "1 · 0.500 · 25%" in page.text
    assert page.all("html")[0]["lang"] == "en" and {"name", "content"} <= set(page.all("meta")[1])


def test_a_page_shows_passages_and_reasons_and_leads_nowhere_it_should_not(tmp_path):
    tiles = [
        Tile(1, str(tmp_path / "notes.txt"), passage="<b>salmon</b>\nand\x1b tuna"),
        Tile(2, str(tmp_path / "missing.jpg")),
        Tile(3, "javascript:alert(1)"),
        Tile(4, "https://example.org/a.jpg?x=1&y=2"),
    ]
    page = Page(render_page("q", "", tiles, SETTINGS))
    assert "<b>salmon</b>\nand\\x1b tuna" in page.text and "there is no such file" in page.text
    assert [a["href"] for a in page.all("a")] == [
        (tmp_path / "notes.txt").as_uri(),
        "https://example.org/a.jpg?x=1&y=2",
    ]


@pytest.mark.slow
def test_a_browser_shows_the_page(tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium here")
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_bytes(render_page("q", "", [Tile(1, colour(tmp_path / "a.png", size=(300, 300)))], SETTINGS))
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=600,600", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    with Image.open(shot) as seen:
        reds = sum(count for count, pixel in seen.convert("RGB").getcolors(1 << 20) if near(pixel, RED))
    assert reds > 200 * 200


def test_copies_are_in_order_of_rank_and_one_of_each_file(tmp_path):
    paths = [*needs_names(tmp_path, *HOSTILE), str(tmp_path / "missing.png"), "https://example.org/a.jpg"]
    os.utime(paths[0], (1, 1))
    tiles = [Tile(rank, path) for rank, path in enumerate([*paths, paths[0]], 1)]
    target = tmp_path / "new" / "folder"
    filled = copy_files(tiles, str(target))
    assert (filled.made, filled.there) == (len(HOSTILE), 0)
    assert [path for path, _ in filled.skipped] == paths[-2:]
    names = sorted(os.listdir(target))
    assert names == [f"{rank:03d}_{name}" for rank, name in enumerate(HOSTILE, 1)]
    assert (target / names[0]).read_bytes() == Path(paths[0]).read_bytes()
    assert (target / names[0]).stat().st_mtime == 1
    assert copy_files(tiles, str(target)).there == len(HOSTILE) == len(os.listdir(target))


@pytest.mark.parametrize("fill", [copy_files, link_files])
def test_nothing_is_overwritten(tmp_path, fill):
    path, target = colour(tmp_path / "a.png"), tmp_path / "out"
    target.mkdir()
    (target / "001_a.png").write_text("mine")
    assert fill([Tile(1, path)], str(target)).made == 1
    assert (target / "001_a.png").read_text() == "mine"
    assert (target / "001_a-2.png").read_bytes() == Path(path).read_bytes()
    assert fill([Tile(1, path)], str(target)).there == 1


def test_links_are_symbolic_and_whole(tmp_path):
    path = colour(tmp_path / "a.png")
    filled = link_files([Tile(1, path), Tile(2, path), Tile(3, str(tmp_path / "missing.png"))], str(tmp_path / "out"))
    assert filled.made == 1 and filled.skipped == ((str(tmp_path / "missing.png"), "there is no such file"),)
    assert os.readlink(tmp_path / "out" / "001_a.png") == path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
def test_a_pipe_is_skipped_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    filled = copy_files([Tile(1, str(tmp_path / "pipe.png")), Tile(2, str(tmp_path))], str(tmp_path / "out"))
    assert [reason for _, reason in filled.skipped] == ["not a regular file"] * 2


def test_names_that_are_too_long_are_cut_before_their_ending(tmp_path):
    path = colour(tmp_path / ("猫" * 83 + ".png"))
    copy_files([Tile(1, path)], str(tmp_path / "out"))
    (name,) = os.listdir(tmp_path / "out")
    assert name.startswith("001_猫") and name.endswith("猫.png") and len(os.fsencode(name)) <= 255


def test_a_file_is_replaced_whole_and_only_a_regular_one(tmp_path):
    target = tmp_path / "sheet.png"
    replace_file(target, b"one")
    replace_file(target, b"two")
    assert target.read_bytes() == b"two" and os.listdir(tmp_path) == ["sheet.png"]
    (tmp_path / "other").touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    (tmp_path / "link.png").symlink_to(target)
    for wrong in (tmp_path / "link.png", tmp_path, tmp_path / "none" / "a.png", Path("/dev/null")):
        with pytest.raises(InvalidInputError):
            replace_file(wrong, b"three")
    assert target.read_bytes() == b"two"
