"""The seam of a library that is searched together with others: one on this machine, or one that a server has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipsearch.filtering import Filter
from clipsearch.query.candidates import QueryBatch
from clipsearch.query.engine import SearchEngine
from clipsearch.query.understanding.understood import Understood
from clipsearch.ranking import exact_scores
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Collection, EncoderPin, Modality, Neighbors


class Part(Protocol):
    """One of several libraries. Safe to share by threads.

    Attributes:
        name: What it is called: a folder or a URL.
    """

    name: str

    def pin(self) -> EncoderPin | None:
        """Return its encoder now; None where it has none yet."""

    def read(self) -> AbstractContextManager[Snapshot]:
        """Open one state of it. Raises ClipSearchError if it is out of reach."""

    def nearest(
        self,
        state: Snapshot,
        queries: NDArray[np.float32],
        kind: str | None,
        wanted: Filter | None,
        modality: Modality,
        k: int,
    ) -> tuple[Neighbors, frozenset[str]]:
        """Return the k nearest rows of each query with their exact scores, best first; and warnings."""

    def spread_rows(self, state: Snapshot, modality: Modality, start: int, step: int) -> NDArray[np.float32]:
        """Return every step-th of the rows that may be found, from one on: float32 (n, dim)."""

    def understand(self, text: str) -> Understood:
        """Return what the words of a query mean by the names that it has."""

    def thumbnail(self, key: str, side: int) -> bytes:
        """Return the picture of an item as a JPEG."""

    def collections(self) -> list[Collection]:
        """List its collections."""

    def close(self) -> None:
        """Close it."""

    def renew_after_fork(self) -> None:
        """Make again what holds threads, in a fork of the process."""


class LocalPart:
    """A library on this machine, as its engine has it."""

    def __init__(self, engine: SearchEngine, *, own: bool = True) -> None:
        """Search an engine's library. own: whether it is closed with this part."""
        self.name = str(engine.library.folder)
        self._engine = engine
        self._own = own

    def pin(self) -> EncoderPin | None:
        """See Part."""
        return self._engine.library.encoder

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """See Part. Raises StoreCorruptError also for vectors that are missing."""
        with self._engine.library.read() as state:
            for modality in Modality:
                state.rows(modality)
            yield state

    def nearest(
        self,
        state: Snapshot,
        queries: NDArray[np.float32],
        kind: str | None,
        wanted: Filter | None,
        modality: Modality,
        k: int,
    ) -> tuple[Neighbors, frozenset[str]]:
        """See Part."""
        batch = QueryBatch(state, queries, kind, wanted)
        ids, warnings = self._engine.retriever.nearest_rows(batch, modality, k)
        found, places = np.unique(ids[ids >= 0], return_inverse=True)
        vectors = state.rows(modality).gather(found)
        scores = np.full(ids.shape, -np.inf, np.float32)
        owners = np.nonzero(ids >= 0)[0]
        for number in np.unique(owners).tolist():
            own = places[owners == number]
            scores[number, ids[number] >= 0] = exact_scores(queries[number], vectors[own])
        return Neighbors(ids, scores), warnings

    def spread_rows(self, state: Snapshot, modality: Modality, start: int, step: int) -> NDArray[np.float32]:
        """See Part."""
        rows, live = state.rows(modality), state.live(modality)
        numbers = np.arange(len(rows)) if live is None else np.flatnonzero(live)
        return rows.gather(numbers[start::step])

    def understand(self, text: str) -> Understood:
        """See Part."""
        return self._engine.understand(text)

    def thumbnail(self, key: str, side: int) -> bytes:
        """See Part."""
        return self._engine.thumbnail(key, side=side)

    def collections(self) -> list[Collection]:
        """See Part."""
        return self._engine.collections()

    def close(self) -> None:
        """See Part."""
        if self._own:
            self._engine.close()

    def renew_after_fork(self) -> None:
        """See Part; the engine does so itself."""
