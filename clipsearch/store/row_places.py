"""Where the rows of a batch are: stacked to be appended, then noted in the catalog, for files and records alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.store.checksums import row_checksum
from clipsearch.store.resolve import Part, RowsByModality
from clipsearch.types import Modality


def stack_rows(blocks: Iterable[Mapping[Modality, NDArray[np.float16]]]) -> RowsByModality:
    """Stack the rows of the items of a batch by modality, in its order: float16 (n, dim) each."""
    stacks: dict[Modality, list[NDArray[np.float16]]] = {}
    for block in blocks:
        for modality, rows in block.items():
            stacks.setdefault(modality, []).append(rows)
    return {modality: np.concatenate(rows) for modality, rows in stacks.items()}


def vector_columns(
    item_id: int,
    parts: Sequence[Part],
    rows: Mapping[Modality, NDArray[np.float16]],
    first_rows: Mapping[Modality, int],
) -> Iterator[dict[str, Any]]:
    """Yield the columns of an item's vectors.

    parts: those of one modality belong to the rows, float16 (parts, dim), of that modality, in order; the first of
    these is number `first_rows` of the modality.
    """
    next_row = dict(first_rows)
    vectors_of = {modality: iter(block) for modality, block in rows.items()}
    for part in parts:
        modality = part.modality
        yield {
            "modality": modality,
            "row": next_row[modality],
            "item_id": item_id,
            "part": part.part,
            "text": part.text,
            "line": part.line,
            "end_line": part.end_line,
            "checksum": row_checksum(
                next(vectors_of[modality]).data, modality, item_id, part.part, part.passage, part.position
            ),
            "position": part.position,
        }
        next_row[modality] += 1
