"""Rows that are gathered are asked for before the first of them is waited for."""

import os

import numpy as np
import pytest

from clipsearch.errors import StoreCorruptError
from clipsearch.store import segment_file
from clipsearch.store.segment_file import SegmentFile
from clipsearch.store.vectors import ROW_DTYPE, Rows

DIM = 8


@pytest.fixture
def stored(tmp_path):
    """Rows in three segments, and what they hold."""
    values = np.random.default_rng(0).standard_normal((30, DIM)).astype(ROW_DTYPE)
    files = []
    for number in range(3):
        path = tmp_path / f"{number}.f16"
        path.write_bytes(values[10 * number : 10 * number + 10].tobytes())
        files.append(SegmentFile(path, os.open(path, os.O_RDONLY)))
    return Rows(files, [10, 10, 10], DIM), values


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs posix_fadvise")
def test_all_ranges_are_asked_for_before_the_first_is_read(stored, monkeypatch):
    rows, values = stored
    calls = []
    advise, read = os.posix_fadvise, SegmentFile.read
    monkeypatch.setattr(os, "posix_fadvise", lambda *args: (calls.append(args[1]), advise(*args))[1])
    monkeypatch.setattr(SegmentFile, "read", lambda *args: (calls.append("read"), read(*args))[1])
    numbers = np.array([25, 3, 14, 7, 21, 16])
    assert np.array_equal(rows.take(numbers), values[numbers])
    size = 2 * DIM
    assert sorted(calls[:6]) == sorted(size * np.array([5, 3, 4, 7, 1, 6])) and calls[6:] == ["read"] * 3


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs posix_fadvise")
def test_a_file_system_that_takes_no_advice_is_read_all_the_same(stored, monkeypatch):
    rows, values = stored

    def refuse(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    numbers = np.array([29, 0, 12, 13, 14, 15])
    assert np.array_equal(rows.gather(numbers), values[numbers].astype(np.float32))


def test_a_system_without_advice_reads_all_the_same(stored, monkeypatch):
    rows, values = stored
    monkeypatch.setattr(segment_file, "_HAS_ADVICE", False)
    assert np.array_equal(rows.take(np.arange(30)), values)


def test_a_segment_that_was_shortened_is_said_to_be(stored, tmp_path):
    rows, _ = stored
    os.truncate(tmp_path / "1.f16", 3 * 2 * DIM)
    with pytest.raises(StoreCorruptError, match="was shortened"):
        rows.take(np.array([2, 18, 25]))


def test_rows_that_lie_close_to_each_other_are_read_together(tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((5_000, DIM)).astype(ROW_DTYPE)
    path = tmp_path / "rows.f16"
    path.write_bytes(values.tobytes())
    rows = Rows([SegmentFile(path, os.open(path, os.O_RDONLY))], [len(values)], DIM)
    calls = []
    read = SegmentFile.read
    monkeypatch.setattr(
        SegmentFile, "read", lambda self, offsets, sizes: (calls.append(sizes), read(self, offsets, sizes))[1]
    )
    chance = np.random.default_rng(1)
    for share in (1.0, 0.6, 0.3, 0.05):
        numbers = np.flatnonzero(chance.random(len(values)) < share)
        for wanted in (
            numbers,
            numbers[::-1],
            chance.permutation(numbers),
            np.repeat(numbers, 2),
            numbers[:1],
            numbers[:0],
        ):
            assert np.array_equal(rows.take(wanted), values[wanted])
            assert sum(calls[-1]) <= 3 * 2 * DIM * max(1, len(wanted))
    numbers = np.flatnonzero(chance.random(len(values)) < 0.6)
    rows.take(numbers)
    assert len(calls[-1]) < len(numbers) / 4
