"""Libraries of vectors that are given, without files or an encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.records import Encoded, FileRecord, Scope
from clipsearch.types import EncoderPin, Modality, Passage
from indexer import build
from indexer.plan import IndexPlan
from tests.support.contents import add_root, hash_of

DIM = 32


def unit(rows, seed=0, noise=0.6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((30, DIM))
    x = centres[rng.integers(30, size=rows)] + noise * rng.standard_normal((rows, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def cosines(one, other):
    """The cosine of each unit row and the row beside it."""
    return np.einsum("nd,nd->n", one, other)


def items_of(root, rows, start, modality):
    """An item for each row, named by its number, of which the first is `start`."""
    batch = []
    for i, row in enumerate(rows, start):
        passages = (Passage(f"passage {i}", 1, 1),) if modality is Modality.TEXT else ()
        record = FileRecord(root, f"{i:06d}", 1, 1)
        batch.append(Encoded(record, f"{i:040x}", modality, row[None], passages=passages))
    return batch


def fill(folder, rows, modality=Modality.IMAGE, *, pin=None):
    """Add an item for each row to a library; create the library if it does not exist."""
    library = Library.create(folder)
    library.pin(pin or EncoderPin("vectors", "0" * 40, DIM))
    with library.query() as connection:
        start = connection.exec_driver_sql("SELECT count(*) FROM items").scalar_one()
    with library.writer() as writer:
        root = writer.add_root("", str(folder / "rows")).root_id
        writer.commit(items_of(root, rows, start, modality))
    library.close()
    return folder


def built(folder, kind):
    library = Library(folder)
    with library.writer() as writer:
        build.build(library, writer, IndexPlan(kind))
    library.close()
    return folder


class VectorLibrary:
    """A library of rows given as vectors, one item each, that remembers them."""

    def __init__(self, folder):
        self.library = Library.create(folder)
        self.library.pin(EncoderPin("vectors", "0" * 40, DIM))
        self.engine = SearchEngine(self.library)
        self.vectors = {}
        with self.library.writer() as writer:
            self.root = writer.add_root("", str(folder / "rows")).root_id

    def add(self, rows, modality=Modality.IMAGE):
        batch = items_of(self.root, rows, len(self.vectors), modality)
        self.vectors |= {item.record.path: row for item, row in zip(batch, rows, strict=True)}
        with self.library.writer() as writer:
            writer.commit(batch)

    def remove(self, names):
        with self.library.writer() as writer:
            for name in names:
                writer.forget(Scope(self.root, name))
                del self.vectors[name]

    def build(self, kind):
        with self.library.writer() as writer:
            built = build.build(self.library, writer, IndexPlan(kind))
        return {modality: what.kind for modality, what in built.items()}

    def expected(self, query, k):
        names = sorted(self.vectors)
        rows = np.array([self.vectors[name] for name in names]).astype(np.float16).astype(np.float32)
        scores = rows @ query / np.linalg.norm(rows, axis=1)
        return [names[i] for i in np.argsort(-scores, kind="stable")[:k]]

    def found(self, query, k):
        results = self.engine.search(vector=query, k=k)
        return [Path(hit.path).name for hit in results], results


def approximate(folder: Path) -> Library:
    """An open library of 300 pictures with an IVF-PQ index."""
    library = Library.create(folder)
    library.pin(EncoderPin("test", "abc", 32))
    vectors = np.random.default_rng(1).standard_normal((300, 1, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    root = add_root(library)
    batch = [Encoded(FileRecord(root, f"{i}", 1, 1), hash_of(f"{i}"), Modality.IMAGE, v) for i, v in enumerate(vectors)]
    with library.writer() as opened:
        opened.commit(batch)
        build.build(library, opened, IndexPlan("ivfpq"))
    return library
