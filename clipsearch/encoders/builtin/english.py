"""Whether a text is English: a linear classifier of its letters in runs, as in Cavnar and Trenkle 1994.

It is asked about Latin letters alone; which languages have other letters needs no classifier. Runs of 2 to 5 letters
and whole words are hashed into a table of weights (Weinberger et al. 2009, arXiv:0902.2206).
tools/train_multilingual.py fits it.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.fitted import read_fitted

BUCKETS = 1 << 15

_RUNS = (2, 3, 4, 5)
_MOST_LETTERS = 2000


def english_chance(text: str) -> float:
    """Return the chance that a text in Latin letters is English, by its first 2,000 characters; 1/2 without letters."""
    counts = count_features(text)
    if not counts:
        return 0.5
    weights, bias, scale = _read()
    total = sum(count * float(weights[bucket]) for bucket, count in counts.items())
    margin = scale * total / math.sqrt(sum(counts.values())) + bias
    return 1 / (1 + math.exp(-max(min(margin, 50.0), -50.0)))


def count_features(text: str) -> Counter[int]:
    """Count the runs of letters and the words of a text, by bucket."""
    words = re.sub(r"[\W\d_]+", " ", text[:_MOST_LETTERS].lower()).strip()
    if not words:
        return Counter()
    padded = f" {words} "
    runs = [padded[start : start + size] for size in _RUNS for start in range(len(padded) - size + 1)]
    runs += [f"#{word}" for word in words.split()]
    return Counter(zlib.crc32(run.encode("utf-8", "replace")) % BUCKETS for run in runs)


@functools.cache
def _read() -> tuple[NDArray[np.int8], float, float]:
    """Return the weights, int8 (BUCKETS,), the bias, and what one step of a weight is worth."""
    stored, _ = read_fitted("english.npz", "weights", "bias", "scale")
    return stored["weights"], float(stored["bias"]), float(stored["scale"])
