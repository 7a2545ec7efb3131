"""clipsearch's own index as one of the peers: candidates from 4-bit codes in memory, exact scores from rows on disk."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as clipsearch itself does before it loads FAISS

import numpy as np

from clipsearch import __version__
from clipsearch.ann import registry
from clipsearch.ann.base import Probe
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.faiss_runtime import import_faiss
from clipsearch.ann.flat import ArrayRows
from indexer.build import sample_size


class Clipsearch:
    """Inverted lists, as `clipsearch build` makes them at this size."""

    library = "faiss"
    kind = "ivfpq"
    budget = 0

    def build(self, rows: np.ndarray, threads: int) -> None:
        """Learn from as many rows as `clipsearch build` does, and add all."""
        import_faiss().omp_set_num_threads(threads)
        self._rows = rows.astype(np.float16)
        choice = registry.choose(self.kind, len(rows), rows.shape[1], self.budget)
        self._index = IvfPqIndex(IvfPqParams(rows.shape[1], choice.nlist, choice.m))
        ranks = np.linspace(0, len(rows) - 1, min(len(rows), sample_size(choice, rows.shape[1]))).astype(np.int64)
        self._index.train(ArrayRows(self._rows).gather(np.unique(ranks)))
        for _, block in ArrayRows(self._rows).blocks():
            self._index.add(block)

    def settings(self) -> list[dict]:
        """Probe more and more lists, and score more or fewer candidates."""
        steps = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
        probes = sorted({min(step, self._index.nlist) for step in steps})
        return [
            {"nprobe": nprobe, "candidates": candidates, "radius": radius}
            for nprobe in probes
            for candidates in (20, 40, 80)
            for radius in (0.25, 0.5)
        ]

    def search(
        self, queries: np.ndarray, k: int, threads: int, nprobe: int, candidates: int, radius: float
    ) -> np.ndarray:
        """Find candidates, and score them exactly."""
        import_faiss().omp_set_num_threads(threads)
        probe = Probe(nprobe, radius, max(k, candidates))
        return search_candidates(self._index, ArrayRows(self._rows), queries, k, probe).ids

    def save(self, folder: Path) -> None:
        """Write the index, and the rows that lie on disk anyway."""
        self._index.save(folder)
        np.save(folder / "rows.npy", self._rows)
        (folder / "params").write_text(repr(dict(self._index.params)))

    def load(self, folder: Path) -> None:
        """Map the index and the rows."""
        self._index = IvfPqIndex.load(folder, eval((folder / "params").read_text()))
        self._rows = np.load(folder / "rows.npy", mmap_mode="r").view(np.ndarray)

    def description(self) -> str:
        """Name version and parameters."""
        return f"clipsearch {__version__}, {self._index.kind}, {self._index.params}"


class ClipsearchSmall(Clipsearch):
    """The same with codes of half the size, as a memory budget makes them."""

    @property
    def budget(self) -> int:
        """70 bytes a row, and what does not grow with them."""
        return self._budget

    def build(self, rows: np.ndarray, threads: int) -> None:
        """Build within the budget."""
        self._budget = 70 * len(rows) + 3_000_000
        super().build(rows, threads)


OURS = {"clipsearch": Clipsearch, "clipsearch_small": ClipsearchSmall}
