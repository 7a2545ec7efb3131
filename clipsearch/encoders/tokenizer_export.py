"""Convert a tokenizer of open_clip when a model is exported, and prove that it gives the same token ids.

Two kinds of reference are converted: open_clip's byte-level BPE (`SimpleTokenizer`, Radford et al. 2021) and the fast
tokenizers of its `HFTokenizer`. The converted one is compared with the reference on difficult texts before it is used.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.encoders.tokenizer import TextRules, TextTokenizer
from clipsearch.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Unicode folds two more characters into ASCII letters: the long s and the Kelvin sign.
_FOLDED = {"s": "sS\u017f", "k": "kK\u212a"}

DIFFICULT_TEXTS = (
    "",
    " ",
    "a",
    "a photo of a cat",
    "A Photo Of A CAT, it's the dog's; they'LL'VE gone",
    "don't 'S 'T 'RE 'VE 'M 'LL 'D '\u017f",
    "\u4e00\u53ea\u732b\u5750\u5728\u6c99\u53d1\u4e0a",
    "\u0642\u0637\u0629 \u0639\u0644\u0649 \u0627\u0644\u0623\u0631\u064a\u0643\u0629",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f flag \U0001f1e9\U0001f1ea",
    "&lt;b&gt; &amp;amp;lt; &#39;quoted&#39; &nbsp; &copy; &notanentity;",
    "schÃ¶n caf\u00e9 e\u0301 \ufb01 \uff21\uff22 \u0130I\u0131 \u00df\u1e9e \u03a3\u03c2",
    "tabs\tand\nlines\r\n\x0b\x0c\x1c\x1f\x00\x07\x7f\x85\xa0\u2028\u3000end",
    "12345 3.14159 1e-9 \u00bd\u2167\u0661\u0662 #hash_tag_under_score __init__",
    "!!! ??? ... --- *** $5.00 100% (a) [b] {c} <d> \\ / | ~ ` ^ @",
    "<start_of_text> <end_of_text> !!<start_of_text> a<end_of_text>b <START_OF_TEXT><end_of_text>",
    "<|startoftext|> <pad> <eos> <bos> <unk> </s> <s> [CLS] [SEP] [PAD] [MASK]",
    "\ud800 lone surrogate \udfff",
    "supercalifragilisticexpialidocious" * 3,
    "word " * 300,
    "\u732b" * 200,
    "\U0001f431" * 100,
)


def convert_tokenizer(reference: Any, context_length: int, *, bucketed: bool) -> tuple[str, TextRules]:  # noqa: ANN401
    """Convert an open_clip tokenizer.

    reference: what `open_clip.get_tokenizer` returned. context_length: ids in a row.
    Returns the JSON of a `tokenizers.Tokenizer` and the rules around it, proven equal to the reference on
    DIFFICULT_TEXTS.
    Raises EncoderUnavailableError where the reference cannot be reproduced.
    """
    kind = type(reference).__name__
    if kind == "SimpleTokenizer":
        text, rules = _convert_simple(reference, context_length, bucketed)
    elif kind == "HFTokenizer":
        text, rules = _convert_fast(reference, context_length, bucketed)
    else:
        raise _not_reproducible(f"its kind, {kind}, is not supported")
    _prove(reference, text, rules)
    return text, rules


def tokenizer_identity(text: str, rules: TextRules) -> bytes:
    """Return what decides the ids, in a form that no version of `tokenizers` changes.

    text: JSON of the tokenizer. Its vocabulary and merges count; how it is spelled does not.
    """
    model = json.loads(text)["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", ())]
    parts = [model["type"], model["vocab"], merges, rules.as_dict() | {"bucketed": None}]
    return json.dumps(parts, sort_keys=True).encode()


def _clean_name(reference: Any) -> str:  # noqa: ANN401
    from open_clip.tokenizer import get_clean_fn

    for name in ("lower", "whitespace", "canonicalize"):
        if reference.clean_fn is get_clean_fn(name):
            return name
    raise _not_reproducible("its way of cleaning text is not supported")


def _convert_simple(reference: Any, context_length: int, bucketed: bool) -> tuple[str, TextRules]:  # noqa: ANN401
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    if reference.reduction_fn is not None:
        raise _not_reproducible("it drops tokens at random")
    if len(reference.all_special_ids) != 2:
        raise _not_reproducible("it has special tokens of its own")
    special = [word for word, value in reference.encoder.items() if value in reference.all_special_ids]
    merges = sorted(reference.bpe_ranks, key=reference.bpe_ranks.__getitem__)
    backend = Tokenizer(models.BPE(vocab=dict(reference.encoder), merges=merges, end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_word_pattern(tuple(special))), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    rules = TextRules(
        clean=_clean_name(reference),
        context_length=context_length,
        prefix=(int(reference.sot_token_id),),
        suffix=(int(reference.eot_token_id),),
        literals=tuple((word, int(reference.encoder[word])) for word in special),
        bucketed=bucketed,
    )
    return backend.to_str(), rules


@functools.cache
def _word_pattern(special: tuple[str, ...]) -> str:
    # The classes are spelled out as ranges: the regex engines of Python and of `tokenizers` follow
    # different versions of Unicode, and differ in what letter case means for a class.
    import regex  # type: ignore[import-untyped]

    letters = _ranges(regex.compile(r"[\p{L}]", regex.IGNORECASE).fullmatch)
    digits = _ranges(regex.compile(r"[\p{N}]", regex.IGNORECASE).fullmatch)
    others = _ranges(regex.compile(r"[^\s\p{L}\p{N}]", regex.IGNORECASE).fullmatch)
    words = "|".join(_any_case(word) for word in (*special, *_CONTRACTIONS))
    return f"{words}|[{letters}]+|[{digits}]|[{others}]+"


def _ranges(matches: Callable[[str], object]) -> str:
    codes = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF and matches(chr(code))]
    breaks = [index for index in range(1, len(codes)) if codes[index] != codes[index - 1] + 1]
    starts, ends = [0, *breaks], [*breaks, len(codes)]
    return "".join(rf"\x{{{codes[start]:x}}}-\x{{{codes[end - 1]:x}}}" for start, end in zip(starts, ends, strict=True))


def _any_case(word: str) -> str:
    return "".join(f"[{_FOLDED.get(char, char + char.upper())}]" if char.isalpha() else char for char in word)


def _convert_fast(reference: Any, context_length: int, bucketed: bool) -> tuple[str, TextRules]:  # noqa: ANN401
    from tokenizers import Tokenizer

    inner = reference.tokenizer
    if reference.tokenizer_mode or getattr(inner, "backend_tokenizer", None) is None:
        raise _not_reproducible("it has no fast form")
    backend = Tokenizer.from_str(inner.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    prefix, suffix = surroundings(backend)
    rules = TextRules(
        clean=_clean_name(reference),
        context_length=context_length,
        prefix=prefix,
        suffix=suffix,
        pad_id=int(inner.pad_token_id or 0),
        zeroed=int(inner.sep_token_id) if reference.strip_sep_token else None,
        bucketed=bucketed,
    )
    return backend.to_str(), rules


def surroundings(backend: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special ids before and after a text. Raises EncoderUnavailableError where they stand elsewhere."""
    whole = backend.encode("a cat", add_special_tokens=True).ids
    body = backend.encode("a cat", add_special_tokens=False).ids
    for start in range(len(whole) - len(body) + 1):
        if whole[start : start + len(body)] == body:
            return tuple(whole[:start]), tuple(whole[start + len(body) :])
    raise _not_reproducible("its special tokens are not around the text")


def _prove(reference: Any, text: str, rules: TextRules) -> None:  # noqa: ANN401
    from tokenizers import Tokenizer

    converted = TextTokenizer(Tokenizer.from_str(text), rules)
    for example in DIFFICULT_TEXTS:
        expected = np.asarray(reference([example], context_length=rules.context_length))
        found = converted.rows([example])
        cut = expected[:, : found.shape[1]]
        if not np.array_equal(cut, found) or (expected[:, found.shape[1] :] != rules.pad_id).any():
            raise _not_reproducible(f"it reads {example[:40]!r} differently")


def _not_reproducible(reason: str) -> EncoderUnavailableError:
    return EncoderUnavailableError(
        f"The tokenizer of this model cannot be reproduced without its own library: {reason}. Choose another model."
    )
