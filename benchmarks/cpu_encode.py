"""Small photographs through ViT-B/32 on the processor: clipsearch beside open_clip and others, on the same weights.

The weights are random, so this says nothing about answers: only how fast vectors come, and how near they are to those
of open_clip. python benchmarks/cpu_encode.py [FOLDER_OF_PHOTOGRAPHS]; without a folder, pictures are made.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

SCRATCH = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
ROOT = Path(SCRATCH.name)
os.environ |= {
    "CLIPSEARCH_CACHE": str(ROOT / "cache"),
    "FASTER_CLIP_CACHE": str(ROOT / "faster"),
    "HF_HUB_OFFLINE": "1",
}

import numpy as np
import open_clip
import torch
from harness import installed, make_pictures, median_ratio, write_result
from PIL import Image
from safetensors.torch import save_file

from clipsearch.config import Settings
from clipsearch.encoders import names, registry
from clipsearch.query.eval.metrics import knn_recall
from indexer.pipeline import index

PICTURES, ROUNDS, BATCH = 128, 5, 32
VISION = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
MODEL = {"embed_dim": 512, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}


def main() -> None:
    """Time every contender in turn, a round after the other, whole and, where it can be had, the tower alone."""
    files = photographs()
    model, preprocess = make_model(ROOT / "model")
    contenders = {"open_clip": OpenClip(model, preprocess)}
    if installed("sentence-transformers"):
        contenders["sentence-transformers"] = SentenceTransformers(model)
    if installed("faster-clip"):
        contenders["faster-clip"] = FasterClip(model)
    name = names.resolve(f"local-dir:{ROOT / 'model'}", offline=True).name
    for precision in ("fp32", "int8"):
        contenders[f"clipsearch {precision}"] = Clipsearch(name, precision)
    vectors = {name: one.files(files) for name, one in contenders.items()}
    pixels = [Image.open(path).convert("RGB") for path in files]
    inputs = {name: one.prepare(pixels) for name, one in contenders.items()}
    whole, alone = {name: [] for name in contenders}, {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, one in contenders.items():
            whole[name].append(seconds(one.index, files))
            if inputs[name] is not None:
                alone[name].append(seconds(one.tower, inputs[name]))
    rows = [row(name, whole, alone, vectors, len(files)) for name in contenders]
    write_result("cpu_encode", {"pictures": len(files), "threads": torch.get_num_threads(), "rows": rows})


def row(name: str, whole: dict, alone: dict, vectors: dict, count: int) -> dict:
    """Say how one contender did, beside open_clip in the same rounds."""
    exact, found = vectors["open_clip"], vectors[name]
    near, kept = [np.argsort(-(rows @ rows.T), axis=1)[:, 1:11] for rows in (exact, found)]
    return {
        "program": name,
        "pictures_per_second": round(count / float(np.median(whole[name])), 1),
        "times_open_clip": round(median_ratio(whole["open_clip"], whole[name]), 2),
        "tower_alone": round(count / float(np.median(alone[name])), 1) if alone[name] else None,
        "tower_times_open_clip": round(median_ratio(alone["open_clip"], alone[name]), 2) if alone[name] else None,
        "least_cosine_to_open_clip": round(float((exact * found).sum(axis=1).min()), 4),
        "ten_nearest_kept": round(float(knn_recall(kept, near).mean()), 3),
    }


class OpenClip:
    """As open_clip's README does it: Pillow, its transform, batches, one after the other."""

    def __init__(self, model, preprocess) -> None:
        self._model, self._preprocess = model, preprocess

    def files(self, paths: list) -> np.ndarray:
        opened = (Image.open(path) for path in paths)
        return self.tower(torch.stack([self._preprocess(picture) for picture in opened]))

    def index(self, paths: list) -> None:
        for start in range(0, len(paths), BATCH):
            self.files(paths[start : start + BATCH])

    def prepare(self, pictures: list) -> torch.Tensor:
        return torch.stack([self._preprocess(picture) for picture in pictures])

    def tower(self, batch: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate(
                [self._model.encode_image(rows, normalize=True).numpy() for rows in batch.split(BATCH)]
            )


class SentenceTransformers:
    """Its CLIP module around the same weights, given opened pictures."""

    def __init__(self, model) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import CLIPModel
        from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizerFast

        folder = ROOT / "hugging"
        hugging(model).save_pretrained(folder)
        vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
        tokenizer = CLIPTokenizerFast(vocab=vocabulary, merges=[])
        CLIPProcessor(CLIPImageProcessor(), tokenizer).save_pretrained(folder)
        self._model = SentenceTransformer(modules=[CLIPModel(str(folder))], device="cpu")

    def files(self, paths: list) -> np.ndarray:
        opened = [Image.open(path) for path in paths]
        return self._model.encode(opened, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)

    index = files

    def prepare(self, pictures: list) -> None:
        return None


class FasterClip:
    """Its Rust engine, which holds the same weights in int8, given the bytes of files."""

    def __init__(self, model) -> None:
        from faster_clip import ClipModel

        # Where it keeps what it downloads.
        folder = ROOT / "faster" / "sentence-transformers__clip-ViT-B-32" / "0_CLIPModel"
        folder.mkdir(parents=True)
        hugging(model).save_pretrained(folder)
        self._model = ClipModel()

    def files(self, paths: list) -> np.ndarray:
        data = [path.read_bytes() for path in paths]
        rows = np.concatenate(
            [self._model.encode_image(data[start : start + BATCH]) for start in range(0, len(data), BATCH)]
        )
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    index = files

    def prepare(self, pictures: list) -> None:
        return None


class Clipsearch:
    """What `clipsearch index` does, into a new library: look, read, encode, commit."""

    def __init__(self, name: str, precision: str) -> None:
        self._settings = Settings(offline=True, device="cpu", precision=precision)
        self._encoder = registry.load(name, threads=self._settings.cores, offline=True, precision=precision)

    def files(self, paths: list) -> np.ndarray:
        return self._encoder.encode_images([Image.open(path).convert("RGB") for path in paths])

    def index(self, paths: list) -> None:
        with tempfile.TemporaryDirectory(dir=ROOT) as library:
            report = index(Path(library), [str(path) for path in paths], self._settings, encoder=self._encoder)
            assert report.added == len(paths)

    def prepare(self, pictures: list) -> list:
        return [self._encoder.preprocess(picture) for picture in pictures]

    def tower(self, batch: list) -> np.ndarray:
        return self._encoder.encode_pixels(batch)


def make_model(folder: Path) -> tuple:
    """Save a random ViT-B/32 as a `local-dir:` model and load it with open_clip."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), preprocess


def hugging(model):
    """Put the image tower of open_clip into a CLIPModel of transformers, whose defaults are ViT-B/32."""
    from transformers import CLIPConfig, CLIPModel

    ours, theirs = model.visual.state_dict(), CLIPModel(CLIPConfig())
    names = {
        "vision_model.embeddings.class_embedding": "class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    }
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    pairs = {"vision_model.pre_layrnorm": "ln_pre", "vision_model.post_layernorm": "ln_post"}
    state = {name: ours[other] for name, other in names.items()} | {"visual_projection.weight": ours["proj"].T}
    for layer in range(VISION["layers"]):
        here, there = f"vision_model.encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        pairs |= {here + name: there + other for name, other in parts.items()}
        pairs[here + "self_attn.out_proj"] = there + "attn.out_proj"
        for kind in ("weight", "bias"):
            thirds = ours[f"{there}attn.in_proj_{kind}"].chunk(3)
            state |= {f"{here}self_attn.{x}_proj.{kind}": t for x, t in zip("qkv", thirds, strict=True)}
    state |= {f"{name}.{kind}": ours[f"{other}.{kind}"] for name, other in pairs.items() for kind in ("weight", "bias")}
    missing = theirs.load_state_dict({name: value.contiguous() for name, value in state.items()}, strict=False)
    assert not missing.unexpected_keys and not [n for n in missing.missing_keys if n.startswith("vision")], missing
    return theirs


def photographs() -> list[Path]:
    """Take the first pictures of the folder that was named, or make some."""
    if len(sys.argv) > 1:
        return sorted(Path(sys.argv[1]).glob("*.jpg"))[:PICTURES]
    make_pictures(ROOT / "photos", PICTURES, side=200)
    return sorted((ROOT / "photos").iterdir())


def seconds(work, given) -> float:
    started = time.perf_counter()
    work(given)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
