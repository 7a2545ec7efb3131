"""Builtin encoders that were not fitted on the photographs that they are asked for: what several benchmarks share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.encoders.builtin.encoder import PROMPTS, VARIANTS
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.encoders.builtin.weights import read_pth, read_verified
from clipsearch.linalg import unit_rows

# Last: mixed.py loads this module to measure another version as well, whose modules must not be shadowed.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))


class Photographs:
    """What a variant of the encoder is fitted with: captioned photographs, and the classes of its picture networks.

    paths, captions: of the photographs, five captions each. photos, labels: as `builtin_recipe.fit` takes them.
    """

    def __init__(self, folder, variant, tower):
        from builtin_data import caption_embeddings, class_texts, picture_features, read_captions
        from builtin_recipe import Labels, Photos

        self.variant, shipped, networks = variant, Projection.read(variant), VARIANTS[variant]
        self.paths, self.captions = read_captions(folder)
        ranges = {network.name: shipped.ranges(network.name) for network in networks}
        features = picture_features(networks, ranges, self.paths, 2)
        self.photos = Photos(*features, *caption_embeddings(tower, self.captions))
        classes = [read_pth(read_verified(network.source))["_fc.weight"] for network in networks]
        self.labels = Labels(classes, *class_texts(tower))

    def fit(self, train):
        """Return the arrays of a projection that is fitted on some of the photographs (indices)."""
        from builtin_recipe import RECIPES, fit

        return fit(self.photos.take(train), self.labels, RECIPES[self.variant])


def projection(arrays):
    """Make a projection of fitted arrays."""
    return Projection("held out", {name: value.astype(np.float32) for name, value in arrays.items()})


def embed_queries(tower, texts):
    """Embed texts by MiniLM as queries are, the mean of two prompts: float32 (n, 768)."""
    rows = tower.run([prompt.format(text) for text in texts for prompt in PROMPTS])
    return unit_rows(rows.reshape(len(texts), len(PROMPTS), -1).mean(axis=1))


class HeldOutEncoder(BuiltinEncoder):
    """A builtin encoder with a projection of its own, whose texts MiniLM alone reads.

    The multilingual network leads into the space of the shipped projection, which is another one.
    """

    def __init__(self, variant, arrays):
        super().__init__(variant, threads=2)
        ranges = {name: each for name, each in Projection.read(variant).arrays.items() if name.startswith("ranges_")}
        vars(self)["_projection"] = projection({**arrays, **ranges})
        self._minilm = TextTower(2)

    def count_tokens(self, text):
        return len(self._minilm.tokenize(text))

    def encode_texts(self, texts):
        return self._projection.texts(self._minilm.run(texts)) if texts else np.zeros((0, self.dim), np.float32)

    def encode_queries(self, texts):
        rows = embed_queries(self._minilm, texts) if texts else np.zeros((0, 768), np.float32)
        return self._projection.texts(rows)
