"""The originals of a picture, as `SearchEngine.match` finds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from clipsearch.types import Item, PartPosition


@dataclass(frozen=True, slots=True)
class Match:
    """The original of a picture.

    Attributes:
        rank: Place in the answer, from 1: by how many points agree.
        item: The picture.
        score: The cosine by which it was proposed: of the two pictures, or of it and a part of the other, from -1 to 1.
        points: How many points of the two pictures agree on the region.
        box: The region of the original that the picture shows: left, top, width and height, as shares of
            the upright original, from 0 to 1.
        mirrored: Whether the other picture is a mirror image.
        part: Which frame of a film or page of a document it is, from 0.
        position: The place of that part in a film or a document.
    """

    rank: int
    item: Item
    score: float
    points: int
    box: tuple[float, float, float, float]
    mirrored: bool
    part: int = 0
    position: PartPosition | None = None

    @property
    def path(self) -> str:
        """The absolute path of the file; of a record maybe a URL."""
        return self.item.path


@dataclass(frozen=True, slots=True)
class Unread:
    """A candidate that could not be compared.

    Attributes:
        item: What it is.
        score: Its cosine with the picture that was searched by.
        reason: Why it cannot be read.
    """

    item: Item
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Matches(Sequence[Match]):
    """The originals of a picture, best first; a sequence of Match, empty if the library has none.

    Attributes:
        query: The picture as it is shown.
        encoder: Name of the encoder that found the candidates.
        library: Folder of the library.
        matches: The matches.
        compared: How many candidates were looked at.
        unread: Those of them that cannot be read now, the most similar first.
        warnings: What the user should know.
    """

    query: str
    encoder: str
    library: str
    matches: tuple[Match, ...]
    compared: int
    unread: tuple[Unread, ...] = ()
    warnings: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Match: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Match, ...]: ...
    def __getitem__(self, index: int | slice) -> Match | tuple[Match, ...]:
        return self.matches[index]

    def __len__(self) -> int:
        return len(self.matches)

    def __iter__(self) -> Iterator[Match]:
        return iter(self.matches)
