"""Files that were compared with their checksums: when that counts, and when a file is read again."""

import hashlib
import os
import time

import pytest

from clipsearch.store import verified
from clipsearch.store.folder import open_folder

DATA = b"clipsearch" * 200_000
DIGEST = hashlib.blake2b(DATA).hexdigest()


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A settled file that was not compared yet."""
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(verified, "SETTLED", -1.0)
    path = tmp_path / "files" / "index.faiss"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


@pytest.fixture
def reads(monkeypatch):
    """How many files were read."""
    counted = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: counted.append(1) or digest(*given))
    return counted


def compare(path, expected=DIGEST):
    with open_folder(path.parent) as folder:
        return verified.has_digest(folder, path.name, expected)


def test_a_file_is_read_once(path, reads):
    assert compare(path) and compare(path) and compare(path)
    assert len(reads) == 1


def test_a_file_that_is_changed_is_read_again_even_with_its_old_time(path, reads):
    assert compare(path)
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"X")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns and path.stat().st_size == len(DATA)
    assert not compare(path) and not compare(path)
    assert len(reads) == 3


def test_another_file_in_its_place_is_read(path, reads):
    assert compare(path)
    other = path.with_name("other")
    other.write_bytes(DATA[:-1] + b"X")
    os.replace(other, path)
    assert not compare(path)


def test_a_wrong_digest_is_never_kept(path, reads):
    assert not compare(path, "0" * 128) and not compare(path, "0" * 128)
    assert len(reads) == 2


def test_a_comparison_counts_for_a_week(path, reads, monkeypatch):
    assert compare(path)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + verified.MAX_AGE + 1)
    assert compare(path)
    assert len(reads) == 2
    monkeypatch.setattr(time, "time", lambda: now - 3600)  # a clock that was set back
    assert compare(path)
    assert len(reads) == 3


def test_a_file_that_has_just_changed_is_not_kept(path, reads, monkeypatch):
    monkeypatch.setattr(verified, "SETTLED", 2.0)
    assert compare(path) and compare(path)
    assert len(reads) == 2


@pytest.mark.parametrize("kept", [b"", b"[]", b"{}", b'{"digest": 1}', b"[" * 100_000])
def test_a_note_that_is_damaged_says_nothing(path, reads, kept):
    assert compare(path)
    verified._path(DIGEST).write_bytes(kept)
    assert compare(path)
    assert len(reads) == 2


def test_a_note_that_others_can_write_says_nothing(path, reads):
    assert compare(path)
    verified._path(DIGEST).chmod(0o666)
    assert compare(path)
    assert len(reads) == 2
