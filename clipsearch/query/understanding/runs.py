"""Runs of words of a query that may be names, with what stands around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clipsearch.query.understanding.tokens import Token
from clipsearch.query.understanding.vocabulary import ARTICLES, GENERIC, OF, ORDINARY, PLACE_CUES, PREPOSITIONS

_MOST_WORDS, _MOST_CHARACTERS = 5, 8
"""The longest name: in words, and in characters of Chinese, Japanese or Korean."""

MAX_RUNS = 400
"""Runs of words of one query that are looked up."""

_BREAKS = ",;:.!?()[]/|，。、；：！？（）"


@dataclass(frozen=True, slots=True)
class Run:
    """Words that follow each other, and what stands around them.

    words: their tokens. before, after: the tokens beside them; None where something that was lifted, a mark or nothing
    is. further: the token before `before`. is_first: nothing stands before. rest: whether only words such as
    "photos of" stand before.
    """

    text: str
    words: Sequence[Token]
    before: Token | None
    after: Token | None
    further: Token | None
    is_first: bool
    rest: bool
    is_possessive: bool

    @property
    def is_capital(self) -> bool:
        """Whether all words begin with a capital, but small ones such as "de"."""
        return all(word.is_capital or word.lower in PREPOSITIONS for word in self.words) and self.words[0].is_capital

    @property
    def cue(self) -> str:
        """The word before, in lower case."""
        return self.before.lower if self.before else ""

    @property
    def start(self) -> int:
        """Where what stands before it ends."""
        return self.words[0].start - len(self.words[0].gap)

    @property
    def comma(self) -> bool:
        """Whether only a comma stands before it."""
        return self.words[0].gap.strip() == ","

    @property
    def is_article_near(self) -> bool:
        """Whether an article is one of the two words before."""
        return any(each is not None and each.lower in ARTICLES for each in (self.before, self.further))

    @property
    def has_article(self) -> bool:
        """Whether "in the" or its like leads to it, as to the names of some countries."""
        return self.cue in ARTICLES and self.further is not None and self.further.lower in PLACE_CUES - OF

    @property
    def is_east_asian(self) -> bool:
        """Whether it is of characters of Chinese, Japanese or Korean."""
        return self.words[0].is_east_asian

    @property
    def is_ordinary(self) -> bool:
        """Whether the name is also an ordinary word."""
        return len(self.words) == 1 and self.words[0].lower in ORDINARY

    @property
    def is_part_of_name(self) -> bool:
        """Whether a word with a capital beside it makes it part of another name, such as "Paris Hilton"."""
        before = self.before is not None and self.before.is_capital and not _leads(self.before)
        return before or (self.after is not None and self.after.is_capital)


def find_runs(tokens: Sequence[Token], lifted: Sequence[tuple[int, int]], text: str) -> list[Run]:
    """Return the runs of words that may be names; lifted: parts of the text that are taken already."""
    found: list[Run] = []
    free = [all(token.end <= start or end <= token.start for start, end in lifted) for token in tokens]
    generic = True
    for i, first in enumerate(tokens):
        if not free[i]:
            continue
        most = _MOST_CHARACTERS if first.is_east_asian else _MOST_WORDS
        for j in range(i, min(i + most, len(tokens))):
            if not free[j] or tokens[j].is_east_asian != first.is_east_asian or (j > i and _breaks(tokens[j], first)):
                break
            after = j + 1
            is_possessive = after < len(tokens) and tokens[after].lower == "s" and tokens[after].gap in ("'", "’")
            after += is_possessive
            found.append(
                Run(
                    text[first.start : tokens[j].end], tokens[i : j + 1], _beside(tokens, free, i - 1, first.gap),
                    _beside(tokens, free, after, tokens[after].gap if after < len(tokens) else ""),
                    _beside(tokens, free, i - 2, tokens[i - 1].gap), i == 0, generic, is_possessive,
                )
            )  # fmt: skip
            if len(found) == MAX_RUNS:
                return found
        generic = generic and first.lower in GENERIC
    return found


def _leads(token: Token) -> bool:
    return token.lower in PREPOSITIONS | GENERIC


def _breaks(token: Token, first: Token) -> bool:
    """Tell whether a name cannot go on at a word."""
    return token.gap.strip(" -.'’") != "" if not first.is_east_asian else token.gap != ""


def _beside(tokens: Sequence[Token], free: Sequence[bool], place: int, gap: str) -> Token | None:
    """Return the token at an index; None if it is lifted, does not exist, or follows a punctuation mark."""
    if not 0 <= place < len(tokens) or not free[place]:
        return None
    is_short = gap.strip() == "." and len(tokens[place].text) <= 3  # as in "St. Olav"
    return None if any(c in _BREAKS for c in gap) and not is_short else tokens[place]
