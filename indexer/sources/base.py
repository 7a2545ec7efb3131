"""The seam between the pipeline and data sets: a source gives records, in shards that are read on their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from clipsearch.errors import InvalidInputError
from clipsearch.records import Record


class BrokenShardError(InvalidInputError):
    """The rest of a shard cannot be read, and will not be before the shard changes."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a source that is read on its own, such as a table file, some rows of one, or a tar file.

    Attributes:
        name: Its address, unique in the source and the same on every machine that reads the source.
        fingerprint: Changes when the content does: made of size and change time, or of an entity tag.
        first: The number of its first row, from 0.
        stop: The number after its last row; None where it ends with its file.
    """

    name: str
    fingerprint: str
    first: int = 0
    stop: int | None = None

    @property
    def file(self) -> str:
        """The address of the file that it is, or is a part of; those are called `FILE#FIRST`."""
        return self.name if self.stop is None and not self.first else self.name.rpartition("#")[0]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that makes no record, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a shard. number: its place in the shard's file, from 0. content: what it makes."""

    number: int
    content: Record | BadRow


IsWhole = Callable[[str], bool]


def never(name: str) -> bool:
    """Tell that no file was read as one shard before."""
    return False


class Source(Protocol):
    """The records of a data set.

    Shards, and the rows of a shard, come in the same order each time as long as the fingerprint stays. `read` is safe
    from several threads, each with an iterator of its own. Nothing is written, and memory is bounded by a few rows.
    """

    @property
    def address(self) -> str:
        """What `open_source` opens it by, on any machine that reaches the data."""

    def shards(self, is_whole: IsWhole = never) -> Iterator[Shard]:
        """Yield the shards. Raises InvalidInputError for a source that is missing or cannot be read.

        is_whole: tells of the address of a file that was read as one shard before, and so is not cut.
        """

    def read(self, shard: Shard, start: int = 0) -> Iterator[Row]:
        """Yield the rows of a shard from the number `start` on.

        A row that cannot be used is a BadRow. Raises InvalidInputError where the rest of the shard cannot be read now,
        BrokenShardError where that lies in what it holds.
        """
