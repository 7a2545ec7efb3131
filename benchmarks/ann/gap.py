"""Do made vectors suffer as real ones do? Text against picture queries, on real embeddings and on made ones.

    python benchmarks/ann/gap.py --photos FOLDER [--work FOLDER] [--fit]

FOLDER holds images/ and captions.csv (image,caption). Real: crops of each photograph are the base, captions and other
crops the queries, all by builtin-base. --fit writes what was measured to profiles/, from which vectors.py makes more.
"""

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import faiss
import numpy as np
from harness import write_result
from PIL import Image
from vectors import Maker, Profile, fit

from clipsearch.ann import registry
from clipsearch.ann.base import Probe
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.flat import ArrayRows, exact_search
from clipsearch.encoders import registry as encoders
from clipsearch.query.eval.metrics import knn_recall

CROPS, K = 45, 10


def main() -> None:
    """Embed, fit, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="Keeps the embeddings for another run.")
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        images, crops, texts, picture_of = embed(options.photos, options.work or Path(scratch))
    if options.fit:
        fit("builtin-base, photographs with captions", images, texts, picture_of, crops).write("builtin-base")
    profile = Profile.read("builtin-base")
    base, pictures = crops[:, 1:].reshape(-1, crops.shape[2]), crops[:, 0]
    maker = Maker(profile, len(base), kin=CROPS - 1)
    made = np.concatenate(list(maker.pictures()))
    real = suffer(base, texts[::3], pictures)
    like = suffer(made, maker.texts(len(texts[::3])), maker.unseen_pictures(len(pictures)))
    rows = [
        {
            "what": what,
            **{f"real_{kind}": real[what][kind] for kind in ("text", "picture")},
            **{f"made_{kind}": like[what][kind] for kind in ("text", "picture")},
        }
        for what in real
    ]
    for row in rows:
        print(row, flush=True)
    write_result("gap", {"vectors": len(base), "rows": rows})


def embed(photos: Path, work: Path) -> tuple[np.ndarray, ...]:
    """Return embeddings of photographs (n, d), their crops (n, CROPS, d) and captions (m, d), and whose these are."""
    work.mkdir(parents=True, exist_ok=True)
    files = [work / f"{name}.npy" for name in ("images", "crops", "texts", "capimg")]
    if not all(file.exists() for file in files):
        encoder = encoders.load("builtin-base", threads=len(os.sched_getaffinity(0)), offline=True)
        rows = list(csv.DictReader(open(photos / "captions.csv", encoding="utf-8")))
        names = sorted({row["image"] for row in rows})
        opened = [Image.open(photos / "images" / name).convert("RGB") for name in names]
        rng = np.random.default_rng(0)
        np.save(files[0], encode(encoder, opened))
        np.save(files[1], encode(encoder, [crop(picture, rng) for picture in opened for _ in range(CROPS)]))
        np.save(files[2], encoder.encode_queries([row["caption"] for row in rows]))
        np.save(files[3], np.array([names.index(row["image"]) for row in rows]))
    images, crops, texts, picture_of = (np.load(file) for file in files)
    return images, crops.reshape(len(images), CROPS, -1), texts, picture_of


def encode(encoder, pictures: list) -> np.ndarray:
    """Encode in batches."""
    return np.concatenate([encoder.encode_images(pictures[i : i + 64]) for i in range(0, len(pictures), 64)])


def crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut a random part out, and mirror every other one."""
    width, height = picture.size
    size, aspect = rng.uniform(0.35, 0.95), np.exp(rng.uniform(-0.3, 0.3))
    w, h = int(min(width, width * size * aspect)), int(min(height, height * size / aspect))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    part = picture.crop((x, y, x + w, y + h))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def suffer(base: np.ndarray, texts: np.ndarray, pictures: np.ndarray) -> dict[str, dict[str, float]]:
    """Return recall of the true first ten, by what is searched and kind of query."""
    rows = base.astype(np.float16)
    base = rows.astype(np.float32)
    queries = {"text": texts.astype(np.float32), "picture": pictures.astype(np.float32)}
    true = {kind: exact_search(ArrayRows(rows), asked, K).ids for kind, asked in queries.items()}
    lists = faiss.index_factory(base.shape[1], "IVF256,Flat", faiss.METRIC_INNER_PRODUCT)
    lists.train(base)
    lists.add(base)
    lists.nprobe = 4
    even = -base.shape[1] % 64
    padded = np.pad(base, ((0, 0), (0, even)))
    plain = faiss.index_factory(padded.shape[1], "PQ64x4fs", faiss.METRIC_INNER_PRODUCT)
    plain.train(padded[::2])
    plain.add(padded)
    ours = IvfPqIndex(IvfPqParams(base.shape[1], 1, registry.choose("pq4", len(base), base.shape[1]).m))
    ours.train(base[::2])
    ours.add(rows)
    ways = {
        "IVF256, 4 lists, float32": lambda q: lists.search(q, K)[1],
        "PQ64x4, best 50": lambda q: plain.search(np.pad(q, ((0, 0), (0, even))), 50)[1],
        "clipsearch's codes, best 50": lambda q: ours.search(q, 50, probe=Probe(1)).ids,
    }
    return {
        what: {kind: round(float(knn_recall(find(asked), true[kind]).mean()), 3) for kind, asked in queries.items()}
        for what, find in ways.items()
    }


if __name__ == "__main__":
    main()
