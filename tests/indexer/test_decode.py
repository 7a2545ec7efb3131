"""The Decoder of the indexer: which kind a file is, what its hash says, and that one file never stops a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from clipsearch.config import Settings
from clipsearch.errors import EncoderError, EncoderUnavailableError, StoreCorruptError
from clipsearch.media.content_hash import hash_content
from clipsearch.store.records import Failed, FileRecord, Known
from indexer.decode import Decoded, Decoder, Loaded, Vanished
from tests.support.libraries import counts, index
from tests.support.pictures import encode, noise_picture

WORDS = b"A dog runs along the beach.\n"


class Raising:
    """The real encoder, but that one of its methods raises."""

    def __init__(self, encoder: Any, name: str, error: Exception) -> None:
        self._encoder, self._name, self._error = encoder, name, error

    def __getattr__(self, name: str) -> Any:
        return self._raise if name == self._name else getattr(self._encoder, name)

    def _raise(self, *arguments: object) -> None:
        raise self._error


def load(folder: Path, name: str, encoder: Any, known: set[str] | None = None, **settings: Any) -> Loaded:
    decoder = Decoder(encoder, Settings(threads=1, **settings), {1: str(folder)}, (known or set()).intersection)
    return next(decoder([FileRecord(1, name, 0, 0)]))


# --- texts that begin like pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst", "A.TXT"])
@pytest.mark.parametrize(
    "text",
    ["P1 # outage notes\nThe disk was full.\n", "P1 2024 11\nNovember of the year\n", "GIF89a is a format of 1989.\n"],
)
def test_a_text_that_begins_like_a_picture(tmp_path, encoder, name, text):
    (tmp_path / name).write_text(text)
    loaded = load(tmp_path, name, encoder)
    assert isinstance(loaded, Decoded) and not loaded.pixels
    assert loaded.passages[0].text.startswith(text.split("\n")[0])
    (tmp_path / "same.pbm").write_text(text)
    assert isinstance(load(tmp_path, "same.pbm", encoder), Failed)


def test_a_picture_named_as_a_text_is_a_picture(tmp_path, encoder):
    whole = encode(noise_picture(1), "PNG")
    (tmp_path / "a.txt").write_bytes(whole)
    loaded = load(tmp_path, "a.txt", encoder)
    assert isinstance(loaded, Decoded) and loaded.pixels is not None and loaded.picture.width == 96
    (tmp_path / "cut.txt").write_bytes(whole[: len(whole) // 2])
    cut = load(tmp_path, "cut.txt", encoder)
    assert isinstance(cut, Failed) and "PNG" in cut.reason and not cut.transient


# --- hashes ----------------------------------------------------------------------------------------------------------


def test_the_hash_tells_the_kind_that_the_name_announces():
    assert hash_content(WORDS, "/a/words.txt") == hash_content(WORDS, "b.MD") != hash_content(WORDS, "words.jpg")
    assert hash_content(WORDS, "words.jpg") == hash_content(WORDS, "/x.txt/no-suffix") != hash_content(b"", "words.jpg")
    assert len(hash_content(WORDS, "words.txt")) == 40


def test_bytes_known_as_a_text_are_no_picture(tmp_path, encoder):
    for name in ("words.txt", "other.md", "words.jpg"):
        (tmp_path / name).write_bytes(WORDS)
    known = {load(tmp_path, "words.txt", encoder).content_hash}
    assert isinstance(load(tmp_path, "other.md", encoder, known), Known)
    for held in (known, set()):
        loaded = load(tmp_path, "words.jpg", encoder, held)
        assert isinstance(loaded, Failed) and "not a picture" in loaded.reason


def test_a_root_that_is_a_file_is_of_the_kind_of_its_name(tmp_path, encoder):
    (tmp_path / "words.txt").write_bytes(WORDS)
    loaded = load(tmp_path / "words.txt", "", encoder)
    assert isinstance(loaded, Decoded) and loaded.passages
    assert loaded.content_hash == hash_content(WORDS, "words.txt")


@pytest.mark.parametrize("first", ["words.txt", "words.jpg"])
def test_the_order_of_two_names_of_one_content_does_not_matter(tmp_path, encoder, first):
    (tmp_path / "files").mkdir()
    failed: set[str] = set()
    for name in (first, *({"words.txt", "words.jpg"} - {first})):
        (tmp_path / "files" / name).write_bytes(WORDS)
        report = index(tmp_path / "lib", tmp_path / "files", encoder=encoder)
        failed |= {os.path.basename(path) for path, _ in report.failed}
    assert failed == {"words.jpg"}


def test_a_file_that_moves_and_keeps_its_kind_is_moved(tmp_path, encoder):
    files = tmp_path / "files"
    files.mkdir()
    (files / "words.txt").write_bytes(WORDS)
    (files / "a.png").write_bytes(encode(noise_picture(1), "PNG"))
    index(tmp_path / "lib", files, encoder=encoder)
    os.rename(files / "words.txt", files / "notes.md")
    os.rename(files / "a.png", files / "b.jpg")
    for dry_run in (True, False):
        found = counts(index(tmp_path / "lib", files, encoder=encoder, dry_run=dry_run))
        assert found == {"moved": 2}


# --- one file alone fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError(), ValueError("odd\nshape"), RuntimeError("x" * 999), OSError(5, "bad")])
def test_any_error_of_one_picture_is_its_failure(tmp_path, encoder, error):
    (tmp_path / "a.png").write_bytes(encode(noise_picture(1), "PNG"))
    loaded = load(tmp_path, "a.png", Raising(encoder, "preprocess", error))
    assert isinstance(loaded, Failed) and loaded.transient
    assert loaded.reason.startswith("could not be decoded: ") and "\n" not in loaded.reason
    assert len("could not be decoded: ") < len(loaded.reason) < 250


def test_a_text_that_cannot_be_split_is_a_failure(tmp_path, encoder):
    class Narrow(Raising):
        max_tokens = 0

    (tmp_path / "a.txt").write_bytes(WORDS)
    loaded = load(tmp_path, "a.txt", Narrow(encoder, "", ValueError()))
    assert isinstance(loaded, Failed) and loaded.transient and "too small" in loaded.reason


@pytest.mark.parametrize("kind", [EncoderError, EncoderUnavailableError, StoreCorruptError])
def test_what_concerns_the_whole_run_is_raised(tmp_path, encoder, kind):
    (tmp_path / "a.png").write_bytes(encode(noise_picture(1), "PNG"))
    with pytest.raises(kind, match="all"):
        load(tmp_path, "a.png", Raising(encoder, "preprocess", kind("all")))


def test_a_picture_that_lacked_memory_is_tried_again(tmp_path, encoder, monkeypatch):
    from PIL.PngImagePlugin import PngImageFile

    def no_memory(picture: PngImageFile) -> None:
        raise MemoryError

    (tmp_path / "a.png").write_bytes(encode(noise_picture(1), "PNG"))
    monkeypatch.setattr(PngImageFile, "load", no_memory)
    loaded = load(tmp_path, "a.png", encoder)
    assert isinstance(loaded, Failed) and loaded.transient and "memory" in loaded.reason


# --- reading ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read(tmp_path, encoder):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "big.jpg").write_bytes(bytes(11))
    (tmp_path / "big.txt").write_bytes(bytes(21))
    limits = {"max_picture_bytes": 10, "max_text_bytes": 20}
    assert isinstance(load(tmp_path, "gone.jpg", encoder), Vanished)
    for name, reason in [
        ("folder.jpg", "is a folder, not a file"),
        ("big.jpg", "11 bytes, over the limit of 10 (setting max_picture_bytes)"),
        ("big.txt", "21 bytes, over the limit of 20 (setting max_text_bytes)"),
    ]:
        loaded = load(tmp_path, name, encoder, **limits)
        assert isinstance(loaded, Failed) and (loaded.reason, loaded.transient) == (reason, False)


def test_a_time_beyond_64_bits_is_held_within_them(tmp_path, encoder):
    (tmp_path / "late.txt").write_bytes(WORDS)
    seconds = 13_569_465_600  # the year 2400
    os.utime(tmp_path / "late.txt", (seconds, seconds))
    if (tmp_path / "late.txt").stat().st_mtime_ns < 2**63:
        pytest.skip("this file system keeps no such time")
    loaded = load(tmp_path, "late.txt", encoder)
    assert isinstance(loaded, Decoded) and loaded.record.mtime_ns == 2**63 - 1
