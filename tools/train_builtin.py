"""Fit the builtin encoder's matrices on a folder of captioned photographs.

    python tools/train_builtin.py FOLDER

The folder holds `captions.csv` (columns image, caption) and `images/`. Writes clipsearch/encoders/builtin/small.npz
and base.npz: the projection, and the range of every activation, from which the int8 towers are built. Needs timm for
the names of the ImageNet classes. Closed form: the same machine writes the same bytes again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from builtin_data import caption_embeddings, class_texts, measure_ranges, picture_features, read_captions
from builtin_recipe import RECIPES, Labels, Photos, fit

from clipsearch.encoders.builtin.encoder import VARIANTS
from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.encoders.builtin.weights import read_pth, read_verified

TARGET = Path(__file__).resolve().parent.parent / "clipsearch" / "encoders" / "builtin"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    begun = time.perf_counter()
    paths, captions = read_captions(options.folder)
    text = TextTower(options.threads)
    embedded = caption_embeddings(text, captions)
    classes = class_texts(text)
    for variant, backbones in VARIANTS.items():
        weights = [read_pth(read_verified(backbone.source)) for backbone in backbones]
        ranges = {
            backbone.name: measure_ranges(tensors, backbone.side, paths, options.threads)
            for backbone, tensors in zip(backbones, weights, strict=True)
        }
        photos = Photos(*picture_features(backbones, ranges, paths, options.threads), *embedded)
        labels = Labels([tensors["_fc.weight"] for tensors in weights], *classes)
        arrays = fit(photos, labels, RECIPES[variant])
        arrays |= {f"ranges_{name}": np.array(limits, np.float32) for name, limits in ranges.items()}
        np.savez(options.target / f"{variant}.npz", **arrays)
        print(f"{variant}: {(options.target / f'{variant}.npz').stat().st_size / 1e3:.0f} KB")
    print(f"{len(paths)} pictures, {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
