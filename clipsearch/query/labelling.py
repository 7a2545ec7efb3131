"""Zero-shot classification: which of some labels fits each picture of a library.

The labels are put into templates, encoded, and compared with the stored vectors (Radford et al. 2021,
arXiv:2103.00020, section 3.1); a softmax of the cosines, scaled as the encoder says, gives the chance of each label if
exactly one of them fits. For models trained with sigmoids (Zhai et al. 2023, arXiv:2303.15343) that is the same: each
label has the odds exp(scale * cosine + bias), and the chance that it alone fits is its share of the odds, whatever the
bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.linalg import softmax, unit_rows
from clipsearch.query.embedding import require_fitting
from clipsearch.query.engine import SearchEngine
from clipsearch.query.eval.evaluation import check_templates, encode_templates
from clipsearch.query.options import check_filters
from clipsearch.ranking import are_unit
from clipsearch.store.pictures import PictureRow
from clipsearch.types import Modality
from clipsearch.words import fold_tag

TEMPLATES = ("a photo of a {}",)
"""What labels are put into unless it is said: it finds more right labels than the bare word (benchmarks/labels.py)."""

MIN_CHANCE = 0.5
"""From this chance on a label is saved, unless it is said: it is likelier then than all others together."""

_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Labelled:
    """Some pictures, and the chance of each label for each: float64 (pictures, labels), rows that add up to 1."""

    pictures: tuple[PictureRow, ...]
    chances: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labelling:
    """What labels say of pictures: iterate over it, some pictures at a time in order of their rows.

    vectors: those of the labels by the encoder, unit rows, float32 (labels, dim).
    """

    engine: SearchEngine
    labels: tuple[str, ...]
    vectors: NDArray[np.float32]
    filters: Filter | None
    encoder: Encoder

    def __iter__(self) -> Iterator[Labelled]:
        scale = self.encoder.logit_scale
        with self.engine.library.read() as snapshot:
            require_fitting(snapshot, self.encoder)
            rows = snapshot.rows(Modality.IMAGE)
            chosen = None if self.filters is None else snapshot.matching(Modality.IMAGE, self.filters)
            stream = snapshot.pictures()
            while pictures := tuple(islice(stream, _AT_ONCE)):
                if chosen is not None:
                    allowed = np.isin([picture.row for picture in pictures], chosen)
                    pictures = tuple(compress(pictures, allowed))
                seen = rows.gather(np.array([picture.row for picture in pictures], np.int64))
                sound = are_unit(seen)
                pictures, seen = tuple(compress(pictures, sound)), seen[sound]  # a damaged row gets no label
                yield Labelled(pictures, softmax(scale * (unit_rows(seen) @ self.vectors.T).astype(np.float64)))


@dataclass(frozen=True, slots=True)
class Saved:
    """How many pictures were labelled, and how many of them have a tag by that."""

    pictures: int
    tagged: int


def label_pictures(
    engine: SearchEngine,
    labels: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    filters: Filter | None = None,
) -> Labelling:
    """Label the pictures of a library, or those that a filter allows.

    Raises InvalidInputError for fewer than two labels, one that is empty or there twice, and a template without {};
    EncoderError if the encoder is unavailable.
    """
    _check_labels(labels)
    check_templates(templates)
    check_filters(filters)
    encoder = engine.encoder
    vectors = encode_templates(encoder, labels, templates)
    return Labelling(engine, tuple(labels), vectors, filters, encoder)


def save_labels(found: Labelling, min_chance: float = MIN_CHANCE) -> Saved:
    """Make the best label of each picture its tag, where the chance of that is at least `min_chance`, from 0 to 1.

    It takes the place of what the same labels said of these pictures before; what others said stays. Some pictures are
    saved at a time, and stay so whatever happens to the rest. Raises InvalidInputError for a chance that can be none,
    LibraryLockedError if another process is writing, LibraryError if the library cannot be written.
    """
    if not 0 <= min_chance <= 1:
        raise InvalidInputError(f"The least chance is {min_chance:g}, but it must be from 0 to 1.")
    pictures = tagged = 0
    with found.engine.library.writer() as writer:
        for part in found:
            best = _likely(part, found.labels, min_chance)
            writer.save_labels(found.labels, [picture.id for picture in part.pictures], best)
            pictures, tagged = pictures + len(part.pictures), tagged + len(best)
    return Saved(pictures, tagged)


def _likely(part: Labelled, labels: Sequence[str], least: float) -> dict[int, tuple[str, float]]:
    """Return for each picture of which a label is likely enough the likeliest one, and its chance."""
    best = zip(part.pictures, part.chances.argmax(axis=1).tolist(), part.chances.max(axis=1).tolist(), strict=True)
    return {picture.id: (labels[which], chance) for picture, which, chance in best if chance >= least}


def _check_labels(labels: Sequence[str]) -> None:
    if any(not fold_tag(label) for label in labels):
        raise InvalidInputError("A label is empty. Write what a picture may show.")
    twice = [label for i, label in enumerate(labels) if label in labels[:i]]
    if twice:
        raise InvalidInputError(f"The label {twice[0]!r} occurs twice. Name each label once.")
    if len(labels) < 2:
        raise InvalidInputError(
            f"There is no choice with {len(labels) or 'no'} label. Give two or more; with one, add what else a "
            "picture may show, such as `something`."
        )
