"""Corpora of captions, a file each: captions a second, and that memory does not grow with their number.

The builtin encoder through `clipsearch index` at two sizes; the text tower of ViT-B/32 with random weights on fewer,
in fp32 and int8.
"""

import json
import random
import tempfile
from pathlib import Path

from harness import COMMAND, run, write_result

SIZES = (5000, 40000)
FEW = 1000
MODEL = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


def main() -> None:
    """Index each corpus into a fresh library."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        environment = {"CLIPSEARCH_CACHE": str(root / "cache"), "HF_HUB_OFFLINE": "1"}
        for size in (FEW, *SIZES):
            write_captions(root / str(size), size)
        model = f"local-dir:{make_model(root / 'model')}"
        runs = [(model, "fp32", FEW), (model, "int8", FEW), *(("builtin-small", "auto", size) for size in SIZES)]
        write_captions(root / "warm", 2)
        rows = []
        for name, precision, size in runs:
            options = ["--model", name, "--device", "cpu", "--precision", precision, "--json"]
            run([COMMAND, "index", str(root / "warm"), *options, "--library", f"{root}/w{len(rows)}"], environment)
            command = [COMMAND, "index", str(root / str(size)), *options, "--library", f"{root}/l{len(rows)}"]
            seconds, peak, out = run(command, environment)
            assert json.loads(out)["encoded"] == size
            rows.append(
                {
                    "encoder": "ViT-B/32, random" if name == model else name,
                    "precision": precision,
                    "captions": size,
                    "captions_per_second": round(size / seconds),
                    "peak_mib": round(peak),
                }
            )
        write_result("text_corpus", {"rows": rows})


def write_captions(folder: Path, count: int) -> None:
    """Write `count` captions of 5 to 25 words, each a file of its own."""
    rng = random.Random(0)
    words = "a the two old red small dogs cats boats people on in near beach street sofa run sit play look".split()
    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}.txt").write_text(f"{' '.join(rng.choices(words, k=rng.randint(5, 25)))} {number}")


def make_model(folder: Path) -> Path:
    """Save a model whose text tower is that of ViT-B/32, with random weights."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}}))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


if __name__ == "__main__":
    main()
