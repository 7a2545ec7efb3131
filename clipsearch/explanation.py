"""Why a hit stands where it does: the numbers by which the ranking has put it there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipsearch.types import Modality


@dataclass(frozen=True, slots=True)
class TermScore:
    """How a part of an item fits one term of the query.

    Attributes:
        term: The term as a query has it.
        weight: How much it counts, below 0 against.
        modality: Of the part: the picture, or words.
        score: The exact cosine of term and part.
        log_evalue: -ln of the number of unrelated rows expected to score as high, by which pictures and words compare;
            None for the picture or vector that is searched by.
        confidence: As that of a hit of a query of this term alone; None if the library is too small to tell.
        place: From 1, by this score among all parts of that modality that the ranking has looked at.
    """

    term: str
    weight: float
    modality: Modality
    score: float
    log_evalue: float | None
    confidence: float | None
    place: int


@dataclass(frozen=True, slots=True)
class WordMatch:
    """A text that has words of the query.

    Attributes:
        source: `caption`, `text` or `recognised`, which is text in the picture.
        text: The passage; of a long one the first 20,000 characters.
        spans: Where words of the query begin and end in it, in characters.
    """

    source: str
    text: str
    spans: tuple[tuple[int, int], ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The words, as they stand in the text, each once."""
        return tuple(dict.fromkeys(self.text[start:end] for start, end in self.spans))


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a hit stands where it does. Places count from 1, among all items that the ranking has looked at.

    Attributes:
        terms: How its picture and its words fit each term; the part that matched best comes first.
        order: By what the item is compared with others by meaning, highest first; None for what is searched by.
        order_place: Its place by `order` alone.
        meaning_place: Its place after pictures that stand out have been put at twice their place among these, at least.
        words_place: Its place among the items that have all selective words of the query; None if it has not.
        words_worth: What these words are worth, to compare with `order`; None if no item has them.
        place: Its place by meaning and words, before anything was left out, sorted or made diverse.
        step: Which look at candidates, from 1, gave it its place; each looks deeper, and its hits follow those before.
        words: Texts of the item with words of the query.
        filters: The conditions that it meets.
        above_next: Why it stands above the next hit, in a sentence; empty for the last.
    """

    terms: tuple[TermScore, ...]
    order: float | None
    order_place: int
    meaning_place: int
    words_place: int | None
    words_worth: float | None
    place: int
    step: int
    words: tuple[WordMatch, ...] = ()
    filters: tuple[str, ...] = ()
    above_next: str = ""
