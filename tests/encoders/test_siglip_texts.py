"""SigLIP2's rules for texts, against open_clip's own tokenizer: lower case, no punctuation, padded to 64."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.encoders import openclip
from clipsearch.encoders.onnx_files import OnnxFolder
from clipsearch.encoders.onnx_import import read_tokenizer
from clipsearch.encoders.tokenizer import TextTokenizer, clean_text
from clipsearch.encoders.tokenizer_export import DIFFICULT_TEXTS, convert_tokenizer
from tests.support import onnx_models
from tests.support.tiny_openclip import MANY_LANGUAGES

ARCHITECTURE = "ViT-B-32-SigLIP2-256"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]

# What the rules are about, and what goes wrong around them.
PIECES = st.one_of(
    st.sampled_from([*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "__init__", "don't", "...", "{}", "&amp;", "&lt;b&gt;"]),
    st.sampled_from(["A CAT", "İSTANBUL", "ΑΣ", "ẞ", "Ǆ", "ﬁ", "ÅNGSTRÖM", "e\u0301", "n\u0303o", "\u0644\u064e"]),
    st.sampled_from(["沙发上的猫", "ソファの上の猫。", "「猫」、犬！", "소파 위의 고양이", "кошка", "قطة", "แมว"]),
    st.sampled_from(["😀", "👨\u200d👩\u200d👧", "❤\ufe0f", "🇩🇪", "\u200b", "\ufeff", "\ud800"]),
    st.sampled_from([" ", "  ", "\t", "\n", "\r\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u2028", "\u3000"]),
    st.sampled_from([*SPECIAL, "▁", "<0x41>", "schÃ¶n"]),
    st.text(max_size=6),
)


@pytest.fixture(scope="module")
def folder(isolated_user, tmp_path_factory):
    """Files of a tokenizer of the kind of SigLIP2's: BPE that falls back to bytes, blanks as a mark, an end."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    where = tmp_path_factory.mktemp("siglip2")
    (where / "textual").mkdir()
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), behavior="merged_with_next")
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=tokens, show_progress=False)
    trained.train_from_iterator([*MANY_LANGUAGES, "a photo of two green boats on the beach"] * 3, trainer)
    described = json.loads(trained.to_str())
    described["added_tokens"] = described["added_tokens"][: len(SPECIAL)]  # bytes are tokens, but no words to look for
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(where / "textual" / "tokenizer.json"))
    words = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "sep_token": "<eos>", "padding_side": "right", **words}
    onnx_models.save_json(where / "textual" / "tokenizer_config.json", config)
    return where


@pytest.fixture(scope="module", params=[False, True], ids=["", "strip_sep_token"])
def tokenizers(request, folder):
    """open_clip's tokenizer with the options of SigLIP2's config, and both of ours: converted, and read from ONNX."""
    from tokenizers import Tokenizer

    with openclip.quiet():
        import open_clip
        from open_clip.tokenizer import HFTokenizer

        config = open_clip.get_model_config(ARCHITECTURE)["text_cfg"]
        assert (config["context_length"], config["tokenizer_kwargs"]) == (64, {"clean": "canonicalize"})
        options = config["tokenizer_kwargs"] | ({"strip_sep_token": True} if request.param else {})
        reference = HFTokenizer(str(folder / "textual"), context_length=config["context_length"], **options)
    onnx_models.save_json(folder / "config.json", {"text_cfg": config | {"tokenizer_kwargs": options}})
    made = [convert_tokenizer(reference, 64, bucketed=False), read_tokenizer(OnnxFolder(folder, folder), None)]
    assert made[0][1] == made[1][1]
    return reference, [TextTokenizer(Tokenizer.from_str(text), rules) for text, rules in made]


def test_ids_equal_those_of_open_clip(tokenizers):
    reference, ours = tokenizers

    @settings(max_examples=200, deadline=None)
    @given(st.lists(PIECES, max_size=40).map("".join))
    def check(text):
        expected = reference([text]).numpy()
        for tokenizer in ours:
            assert np.array_equal(tokenizer.rows([text]), expected)

    check()
    for text in (*DIFFICULT_TEXTS, *MANY_LANGUAGES):
        expected = reference([text]).numpy()
        assert all(np.array_equal(tokenizer.rows([text]), expected) for tokenizer in ours)


def test_case_and_punctuation_do_not_count_and_rows_are_full(tokenizers):
    _, ours = tokenizers
    for tokenizer in ours:
        rows = tokenizer.rows(["a cat, on_the sofa", "  A CAT on the  SOFA!!", "a cat on the sofa"])
        assert rows.shape == (3, 64) and (rows[0] == rows[1]).all() and (rows[0] == rows[2]).all()
        assert (rows[:, -1] == 0).all()
        assert tokenizer.rows(["cat " * 100])[0, -1] == (0 if tokenizer.rules.zeroed else 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_texts_are_cleaned_as_open_clip_cleans_them(text):
    from open_clip.tokenizer import get_clean_fn

    for how in ("lower", "whitespace", "canonicalize"):
        assert clean_text(text, how) == get_clean_fn(how)(text)
