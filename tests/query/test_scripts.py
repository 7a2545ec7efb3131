"""Whether a query is in letters that the encoder reads: measured on the tokenizers of real encoders."""

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from clipsearch.encoders.token_density import tokens_per_letter
from clipsearch.query.embedding import Embedder
from clipsearch.query.unicode_scripts import SCRIPTS, SPELT_OUT, explain_unread
from clipsearch.types import EncoderPin

READ = [
    "a cat", "naïve café déjà vu", "🐱 cat ❤️ 👨‍👩‍👧", "Łódź, Çeşme, Ærøskøbing, Nguyễn", "5 μm, 3 Ω, π ≈ 3.14",
    "猫", "東京タワー at night", "고양이", "a кошка on a sofa", "قطة على الأريكة", "猫" * 9999,
    "(・ω・)ノ", "½ 100€ №5 x² ™", "IMG_0042.JPG", "1080p 4K 2024-06-01", "“quoted” … – ‘so’", "ﬁne", "e\u0301te\u0301",
]  # fmt: skip
UNREAD = {
    "γάτα": "γάτα (Greek letters)",
    'naïve γάτα "quotes"': "γάτα (Greek letters)",
    "Ελλάδα בלילה at night": "Ελλάδα (Greek letters) and בלילה (Hebrew letters)",
    "a बिल्ली on a sofa": "बिल्ली (Devanagari letters)",
    "বিড়াল": "বিড়াল (Bengali letters)",
    "γ" * 9999: "γ" * 19 + "… (Greek letters)",
}
LEARNT = {
    "Chinese characters", "Japanese kana", "Korean letters", "Cyrillic letters", "Arabic letters", "Thai letters",
}  # fmt: skip


def test_scripts_that_an_encoder_does_not_read_are_told(encoder):
    for text, named in UNREAD.items():
        (warning,) = explain_unread(text, encoder)
        assert warning.startswith(f"{encoder.name} does not read {named}, so ")
    for script in SCRIPTS:
        is_read = encoder.tokens_per_letter(script.sample) < SPELT_OUT
        assert script.find_words(script.sample) and is_read == (script.name in LEARNT)
        assert bool(explain_unread(script.sample, encoder)) != is_read


def test_a_warning_names_only_a_preset_that_reads_the_language_well(encoder):
    assert "--model multilingual" in explain_unread("γάτα", encoder)[0]
    assert "--model multilingual" in explain_unread("Ελλάδα בלילה", encoder)[0]
    for text in ("बिल्ली", "বিড়াল", "பூனை", "γάτα बिल्ली"):
        (warning,) = explain_unread(text, encoder)
        assert "--model" not in warning and warning.endswith("clipsearch models")


def test_encoder_with_accents_signs_and_names_is_never_warned_of(encoder):
    assert [text for text in READ if explain_unread(text, encoder)] == []


def test_a_tokenizer_that_learnt_the_scripts_reads_them():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=4000, show_progress=False)
    tokenizer.train_from_iterator([script.sample for script in SCRIPTS] * 3, trainer)
    assert all(tokens_per_letter(tokenizer, script.sample) < SPELT_OUT for script in SCRIPTS)


def test_a_search_says_so_every_time_and_one_in_encoder_never(encoder, tmp_path, monkeypatch):
    from clipsearch.config import Settings

    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path))
    embedder = Embedder(EncoderPin(encoder.name, encoder.fingerprint, encoder.dim), Settings())
    embedder._encoder = encoder  # so that none is built in the empty cache
    for _ in range(2):
        assert "γάτα" in embedder.text("γάτα")[1][0]
        assert embedder.texts(["a café", "γάτα"])[0][1] == () != embedder.texts(["a café", "γάτα"])[1][1]
        assert embedder.text("a café")[1] == ()
