"""How finely a tokenizer cuts a text: what tells a language that it learnt from one that it spells out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UNKNOWN = ("[UNK]", "<unk>")


def tokens_per_letter(tokenizer: Tokenizer, text: str) -> float:
    """Return tokens over letters of a text that is as the tokenizer wants it; see the Encoder protocol."""
    unknown = {tokenizer.token_to_id(name) for name in _UNKNOWN}
    encoding = tokenizer.encode(text, add_special_tokens=False)
    spans = zip(encoding.ids, encoding.offsets, strict=True)
    tokens = sum(count_letters(text[start:end]) if token in unknown else 1 for token, (start, end) in spans)
    return tokens / max(count_letters(text), 1)


def count_letters(text: str) -> int:
    """Count what is neither white space nor a mark that combines."""
    import unicodedata  # a library of a megabyte, which few queries need

    return sum(not char.isspace() and unicodedata.category(char) != "Mn" for char in text)
