"""What a query shows beside its table: on a terminal that is played here, in files, through the daemon too."""

import base64
import errno
import os
import re
import select
import subprocess
import sys
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clipsearch.cli.daemon import protocol
from clipsearch.cli.daemon.protocol import ask
from clipsearch.cli.drawing import to_blocks, to_iterm2, to_kitty, to_sixel
from clipsearch.cli.showing import Showing, show
from clipsearch.cli.terminal import look_at
from clipsearch.config import Settings
from clipsearch.errors import InvalidInputError
from tests.support.cli import COMMAND, environment, run_cli, start_cli
from tests.support.libraries import index
from tests.support.pictures import noise_picture

RED = (220, 30, 30)
QUERY = ["query", "a red wall", "--json"]
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals and Unix sockets")


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    """A red picture, one that is deleted after it was indexed, a text of several passages, and their library."""
    folder = tmp_path_factory.mktemp("home") / "photos"
    (folder / ".clipsearch").mkdir(parents=True)
    Image.new("RGB", (400, 300), RED).save(folder / "red.png")
    noise_picture(1, (64, 48)).save(folder / "gone.png")
    (folder / "notes.txt").write_text("A red wall. " * 30 + "\n\n" + "Prune the roses. " * 30)
    index(folder / ".clipsearch", folder, encoder=encoder)
    (folder / "gone.png").unlink()
    return folder


@pytest.fixture(scope="module")
def alone(home, tmp_path_factory):
    """A query with everything it can make, and the folder that it made this in."""
    made = tmp_path_factory.mktemp("made")
    outputs = ["--sheet", "s.jpg", "--html", "p.html", "--copy-to", "c", "--link-to", "l"]
    done = run_cli(*QUERY, *outputs, "--library", home / ".clipsearch", cwd=made)
    assert done.code == 0, done.err
    return done, made


def payload_of(*paths):
    """The JSON form of an answer."""
    hits = [
        {"rank": rank, "path": str(path), "part": None, "score": 0.5, "confidence": None}
        for rank, path in enumerate(paths, 1)
    ]
    return {"query": "red", "encoder": "builtin-small", "library": "l", "hits": hits}


def test_stdout_stays_what_it_is_whatever_else_is_made(home, alone):
    done, made = alone
    assert done.out == run_cli(*QUERY, cwd=home).out
    hits = done.json["hits"]
    assert len(hits) == len({hit["path"] for hit in hits}) == 3, "a text is one match, however many passages it has"
    assert "2 files copied" in done.err and "2 files linked" in done.err and "1 skipped" in done.err
    assert "gone.png: there is no such file" in done.err and "indexed folder" not in done.err
    ranks = {f"{hit['rank']:03d}_{os.path.basename(hit['path'])}" for hit in hits}
    assert set(os.listdir(made / "c")) == set(os.listdir(made / "l")) <= ranks
    with Image.open(made / "s.jpg") as sheet:
        assert sheet.format == "JPEG" and sum(np.abs(np.asarray(sheet) - RED).max(2).ravel() < 9) > 256 * 150
    assert (made / "p.html").read_text().count("data:image/jpeg") == 1


@needs_posix
def test_the_daemon_answers_and_this_process_shows(home, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(protocol, "_hung", False)  # another test of this process may have met a daemon that hangs
    os.chmod(tmp_path, 0o700)
    daemon = start_cli("daemon")
    try:
        assert daemon.stderr is not None and b"Listening" in daemon.stderr.readline()
        for _ in range(20):  # a busy machine may keep the daemon from answering in time; then the process does
            (tmp_path / "p.html").unlink(missing_ok=True)
            asked = run_cli(*QUERY, "--html", tmp_path / "p.html", cwd=home)
            if (ask({"do": "status"}) or {}).get("answered"):
                break
        else:
            pytest.fail("the daemon answered no query")
    finally:
        daemon.terminate()
        daemon.communicate(timeout=20)
    assert asked.out == alone[0].out
    assert (tmp_path / "p.html").read_bytes() == (alone[1] / "p.html").read_bytes()


def test_what_an_indexing_run_would_take_in_is_told(home, tmp_path, capfd):
    (home / "new").mkdir()
    showing = Showing(sheet=str(home / "new" / "s.png"), copy_to=str(home / "new" / "copies"))
    show(payload_of(home / "red.png"), showing, Settings(), home / ".clipsearch")
    assert capfd.readouterr().err.count("is in an indexed folder") == 2
    showing = Showing(sheet=str(tmp_path / "s.png"), link_to=str(home / "new" / "links"))
    show(payload_of(home / "red.png"), showing, Settings(), home / ".clipsearch")
    assert "indexed folder" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sheet": "out.gif"}, "does not end in .png"),
        ({"sheet": "nowhere/out.png"}, "The folder nowhere"),
        ({"sheet": "folder.png"}, "not a regular file"),
        ({"html": "out.txt"}, "does not end in .html"),
        ({"copy_to": "a.png"}, "is not a folder"),
        ({"link_to": ""}, "is not a folder"),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(tmp_path, monkeypatch, wrong, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a.png").touch()
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        Showing(**wrong).check()
    Showing(sheet="a.png", html="a.html", copy_to="new", link_to="folder.png").check()


def test_a_sheet_is_not_drawn_over_what_it_shows(home, capfd):
    before = (home / "red.png").read_bytes()
    os.link(home / "red.png", home / "same.png")
    for name in ("red.png", "same.png"):
        with pytest.raises(InvalidInputError, match="not overwritten"):
            show(payload_of(home / "red.png"), Showing(sheet=str(home / name)), Settings(), home / ".clipsearch")
    os.unlink(home / "same.png")
    assert (home / "red.png").read_bytes() == before


def test_a_preview_without_a_terminal_is_a_clear_message_and_no_escape_code(home):
    done = run_cli("query", "red", "--preview", cwd=home)
    assert done.code == 2 and "--sheet" in done.err and "\x1b" not in done.err and done.out == b""


@pytest.mark.skipif(sys.platform != "linux", reason="plays the opener of Linux desktops")
def test_open_takes_the_page_or_the_first_files_and_leaves_stdout_alone(home, tmp_path, monkeypatch, capfd):
    opener, opened = tmp_path / "xdg-open", tmp_path / "opened"
    opener.write_text(f'#!/bin/sh\necho noise\necho "$1" >> {opened}\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.setenv(name, "")
    with pytest.raises(InvalidInputError, match="no display"):
        Showing(open_it=True).check()
    monkeypatch.setenv("DISPLAY", ":9")
    page = str(tmp_path / "p.html")
    files = [home / name for name in ("notes.txt", "red.png", "gone.png")]
    for showing, expected in (
        (Showing(open_it=True), {str(files[0]), str(files[1])}),
        (Showing(open_it=True, html=page), {page}),
    ):
        showing.check()
        show(payload_of(*files), showing, Settings(), home / ".clipsearch")
        until = time.monotonic() + 20
        while time.monotonic() < until and (not opened.exists() or set(opened.read_text().split()) != expected):
            time.sleep(0.02)
        assert set(opened.read_text().split()) == expected
        opened.unlink()
    assert "noise" not in capfd.readouterr().out


ON_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
ANSWERS = {
    "kitty": b"\x1b_Gi=31;OK\x1b\\\x1bP>|kitty(0.40)\x1b\\\x1b[6;18;9t\x1b[?62;c",
    "iterm2": b"\x1bP>|iTerm2 3.5.0\x1b\\\x1b_Gi=31;OK\x1b\\\x1b[?62;4c",
    "sixel": b"\x1b[6;18;9t\x1b[?63;1;2;4;6c",
    "blocks": b"\x1b[?64;14c",
    "silent": b"",
}
SIGNS = {"kitty": "\x1b_Ga=T", "iterm2": "\x1b]1337;File=", "sixel": "\x1bP0;1q", "blocks": "▀▀▀▀"}
DRAW = """
import sys
from clipsearch.cli.preview import draw_tiles
from clipsearch.cli.terminal import look_at
from clipsearch.config import Settings
from clipsearch.gallery.tiles import Tile
tiles = [Tile(1, sys.argv[1] + "/red.png", 0.5, 0.25), Tile(2, sys.argv[1] + "/gone.png")]
tiles.append(Tile(3, "/notes.txt", passage="A red wall. \x1b[2J"))
for _ in range(int(sys.argv[2])):
    draw_tiles(look_at(sys.stdout, "auto"), tiles, Settings(), sys.argv[1])
    print("END", flush=True)
"""


def run_on_terminal(command, answers, env=None):
    """Run on a terminal of 100 x 40 cells that answers each query in turn.

    Returns the exit code, what the terminal got, and whether it was left in the mode it had.
    """
    import fcntl
    import struct
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    before, got, answered = termios.tcgetattr(slave), b"", 0
    full = environment({"TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})})
    whole = [sys.executable, "-c", ON_TERMINAL, *map(str, command)]
    with subprocess.Popen(whole, env=full, stdin=slave, stdout=slave, stderr=slave) as process:
        while process.poll() is None or select.select([master], [], [], 0)[0]:
            if select.select([master], [], [], 0.05)[0]:
                try:
                    got += os.read(master, 1 << 16)
                except OSError as error:
                    assert error.errno == errno.EIO
                    break
            if answered < min(got.count(b"\x1b[c"), len(answers)):
                os.write(master, answers[answered])
                answered += 1
    after = termios.tcgetattr(slave)
    os.close(master)
    os.close(slave)
    return process.returncode, got.decode(), before == after


@needs_posix
def test_a_preview_is_drawn_as_the_terminal_says_it_takes_it(home):
    command = [sys.executable, "-c", DRAW, home, len(ANSWERS)]
    code, got, is_restored = run_on_terminal(command, list(ANSWERS.values()))
    assert code == 0 and is_restored, got
    *drawn, rest = got.split("END")
    assert len(drawn) == len(ANSWERS) and not rest.strip()
    for name, part in zip(ANSWERS, drawn, strict=True):
        assert [sign for sign in SIGNS if SIGNS[sign] in part] == ["blocks" if name == "silent" else name]
        assert "1  0.500  25%" in part and " red.png" in part.replace("\n", " ") and "there is no such file" in part
        assert "A red wall. \\x1b[2J" in part, "what a text says does not steer the terminal"
    sent = "".join(re.findall(r"\x1b_G(?:a=T[^;]*|m=[^;]*);([^\x1b]*)\x1b", drawn[0]))
    with Image.open(BytesIO(base64.b64decode(sent))) as picture:
        assert picture.size[0] % 9 == picture.size[1] % 18 == 0, "it covers whole cells"
        assert picture.getpixel((5, 5)) == (*RED, 255)
    inks = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", drawn[-1])
    assert inks and all(tuple(map(int, ink)) == (*RED, *RED) for ink in inks)
    lines = re.sub(r"\x1b(\[[\d;?>]*[a-zA-Z]|_G.*?\\)", "", drawn[-1].replace("\x1b\\", "\\")).splitlines()
    assert len({line.count("▀") for line in lines if "▀" in line}) == 1
    assert max(map(len, lines)) <= 100


@needs_posix
def test_the_command_previews_after_its_table(home):
    command = [COMMAND, "query", "red", "--modality", "image", "--preview", "--library", home / ".clipsearch"]
    code, got, is_restored = run_on_terminal(command, [ANSWERS["kitty"]])
    assert code == 0 and is_restored
    assert got.index("score  conf.") < got.index(SIGNS["kitty"])


@needs_posix
def test_a_terminal_that_can_only_print_gets_a_message(home):
    code, got, _ = run_on_terminal([COMMAND, "query", "red", "--preview"], [], {"TERM": "dumb"})
    assert code == 2 and "\x1b" not in got and "--sheet" in got


def test_the_setting_that_says_how_is_checked():
    with pytest.raises(InvalidInputError, match="'photo'"):
        look_at(sys.__stdout__, "photo")


def decode_sixel(data):
    """Draw what a terminal would: RGB, and black where nothing is drawn."""
    body = data[data.index("q") + 1 : -2]
    _, _, width, height = map(int, re.match(r'"(\d+);(\d+);(\d+);(\d+)', body).groups())
    pixels, colours = np.zeros((height + 5, width, 3), np.uint8), {}
    x = y = colour = 0
    for number, rgb, count, sign in re.findall(
        r"#(\d+)((?:;2;\d+;\d+;\d+)?)|(?:!(\d+))?([?-~$-])", body[body.index("#") :]
    ):
        if number:
            colour = int(number)
            if rgb:
                colours[colour] = [int(part) * 255 // 100 for part in rgb.split(";")[2:]]
        elif sign in "$-":
            x, y = 0, y + 6 * (sign == "-")
        else:
            for _ in range(int(count or 1)):
                for bit in range(6):
                    if (ord(sign) - 63) >> bit & 1:
                        pixels[y + bit, x] = colours[colour]
                x += 1
    return pixels[:height]


def test_sixels_are_the_picture():
    picture = noise_picture(3, (50, 33))
    drawn = decode_sixel(to_sixel(picture)).astype(int)
    assert drawn.shape == (33, 50, 3)
    error = np.abs(drawn - np.asarray(picture)).mean()
    assert error < 12 < 30 < np.abs(drawn[::-1] - np.asarray(picture)).mean(), "256 colours tell it from its mirror"


def test_kitty_and_iterm2_get_the_picture_whole():
    picture = noise_picture(3, (300, 200))
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", to_kitty(picture, 30, 10))
    assert len(parts) > 1 and all(len(data) <= 4096 for _, data in parts)
    assert parts[0][0] == "a=T,f=100,q=2,C=1,c=30,r=10,m=1" and {keys for keys, _ in parts[1:-1]} <= {"m=1"}
    assert parts[-1][0] == "m=0"
    inline = to_iterm2(picture, 30, 10)
    assert "width=30;height=10;" in inline and inline.endswith("\x07")
    for data in ("".join(data for _, data in parts), inline[:-1].split(":", 1)[1]):
        with Image.open(BytesIO(base64.b64decode(data))) as sent:
            assert np.array_equal(np.asarray(sent), np.asarray(picture))


def test_a_block_is_two_pixels_and_half_a_one_at_an_odd_end():
    picture = Image.new("RGB", (2, 3), RED)
    picture.putpixel((1, 1), (1, 2, 3))
    upper, lower = to_blocks(picture)
    assert upper.plain == lower.plain == "▀▀"
    assert upper.spans[1].style.bgcolor.triplet == (1, 2, 3) and lower.spans[0].style.bgcolor is None
