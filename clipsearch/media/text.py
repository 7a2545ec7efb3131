"""Read one text file safely and split it into passages that fit an encoder."""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator

from clipsearch.errors import InvalidInputError, TextError
from clipsearch.types import Passage
from clipsearch.words import normalize

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_A_TEXT = "not a text file"
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_MOST_CONTROLS = 0.02
_SAMPLE = 200_000
_FIRST_LOOK = 1000
_TELLING = 60

# Some tokenizers make one token of any unbroken run; such a passage would fit and yet say nothing.
_MOST_CHARS_PER_TOKEN = 12
_CUTS = (
    re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？｡…]+[」』”’）】]*"),
    re.compile(r"\n"),
    re.compile(r"[,;:](?=\s)|[，、；：]"),
    re.compile(r"\s+"),
)
_EARLIEST_CUT = (0.4, 0.4, 0.5, 0.0)
"""A cut of each kind in _CUTS counts from this share of the window on; earlier ones would leave crumbs."""

_Span = tuple[int, int]


def decode_text(data: bytes) -> str:
    """Decode the bytes of a text file: UTF-8, UTF-16 or UTF-32 with a byte order mark, else a guessed encoding.

    Returns the text in NFC, its lines ended by line feeds alone, without a byte order mark.
    Raises TextError, whose message is the reason, for a file that is empty, no text, or without words.
    """
    if not data:
        raise TextError("empty file")
    text = _decode(data)
    if "\0" in text or len(_CONTROLS.findall(text)) > _MOST_CONTROLS * len(text):
        raise TextError(_NOT_A_TEXT)
    if not text or text.isspace():
        raise TextError("it contains no words")
    return normalize(text.replace("\r\n", "\n").replace("\r", "\n"))


def _decode(data: bytes) -> str:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        if b"\0" in data:
            raise TextError(_NOT_A_TEXT) from None
    text = data.decode("utf-8", "replace")
    # One damaged letter in a long UTF-8 text must not turn all the others into those of another alphabet.
    good = sum(c > "\x7f" for c in text[:_SAMPLE]) - text[:_SAMPLE].count("\ufffd")
    if good > 20 * text[:_SAMPLE].count("\ufffd"):
        return text
    return _guess(data)


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_SAMPLE]).best()
    if best is None:
        raise TextError(_NOT_A_TEXT)
    return data.decode(best.encoding, "replace")


def split_passages(text: str, *, count: Callable[[str], int], limit: int) -> list[Passage]:
    """Split a text into passages that fit an encoder.

    text: as `decode_text` returns it. count: counts tokens, special ones included. limit: the most tokens of a
    passage. A paragraph (lines between blank ones) becomes a passage; short neighbours are joined up to about half
    the limit, and a heading or other very short one goes with the next; a longer one is cut at the end of a
    sentence, else of a line, a clause, a word, else anywhere. Lines without any letter, digit or picture sign
    (`---`, `====`) are left out; every other character that is not white space stands in exactly one passage,
    in order. The time is linear in the text: a few calls of `count` for each passage.
    Raises InvalidInputError where not even a single character fits `limit`.
    """
    splitter = _Splitter(text, count, limit)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return [
        Passage(words, bisect_right(starts, start), bisect_right(starts, end - 1))
        for words, start, end in splitter.passages()
    ]


class _Splitter:
    """The state of one split: the text, and how many tokens its characters have turned out to make."""

    def __init__(self, text: str, count: Callable[[str], int], limit: int) -> None:
        self.text, self.count, self.limit = text, count, limit
        self.most_chars = _MOST_CHARS_PER_TOKEN * limit
        # Tokens counted over tokens guessed, of what was counted last.
        self.scale = 1.0
        self._last = ("", 0)
        self._counted(text[:_FIRST_LOOK].strip())

    def passages(self) -> Iterator[tuple[str, int, int]]:
        """Yield text, start and end offset of each passage."""
        for group in self._groups(_paragraphs(self.text)):
            yield from self._fit(group)

    def _groups(self, paragraphs: Iterator[_Span]) -> Iterator[list[_Span]]:
        """Join short neighbours, by guessed sizes, so that nothing is counted twice."""
        group: list[_Span] = []
        size = 0.0
        for start, end in paragraphs:
            more = self._guess(start, end)
            is_heading = size <= self.limit / 8 and size + more <= 0.9 * self.limit
            if group and (is_heading or size + more <= self.limit / 2):
                group.append((start, end))
                size += more
                continue
            if group:
                yield group
            group, size = [(start, end)], more
        if group:
            yield group

    def _guess(self, start: int, end: int) -> float:
        return self.scale * _plain_guess(self.text[start:end])

    def _counted(self, words: str) -> int:
        if words == self._last[0]:  # most captions are one passage, and that is all the first look sees
            return self._last[1]
        tokens = self.count(words)
        self._last = words, tokens
        # In a shorter one the special tokens would weigh too much.
        if len(words) >= _TELLING:
            self.scale = min(max(tokens / _plain_guess(words), 0.1), 16.0)
        return tokens

    def _fit(self, group: list[_Span]) -> Iterator[tuple[str, int, int]]:
        words = "\n".join(self.text[start:end] for start, end in group)
        if len(words) <= self.most_chars and self._counted(words) <= self.limit:
            yield words, group[0][0], group[-1][1]
        elif len(group) > 1:
            half = len(group) // 2
            yield from self._fit(group[:half])
            yield from self._fit(group[half:])
        else:
            start, end = group[0]
            yield from self._cut_up(start, end)

    def _cut_up(self, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Cut a long paragraph into pieces of about equal size."""
        while start < end:
            cut = self._cut(start, end)
            words = self.text[start:cut].rstrip()
            yield words, start, start + len(words)
            start = cut
            while start < end and self.text[start].isspace():
                start += 1

    def _cut(self, start: int, end: int) -> int:
        """Return where the passage that begins at `start` ends: at the best place before it is too long."""
        longest = self._longest(start, end)
        while True:
            cut = end if longest == end else self._best_place(start, longest, end)
            if longest == end or self._fits(start, cut):
                return cut
            longest = start + max((cut - start) * 9 // 10, 1)
            if cut == start + 1:
                raise InvalidInputError(f"A limit of {self.limit} tokens is too small for {self.text[start]!r}.")

    def _longest(self, start: int, end: int) -> int:
        """Find an end, near the largest possible, up to which the text fits."""
        last = min(end, start + self.most_chars)
        good, bad = start, last + 1
        size = self._first_size(start, end, last)
        for _ in range(64):
            tokens = max(self._counted(self.text[start : start + size].rstrip()), 1)
            if tokens <= self.limit:
                good = start + size
                if good == last or tokens >= 0.8 * self.limit or bad - good <= 8:
                    break
            else:
                bad = start + size
            factor = min(0.95 * self.limit / tokens, 4.0)
            size = min(max(int(size * factor), good - start + 1), bad - 1 - start)
            if size <= good - start:
                break
        if good == start:
            raise InvalidInputError(f"A limit of {self.limit} tokens is too small for {self.text[start]!r}.")
        return good

    def _first_size(self, start: int, end: int, last: int) -> int:
        """Return the characters to try first: an even share of what is left."""
        tokens = self._guess(start, last)
        a_piece = max((last - start) * 0.95 * self.limit / max(tokens, 1), 1)
        pieces = math.ceil((end - start) / a_piece)
        return min(max(math.ceil((end - start) / pieces * 1.1), 1), last - start)

    def _fits(self, start: int, end: int) -> bool:
        return self._counted(self.text[start:end].rstrip()) <= self.limit

    def _best_place(self, start: int, longest: int, end: int) -> int:
        """Choose the last end of a sentence, else of a line, a clause or a word, in the window that fits."""
        for cuts, share in zip(_CUTS, _EARLIEST_CUT, strict=True):
            earliest = start + share * (longest - start)
            # One character more is looked at, since a full stop ends a sentence only before white space.
            ends = [m.end() for m in cuts.finditer(self.text, start, min(longest + 1, end)) if m.end() <= longest]
            if ends and ends[-1] > max(earliest, start):
                return ends[-1]
        cut = longest
        while cut > start + 1 and longest - cut < 16 and _joined(self.text[cut - 1], self.text[cut]):
            cut -= 1
        return cut if longest - cut < 16 else longest


def _plain_guess(words: str) -> float:
    """Guess the tokens of a text: one for four ASCII characters or for one other."""
    wide = 0 if words.isascii() else len(words) - len(words.encode("ascii", "ignore"))
    return wide + (len(words) - wide) / 4


def _joined(left: str, right: str) -> bool:
    """Tell whether a character belongs to the one before it: combining marks, joiners, variation selectors."""
    return left == "\u200d" or right == "\u200d" or unicodedata.category(right)[0] == "M"


def _paragraphs(text: str) -> Iterator[_Span]:
    """Yield the spans of runs of lines with words, white space at both ends left out."""
    first = last = -1
    at = 0
    for line in text.split("\n"):
        if _has_words(line):
            if first < 0:
                first = at + len(line) - len(line.lstrip())
            last = at + len(line.rstrip())
        elif first >= 0:
            yield first, last
            first = -1
        at += len(line) + 1
    if first >= 0:
        yield first, last


def _has_words(line: str) -> bool:
    """Tell whether a line has a letter, a digit or a picture sign, or only punctuation, lines and boxes."""
    return any(c.isalnum() for c in line) or any(_is_sign(c) for c in set(line))


def _is_sign(character: str) -> bool:
    category = unicodedata.category(character)
    is_rule = category[0] in "PZ" or category in {"Sm", "Sc", "Sk", "Cc", "Cf"} or character in "\ufe0e\ufe0f"
    return not is_rule and not "\u2500" <= character <= "\u25ff"
