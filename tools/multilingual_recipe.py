"""The fit of the network that leads from the multilingual encoder into the space of the projected MiniLM texts.

Knowledge distillation (Hinton et al. 2015; across languages Reimers and Gurevych 2020, arXiv:2004.09813): MiniLM and
the projection are the teacher of English texts; what it says of an English text is also the target of its translations.
An English text is moved, at random, by the difference between the names of one thing in two languages, so that the
network learns to ignore what languages differ in. Seeded; the same machine gives the same arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """Every choice, made on photographs and words that nothing is reported on.

    weights: of a text of each source in the loss; `things` and `phrases` are shared by the languages.
    picture_share: how much of a caption's target is its photograph's vector. shift: the most that a text is moved by a
    difference of languages, shifted: the share of English texts that are.
    """

    weights: tuple[tuple[str, float], ...] = (
        ("captions", 1.0),
        ("names", 0.1),
        ("definitions", 0.1),
        ("generic", 1.0),
        ("examples", 0.1),
        ("things", 1.0),
        ("phrases", 0.5),
    )
    picture_share: float = 0.3
    shift: float = 0.6
    shifted: float = 0.5
    hidden: int = 1024
    dropout: float = 0.1
    epochs: int = 3
    batch: int = 512
    rate: float = 2e-3
    decay: float = 1e-4


@dataclass(frozen=True)
class Lesson:
    """Features, float32 (n, 1344); targets by variant, float32 (n, dim - 1); weights (n,); which texts are English."""

    features: np.ndarray
    targets: dict[str, np.ndarray]
    weights: np.ndarray
    is_english: np.ndarray


def fit_student(lesson: Lesson, differences: np.ndarray, label_share: float, recipe: Recipe) -> dict[str, np.ndarray]:
    """Fit one hidden layer for all variants, and a read-out and a linear path for each.

    differences: float32 (m, 1344), the features of names in other languages minus those of the English ones.
    Returns the arrays that clipsearch.encoders.builtin.multilingual reads, in float16.
    """
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    centre, scale = lesson.features.mean(0), lesson.features.std(0) + 1e-6
    inputs = torch.from_numpy((lesson.features - centre) / scale)
    targets = [torch.from_numpy(rows) for rows in lesson.targets.values()]
    moves, english = torch.from_numpy(differences / scale), torch.from_numpy(lesson.is_english)
    width = inputs.shape[1]
    hidden = torch.nn.Linear(width, recipe.hidden)
    out = torch.nn.Linear(recipe.hidden, sum(rows.shape[1] for rows in targets))
    skip = torch.nn.Linear(width, out.out_features, bias=False)
    parameters = [*hidden.parameters(), *out.parameters(), *skip.parameters()]
    steps = recipe.epochs * (len(inputs) // recipe.batch)
    optimiser = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps + 1)
    chances = np.cumsum(lesson.weights.astype(np.float64))
    for _ in range(steps):
        chosen = torch.from_numpy(np.searchsorted(chances, rng.random(recipe.batch) * chances[-1]))
        size = torch.from_numpy((rng.random(recipe.batch) < recipe.shifted) * rng.random(recipe.batch) * recipe.shift)
        move = moves[torch.from_numpy(rng.integers(0, len(moves), recipe.batch))]
        rows = inputs[chosen] + (size.float() * english[chosen])[:, None] * move
        layer = torch.nn.functional.dropout(torch.relu(hidden(rows)), recipe.dropout)
        parts = (out(layer) + skip(rows)).split([target.shape[1] for target in targets], dim=1)
        loss = sum(_loss(part, target[chosen], label_share) for part, target in zip(parts, targets, strict=True))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    weights = [layer.weight.detach().numpy().T for layer in (hidden, out, skip)]
    biases = [layer.bias.detach().numpy() for layer in (hidden, out)]
    return _arrays(weights, biases, centre, scale, {name: rows.shape[1] for name, rows in lesson.targets.items()})


def _loss(rows, target, label_share):
    """Return what the two parts of a vector lack of a cosine of 1, each as the score weighs it."""
    from torch.nn.functional import cosine_similarity

    half = rows.shape[1] // 2
    seen = 1 - cosine_similarity(rows[:, :half], target[:, :half])
    labels = 1 - cosine_similarity(rows[:, half:], target[:, half:])
    return ((1 - label_share**2) * seen + label_share**2 * labels).mean()


def _arrays(weights, biases, centre, scale, widths):
    """Fold the scaling of the inputs into the layers, and give each variant its columns."""
    hidden, out, skip = weights
    hidden, skip = hidden / scale[:, None], skip / scale[:, None]
    bias = biases[1] - centre @ skip
    arrays = {"hidden": hidden, "hidden_bias": biases[0] - centre @ hidden}
    start = 0
    for name, width in widths.items():
        columns = slice(start, start + width)
        arrays |= {f"{name}_out": out[:, columns], f"{name}_skip": skip[:, columns], f"{name}_bias": bias[columns]}
        start += width
    return {name: value.astype(np.float16) for name, value in arrays.items()}
