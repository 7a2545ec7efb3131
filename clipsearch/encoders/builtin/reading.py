"""Which text tower reads a text: MiniLM what is English, the multilingual tower what is not, both what may be either.

MiniLM is the better one in English and reads nothing else; a text in another language that it gets is lost, while an
English one loses little with the multilingual tower. So only what is English almost certainly is left to MiniLM alone
(benchmarks/multilingual.py).
"""

from __future__ import annotations

import re
from functools import lru_cache

from clipsearch.encoders.builtin.english import english_chance

ENGLISH = 0.8
"""The chance of being English from which MiniLM reads a text alone."""

FOREIGN = 0.2
"""The chance up to which the multilingual tower reads it alone; between the two the mean of both counts."""

_FIRST_OTHER = "\u0370"
"""No letter below is in another script than Latin."""

_ONE_LETTER_WORDS = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003134f\u3040-\u30ff\uac00-\ud7af]")
_OTHER_WORDS = re.compile(r"(?:(?![a-zA-Z\u00c0-\u036f\u1e00-\u1eff])[^\W\d_]){2,}")
_LATIN = re.compile("[a-zA-Z\u00c0-\u024f\u1e00-\u1eff]")

_LETTERS_OF_A_SYLLABLE = 2
"""Latin letters that one Chinese, Japanese or Korean letter stands for, roughly."""


@lru_cache(maxsize=1024)  # a query asks twice: what it cannot read, then how to read it
def english_share(text: str) -> float:
    """Return the weight of MiniLM in the vector of a text: 1, 0, or 1/2 where it may be English or is partly so."""
    if max(text, default="") >= _FIRST_OTHER:
        other, latin = _count_other(text), len(_LATIN.findall(text))
        if 4 * other >= latin and other:
            return 0.5 if other < latin else 0.0
    chance = english_chance(text)
    return 1.0 if chance >= ENGLISH else 0.0 if chance <= FOREIGN else 0.5


def _count_other(text: str) -> int:
    """Count letters of other scripts, in Latin ones; a single one that is no word by itself is a sign, as in 5 μm."""
    syllables = len(_ONE_LETTER_WORDS.findall(text))
    letters = sum(len(run) for run in _OTHER_WORDS.findall(_ONE_LETTER_WORDS.sub(" ", text)))
    return _LETTERS_OF_A_SYLLABLE * syllables + letters
