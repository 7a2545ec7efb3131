"""Words as full text search compares them, what is asked of them, and the names of tags.

Chinese, Japanese, Korean, Thai and their neighbours are written without spaces, or with endings on their words, so each
of their characters counts as a word here; several in a row are looked for as a phrase.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import product
from typing import Literal, NamedTuple

from clipsearch.errors import InvalidInputError

# Both patterns are compiled when they are first used: most runs need neither, and this one takes milliseconds.
# Thai, Lao, Tibetan; Burmese; Jamo; Khmer; marks; kana, Bopomofo; ideographs; syllables of Hangul; more ideographs
_ALONE = (
    "([\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u31ff\u3400-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff])"
)
_BLANK = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"  # not a character, or an invisible one
_MOST_SHARP = 4
MAX_NAME = 200
"""Characters of the name of a collection or a saved search."""

_PIECE = r'"([^"]*)"|([^\s"]+)|(")'


class Phrase(NamedTuple):
    """Words to find one after the other; is_start: the last of them may go on."""

    words: str
    is_start: bool


def normalize(text: str, form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """Return a text in a normal form of Unicode, in linear time.

    Normalizing sorts each run of combining marks, in quadratic time: a file of 16 MB of marks would take days. So
    a run is broken up by U+034F after each 30, as the Stream-Safe Text Format says (UAX #15, section 13). No language
    has such runs.
    """
    if text.isascii():
        return text
    return unicodedata.normalize(form, _runs_of_marks().sub("\\g<0>\u034f", text))


@cache
def _runs_of_marks() -> re.Pattern[str]:
    marks = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.combining(c))
    return re.compile(f"[{marks}]{{30}}(?=[{marks}])")


def separate(text: str) -> str:
    """Return a text in which spaces and marks set all words apart; the same whenever it is called.

    Forms of one character (wide, narrow, composed) become one: NFKC. What is in a library's index was written so:
    another rule needs a migration that writes it again.
    """
    if text.isascii():
        return text
    return " ".join(re.split(_ALONE, normalize(text, "NFKC")))


def parse_words(text: str) -> tuple[Phrase, ...]:
    """Read what is looked for: words in any order, `"words in this order"`, and `beginning*` of a word.

    Raises InvalidInputError if there is no word, or a quote is not closed; it names the column, counted from 1.
    """
    if not isinstance(text, str) or any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidInputError(f"Words to search for must be text, not {text!r}.")
    found: list[Phrase] = []
    for piece in re.finditer(_PIECE, text.replace("\0", " ")):
        phrase, word, quote = piece.groups()
        if quote:
            where = f"column {piece.start() + 1} of {text!r}"
            raise InvalidInputError(f'The quote at {where} is not closed. Put a " where the phrase ends.')
        words = phrase if word is None else word
        if any(c.isalnum() for c in words):
            found.append(Phrase(words, word is not None and word.endswith("*")))
    if not found:
        raise InvalidInputError(f"{text!r} contains no word to search for. Write at least one.")
    return tuple(found)


def spellings(words: str) -> list[str]:
    """Return words with ß and with ss, which are one in upper case; only as they are where that is too many ways."""
    parts = re.split("ß|ẞ|ss", words, flags=re.IGNORECASE)
    if not 1 < len(parts) <= _MOST_SHARP + 1:
        return [words]
    ways = (zip(parts, (*way, ""), strict=True) for way in product(("ss", "ß"), repeat=len(parts) - 1))
    return ["".join(part + sharp for part, sharp in way) for way in ways]


def tidy_tag(name: str) -> str:
    """Return a tag as it is kept and shown: NFC, and one space where there are blanks or control characters."""
    return " ".join(re.sub(_BLANK, " ", normalize(name)).split())


def tidy_name(name: object, noun: str = "collection") -> str:
    """Return a name as it is kept and shown. noun: what has it. Raises InvalidInputError for what can be none."""
    tidy = tidy_tag(name) if isinstance(name, str) else ""
    if not tidy or len(tidy) > MAX_NAME or re.search(_BLANK, str(name).strip()) or tidy in (".", ".."):
        raise InvalidInputError(
            f"The name of a {noun} has 1 to {MAX_NAME} characters, none of them a control character, and is not . "
            f"or .., but this is {name!r:.80}."
        )
    return tidy


def fold_tag(name: str) -> str:
    """Return a tag as it is compared, upper and lower case alike; empty where nothing of it can be seen."""
    return tidy_tag(name).casefold()
