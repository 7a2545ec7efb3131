"""What tells the two files of an Apple Live Photo, as cameras and other programs write it."""

import os
import shutil
import struct
import subprocess

import pytest

from clipsearch.media.films.live import LiveFilm, read_live_film
from clipsearch.media.image_metadata import read_embedded
from tests.support.live_photos import film, maker_note, still

pytest.importorskip("av")

IDENTIFIER = "4F1B2C3D-0000-4711-8000-ABCDEF012345"


def said(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_live_film(descriptor)
    finally:
        os.close(descriptor)


def as_an_iphone_writes(path):
    """Bring the metadata of a film that PyAV wrote to where an iPhone has it: a box of the movie, without version."""
    data = path.read_bytes()
    movie, user = data.index(b"moov") - 4, data.index(b"udta") - 4
    meta = data[data.index(b"meta") + 8 :]
    inside = data[movie + 8 : user] + struct.pack(">I4s", len(meta) + 8, b"meta") + meta
    path.write_bytes(data[:movie] + struct.pack(">I4sQ", 1, b"moov", len(inside) + 16) + inside)


@pytest.mark.parametrize("name", ["a.mov", "a.mp4"])
def test_a_film_says_its_identifier_and_its_length(tmp_path, name):
    path = film(tmp_path / name, identifier=IDENTIFIER.lower(), seconds=2)
    assert said(path) == LiveFilm(IDENTIFIER, pytest.approx(2, abs=0.3))
    as_an_iphone_writes(path)
    assert said(path) == LiveFilm(IDENTIFIER, pytest.approx(2, abs=0.3))
    assert said(film(tmp_path / name)).identifier == ""


@pytest.mark.parametrize("name", ["a.jpg", "a.heic"])
def test_a_picture_says_its_identifier(tmp_path, name):
    assert read_embedded(still(tmp_path / name, identifier=IDENTIFIER.lower()).read_bytes()).identifier == IDENTIFIER
    assert read_embedded(still(tmp_path / name).read_bytes()).identifier == ""


def test_damaged_and_hostile_films_say_nothing_or_less(tmp_path):
    path = tmp_path / "a.mov"
    film(path, identifier=IDENTIFIER)
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        path.write_bytes(data[:end])
        assert said(path).identifier in ("", IDENTIFIER)
    for box in (b"\0\0\0\0moov", b"\0\0\0\1moov" + b"\xff" * 8, b"\0\0\0\7moov", b"\0\0\0\x08free" * 10_000 + data):
        path.write_bytes(box)
        assert said(path) == LiveFilm()


def test_damaged_maker_notes_say_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    data = still(path, identifier=IDENTIFIER).read_bytes()
    note = maker_note(IDENTIFIER)
    for other in (note[:14], note[:30], b"Nikon" + note[5:], note.replace(b"\0\0\0\x25", b"\xff\xff\xff\xff")):
        assert read_embedded(data.replace(note, other.ljust(len(note), b"\0"))).identifier == ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("name", ["a.mov", "a.heic", "a.jpg"])
def test_exiftool_reads_what_the_tests_write(tmp_path, name):
    path = (film if name.endswith("mov") else still)(tmp_path / name, identifier=IDENTIFIER)
    if name.endswith("mov"):
        as_an_iphone_writes(path)
    tags = ["-ContentIdentifier", "-MediaGroupUUID"]  # the second is what exiftool called it in maker notes before
    done = subprocess.run(["exiftool", "-s3", *tags, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == IDENTIFIER
