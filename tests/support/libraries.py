"""Libraries of small real files, as the pipeline makes them with a real encoder."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clipsearch.config import Settings
from clipsearch.query.engine import SearchEngine
from clipsearch.store.catalog import Generation
from clipsearch.store.compaction import Compacted, commit, prepare
from clipsearch.store.library import Library
from clipsearch.types import Hit, Modality
from indexer import pipeline
from indexer.calibration import generic_queries
from indexer.pipeline import IndexOptions
from indexer.report import IndexReport
from tests.support.pictures import encode, noise_picture
from tests.support.state import read_state

GENERIC = frozenset(generic_queries())
REPORT_KEYS = [
    "added", "changed", "moved", "removed", "unchanged", "encoded", "failed", "notes", "passed_over", "seconds",
]  # fmt: skip


def photo(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a small JPEG; the same seed gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(noise_picture(seed, size)))
    return path


def photos(folder: Path, count: int, *, first: int = 0, size: tuple[int, int] = (64, 48)) -> list[Path]:
    """Write `count` different small JPEGs named p000.jpg and so on."""
    return [photo(folder / f"p{first + i:03d}.jpg", first + i, size) for i in range(count)]


class Counting:
    """The real encoder, counting what it is asked to do."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self.preprocessed = 0
        self.pictures = 0
        self.texts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    @property
    def work(self) -> int:
        """Everything that was decoded or encoded so far."""
        return self.preprocessed + self.pictures + self.texts

    def preprocess(self, picture: Any) -> Any:
        with self._lock:
            self.preprocessed += 1
        return self._encoder.preprocess(picture)

    def encode_pixels(self, batch: Sequence[Any]) -> Any:
        self.pictures += len(batch)
        return self._encoder.encode_pixels(batch)

    def encode_texts(self, texts: Sequence[str]) -> Any:
        self.texts += sum(text not in GENERIC for text in texts)  # which stand in for texts that a library lacks
        return self._encoder.encode_texts(texts)


def index(
    library: Path,
    *paths: Path | str,
    encoder: Any,
    settings: Settings | None = None,
    should_stop: Any = None,
    progress: Any = None,
    **options: Any,
) -> IndexReport:
    """Run the pipeline; options: fields of IndexOptions."""
    extra = {"should_stop": should_stop} if should_stop else {}
    extra |= {"progress": progress} if progress else {}
    names = [os.fspath(path) for path in paths]
    chosen = settings or Settings(threads=1, offline=True)
    return pipeline.index(library, names, chosen, IndexOptions(**options), encoder=encoder, **extra)


def counts(report: IndexReport) -> dict[str, int]:
    """The counts of a report that are not zero; `failed` is how many failed."""
    names = ("added", "changed", "moved", "removed", "unchanged", "encoded")
    found = {name: getattr(report, name) for name in names} | {"failed": len(report.failed)}
    return {name: value for name, value in found.items() if value}


def paths_found(library: Path, encoder: Any, *, text: str = "a picture", k: int = 10_000) -> list[str]:
    """All that a search can find, by path."""
    opened = Library(library)
    try:
        return sorted({hit.path for hit in SearchEngine(opened, encoder=encoder).search(text, k=k)})
    finally:
        opened.close()


def names(results: Iterable[Hit]) -> list[str]:
    """The file names of hits, the best first."""
    return [Path(hit.path).name for hit in results]


def remove(path: Path) -> None:
    """Delete a file or a tree."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def compact(library: Library, modality: Modality = Modality.IMAGE, generation: Generation | None = None) -> Compacted:
    with library.writer() as opened:
        done = prepare(opened, modality)
        commit(opened, done, generation)
    return done


class Place:
    """A folder of pictures, its library, and runs that count what the real encoder does."""

    def __init__(self, folder: Path, encoder: object) -> None:
        self.root = folder / "photos"
        self.root.mkdir(parents=True)
        self.library = folder / "lib"
        self.encoder = Counting(encoder)

    def run(self, *paths: Path, **options: object) -> dict[str, int]:
        """Index, and return the counts that are not zero with `worked`: the calls that decoded or encoded."""
        self.encoder.preprocessed = self.encoder.pictures = self.encoder.texts = 0
        report = index(self.library, *(paths or (self.root,)), encoder=self.encoder, **options)
        self.reasons = {os.path.basename(path): reason for path, reason in report.failed}
        self.offline = report.offline
        return counts(report) | ({"worked": self.encoder.work} if self.encoder.work else {})

    def ids(self) -> dict[str, int]:
        return {path: entry.id for path, entry in read_state(self.library).live.items()}

    def nearest(self, picture: Path) -> tuple[str, float]:
        """The best match of a picture: its name and the score."""
        (hit,) = SearchEngine(Library(self.library), encoder=self.encoder).search(image=picture, k=1)
        return os.path.basename(hit.path), hit.score
