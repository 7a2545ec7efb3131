r"""Composed queries: a small language of weighted terms, as a typed tree, as text and as arguments of a command.

    query  = [sign] term {sign term}
    sign   = "+" | "-", standing alone
    term   = [weight ":"] [kind ":"] content
    weight = a number above 0
    kind   = "text" | "image" | "id"
    content = words | '"' characters, with \" and \\ for those two '"'

Without a kind the content tells: a URL, a path (it begins with ./ ../ / or ~/) or a single word with the ending of a
picture is a picture, all else is text. A weight may also stand within the quotes. `parse` reads what `str(query)`
prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from clipsearch.errors import InvalidInputError
from clipsearch.paths import is_url
from clipsearch.types import PICTURE_SUFFIXES

FUSIONS = ("auto", "decision", "feature", "rank")
"""How the terms of a query can be fused; `auto` is what clipsearch.query.fusion.choose says."""

MAX_WEIGHT = 1000.0
_WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+):")
_KIND = re.compile(r"(text|image|id):")
_PATH = re.compile(r"\.{0,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]")
_SIGN = re.compile(r"([+-])(?=\s|$)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_WORDS = re.compile(r'[^\s"]+(?:\s+(?![+-](?:\s|$))[^\s"]+)*')


class QuerySyntaxError(InvalidInputError):
    """A query that cannot be read; the message names the term and where it stands."""


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
    """Words to look for. Raises InvalidInputError for none."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InvalidInputError(f"The text to search for, {self.text!r}, has no words. Write at least one.")

    def __str__(self) -> str:
        try:
            is_plain = _build(None, None, self.text) == (1.0, self)
        except InvalidInputError:
            is_plain = False
        return _quote(self.text) if is_plain else f"text:{_quote(self.text)}"


@dataclass(frozen=True, slots=True)
class Picture(_Combines):
    """A picture to look for. source: a path or a URL. Raises InvalidInputError for an empty one."""

    source: str

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise InvalidInputError(f"A picture to search for needs a path or a URL, not {self.source!r}.")

    def __str__(self) -> str:
        return f"image:{_quote(self.source)}"


@dataclass(frozen=True, slots=True)
class Indexed(_Combines):
    """An item of the library, by its id, to look for more of its kind. Raises InvalidInputError below 1."""

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
    """Terms that add to and take from each other. Raises InvalidInputError for none.

    One with nothing but negative terms can be written, as a part of another; it cannot be searched for.
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


def parse(text: str) -> Query:
    """Read a query. Raises QuerySyntaxError, which names the column, counted from 1."""
    return _combine(_read(text))


def parse_arguments(arguments: Sequence[str]) -> Query:
    """Read a query from the arguments of a command, where the shell has dealt with the quotes.

    `+` and `-` are signs where they are arguments of their own; arguments between them make one term.
    Raises QuerySyntaxError, which names the argument, counted from 1.
    """
    return _combine(_group(arguments))


class _Piece(NamedTuple):
    """A sign, or a term with its weight. where: for people."""

    where: str
    sign: str
    content: tuple[float, Term] | None


def _read(text: str) -> Iterator[_Piece]:
    at = 0
    while (at := _skip_space(text, at)) < len(text):
        where = f"column {at + 1}"
        if sign := _SIGN.match(text, at):
            yield _Piece(where, sign[1], None)
            at = sign.end()
        else:
            at, content = _read_term(text, at, where)
            yield _Piece(where, "", content)


def _read_term(text: str, at: int, where: str) -> tuple[int, tuple[float, Term]]:
    weight = _WEIGHT.match(text, at)
    start = weight.end() if weight else at
    kind = _KIND.match(text, start)
    start = _skip_space(text, kind.end() if kind else start)
    if text[start : start + 1] == '"':
        quoted = _QUOTED.match(text, start)
        if quoted is None:
            raise QuerySyntaxError(f'The quote at column {start + 1} is not closed. Put a " where the term ends.')
        end, content = quoted.end(), re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    else:
        words = _WORDS.match(text, start)
        if words is None:
            raise QuerySyntaxError(f"The term at {where} has no content: {text[at:start]!r}.")
        end, content = words.end(), words[0]
    with _at(where, text[at:end]):
        return end, _build(float(weight[1]) if weight else None, kind[1] if kind else None, content)


def _group(arguments: Sequence[str]) -> Iterator[_Piece]:
    words: list[str] = []
    first = 1
    for number, argument in enumerate([*arguments, "+"], 1):
        if argument not in {"+", "-"}:
            first = first if words else number
            words.append(argument)
            continue
        if words:
            where, content = f"argument {first}", " ".join(words)
            with _at(where, content):
                yield _Piece(where, "", _build(None, None, content))
            words = []
        if number <= len(arguments):
            yield _Piece(f"argument {number}", argument, None)


def _combine(pieces: Iterable[_Piece]) -> Query:
    """Put signs and terms together."""
    terms: list[Weighted] = []
    sign: _Piece | None = None
    expected = "term"
    for piece in pieces:
        if piece.content is None:
            if sign is not None:
                raise QuerySyntaxError(f"There is no term between {sign.sign} and {piece.sign} at {piece.where}.")
            sign = piece
            continue
        if expected == "sign" and sign is None:
            raise QuerySyntaxError(f"Two terms need a + or a - between them, at {piece.where}: {piece.content[1]}.")
        weight, term = piece.content
        with _at(piece.where, str(term)):
            terms.append(Weighted(-weight if sign is not None and sign.sign == "-" else weight, term))
        sign, expected = None, "sign"
    if sign is not None:
        raise QuerySyntaxError(f"There is no term after the {sign.sign} at {sign.where}.")
    if not terms:
        raise QuerySyntaxError('The query is empty. Say what to look for: "a cat on a sofa".')
    return Query(tuple(terms))


def _build(weight: float | None, kind: str | None, content: str) -> tuple[float, Term]:
    """Make a term; what is not said outside of the quotes may stand within."""
    if weight is None and kind is None and (found := _WEIGHT.match(content)):
        weight, content = float(found[1]), content[found.end() :].strip()
    if kind is None and (found := _KIND.match(content)):
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


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


@contextmanager
def _at(where: str, content: str) -> Iterator[None]:
    """Say of an error in which term it is, and where that stands."""
    try:
        yield
    except QuerySyntaxError:
        raise
    except InvalidInputError as error:
        raise QuerySyntaxError(f"{error} This is about the term {content!r} at {where}.") from error
