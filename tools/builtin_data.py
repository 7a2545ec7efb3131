"""What train_builtin.py and benchmarks/builtin_quality.py read: photographs, captions, class names."""

from __future__ import annotations

import csv

import numpy as np
from builtin_groups import members
from PIL import Image

from clipsearch.encoders.builtin.encoder import PROMPTS, REDUCING_GAP
from clipsearch.encoders.builtin.graph import activation_names, picture_tower, pooled_widths
from clipsearch.encoders.builtin.towers import PictureTower, open_session
from clipsearch.encoders.builtin.weights import read_pth, read_verified
from clipsearch.encoders.preprocessing import Squash
from clipsearch.linalg import unit_rows


def read_captions(folder):
    """Return the paths of the pictures in order of name, and five captions of each."""
    captions = {}
    with open(folder / "captions.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions.setdefault(row["image"], []).append(row["caption"])
    names = sorted(name for name, each in captions.items() if len(each) == 5 and (folder / "images" / name).is_file())
    return [folder / "images" / name for name in names], [captions[name] for name in names]


def load_pixels(path, side):
    """Decode a picture and squash it as the encoder does."""
    with Image.open(path) as picture:
        return Squash(side, REDUCING_GAP).apply(picture)


def measure_ranges(weights, side, paths, threads):
    """Return the least and the largest value of every activation of the float32 graph over all pictures."""
    from onnx import TensorProto, helper

    names = activation_names(weights, side)
    model = picture_tower(weights, side)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = open_session(model.SerializeToString(), threads)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for path in paths:
        values = session.run(names, {"pixels": load_pixels(path, side)[None]})
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    return list(zip(low.tolist(), high.tolist(), strict=True))


def picture_features(backbones, ranges, paths, threads):
    """Encode pictures with the int8 towers, exactly as at run time.

    Returns features (n, d), the widths of their blocks, and logits (n, 1000).
    """
    features, logits, widths = [], [], []
    for backbone in backbones:
        # The towers must be built from the same rounded ranges that are shipped.
        limits = [(float(low), float(high)) for low, high in np.array(ranges[backbone.name], np.float32)]
        tower = PictureTower(backbone.source, backbone.side, limits, threads)
        seen, said = tower.run([load_pixels(path, backbone.side) for path in paths])
        features.append(seen)
        logits.append(said)
        widths += pooled_widths(read_pth(read_verified(backbone.source)))
    return np.hstack(features), widths, np.mean(logits, axis=0)


def caption_embeddings(text, captions):
    """Return captions and captions as queries, each float32 (n, 5, 768) of unit length."""
    flat = [caption for each in captions for caption in each]
    shape = (len(captions), -1, 768)
    prompted = sum(text.run([prompt.format(caption) for caption in flat]) for prompt in PROMPTS)
    return text.run(flat).reshape(shape), unit_rows(prompted).reshape(shape)


def class_texts(text):
    """Return what Labels needs beside the classifier rows: embeddings of classes and groups, and their members."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    names = [info.index_to_description(index) for index in range(1000)]
    full = [info.index_to_description(index, detailed=True) for index in range(1000)]
    inside = members(names)
    shares = np.zeros((len(inside), 1000))
    for row, indices in zip(shares, inside.values(), strict=True):
        row[indices] = 1 / len(indices)
    classes = unit_rows(text.run([f"a photo of a {name}" for name in names]) + text.run(full))
    groups = unit_rows(text.run([f"a photo of a {word}" for word in inside]) + text.run(list(inside)))
    return classes, groups, shares
