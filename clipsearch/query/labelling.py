"""Zero-shot classification: which of some labels fits each picture of a library.

The labels are put into templates, encoded, and compared with the stored vectors (Radford et al. 2021,
arXiv:2103.00020, section 3.1); a softmax of the cosines, scaled as the encoder says, gives the chance of each label if
exactly one of them fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.query.engine import SearchEngine
from clipsearch.query.evaluation import check_templates, encode_templates
from clipsearch.store.pictures import PictureRow
from clipsearch.types import Filter, Modality

TEMPLATES = ("a photo of a {}",)
"""What labels are put into unless it is said: it finds more right labels than the bare word (benchmarks/labels.py)."""

_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Labelled:
    """Some pictures, and the chance of each label for each: float64 (pictures, labels), rows that add up to 1."""

    pictures: tuple[PictureRow, ...]
    chances: NDArray[np.float64]


def label_pictures(
    engine: SearchEngine,
    labels: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    filters: Filter | None = None,
) -> Iterator[Labelled]:
    """Label the pictures of a library, or those that a filter allows, some at a time in order of their rows.

    Raises InvalidInputError for fewer than two labels, one that is empty or there twice, and a template without {};
    EncoderError if the encoder cannot be had. All of that before the first are returned.
    """
    _check_labels(labels)
    check_templates(templates)
    vectors = encode_templates(engine.encoder, labels, templates)
    return _label(engine, vectors, filters)


def _label(engine: SearchEngine, vectors: NDArray[np.float32], filters: Filter | None) -> Iterator[Labelled]:
    scale = engine.encoder.logit_scale
    with engine.library.read() as snapshot:
        rows = snapshot.rows(Modality.IMAGE)
        chosen = None if filters is None else snapshot.matching(Modality.IMAGE, filters)
        stream = snapshot.pictures()
        while pictures := tuple(islice(stream, _AT_ONCE)):
            if chosen is not None:
                allowed = np.isin([picture.row for picture in pictures], chosen)
                pictures = tuple(compress(pictures, allowed))
            seen = rows.gather(np.array([picture.row for picture in pictures], np.int64))
            seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), np.float32(1e-12))
            yield Labelled(pictures, softmax(scale * (seen @ vectors.T).astype(np.float64)))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn rows of logits into chances that add up to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    chances: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return chances


def _check_labels(labels: Sequence[str]) -> None:
    if any(not label.strip() for label in labels):
        raise InvalidInputError("A label is empty. Name what a picture may show.")
    twice = [label for i, label in enumerate(labels) if label in labels[:i]]
    if twice:
        raise InvalidInputError(f"The label {twice[0]!r} is there twice. Name each once.")
    if len(labels) < 2:
        raise InvalidInputError(
            f"{len(labels)} labels leave no choice; give two or more. With one, add what else a picture may show: "
            "--labels cat,something"
        )
