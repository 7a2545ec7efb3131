"""Explanations of a server as the types of the engine. Raises ValueError for what is not as it must be."""

from __future__ import annotations

from clipsearch.client.reading import Fields
from clipsearch.explanation import Explanation, TermScore, WordMatch
from clipsearch.types import Modality


def read_explanation(found: Fields) -> Explanation:
    """Read an explanation."""
    return Explanation(
        tuple(_term(each) for each in found.objects("terms")),
        found.number_or_none("order"),
        found.whole("order_place"),
        found.whole("meaning_place"),
        found.whole_or_none("words_place"),
        found.number_or_none("words_worth"),
        found.whole("place"),
        found.whole("step"),
        tuple(_words(each) for each in found.objects("words")),
        found.texts("filters"),
        found.text("above_next"),
    )


def _term(found: Fields) -> TermScore:
    return TermScore(
        found.text("term"),
        found.number("weight"),
        Modality(found.text("modality")),
        found.number("score"),
        found.number_or_none("log_evalue"),
        found.number_or_none("confidence"),
        found.whole("place"),
    )


def _words(found: Fields) -> WordMatch:
    text = found.text("text")
    spans = [Fields({"span": each}).numbers("span") for each in found.lists("spans")]
    if not spans:
        raise ValueError("a text has no span")
    if any(len(span) != 2 or not 0 <= span[0] <= span[1] <= len(text) for span in spans):
        raise ValueError("a span is not two places in its text")
    return WordMatch(found.text("source"), text, tuple((int(start), int(end)) for start, end in spans))
