"""Texts to token ids, exactly as open_clip's own tokenizers give them, with `tokenizers` and ftfy only.

This is what a query needs; `clipsearch.encoders.tokenizer_export` makes the file that is read here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.token_density import tokens_per_letter
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FAILED = "The tokenizer of the model fails on a text"
_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


@dataclass(frozen=True, slots=True)
class TextRules:
    """What surrounds the ids of a text.

    clean: `lower`, `whitespace` or `canonicalize`, as open_clip names them. context_length: ids in a row.
    prefix, suffix: ids before and after the text, kept when it is cut. pad_id: what fills a row.
    zeroed: an id that is replaced by 0. literals: words that stand for one id when a text spells them out.
    bucketed: rows may be as short as the longest text, because the tower never looks past it.
    """

    clean: str
    context_length: int
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    pad_id: int = 0
    zeroed: int | None = None
    literals: tuple[tuple[str, int], ...] = ()
    bucketed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TextRules:
        """Rebuild what `as_dict` returned, after a trip through JSON."""
        pairs = tuple((str(word), int(value)) for word, value in fields["literals"])
        listed = {key: tuple(fields[key]) for key in ("prefix", "suffix")}
        return cls(**{**fields, **listed, "literals": pairs})


def clean_text(text: str, how: str) -> str:
    """Repair and simplify a text as open_clip does before it splits it.

    how: `lower` (spaces and case), `whitespace` (spaces), `canonicalize` (punctuation and case; the rule of
    big_vision's prompt engineering, for SigLIP).
    """
    import html

    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    if how == "canonicalize":
        return " ".join(text.replace("_", " ").translate(_PUNCTUATION).lower().split())
    text = " ".join(text.split())
    return text.lower() if how == "lower" else text


@contextlib.contextmanager
def tokenizer_errors(doing: str) -> Iterator[None]:
    """Raise EncoderError for whatever `tokenizers` raises, a panic of Rust too. doing: what fails then."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError, EncoderError):
        raise
    except BaseException as error:  # a panic of Rust is not an Exception
        raise EncoderError(f"{doing} ({str(error)[:200] or type(error).__name__}).") from error


class TextTokenizer:
    """Texts to rows of token ids. Safe to use from several threads."""

    def __init__(self, backend: Tokenizer, rules: TextRules) -> None:
        """Wrap a `tokenizers.Tokenizer` that neither cuts, pads nor adds special ids."""
        self.rules = rules
        self._backend = backend
        self._literals = dict(rules.literals)

    @classmethod
    def from_file(cls, path: Path, rules: TextRules) -> TextTokenizer:
        """Load an exported tokenizer.

        Raises EncoderError when the file cannot be used.
        """
        from tokenizers import Tokenizer

        try:
            return cls(Tokenizer.from_file(str(path)), rules)
        except Exception as error:
            raise EncoderError(
                f"The tokenizer {path} cannot be read: {error}. Delete its folder and try again."
            ) from error

    def count(self, text: str) -> int:
        """Count the ids of a text, special ids included, uncut. Raises EncoderError where the tokenizer fails."""
        return len(self.rules.prefix) + len(self._body(text)) + len(self.rules.suffix)

    def tokens_per_letter(self, text: str) -> float:
        """Return how finely a text is cut. Raises EncoderError where the tokenizer fails."""
        with tokenizer_errors(_FAILED):
            return tokens_per_letter(self._backend, clean_text(text, self.rules.clean))

    def rows(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return int64 (n, length) ids, cut at the context length with the suffix kept at the end.

        Raises EncoderError where the tokenizer fails.
        """
        return self.pad([self.ids(text) for text in texts])

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return the int64 ids of a text, cut at the context length with the suffix kept at the end, not padded."""
        rules = self.rules
        room = rules.context_length - len(rules.prefix) - len(rules.suffix)
        return np.array([*rules.prefix, *self._body(text)[:room], *rules.suffix], np.int64)

    def pad(self, rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return ids as int64 (n, length): the context length, or the longest row where the rules say bucketed."""
        rules = self.rules
        length = max(map(len, rows), default=0) if rules.bucketed else rules.context_length
        result = np.full((len(rows), length), rules.pad_id, np.int64)
        for padded, ids in zip(result, rows, strict=True):
            padded[: len(ids)] = ids
        if rules.zeroed is not None:
            result[result == rules.zeroed] = 0
        return result

    def _body(self, text: str) -> list[int]:
        cleaned = clean_text(text, self.rules.clean)
        with tokenizer_errors(_FAILED):
            if any(word in cleaned for word in self._literals):
                return self._body_with_literals(cleaned)
            return list(self._backend.encode(cleaned, add_special_tokens=False).ids)

    def _body_with_literals(self, cleaned: str) -> list[int]:
        ids: list[int] = []
        for piece, _span in self._backend.pre_tokenizer.pre_tokenize_str(cleaned):
            if piece in self._literals:
                ids.append(self._literals[piece])
            else:
                ids.extend(token.id for token in self._backend.model.tokenize(piece))
        return ids
