"""The chance that a hit is right, from how far it stands out and how much was asked for. Pure functions.

An E-value says how rare a hit is if nothing is related to the query. Whether it is what was asked for is another
question: much that is related is not right. Hits that were judged by eye answer it (benchmarks/judged.py): the chance
of being right is a logistic function of the log E-value (Platt, Advances in Large Margin Classifiers 1999), and lower
for a query that says more, as more must fit.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass

from clipsearch.types import Modality

LIKELY = 0.5
"""From this chance on, a hit is as likely right as wrong."""

TYPICAL_WORDS = 2.0
"""The content words that are assumed of a query whose words are unknown, such as a vector."""

_FUNCTION_WORDS = frozenset(
    "a an and are as at by for from in into is it its of on or over some someone something that the their there this "
    "to with "
    "am auf das dem den der des die ein eine einem einen einer es für im ist mit und von zu "
    "al au aux avec con da dans de del della des di do du e een el en et gli het i il l la las le les lo los na no o "
    "op os para per por sur um uma un una une van y".split()
)

_DENSE, _SPACED = "\u0e00", ("\u1e00", "\u1fff")
"""From the first letter on, scripts write words without spaces, or in few letters; not so the Latin and Greek between
the other two."""

_DENSE_LETTERS = 2
"""Letters of such a script that count as a word."""


@dataclass(frozen=True, slots=True)
class RelevanceCurve:
    """The logit of the chance that a hit is right, linear in what tells of it.

    slope: of the log E-value. gap: what each unit costs by which the best hit of its modality has more. words: what
    the logarithm of the number of content words costs.
    """

    base: float
    slope: float
    gap: float = 0.0
    words: float = 0.0

    def chance(self, log_evalue: float, gap: float, words: float) -> float:
        """Return the chance, in [0, 1], of a hit: its log E-value, how far it is below the best, and content words."""
        logit = self.base + self.slope * log_evalue - self.gap * gap - self.words * math.log(max(words, 1.0))
        return 1 / (1 + math.exp(-min(max(logit, -700.0), 700.0)))


_CURVES = {
    ("text", Modality.IMAGE): RelevanceCurve(-0.42, 0.23, gap=0.19, words=1.81),
    ("text", Modality.TEXT): RelevanceCurve(0.99, 0.60, words=2.02),
    ("image", Modality.IMAGE): RelevanceCurve(-3.41, 0.33),
    ("image", Modality.TEXT): RelevanceCurve(-1.75, 0.46),
}
"""By what asks and what is found: fitted by benchmarks/judged.py with builtin-base, and taken for every encoder. One
that puts right answers farther above the rest has them right more often than this says."""


def curve_of(kind: str | None, modality: Modality) -> RelevanceCurve:
    """Return the curve of queries of a kind, `text` or `image`; a vector of an unknown kind counts as a picture."""
    return _CURVES["text" if kind == "text" else "image", modality]


def count_words(text: str) -> float:
    """Count the words of a query that say what to find: without articles, prepositions and the like, at least 1.

    Of Chinese, Japanese, Korean, Thai and their neighbors, two letters count as a word.
    """
    dense = 0 if text.isascii() else sum(map(_is_dense, text))
    if dense:
        text = "".join(" " if _is_dense(letter) else letter for letter in text)
    words = (word.strip(string.punctuation) for word in text.casefold().split())
    spaced = sum(bool(word) and word not in _FUNCTION_WORDS for word in words)
    return max(1.0, spaced + dense / _DENSE_LETTERS)


def _is_dense(letter: str) -> bool:
    return letter >= _DENSE and letter.isalpha() and not _SPACED[0] <= letter <= _SPACED[1]
