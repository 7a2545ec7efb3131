"""Near copies: what is found on photographs, and how long a large library takes.

    python benchmarks/dupes.py --data FOLDER      # photographs; each is changed in ten ways
    python benchmarks/dupes.py --rows 100000      # a library of so many pictures, a tenth of them near copies

The second makes its library of random vectors and of 1,000 different JPEGs of 1,200 x 900 pixels under many names.
"""

import argparse
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from harness import COMMAND, run, write_result
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from clipsearch.copy_distance import measure
from clipsearch.encoders import registry
from clipsearch.media.phash import distance, perceptual_hash
from clipsearch.query.duplicates import MAX_BITS
from indexer.copy_distance import cut_margins

DIM = 512


def jpeg(picture, quality):
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def crop(picture, share):
    w, h = picture.size
    return picture.crop((int(w * share), int(h * share), int(w * (1 - share)), int(h * (1 - share))))


def mark(picture):
    picture = picture.copy()
    ImageDraw.Draw(picture).text((picture.width * 0.55, picture.height * 0.88), "(c) someone 2024", fill="white")
    return picture


WAYS = {
    "JPEG at quality 30": lambda p: jpeg(p, 30),
    "half the size": lambda p: p.resize((p.width // 2, p.height // 2)),
    "a third of the size": lambda p: p.resize((p.width // 3, p.height // 3)),
    "3 % cut off each side": lambda p: crop(p, 0.03),
    "6 % cut off each side": lambda p: crop(p, 0.06),
    "20 % brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "30 % more contrast": lambda p: ImageEnhance.Contrast(p).enhance(1.3),
    "a mark in a corner": mark,
    "grey": lambda p: ImageOps.grayscale(p).convert("RGB"),
    "mirrored": ImageOps.mirror,
}


def mirror_hashes(pictures):
    return hashes([ImageOps.mirror(picture) for picture in pictures])


def hashes(pictures):
    return np.array([perceptual_hash(picture) or 0 for picture in pictures], np.uint64)


def quality(folder: Path, model: str, count: int) -> None:
    """What share of changed photographs passes either check, and how many pairs of different ones pass both."""
    encoder = registry.load(model, threads=2, offline=True)
    files = sorted(folder.rglob("*.jpg"))[-count:]  # the limits were chosen on the first 240
    pictures = [Image.open(path).convert("RGB") for path in files]
    vectors, own = encoder.encode_images(pictures), hashes(pictures)
    chosen = np.linspace(0, len(pictures) - 1, 9).astype(int)  # as at the end of an index run
    cut = [tuple(map(cut_margins, encoder.preprocess(pictures[i]))) for i in chosen]
    moved = 1 - (encoder.encode_pixels(cut) * vectors[chosen]).sum(axis=1)
    similarity = measure(moved, vectors, len(vectors)).near
    rows = []
    for way, change in WAYS.items():
        changed = [change(picture) for picture in pictures]
        near = (encoder.encode_images(changed) * vectors).sum(axis=1) >= similarity
        alike = distance(hashes(changed), own) <= MAX_BITS
        row = {"changed": way, "near": near.mean(), "alike": alike.mean(), "found": (near & alike).mean()}
        alike |= distance(mirror_hashes(changed), own) <= MAX_BITS
        row["found_with_mirrored"] = (near & alike).mean()
        rows.append({key: value if key == "changed" else round(float(value), 3) for key, value in row.items()})
        print(rows[-1], flush=True)
    one, other = np.triu_indices(len(pictures), 1)
    near = np.einsum("nd,nd->n", vectors[one], vectors[other]) >= similarity
    alike = distance(own[one], own[other]) <= MAX_BITS
    pairs = {"pairs": len(one), "near": int(near.sum()), "alike": int(alike.sum()), "both": int((near & alike).sum())}
    alike |= distance(own[one], mirror_hashes(pictures)[other]) <= MAX_BITS
    pairs["both_with_mirrored"] = int((near & alike).sum())
    print(pairs)
    write_result(
        "dupes",
        {
            "model": model,
            "similarity": round(similarity, 3),
            "photographs": len(pictures),
            "different": pairs,
            "rows": rows,
        },
    )


def large(rows: int) -> None:
    """Time `dupes` and `dupes --exact` on a library of many pictures, and count what is found."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        pictures, copies = base / "pictures", rows // 20
        pictures.mkdir()
        for number in range(1000):
            noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
            noise.resize((1200, 900), Image.Resampling.BICUBIC).save(base / f"{number}.jpg", quality=85)
        for row in range(rows):
            os.link(base / f"{(row % copies) % 1000 if row < 2 * copies else row % 1000}.jpg", pictures / f"{row}.jpg")
        vectors = rng.standard_normal((rows, DIM)).astype(np.float32)
        vectors[copies : 2 * copies] = vectors[:copies] + 0.2 * vectors[copies : 2 * copies]
        np.save(base / "v.npy", vectors)
        with (base / "v.jsonl").open("w") as file:
            file.writelines(json.dumps({"path": f"{pictures}/{row}.jpg"}) + "\n" for row in range(rows))
        library = ["--library", f"{base}/library"]
        items = ["--items", f"{base}/v.jsonl", "--encoder", "ViT-B-32/openai"]
        run([COMMAND, "import-embeddings", f"{base}/v.npy", *items, *library])
        exact, _, _ = run([COMMAND, "dupes", "--exact", "--json", *library])
        seconds, mib, out = run([COMMAND, "dupes", "--json", *library])
    groups = json.loads(out)["groups"]
    row = {"pictures": rows, "dim": DIM, "exact_seconds": round(exact, 1), "seconds": round(seconds, 1)}
    row |= {"peak_mib": round(mib), "read": 2 * copies, "groups_made": copies, "groups_found": len(groups)}
    print(row)
    write_result("dupes_large", {"rows": [row]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="builtin-base")
    parser.add_argument("--photographs", type=int, default=250)
    parser.add_argument("--rows", type=int)
    given = parser.parse_args()
    if given.data:
        quality(given.data, given.model, given.photographs)
    if given.rows:
        large(given.rows)


if __name__ == "__main__":
    main()
