r"""Composed queries: a small language of weighted terms, as a typed tree, as text and as arguments of a command.

    query  = [sign] term {sign term}
    sign   = "+" | "-", standing alone
    term   = [weight ":"] [kind ":"] content
    weight = a number above 0
    kind   = "text" | "image" | "id"
    content = words | '"' characters, with \" and \\ for those two '"'

Without a kind the content tells: a URL, a path (it begins with ./ ../ / or ~/) or a single word with the ending of a
picture is a picture, all else is text. A weight may also stand within the quotes. `parse` reads what `str(query)`
prints. Queries with `and`, `or`, `not`, parentheses and filters are those of clipsearch.query.groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from clipsearch.errors import InvalidInputError
from clipsearch.query.terms import KIND, WEIGHT, Query, Term, Weighted, build_term

SIGN = re.compile(r"([+-])(?=\s|$)")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_GROUPS = re.compile(r'(?<![^\s()"])(?i:and|or|not)(?![^\s()"])|[a-z]:[^\s]')
"""What stands in every query with groups; few words have it as well."""
_MARKS = str.maketrans("（）“”„", '()"""')
"""Parentheses and quotes of other keyboards, as this language has them."""

_WORDS = re.compile(r'[^\s"]+(?:\s+(?![+-](?:\s|$))[^\s"]+)*')


class QuerySyntaxError(InvalidInputError):
    """A query that cannot be read; the message names the term and where it stands.

    Attributes:
        position: The column, or of arguments the argument, where it stands, counted from 1; None for an empty query.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


def parse(text: str) -> Query:
    """Read a query in the language of the command line.

    Args:
        text: Such as `"horse" + 2:"stripes" - ./fence.jpg`, or `(dog or cat) and not tag:indoor`.

    Returns:
        The query; `str` of it can be read again.

    Raises:
        QuerySyntaxError: The text is not a query; the message names the column, counted from 1.
    """
    return parse_groups(text) or _combine(_read(text))


def parse_groups(text: str) -> Query | None:
    """Read a query with `and`, `or`, `not` or filters; None for any other text, as for words such as rock and roll.

    Raises QuerySyntaxError, which names the column, for one that is meant and cannot be read.
    """
    text = text if text.isascii() else text.translate(_MARKS)
    if not _GROUPS.search(text):
        return None
    from clipsearch.query.groups import read_groups

    return read_groups(text)


def unquote(content: str) -> str:
    """Return what stands between quotes, as it was before it was put there."""
    return re.sub(r"\\(.)", r"\1", content, flags=re.DOTALL)


def parse_arguments(arguments: Sequence[str]) -> Query:
    """Read a query from the arguments of a command, where the shell has dealt with the quotes.

    `+` and `-` are signs where they are arguments of their own; arguments between them make one term.
    Raises QuerySyntaxError, which names the argument, counted from 1.
    """
    return _combine(_group(arguments))


class _Piece(NamedTuple):
    """A sign, or a term with its weight. unit, position: the column or the argument where it stands, from 1."""

    unit: str
    position: int
    sign: str
    content: tuple[float, Term] | None

    @property
    def where(self) -> str:
        """The place, for people."""
        return f"{self.unit} {self.position}"


def _read(text: str) -> Iterator[_Piece]:
    at = 0
    while (at := _skip_space(text, at)) < len(text):
        position = at + 1
        if sign := SIGN.match(text, at):
            yield _Piece("column", position, sign[1], None)
            at = sign.end()
        else:
            at, content = _read_term(text, at)
            yield _Piece("column", position, "", content)


def _read_term(text: str, at: int) -> tuple[int, tuple[float, Term]]:
    weight = WEIGHT.match(text, at)
    start = weight.end() if weight else at
    kind = KIND.match(text, start)
    start = _skip_space(text, kind.end() if kind else start)
    if text[start : start + 1] == '"':
        quoted = QUOTED.match(text, start)
        if quoted is None:
            message = f'The quote at column {start + 1} is not closed. Put a " where the term ends.'
            raise QuerySyntaxError(message, start + 1)
        end, content = quoted.end(), unquote(quoted[1])
    else:
        words = _WORDS.match(text, start)
        if words is None:
            raise QuerySyntaxError(f"The term at column {at + 1} has no content: {text[at:start]!r}.", at + 1)
        end, content = words.end(), words[0]
    with _at("column", at + 1, text[at:end]):
        return end, build_term(float(weight[1]) if weight else None, kind[1] if kind else None, content)


def _group(arguments: Sequence[str]) -> Iterator[_Piece]:
    words: list[str] = []
    first = 1
    for number, argument in enumerate([*arguments, "+"], 1):
        if argument not in {"+", "-"}:
            first = first if words else number
            words.append(argument)
            continue
        if words:
            content = " ".join(words)
            with _at("argument", first, content):
                yield _Piece("argument", first, "", build_term(None, None, content))
            words = []
        if number <= len(arguments):
            yield _Piece("argument", number, argument, None)


def _combine(pieces: Iterable[_Piece]) -> Query:
    """Put signs and terms together."""
    terms: list[Weighted] = []
    sign: _Piece | None = None
    expected = "term"
    for piece in pieces:
        if piece.content is None:
            if sign is not None:
                message = f"There is no term between {sign.sign} and {piece.sign} at {piece.where}."
                raise QuerySyntaxError(message, piece.position)
            sign = piece
            continue
        if expected == "sign" and sign is None:
            message = f"Two terms need a + or a - between them, at {piece.where}: {piece.content[1]}."
            raise QuerySyntaxError(message, piece.position)
        weight, term = piece.content
        with _at(piece.unit, piece.position, str(term)):
            terms.append(Weighted(-weight if sign is not None and sign.sign == "-" else weight, term))
        sign, expected = None, "sign"
    if sign is not None:
        raise QuerySyntaxError(f"There is no term after the {sign.sign} at {sign.where}.", sign.position)
    if not terms:
        raise QuerySyntaxError('The query is empty. Say what to look for: "a cat on a sofa".')
    return Query(tuple(terms))


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


@contextmanager
def _at(unit: str, position: int, content: str) -> Iterator[None]:
    """Say of an error in which term it is, and where that stands."""
    try:
        yield
    except QuerySyntaxError:
        raise
    except InvalidInputError as error:
        message = f"{error} This is about the term {content!r} at {unit} {position}."
        raise QuerySyntaxError(message, position) from error
