"""How well a library finds its own pictures by their captions, and the captions by the pictures.

Memory grows with the captions, not with the library: its rows are compared block by block as they lie on disk.
Intervals are of a bootstrap over pictures, because the captions of a picture are easy or hard together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder
from clipsearch.errors import InvalidInputError
from clipsearch.float16 import widen
from clipsearch.linalg import unit_rows
from clipsearch.media.captions import Pair, read_captions
from clipsearch.progress import Stages
from clipsearch.query.embedding import require_fitting
from clipsearch.query.engine import SearchEngine
from clipsearch.query.eval.benchmark_set import BenchmarkSet, Found, find_pictures, pair_up
from clipsearch.query.eval.metrics import Clusters, Floats, Ranks, summarise
from clipsearch.query.eval.ranks import Blocks, Pairs, rank_right
from clipsearch.store.vectors import Rows
from clipsearch.types import Modality

DIRECTIONS = ("text_to_image", "image_to_text")
RESAMPLES = 1000
CONFIDENCE = 0.95

_TEXTS_AT_ONCE, _ROWS_AT_ONCE = 128, 8192


@dataclass(frozen=True, slots=True)
class Side:
    """What is evaluated: a library, and what its captions are put into before they are encoded, if anything."""

    engine: SearchEngine
    templates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the interval that holds it by the bootstrap at CONFIDENCE."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of one side. gallery: how many pictures a text was ranked among. ranks, figures: by direction."""

    library: str
    encoder: str
    templates: tuple[str, ...]
    gallery: int
    ranks: Mapping[str, Ranks]
    figures: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of an evaluation. differences: the second side less the first, by direction; empty for one side."""

    captions: str
    asked: BenchmarkSet
    sides: tuple[Evaluated, ...]
    differences: Mapping[str, Mapping[str, Estimate]]


def evaluate(path: Path, sides: Sequence[Side], stages: Stages, *, captioned_only: bool = False) -> Evaluation:
    """Evaluate one side, or compare two with the same queries.

    path: a file of captions. captioned_only: rank among the pictures that it names, not among all of the library.
    Raises InvalidInputError for captions that cannot be used, EncoderError if an encoder is unavailable.
    """
    check_templates(template for side in sides for template in side.templates)
    pairs = read_captions(path)
    stages.stage("finding the pictures", 0)
    found = [_find(side, pairs, path) for side in sides]
    asked = pair_up(pairs, found)
    ranks = [_rank(s, f, asked, stages, captioned_only) for s, f in zip(sides, found, strict=True)]
    stages.stage("resampling", 0)
    drawn = [_resampled(asked, direction, [each[direction] for each in ranks]) for direction in DIRECTIONS]
    evaluated = tuple(
        Evaluated(
            str(side.engine.library.folder),
            side.engine.encoder.name,
            side.templates,
            len(asked.names) if captioned_only else len(found[i].gallery),
            ranks[i],
            {direction: _estimates(drawn[d][i]) for d, direction in enumerate(DIRECTIONS)},
        )
        for i, side in enumerate(sides)
    )
    differences = (
        {d: _differences(each[0], each[1]) for d, each in zip(DIRECTIONS, drawn, strict=True)} if len(sides) > 1 else {}
    )
    return Evaluation(str(path), asked, evaluated, differences)


def check_templates(templates: Iterable[str]) -> None:
    """Raise InvalidInputError for a template without a place for the text."""
    for template in templates:
        if template.count("{}") != 1:
            raise InvalidInputError(f"The template {template!r} must contain {{}} once, where the text goes.")


def _find(side: Side, pairs: Sequence[Pair], path: Path) -> Found:
    with side.engine.library.read() as snapshot:
        return find_pictures(snapshot.pictures(), snapshot.copied(), pairs, path.absolute().parent)


def _rank(side: Side, found: Found, asked: BenchmarkSet, stages: Stages, captioned_only: bool) -> dict[str, Ranks]:
    """Rank pictures for the texts, and texts for the pictures."""
    encoder = side.engine.encoder
    texts = _encode(encoder, side.templates, asked.texts, stages)
    own = np.array([found.rows[name] for name in asked.names], np.int64)
    with side.engine.library.read() as snapshot:
        require_fitting(snapshot, encoder)
        rows = snapshot.rows(Modality.IMAGE)
        if len(rows) <= own.max(initial=0):
            raise InvalidInputError("The library was changed during the measurement. Run again.")
        pictures = unit_rows(rows.gather(own))
        stages.stage("ranking pictures", len(rows))
        gallery = np.sort(own) if captioned_only else found.gallery
        pairs = Pairs(asked.text_of, asked.picture_of)
        by_text = rank_right(texts, pictures, pairs, own, _picture_blocks(rows, gallery, stages))
    stages.stage("ranking captions", 0)
    pairs = Pairs(asked.picture_of, asked.text_of)
    by_picture = rank_right(pictures, texts, pairs, np.arange(len(texts)), _text_blocks(texts))
    return dict(zip(DIRECTIONS, (by_text, by_picture), strict=True))


def _picture_blocks(rows: Rows, gallery: NDArray[np.int64], stages: Stages) -> Blocks:
    for first, block in rows.blocks(size=_ROWS_AT_ONCE):
        low, high = np.searchsorted(gallery, [first, first + len(block)])
        numbers = gallery[low:high]
        if len(numbers):
            yield numbers, unit_rows(widen(block[numbers - first]))
        stages.advance(len(block))


def _text_blocks(texts: NDArray[np.float32]) -> Blocks:
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        block = texts[start : start + _ROWS_AT_ONCE]
        yield np.arange(start, start + len(block)), block


def _encode(encoder: Encoder, put: Sequence[str], texts: Sequence[str], stages: Stages) -> NDArray[np.float32]:
    """Encode texts as the queries they are, or put into templates, if there are any: float32 (texts, dim)."""
    stages.stage(f"encoding captions with {encoder.name}", len(texts))
    parts = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        batch = texts[start : start + _TEXTS_AT_ONCE]
        parts.append(encode_templates(encoder, batch, put) if put else encoder.encode_queries(batch))
        stages.advance(len(batch))
    return np.concatenate(parts)


def encode_templates(encoder: Encoder, texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """Put texts into every template, and average the vectors: unit rows, float32 (texts, dim).

    The ensembling of Radford et al. 2021 (arXiv:2103.00020), section 3.1.4.
    """
    rows = [encoder.encode_texts([template.replace("{}", text) for text in texts]) for template in templates]
    return unit_rows(np.mean(rows, axis=0, dtype=np.float32))


def _resampled(
    asked: BenchmarkSet, direction: str, ranks: Sequence[Ranks]
) -> list[tuple[dict[str, Floats], dict[str, Floats]]]:
    """Return for each side its figures, (1,) each, and those of the same resamples, (RESAMPLES,) each."""
    if direction == "text_to_image":
        order = np.argsort(asked.text_of, kind="stable")
        clusters = Clusters(asked.text_of[order], asked.picture_of[order])
    else:
        each = np.arange(len(asked.names))
        clusters = Clusters(each, each)
    drawn: list[list[dict[str, Floats]]] = [[] for _ in ranks]
    for weights in clusters.resample(RESAMPLES):
        for i, own in enumerate(ranks):
            drawn[i].append(summarise(own, weights))
    together = [{name: np.concatenate([d[name] for d in parts]) for name in parts[0]} for parts in drawn]
    values = [summarise(own, np.ones((1, len(own.right)))) for own in ranks]
    return list(zip(values, together, strict=True))


def _estimates(side: tuple[Mapping[str, Floats], Mapping[str, Floats]]) -> dict[str, Estimate]:
    """Estimate the figures of a side, (1,) each, with intervals from those of its resamples, (RESAMPLES,) each."""
    (values, drawn), tail, found = side, 50 * (1 - CONFIDENCE), {}
    for name in values:
        low, high = np.percentile(drawn[name], [tail, 100 - tail])
        found[name] = Estimate(float(values[name][0]), float(low), float(high))
    return found


def _differences(
    one: tuple[Mapping[str, Floats], Mapping[str, Floats]], other: tuple[Mapping[str, Floats], Mapping[str, Floats]]
) -> dict[str, Estimate]:
    """Estimate the second less the first, resample by resample."""
    values, drawn = ({name: b[name] - a[name] for name in a} for a, b in zip(one, other, strict=True))
    return _estimates((values, drawn))
