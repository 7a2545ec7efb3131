"""Films: their frames, their facts, what is damaged and what is hostile."""

import os
from contextlib import closing
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest

from clipsearch.config import Settings
from clipsearch.errors import MediaError, PictureError
from clipsearch.media import child
from clipsearch.media.films import decoding
from clipsearch.media.films.base import FilmRequest, film_format
from clipsearch.media.films.facts import read_facts
from clipsearch.media.films.hdr import to_sdr
from clipsearch.media.films.process import FilmReader, check_film, frame_at, open_film
from tests.support.films import scene, scenes, write_audio, write_film, write_hdr

pytest.importorskip("av")

OLDER = [("a.3gp", "mpeg4"), ("a.mpg", "mpeg2video"), ("a.mts", "libx264"), ("a.m2ts", "libx264"), ("a.wmv", "wmv2"),
         ("a.flv", "flv1")]  # fmt: skip
"""What camcorders, telephones and older programs write."""


def read(path, **options):
    """The times and pictures of the frames of a film, its facts and its note."""
    with open_film(str(path), 1 << 30) as (descriptor, _):
        request = FilmRequest(**{"side": 96, "max_pixels": 10_000_000, **options})
        with closing(FilmReader(descriptor, request)) as reader:
            frames = list(reader)
    return frames, reader.facts, reader.note


def nearest_scene(picture, numbers, size):
    return min(numbers, key=lambda n: np.abs(np.asarray(picture, int) - scene(n, size).astype(int)).mean())


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        *(pytest.param(name, codec, marks=pytest.mark.slow) for name, codec in OLDER),
    ],
)
def test_the_first_frame_of_each_scene_stands_for_a_film(tmp_path, name, codec):
    rate, options = (25, {"b": "4000000"}) if codec == "mpeg2video" else (5, {})
    path = write_film(tmp_path / name, scenes([1, 2, 3, 1], 2, rate=rate), codec=codec, options=options)
    frames, facts, note = read(path)
    assert [round(time) for time, _ in frames] == [0, 2, 4]  # the last scene is the first again
    assert [nearest_scene(picture, (1, 2, 3), (160, 96)) for _, picture in frames] == [1, 2, 3]
    assert (facts.picture.width, facts.picture.height, note) == (160, 96, "")
    assert facts.media.duration == pytest.approx(8, abs=0.3)


def test_a_scene_that_changes_slowly_has_a_frame_every_few_seconds(tmp_path):
    frames = ((step / 2, scene(1, shift=step)) for step in range(80))
    found, _, _ = read(write_film(tmp_path / "a.mp4", frames), seconds=4)
    times = [time for time, _ in found]
    assert len(times) >= 5 and all(later - earlier <= 4.6 for earlier, later in pairwise(times))


def test_a_still_film_has_one_frame(tmp_path):
    found, _, _ = read(write_film(tmp_path / "a.mp4", scenes([1], 40, rate=2)), seconds=4)
    assert len(found) == 1


def test_frames_are_bounded_and_spread_over_the_film(tmp_path):
    found, _, _ = read(write_film(tmp_path / "a.mp4", scenes(range(40), 1, rate=4)), most=10)
    assert len(found) == 10 and found[-1][0] > 5


@pytest.mark.parametrize(("degrees", "size"), [(90, (96, 160)), (180, (160, 96)), (-90, (96, 160))])
def test_it_is_turned_as_players_turn_it(tmp_path, degrees, size):
    path = write_film(tmp_path / "a.mp4", scenes([1, 2], 1), rotation=degrees)
    found, facts, _ = read(path)
    assert (facts.picture.width, facts.picture.height) == size
    turned = np.rot90(scene(1), degrees // 90)
    assert np.abs(np.asarray(found[0][1], int) - turned).mean() < 12


def encode_pq(nits):
    """ITU-R BT.2100, the inverse EOTF of PQ."""
    root = (np.asarray(nits) / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)) ** (2523 / 32)


def encode_hlg(nits):
    """ITU-R BT.2100, the inverse OOTF for gray on a screen of 1,000 cd/m2, then the OETF of HLG."""
    scene = (np.asarray(nits) / 1000) ** (1 / 1.2)
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


def srgb(light):
    """The level of light from 0 to 1."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


NITS = np.array([0.5, 5, 36.5, 80, 203, 400, 1000.0])


@pytest.mark.parametrize(
    ("transfer", "encoded", "name", "codec", "full"),
    [
        (16, encode_pq, "a.mp4", "libx265", False),
        (18, encode_hlg, "a.mp4", "libx265", False),
        (16, encode_pq, "a.mkv", "ffv1", True),
    ],
)
def test_hdr_looks_as_on_an_ordinary_screen(tmp_path, transfer, encoded, name, codec, full):
    grays = np.repeat(encoded(NITS)[:, np.newaxis], 3, axis=1)
    frames, _, note = read(write_hdr(tmp_path / name, grays, transfer, codec=codec, full=full))
    shown = np.asarray(frames[0][1])[32, 32::64].astype(float)
    assert note == "" and np.ptp(shown, axis=1).max() <= 3
    dark = NITS <= 80  # below the knee of the curve nothing changes
    assert np.abs(shown[dark, 0] - srgb(NITS[dark] / 203)).max() <= 3
    white, bright, brightest = shown[~dark, 0]
    assert 220 <= white <= 235 < bright < brightest and brightest >= 253
    plain = to_sdr(np.array([[[0xFF00] * 3]], np.uint16), transfer, 9)
    assert (plain == 255).all()


def test_colors_of_hdr_keep_their_hue(tmp_path):
    patches = encode_pq(np.array([[203.0, 1, 1], [1, 203, 1], [1, 1, 203], [800, 400, 100]]))
    frames, _, _ = read(write_hdr(tmp_path / "a.mp4", patches, 16))
    red, green, blue, orange = np.asarray(frames[0][1])[32, 32::64].astype(int)
    assert red[0] > 225 and red[1:].max() < 30 and green[1] > 225 and green[[0, 2]].max() < 30
    assert blue[2] > 225 and blue[:2].max() < 30 and orange[0] > orange[1] > orange[2] + 40


def test_times_are_those_of_the_frames_and_not_of_a_rate(tmp_path):
    times = [0.0, 0.04, 0.08, 5.0, 5.04, 30.0, 30.5]
    pictures = [1, 1, 1, 2, 2, 3, 3]
    path = write_film(tmp_path / "a.mp4", ((t, scene(n)) for t, n in zip(times, pictures, strict=True)))
    assert [round(time, 2) for time, _ in read(path)[0]] == [0.0, 5.0, 30.0]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_long_film_is_read_by_its_key_frames(tmp_path, name):
    path = write_film(tmp_path / name, scenes(range(30), 6, rate=2), gop=12)
    found, facts, note = read(path)
    assert facts.media.duration > 150 and note == ""
    assert [round(time) for time, _ in found] == [6 * n for n in range(30)]


def test_of_a_cut_tail_what_is_there_is_read_with_a_note(tmp_path):
    path = write_film(tmp_path / "a.mkv", scenes(range(40), 2), gop=10)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found, _, note = read(path)
    assert 5 < len(found) < 35 and found[-1][0] < 60 and note


@pytest.mark.parametrize("damage", [b"", b"RIFF", b"hello" * 100, b"\0\0\0\x18ftypmp42" + bytes(500)])
def test_what_is_no_film_is_refused(tmp_path, damage):
    path = tmp_path / "a.mp4"
    path.write_bytes(damage)
    with pytest.raises(PictureError, match=r"empty|not a film|damaged|without pictures"):
        read(path)


def test_a_film_without_pictures_is_refused(tmp_path):
    with pytest.raises(PictureError, match="without pictures"):
        read(write_audio(tmp_path / "a.mp4"))


def test_a_list_of_files_is_no_film(tmp_path):
    assert film_format(b"ffconcat version 1.0\nfile /etc/passwd\n") is None
    assert film_format(b"#EXTM3U\n#EXT-X-VERSION:3\n") is None


def test_too_many_pixels_are_refused(tmp_path):
    path = write_film(tmp_path / "a.mp4", scenes([1], 1))
    with pytest.raises(PictureError, match="max_pixels"):
        read(path, max_pixels=10_000)


def test_packets_without_a_frame_are_bounded(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.mp4", scenes([1], 30))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start : start + length] = bytes(length)
    path.write_bytes(data)
    monkeypatch.setattr(decoding, "_FRUITLESS", 20)
    with open(path, "rb") as file:
        film = decoding.Film(file, FilmRequest(96, 10_000_000))
        with pytest.raises(PictureError, match="no frame"):
            list(film.frames())
    assert film.note == "20 packets in a row hold no frame; the rest is left out"


def test_time_is_bounded(tmp_path):
    path = write_film(tmp_path / "a.mp4", scenes([1], 1))
    with pytest.raises(PictureError, match="film_decode_seconds"):
        read(path, cpu_seconds=0)


def test_a_process_that_dies_costs_the_film(tmp_path, monkeypatch):
    path = write_film(tmp_path / "a.mp4", scenes([1], 1))
    monkeypatch.setattr(child, "_BOOT", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(PictureError, match="signal 11"):
        read(path)


@pytest.mark.parametrize("sent", [b"Zxxxx", b"F" + (1 << 31).to_bytes(4, "little"), b"I\x02\0\0\0[]", b"E\0\0\0\0"])
def test_a_process_that_lies_costs_the_film(tmp_path, monkeypatch, sent):
    path = write_film(tmp_path / "a.mp4", scenes([1], 1))
    monkeypatch.setattr(child, "_BOOT", f"import os; os.write(1, {sent!r})")
    with pytest.raises(PictureError, match="protocol"):
        read(path)


def test_only_regular_files_within_the_limit_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="regular"), open_film(str(tmp_path / "pipe.mp4"), 10):
        pass
    (tmp_path / "a.mp4").write_bytes(b"x" * 11)
    with pytest.raises(MediaError, match="max_film_bytes"), open_film(str(tmp_path / "a.mp4"), 10):
        pass
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(MediaError):
        check_film(descriptor, 10)
    os.close(descriptor)


def test_the_frame_at_a_time_is_the_one_that_was_chosen(tmp_path):
    path = write_film(tmp_path / "a.mp4", scenes([1, 2, 3], 2))
    with open_film(str(path), 1 << 30) as (descriptor, _):
        for time, number in ((0.0, 1), (2.0, 2), (4.0, 3), (99.0, 3)):
            picture = frame_at(descriptor, time, 96, Settings())
            assert nearest_scene(picture, (1, 2, 3), (160, 96)) == number


def test_facts_of_a_real_film(tmp_path):
    metadata = {
        "creation_time": "2023-05-01T10:34:56Z",
        "com.apple.quicktime.location.ISO6709": "+52.5200+013.4050+034.000/",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 15",
    }
    _, facts, _ = read(write_film(tmp_path / "a.mov", scenes([1], 1), metadata=metadata))
    assert facts.picture.taken_at == datetime(2023, 5, 1, 10, 34, 56) and facts.picture.camera == "Apple iPhone 15"
    assert (facts.picture.latitude, facts.picture.longitude) == (52.52, 13.405)


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("+52.5200+013.4050/", (52.52, 13.405)),
        ("-3352.5+15112.75/", (-33.875, 151.2125)),
        ("+523012.0-0133000/", (52.503333, -13.5)),
        ("+00.0000+000.0000/", (None, None)),
        ("+99.0+013.0/", (None, None)),
        ("somewhere", (None, None)),
    ],
)
def test_places_of_iso_6709(said, place):
    found = read_facts({"location": said})
    assert (found["latitude"], found["longitude"]) == pytest.approx(place) if place[0] else place == (None, None)
    assert found["latitude"] is None or place[0] is not None


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({"creation_time": "2023-05-01T10:34:56.000000Z"}, "2023-05-01T10:34:56"),
        ({"creation_time": "2023-05-01T12:34:56+02:00"}, "2023-05-01T10:34:56"),
        (
            {"creation_time": "2023-05-01T10:34:56Z", "com.apple.quicktime.creationdate": "2023-05-01T12:34:56+0200"},
            "2023-05-01T12:34:56",
        ),
        ({"creation_time": "1904-01-01T00:00:00Z"}, None),
        ({"creation_time": "yesterday"}, None),
        ({}, None),
    ],
)
def test_dates(said, taken):
    assert read_facts(said)["taken_at"] == taken
