"""The words of a query, with where they stand; each character of Chinese, Japanese and Korean is one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

EAST_ASIAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"


@dataclass(frozen=True, slots=True)
class Token:
    """A word: from `start` to before `end` of the text. gap: what stands between it and the word before."""

    text: str
    start: int
    end: int
    gap: str

    @property
    def lower(self) -> str:
        """The word in lower case."""
        return self.text.lower()

    @property
    def is_capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.text[:1].isupper()

    @property
    def is_east_asian(self) -> bool:
        """Whether it is one character of Chinese, Japanese or Korean."""
        return is_east_asian(self.text)


def tokenize(text: str) -> list[Token]:
    """Return the words of a text in their order."""
    found: list[Token] = []
    end = 0
    for match in _words().finditer(text):
        found.append(Token(match[0], match.start(), match.end(), text[end : match.start()]))
        end = match.end()
    return found


def is_east_asian(text: str) -> bool:
    """Tell whether a text begins with a character of Chinese, Japanese or Korean."""
    first = text[:1]
    return "\u3040" <= first <= "\u30ff" or "\u3400" <= first <= "\u9fff" or "\uac00" <= first <= "\ud7af"


@cache
def _words() -> re.Pattern[str]:
    return re.compile(f"[{EAST_ASIAN}]|[^\\W_{EAST_ASIAN}]+|(?<=\\s)&(?=\\s)")
