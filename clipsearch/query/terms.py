"""The terms of a composed query, how each is written, and the query that they make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clipsearch.errors import InvalidInputError
from clipsearch.paths import is_url
from clipsearch.types import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from PIL.Image import Image

FUSIONS = ("auto", "decision", "feature", "rank")
"""How the terms of a query can be fused; `auto` is what clipsearch.query.fusion.choose says."""

MAX_WEIGHT = 1000.0
WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+):")
KIND = re.compile(r"(text|image|id):")
"""What may stand before a term, and within its quotes."""

_PATH = re.compile(r"\.{0,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]")


class _Combines:
    """What terms and queries share: `+`, `-` and `*` build a query."""

    __slots__ = ()

    def __add__(self, other: Term | Query) -> Query:
        return Query((*_parts(self), *_parts(other)))

    def __sub__(self, other: Term | Query) -> Query:
        return self + -as_query(other)

    def __neg__(self) -> Query:
        return Query(tuple(replace(part, weight=-part.weight) for part in _parts(self)))

    def __mul__(self, factor: float) -> Query:
        return Query(tuple(replace(part, weight=part.weight * factor) for part in _parts(self)))

    __rmul__ = __mul__


@dataclass(frozen=True, slots=True)
class Text(_Combines):
    """Words to look for.

    Attributes:
        text: The words.

    Raises:
        InvalidInputError: There is no word.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InvalidInputError(f"The text to search for, {self.text!r}, has no words. Write at least one.")

    def __str__(self) -> str:
        try:
            is_plain = build_term(None, None, self.text) == (1.0, self)
        except InvalidInputError:
            is_plain = False
        return _quote(self.text) if is_plain else f"text:{_quote(self.text)}"


@dataclass(frozen=True, slots=True)
class Picture(_Combines):
    """A picture to look for.

    Attributes:
        source: A path or a URL; with `image` any name.
        image: A Pillow image or the bytes of a file; None opens the source.

    Raises:
        InvalidInputError: The source is empty.
    """

    source: str
    image: Image | bytes | None = field(default=None, hash=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise InvalidInputError(f"A picture to search for needs a path or a URL, not {self.source!r}.")

    def __str__(self) -> str:
        return f"image:{_quote(self.source)}"


@dataclass(frozen=True, slots=True)
class Indexed(_Combines):
    """An item of the library, to look for more of its kind.

    Attributes:
        id: The id of the item.

    Raises:
        InvalidInputError: The id is below 1.
    """

    id: int

    def __post_init__(self) -> None:
        if not isinstance(self.id, int) or self.id < 1:
            raise InvalidInputError(f"The id of an item is a whole number of at least 1, not {self.id!r}.")

    def __str__(self) -> str:
        return f"id:{self.id}"


Term = Text | Picture | Indexed


@dataclass(frozen=True, slots=True)
class Weighted:
    """A term and how much it counts, below 0 against. Raises InvalidInputError for 0 and beyond MAX_WEIGHT."""

    weight: float
    term: Term

    def __post_init__(self) -> None:
        if not 0 < abs(self.weight) <= MAX_WEIGHT:
            raise InvalidInputError(
                f"The weight of {self.term} is {self.weight}, but it must be above 0 and at most {MAX_WEIGHT:g}."
            )

    def __str__(self) -> str:
        size = abs(self.weight)
        return f"{self.term}" if size == 1 else f"{_number(size)}:{self.term}"


@dataclass(frozen=True, slots=True)
class Query(_Combines):
    """Terms that add to and take from each other.

    A query of only negative terms can be written, as a part of another; it cannot be searched for.

    Attributes:
        terms: Terms with their weights.

    Raises:
        InvalidInputError: There is no term.

    Example:
        >>> str(Text("horse") + 2 * Text("stripes") - Text("fence"))
        '"horse" + 2:"stripes" - "fence"'
    """

    terms: tuple[Weighted, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise InvalidInputError("A query needs at least one term.")

    def __iter__(self) -> Iterator[Weighted]:
        return iter(self.terms)

    def __str__(self) -> str:
        first, *rest = self.terms
        start = f"- {first}" if first.weight < 0 else str(first)
        return start + "".join(f" {'-' if part.weight < 0 else '+'} {part}" for part in rest)


def as_query(term: Term | Query) -> Query:
    """Return a query; a term becomes one of its own."""
    return Query(tuple(_parts(term)))


def build_term(weight: float | None, kind: str | None, content: str) -> tuple[float, Term]:
    """Make a term and its weight of what is written; what is not said outside of the quotes may stand within.

    weight, kind: what stands before the content, if anything. Raises InvalidInputError for anything that is not a term.
    """
    if weight is None and kind is None and (found := WEIGHT.match(content)):
        weight, content = float(found[1]), content[found.end() :].strip()
    if kind is None and (found := KIND.match(content)):
        kind, content = found[1], content[found.end() :].strip()
    size = 1.0 if weight is None else weight
    if kind == "id":
        if not re.fullmatch(r"[0-9]{1,18}", content):
            raise InvalidInputError(f"The id of an item is a whole number, not {content!r}.")
        return size, Indexed(int(content))
    if kind == "image" or (kind is None and _names_picture(content)):
        return size, Picture(content)
    return size, Text(content)


def _names_picture(content: str) -> bool:
    if is_url(content) or _PATH.match(content):
        return True
    return not re.search(r"\s", content) and any(content.lower().endswith(ending) for ending in PICTURE_SUFFIXES)


def _parts(value: object) -> tuple[Weighted, ...]:
    if isinstance(value, Query):
        return value.terms
    if isinstance(value, Text | Picture | Indexed):
        return (Weighted(1.0, value),)
    raise InvalidInputError(f"A query is made of Text, Picture and Indexed, not of {type(value).__name__}.")


def _quote(content: str) -> str:
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _number(value: float) -> str:
    from decimal import Decimal

    return f"{Decimal(repr(value)):f}".removesuffix(".0")
