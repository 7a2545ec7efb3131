"""The captions in nine languages that the multilingual network is fitted on."""

import importlib.util
import re
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "tools" / "multilingual_phrases.py"


@pytest.fixture(scope="module")
def phrases():
    spec = importlib.util.spec_from_file_location("multilingual_phrases", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_captions_are_whole_in_every_language_and_the_same_each_time(phrases):
    captions = phrases.make_captions(500)
    assert tuple(captions) == phrases.LANGUAGES and captions == phrases.make_captions(500)
    for texts in captions.values():
        assert len(texts) == 500
        assert not [text for text in texts if re.search(r"[/^+|]|  |^ | $|^$", text)]


def test_each_language_has_its_letters(phrases):
    letters = {
        "zh": "[\u4e00-\u9fff]",
        "ja": "[\u3040-\u30ff\u4e00-\u9fff]",
        "ru": "[\u0400-\u04ff]",
        "ko": "[\uac00-\ud7a3]",
    }
    for kind in phrases.read_phrases().values():
        for phrase in kind:
            for language, pattern in letters.items():
                assert re.search(pattern, phrase[language]), phrase
            for language in set(phrases.LANGUAGES) - set(letters):
                assert not re.search("[\u0370-\uffff]", phrase[language]), phrase


def test_words_stand_in_the_order_of_their_language(phrases):
    man, act, place = "a man", "riding a bicycle", "on the beach"
    kinds = phrases.read_phrases()
    found = [
        next(phrase for phrase in kinds[kind] if phrase["en"] == text)
        for kind, text in (("people", man), ("actions", act), ("places", place))
    ]
    joined = {
        language: phrases._clause(
            language,
            phrases._noun(language, found[0], phrases._ABSENT),
            phrases._verb(found[1][language], several=False),
            found[2][language],
        )
        for language in ("en", "zh", "de", "ja", "ko")
    }
    assert joined == {
        "en": "a man riding a bicycle on the beach",
        "zh": "一个男人在海滩上骑自行车",
        "de": "ein Mann fährt Fahrrad am Strand",
        "ja": "浜辺で自転車に乗る男性",
        "ko": "해변에서 자전거를 타는 남자",
    }
