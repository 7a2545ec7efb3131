"""Where a large table is cut into shards: by what its file says, so that every machine and every run cuts alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import BinaryIO

from indexer.sources.base import Shard

ROWS = 1 << 16
"""Rows of a shard."""

BYTES = 256 << 20
"""Bytes of a shard."""

LEAST = 4 << 20
"""Bytes of a table from which on it is cut: shorter ones are not looked into before they are read."""

MOST = 256
"""Shards of a table whose rows can only be found by reading past those before them."""

MOST_GROUPED = 100_000
"""Shards of a table of row groups; one whose head promises more is not cut, and fails where its rows are read."""

_SAMPLES, _SAMPLE = 16, 1 << 16
"""Places of a text that are looked at, and bytes of each."""


def parts_of(shard: Shard, firsts: Sequence[int]) -> Iterator[Shard]:
    """Yield the parts of a file's shard; firsts: the number of the first row of each, from 0 on."""
    if len(firsts) < 2:
        yield shard
        return
    for first, stop in zip_longest(firsts, firsts[1:]):
        yield Shard(f"{shard.name}#{first}", shard.fingerprint, first, stop)


def cut_groups(groups: Iterable[tuple[int, int]]) -> list[int]:
    """Return where parts begin in a file of row groups; groups: rows and bytes of each.

    A part ends with a group, unless that alone has more than ROWS rows.
    """
    firsts, row, rows, size = [0], 0, 0, 0
    for group_rows, group_size in groups:
        if group_rows < 0 or len(firsts) + group_rows // ROWS > MOST_GROUPED:
            return [0]
        if rows and (rows + group_rows > ROWS or size + group_size > BYTES):
            firsts.append(row)
            rows = size = 0
        firsts += range(row + ROWS, row + group_rows, ROWS)
        row, rows, size = row + group_rows, rows + group_rows, size + group_size
    return firsts


def cut_lines(file: BinaryIO, size: int) -> list[int]:
    """Return where parts begin in a text of `size` bytes with a row on about each line.

    Its rows are guessed from a few places; the last part ends with the file, wherever that is.
    """
    ends = seen = 0
    for number in range(_SAMPLES):
        file.seek(number * max(0, size - _SAMPLE) // (_SAMPLES - 1))
        sample = file.read(_SAMPLE)
        ends, seen = ends + sample.count(b"\n"), seen + len(sample)
    rows = max(1, size * ends // max(seen, 1))
    step = max(1, min(ROWS, BYTES * rows // max(size, 1)), -(-rows // MOST))
    return list(range(0, max(1, rows - step // 2), step))
