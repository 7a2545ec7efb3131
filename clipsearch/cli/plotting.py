"""Plots. They take matplotlib, which is an extra."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from clipsearch.query.eval.evaluation import Evaluation

SUFFIXES = (".png", ".svg", ".pdf")
_MOST_RANKS = 1000


def check_plot(path: str) -> None:
    """Raise InvalidInputError where no plot can be drawn into a file, before any work is done."""
    if not path.lower().endswith(SUFFIXES):
        raise InvalidInputError(
            f"A plot cannot be written as {path!r}. Name a file that ends in {', '.join(SUFFIXES)}."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise InvalidInputError("A plot needs matplotlib, which is not installed. Run: pip install 'clipsearch[plot]'")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise InvalidInputError(f"The folder {os.path.dirname(path)!r} for the plot does not exist. Make it first.")


def draw_recall(found: Evaluation, path: str) -> None:
    """Draw which share of queries has a right answer among the first k, for every k, into a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"text_to_image": "text → image", "image_to_text": "image → text"}
    for panel, (direction, title) in zip(panels, titles.items(), strict=True):
        for i, side in enumerate(found.sides):
            first = side.ranks[direction].first
            counts = np.arange(1, max(2, min(_MOST_RANKS, int(first.max()))) + 1)
            shares = np.searchsorted(np.sort(first), counts, side="right") / len(first)
            mark = f"{'AB'[i]}: " if len(found.sides) > 1 else ""
            label = f"{mark}{side.encoder}" + (" with templates" if side.templates else "")
            panel.plot(counts, shares, label=label)
        panel.set(title=title, xlabel="first k answers", xscale="log", ylim=(0, 1))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("queries with a right answer")
    panels[0].legend(loc="lower right")
    figure.savefig(path)
