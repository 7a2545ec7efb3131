"""Make small models with random weights, saved as open_clip's `local-dir:` reads them."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest


def save_model(folder: Path, model_cfg: dict, preprocess_cfg: dict | None = None, *, seed: int = 0) -> Path:
    """Save a random model with its config; the weights depend on the seed only."""
    from clipsearch.encoders.openclip import quiet

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    with quiet():
        import open_clip
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def classic_clip(folder: Path, *, seed: int = 0) -> Path:
    """Save a causal model with the byte-level BPE of open_clip, pooled at the end of the text."""
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    return save_model(folder, {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}, seed=seed)


def siglip_like(folder: Path, *, seed: int = 0) -> Path:
    """Save a model that sees the whole padded text, with a Unigram tokenizer trained here."""
    size = train_tokenizer(folder)
    vision = {"image_size": [48, 40], "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
    text = {
        "context_length": 24,
        "vocab_size": size,
        "hf_tokenizer_name": "local",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    }
    model = {
        "embed_dim": 32,
        "init_logit_scale": 4.6,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision,
        "text_cfg": text,
    }
    picture = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    return save_model(folder, model, picture, seed=seed)


def roberta_clip(folder: Path, *, seed: int = 0) -> Path:
    """Save a model whose text tower is a transformers model, pooled over the mean of its tokens."""
    size = train_tokenizer(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = {"model_type": "roberta", "vocab_size": size, "max_position_embeddings": 64, **sizes}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    (folder / "config.json").write_text(json.dumps({**config, **special}), encoding="utf-8")
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
    text = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": "local",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
        "context_length": 40,
    }
    return save_model(folder, {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}, seed=seed)


def xlm_roberta_clip(folder: Path, *, pooler: str = "mean_pooler", seed: int = 0) -> Path:
    """Save a model as small as can be of the kind of xlm-roberta-base-ViT-B-32: its ids, its tokenizer, its pooling."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(MANY_LANGUAGES, trainer)
    ends = [(word, special.index(word)) for word in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    words = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "padding_side": "right", **words}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    size = tokenizer.get_vocab_size()
    text_model = {"model_type": "xlm-roberta", "vocab_size": size, "max_position_embeddings": 80, **sizes, **ids}
    (folder / "config.json").write_text(json.dumps(text_model), encoding="utf-8")
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8}
    # As open_clip's xlm-roberta-base-ViT-B-32 but for the folder: no context_length.
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_pooler_type": pooler}
    return save_model(folder, {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}, seed=seed)


MANY_LANGUAGES = (
    "a cat on a sofa and two dogs in the snow",
    "沙发上的猫 和 雪地里的两只狗",
    "ソファの上の猫と雪の中の二匹の犬",
    "кошка на диване и две собаки в снегу",
    "eine Katze auf dem Sofa und zwei Hunde im Schnee",
    "mačka na kauču i dva psa u snijegu",
    "قطة على الأريكة وكلبان في الثلج",
)


class Models:
    """A model of each kind, saved and exported once: who would change one works on a copy, or makes one of its own."""

    def __init__(self, root: Path) -> None:
        self.source = functools.cache(lambda kind: globals()[kind](root / kind))
        self.export = functools.cache(lambda kind: export(self.source(kind)))


def export(folder: Path) -> tuple[Path, Any]:
    """Prepare a saved model once, and return the export and what it says."""
    from clipsearch.encoders import export_folder, registry

    name = f"openclip:local-dir:{folder}"
    registry.load(name, threads=2, offline=True)
    return export_folder.find_exports(export_folder.exports_root(), name)[0]


def on_torch(folder: Path, devices: list[str], **options: Any) -> Any:
    """Load a saved model on torch; options: those of TorchEncoder."""
    from clipsearch.encoders import openclip
    from clipsearch.encoders.torch_runtime import TorchEncoder

    where, meta = export(folder)
    return TorchEncoder(where, meta, openclip.fetch(f"local-dir:{folder}", offline=True), devices, **options)


def require_gpu() -> None:
    """Skip the test where torch sees no CUDA device."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU: torch sees none")


def train_tokenizer(folder: Path) -> int:
    """Train a sentencepiece-like tokenizer on a few sentences; return the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    sentences = [
        f"a {kind} of {count} {colour} {thing} on the {place}"
        for kind in ("photo", "drawing", "painting")
        for count in ("one", "two", "many")
        for colour in ("red", "green", "small", "old")
        for thing in ("cats", "dogs", "boats", "houses")
        for place in ("beach", "sofa", "street", "mountain")
    ]
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer)
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "padding_side": "right",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return tokenizer.get_vocab_size()
