"""Candidates among several libraries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipsearch.query.candidates import QueryBatch, Retriever
from clipsearch.query.joint.snapshot import JointSnapshot
from clipsearch.types import Modality


class JointRetriever(Retriever):
    """Finds candidates in several libraries, each by its own index, at the same time."""

    def nearest_rows(self, batch: QueryBatch, modality: Modality, k: int) -> tuple[NDArray[np.int64], frozenset[str]]:
        """Return about the k nearest rows, as `Retriever.nearest_rows` does."""
        assert isinstance(batch.snapshot, JointSnapshot)
        found, warnings = batch.snapshot.nearest(batch.queries, batch.kind, batch.filters, modality, k)
        return found.ids, warnings
