"""The closed-form fit of the builtin encoder; no random number anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from clipsearch.encoders.builtin.projection import Projection
from clipsearch.linalg import softmax, unit_rows

Floats = np.ndarray


@dataclass(frozen=True)
class Recipe:
    """Every choice that cross-validation made.

    middle, late, chances: weights of the wide layers of the last block but one and of the last block, and of the roots
    of the class chances, against the last layer. picture_ridge: in thousandths of the trace; text_ridge: of the mean
    of the diagonal. dim, label_dim: lengths of the two parts.
    pairs: weight of the data-free pair of a class against a photograph; groups: of the pair of a group of classes
    against that; certainty: the chance of its own class in such a pair.
    label_share: weight of the label part in a vector. temperature: of its softmax. bank: size of the bank of usual
    texts. bank_nearest, bank_weight: how many of it a picture is compared with, and what share it gives up.
    bank_column: what a text carries in the last column; smaller changes likeness between texts less.
    """

    middle: float = 0.7
    late: float = 0.7
    chances: float = 0.4
    picture_ridge: float = 5.0
    text_ridge: float = 1.0
    dim: int = 128
    label_dim: int = 128
    pairs: float = 0.3
    groups: float = 3.0
    certainty: float = 0.7
    label_share: float = 0.6
    temperature: float = 2.0
    bank: int = 256
    bank_nearest: int = 3
    bank_weight: float = 0.5
    bank_column: float = 0.35


RECIPES = {"small": Recipe(late=0.0), "base": Recipe()}
"""With the late layer, small names fewer of the objects that the model card counts; base does not."""


@dataclass(frozen=True)
class Labels:
    """The classes.

    rows: one (1000, 1280) classifier a backbone. embeddings: (1000, 768), unit length. groups: (g, 768), unit length,
    of the everyday words for several classes. members: (g, 1000), the share of each class in them.
    """

    rows: list[Floats]
    embeddings: Floats
    groups: Floats
    members: Floats


@dataclass(frozen=True)
class Photos:
    """Captioned pictures.

    features: (n, d), and widths: of its blocks, (last layer, middle, late) of each backbone in turn.
    logits: (n, 1000). captions: (n, 5, 768) of unit length. queries: the same captions embedded as queries.
    """

    features: Floats
    widths: list[int]
    logits: Floats
    captions: Floats
    queries: Floats

    def take(self, index):
        parts = (self.features[index], self.widths, self.logits[index], self.captions[index], self.queries[index])
        return Photos(*parts)


def fit(photos: Photos, labels: Labels, recipe: Recipe) -> dict[str, Floats]:
    """Fit the arrays that clipsearch.encoders.builtin.projection reads, ranges excepted."""
    inputs = np.hstack([photos.features, np.sqrt(softmax(photos.logits))]).astype(np.float64)
    mean, scale = _columns(inputs, [*photos.widths, photos.logits.shape[1]], recipe)
    pictures = (inputs - mean) * scale
    text_mean = photos.captions.reshape(-1, photos.captions.shape[-1]).mean(0)
    made = _made_pictures(labels, photos, mean, scale, recipe)
    words = np.vstack([labels.embeddings, labels.groups]) - text_mean
    weights = np.repeat([recipe.pairs, recipe.pairs * recipe.groups], [len(labels.embeddings), len(labels.groups)])
    picture_map, text_map = _correlate(pictures, photos.captions - text_mean, (made, words, weights[:, None]), recipe)
    label_map, text_label_map = _label_space(labels, recipe)
    arrays = {
        "picture_mean": mean,
        "picture_scale": scale,
        "picture_map": picture_map,
        "text_mean": text_mean,
        "text_map": text_map,
        "label_map": label_map,
        "text_label_map": text_label_map,
        "label_share": np.array(recipe.label_share),
        "temperature": np.array(recipe.temperature),
    }
    arrays = {name: _round(value) for name, value in arrays.items()}
    return arrays | _bank(arrays, photos, recipe)


def _round(value):
    """Ship maps in half precision, scaled so that their largest entry is 1: only directions matter."""
    if value.ndim < 2:
        return value.astype(np.float32)
    return (value / np.abs(value).max()).astype(np.float16)


def _columns(inputs, widths, recipe):
    """Return the mean of each column, and a scale that gives each block its weight as its total deviation."""
    mean, scale = inputs.mean(0), np.ones(inputs.shape[1])
    weights = [1.0, recipe.middle, recipe.late] * (len(widths) // 3) + [recipe.chances]
    for columns, weight in zip(_slices(widths), weights, strict=True):
        scale[columns] = weight / np.sqrt(inputs[:, columns].var(0).sum())
    return mean, scale


def _slices(widths):
    ends = np.cumsum(widths)
    return [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]


def _made_pictures(labels, photos, mean, scale, recipe):
    """Make a picture a class and a group: its classifier rows, nothing in the wide layers, and its own chances."""
    blocks = _slices([*photos.widths, photos.logits.shape[1]])
    shares = np.vstack([np.eye(len(labels.embeddings)), labels.members])
    made = np.zeros((len(shares), len(mean)))
    for rows, columns in zip(labels.rows, blocks[0:-1:3], strict=True):
        made[:, columns] = unit_rows(shares @ unit_rows(rows - rows.mean(0)))
    usual = softmax(photos.logits).mean(0)
    roots = np.sqrt(recipe.certainty * shares + (1 - recipe.certainty) * usual)
    made[:, blocks[-1]] = (roots - mean[blocks[-1]]) * scale[blocks[-1]]
    return made


def _bank(arrays, photos, recipe):
    """Cluster the projected captions by spherical k-means from evenly spaced seeds, and see how near pictures are."""
    projection = Projection("", {name: value.astype(np.float32) for name, value in arrays.items()})
    rows = projection.plain_texts(photos.captions.reshape(-1, photos.captions.shape[-1]))
    centres = rows[:: len(rows) // recipe.bank][: recipe.bank]
    for _ in range(8):
        nearest = (rows @ centres.T).argmax(1)
        centres = unit_rows(np.stack([rows[nearest == index].sum(0) + 1e-6 * old for index, old in enumerate(centres)]))
    bank = {
        "bank": centres.astype(np.float16),
        "bank_nearest": np.array(recipe.bank_nearest, np.float32),
        "bank_weight": np.array(recipe.bank_weight, np.float32),
        "bank_column": np.array(recipe.bank_column, np.float32),
        "bank_mean": np.array(0, np.float32),
    }
    whole = Projection("", {name: value.astype(np.float32) for name, value in (arrays | bank).items()})
    # With a mean of 0 the last column, undone, is how near a picture is to the bank.
    vectors = whole.pictures(photos.features, photos.logits)
    column = vectors[:, -1] / np.linalg.norm(vectors[:, :-1], axis=1)
    bank["bank_mean"] = np.array(-(column * recipe.bank_column / recipe.bank_weight).mean(), np.float32)
    return bank


def _correlate(pictures, captions, pairs, recipe):
    """Solve regularised canonical correlation; scale each direction by its correlation."""
    n, each, width = captions.shape
    made, words, weights = pairs
    total = n + weights.sum()
    flat = captions.reshape(-1, width)
    cxx = (pictures.T @ pictures + made.T @ (weights * made)) / total
    cxy = (pictures.T @ captions.mean(1) + made.T @ (weights * words)) / total
    cyy = (flat.T @ flat / each + words.T @ (weights * words)) / total
    lower_x = linalg.cholesky(cxx + np.eye(len(cxx)) * recipe.picture_ridge * np.trace(cxx) / 1000, lower=True)
    lower_y = linalg.cholesky(cyy + np.eye(width) * recipe.text_ridge * np.trace(cyy) / width, lower=True)
    half = linalg.solve_triangular(lower_x, cxy, lower=True)
    core = linalg.solve_triangular(lower_y, half.T, lower=True).T
    values, right = np.linalg.eigh(core.T @ core)
    order = np.argsort(-values)[: recipe.dim]
    correlations = np.sqrt(np.maximum(values[order], 1e-12))
    right = right[:, order]
    left = core @ right / correlations
    picture_map = linalg.solve_triangular(lower_x, left, lower=True, trans=1) * correlations
    text_map = linalg.solve_triangular(lower_y, right, lower=True, trans=1) * correlations
    return picture_map, text_map


def _label_space(labels, recipe):
    """Return (1000, k) and (384, k): centred label embeddings, last layer, in their principal directions."""
    last = unit_rows(labels.embeddings[:, : labels.embeddings.shape[1] // 2])
    centred = last - last.mean(0)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    basis = right[: recipe.label_dim].T
    return centred @ basis, basis
