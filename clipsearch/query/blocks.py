"""Queries embedded in blocks of bounded size."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.query.embedding import Embedder
from clipsearch.query.validation import read_vectors

if TYPE_CHECKING:
    from clipsearch.crop import Written

MAX_QUERIES = 256
"""Queries scanned together: bounds the memory of a batch."""


class QueryBlock(NamedTuple):
    """Queries as they are shown, the warnings of each, and their unit vectors: float32 (n, dim)."""

    names: list[str]
    warnings: list[tuple[str, ...]]
    vectors: NDArray[np.float32]


def vector_blocks(vectors: NDArray[np.floating], dim: int) -> Iterator[QueryBlock]:
    """Yield vectors (n, dim) in blocks. Raises InvalidInputError for anything that is not a batch of query vectors."""
    checked = read_vectors(vectors, dim)
    for start in range(0, len(checked), MAX_QUERIES):
        rows = checked[start : start + MAX_QUERIES]
        yield QueryBlock(["vector"] * len(rows), [()] * len(rows), rows)


def embedded_blocks(
    embedder: Embedder, queries: Sequence[Any], *, are_texts: bool, crop: Written | None = None
) -> Iterator[QueryBlock]:
    """Embed texts or pictures, or a part of each, block by block.

    Raises what `Embedder.texts` and `Embedder.picture` raise.
    """
    for start in range(0, len(queries), MAX_QUERIES):
        yield _embed(embedder, queries[start : start + MAX_QUERIES], are_texts, crop)


def _embed(embedder: Embedder, queries: Sequence[Any], are_texts: bool, crop: Written | None) -> QueryBlock:
    if are_texts:
        names, embedded = list(queries), embedder.texts(queries)
    else:
        names = [os.fspath(image) if isinstance(image, str | os.PathLike) else "picture" for image in queries]
        embedded = [embedder.picture(image, crop) for image in queries]
    return QueryBlock(names, [notes for _, notes in embedded], np.stack([row for row, _ in embedded]))
