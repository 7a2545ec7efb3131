"""Recognising text: what is read, where it stands, and that nothing else happens."""

import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from PIL import Image
from rapidocr.inference_engine.onnxruntime.main import ONNXRuntimeError

from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.media import ocr
from tests.support.signs import sign


@pytest.fixture(scope="module")
def recogniser():
    return ocr.TextRecogniser()


@pytest.mark.parametrize(
    ("text", "angle"), [("EXIT 12", 0), ("EXIT 12", 15), ("EXIT 12", 90), ("EXIT 12", 180), ("北京火车站", 0)]
)
def test_text_is_read(recogniser, text, angle):
    assert [line.text for line in recogniser.read(sign(text, (200, 200), angle=angle))] == [text]


def test_boxes_are_where_the_text_stands(recogniser):
    (line,) = recogniser.read(sign("EXIT", (400, 360)))
    across, down = zip(*line.box, strict=True)
    assert len(line.box) == 4 and 400 / 640 - 0.03 < min(across) < max(across) < 0.85
    assert 0.7 < min(down) < max(down) < 0.95
    assert ocr.MIN_CONFIDENCE <= line.confidence <= 1


def test_a_flat_picture_has_boxes_of_its_own_height(recogniser):
    (line,) = recogniser.read(sign("EXIT 12").crop((0, 50, 640, 120)))
    assert line.text == "EXIT 12"
    assert min(y for _, y in line.box) < 0.4 and max(y for _, y in line.box) > 0.6


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 5), (2, 2)])
def test_odd_sizes_have_no_text(recogniser, size):
    assert recogniser.read(Image.new("RGB", size, "white")) == ()


def test_noise_is_bounded_and_says_nothing(recogniser):
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    assert recogniser.read(Image.fromarray(noise)) == ()


def test_regions_are_chosen_within_the_bounds():
    lines = [[(0, 10 * i), (300, 10 * i), (300, 10 * i + 8), (0, 10 * i + 8)] for i in range(900)]
    endless = [[(0, 0), (5000, 0), (5000, 9), (0, 9)]]
    chosen = ocr._choose(np.array(endless + lines, np.int32))
    assert chosen == sorted(chosen) and 0 not in chosen
    assert 0 < len(chosen) <= 200 and len(chosen) * 300 / 8 <= 1500


def test_what_says_nothing_is_no_line():
    assert [ocr.is_telling(text) for text in ("", "-", "i", "1 .", "一", "A5", "车站", "12")] == [
        False, False, False, False, False, True, True, True,
    ]  # fmt: skip
    assert ocr.clean_line("a\tb\x00\u202e  c") == "a b c"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (MemoryError("no room"), MemoryError),
        (OSError("no file"), OSError),
        (RuntimeError("no thread"), RuntimeError),
        (ONNXRuntimeError("Failed to allocate memory"), RuntimeError),
        (ValueError("an odd shape"), PictureError),
    ],
)
def test_only_what_the_picture_is_to_blame_for_is_an_error_of_the_picture(recogniser, monkeypatch, error, raised):
    def fail(image):
        raise error

    monkeypatch.setattr(recogniser, "_detect", fail)
    with pytest.raises(raised):
        recogniser.read(sign("EXIT"))


def test_opencv_without_memory_is_no_error_of_the_picture(recogniser, monkeypatch):
    huge = np.broadcast_to(np.uint8(0), (1 << 23, 1 << 23, 3))
    monkeypatch.setattr(recogniser, "_detect", lambda image: cv2.resize(image[:1, :1], huge.shape[:2]))
    with pytest.raises(MemoryError):
        recogniser.read(sign("EXIT"))


def test_threads_read_the_same(recogniser):
    pictures = [sign(text, (100 + 40 * i, 60 * i)) for i, text in enumerate(["EXIT", "Coffee", "Platform", "Museum"])]
    alone = [recogniser.read(picture) for picture in pictures]
    found = [()] * len(pictures)

    def read(i):
        found[i] = recogniser.read(pictures[i])

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone and all(alone)


def test_it_asks_no_network_and_prints_nothing(tmp_path):
    sign("EXIT 12").save(tmp_path / "sign.png")
    code = """if True:
        import logging, socket, sys
        def refuse(*arguments, **named):
            raise AssertionError("the network was asked")
        socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
        handlers, level = list(logging.root.handlers), logging.root.level
        from PIL import Image
        from clipsearch.media.ocr import TextRecogniser
        with Image.open(sys.argv[1]) as picture:
            (line,) = TextRecogniser().read(picture.convert("RGB"))
        assert line.text == "EXIT 12"
        assert (logging.root.handlers, logging.root.level, logging.root.manager.disable) == (handlers, level, 0)
    """
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "sign.png"], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ocr.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"pip install 'clipsearch\[ocr\]'"):
        ocr.recogniser_fingerprint()
    with pytest.raises(InvalidInputError, match=r"pip install 'clipsearch\[ocr\]'"):
        ocr.TextRecogniser()


def test_the_fingerprint_is_of_weights_and_rules(monkeypatch):
    before = ocr.recogniser_fingerprint()
    assert len(before) == 40 and ocr.recogniser_fingerprint() == before
    monkeypatch.setattr(ocr, "_RULES", "other")
    assert ocr.recogniser_fingerprint() != before
