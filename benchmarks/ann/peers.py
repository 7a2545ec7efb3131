"""Other approximate indexes behind one interface, each used as its own documentation says.

A peer ranks unit rows by inner product. `build(rows, threads)` takes float32 (n, dim); `search(queries, k, threads,
**setting)` takes float32 (q, dim) and returns int64 row numbers (q, k), best first, -1 where it found fewer than k;
`settings()` lists what search accepts, from cheap to thorough; `save(folder)` and `load(folder)` pass an index to
another process; `description()` names version and build parameters. `library` is the module that does the work.

The HNSW peers are built with M=16 and ef_construction=200, the defaults of hnswlib, so that they differ in code and
storage alone. A search never looks at fewer than k candidates, whatever `ef` says.

Install them beside clipsearch in an environment of their own: pip install --no-deps -r requirements.txt. Without
--no-deps autofaiss brings numpy 1 and faiss-cpu; it works with numpy 2 and the FAISS of this project.
"""

import logging
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

M, EF_CONSTRUCTION = 16, 200
EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192)


class Hnswlib:
    """hnswlib: float32 rows in a graph, the reference implementation of HNSW."""

    library = "hnswlib"

    def build(self, rows: np.ndarray, threads: int) -> None:
        import hnswlib

        self._index = hnswlib.Index("ip", rows.shape[1])
        self._index.init_index(len(rows), M=M, ef_construction=EF_CONSTRUCTION)
        self._index.add_items(rows, num_threads=threads)

    def settings(self) -> list[dict]:
        return [{"ef": ef} for ef in EFS]

    def search(self, queries: np.ndarray, k: int, threads: int, ef: int) -> np.ndarray:
        self._index.set_ef(max(ef, k))
        return self._index.knn_query(queries, k, num_threads=threads)[0].astype(np.int64)

    def save(self, folder: Path) -> None:
        (folder / "dim").write_text(str(self._index.dim))
        self._index.save_index(str(folder / "index.hnswlib"))

    def load(self, folder: Path) -> None:
        import hnswlib

        self._index = hnswlib.Index("ip", int((folder / "dim").read_text()))
        self._index.load_index(str(folder / "index.hnswlib"))

    def description(self) -> str:
        return f"hnswlib {version('hnswlib')}, float32, M={M}, ef_construction={EF_CONSTRUCTION}"


class UsearchF16:
    """usearch: HNSW over rows of a chosen width. It keeps no other copy, so 8 bits bound its recall."""

    library = "usearch.index"
    storage = "f16"

    def build(self, rows: np.ndarray, threads: int) -> None:
        from usearch.index import Index

        self._index = Index(
            ndim=rows.shape[1], metric="ip", dtype=self.storage, connectivity=M, expansion_add=EF_CONSTRUCTION
        )
        self._index.add(np.arange(len(rows), dtype=np.uint64), rows, threads=threads)

    def settings(self) -> list[dict]:
        return [{"ef": ef} for ef in EFS]

    def search(self, queries: np.ndarray, k: int, threads: int, ef: int) -> np.ndarray:
        self._index.expansion_search = max(ef, k)
        found = self._index.search(queries, k, threads=threads)
        counts = np.reshape(found.counts if len(queries) > 1 else len(found), (-1, 1))
        keys = found.keys.astype(np.int64).reshape(len(queries), -1)
        return np.where(np.arange(k) < counts, np.pad(keys, ((0, 0), (0, k - keys.shape[1]))), -1)

    def save(self, folder: Path) -> None:
        self._index.save(str(folder / "index.usearch"))

    def load(self, folder: Path) -> None:
        from usearch.index import Index

        self._index = Index.restore(str(folder / "index.usearch"))

    def description(self) -> str:
        return f"usearch {version('usearch')}, {self.storage}, M={M}, ef_construction={EF_CONSTRUCTION}"


class UsearchI8(UsearchF16):
    storage = "i8"


class VoyagerFloat32:
    """voyager: Spotify's work on top of hnswlib. Cosine, as its inner product pads the rows and is slower."""

    library = "voyager"
    storage = "Float32"

    def build(self, rows: np.ndarray, threads: int) -> None:
        import voyager

        self._index = voyager.Index(
            voyager.Space.Cosine,
            num_dimensions=rows.shape[1],
            M=M,
            ef_construction=EF_CONSTRUCTION,
            max_elements=len(rows),
            storage_data_type=getattr(voyager.StorageDataType, self.storage),
        )
        self._index.add_items(rows, np.arange(len(rows)), num_threads=threads)

    def settings(self) -> list[dict]:
        return [{"ef": ef} for ef in EFS]

    def search(self, queries: np.ndarray, k: int, threads: int, ef: int) -> np.ndarray:
        return self._index.query(queries, k, num_threads=threads, query_ef=max(ef, k))[0].astype(np.int64)

    def save(self, folder: Path) -> None:
        self._index.save(str(folder / "index.voyager"))

    def load(self, folder: Path) -> None:
        import voyager

        self._index = voyager.Index.load(str(folder / "index.voyager"))

    def description(self) -> str:
        return f"voyager {version('voyager')}, {self.storage}, M={M}, ef_construction={EF_CONSTRUCTION}"


class VoyagerFloat8(VoyagerFloat32):
    """Fixed point: 8 evenly spaced bits over -1 to 1."""

    storage = "Float8"


class VoyagerE4M3(VoyagerFloat32):
    """Floating point: 4 bits of exponent and 3 of mantissa."""

    storage = "E4M3"


class LanceIvfPq:
    """LanceDB: IVF-PQ with every build parameter at its default (8,192 rows a list, 16 dimensions a code byte).

    A table of float32 rows lies on the disk beside the index; `refine_factor` r re-scores r * k candidates from it.
    Cosine is the metric of its documentation's examples; dot is no faster and finds the same.
    """

    library = "lancedb"
    _table = None
    _BATCH = 128
    """Queries a call: with re-scoring, larger batches are slower."""

    def build(self, rows: np.ndarray, threads: int) -> None:
        _set_lance_threads(threads)
        import lancedb
        import pyarrow

        values = pyarrow.array(np.ascontiguousarray(rows).reshape(-1))
        vectors = pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
        data = pyarrow.table({"id": np.arange(len(rows)), "vector": vectors})
        self._folder = tempfile.TemporaryDirectory()
        self._table = lancedb.connect(self._folder.name).create_table("rows", data)
        self._table.create_index("vector", config=self._config())

    def _config(self):
        from lancedb.index import IvfPq

        return IvfPq(distance_type="cosine")

    def settings(self) -> list[dict]:
        pairs = [(20, None), (10, 5), (20, 5), (20, 10), (20, 20), (40, 20), (40, 50)]
        pairs += [(80, 50), (80, 100), (160, 100), (160, 200), (160, 400)]
        return [{"nprobes": nprobes, "refine_factor": refine} for nprobes, refine in pairs]

    def search(
        self,
        queries: np.ndarray,
        k: int,
        threads: int,
        refine_factor: int | None,
        nprobes: int | None = None,
        ef: int | None = None,
    ) -> np.ndarray:
        table = self._opened(threads)
        ids = np.full((len(queries), k), -1, np.int64)
        for start in range(0, len(queries), self._BATCH):
            batch = queries[start : start + self._BATCH]
            query = table.search(batch if len(batch) > 1 else batch[0], vector_column_name="vector")
            query = query.distance_type("cosine").limit(k).select(["id", "_distance"])
            query = query.nprobes(nprobes) if nprobes else query
            query = query.ef(max(ef, k * (refine_factor or 1))) if ef else query
            query = query.refine_factor(refine_factor) if refine_factor else query
            found = query.to_arrow()
            numbers = found["query_index"].to_numpy() if len(batch) > 1 else np.zeros(len(found), np.int64)
            _place(ids[start : start + len(batch)], numbers, found["id"].to_numpy(), found["_distance"].to_numpy())
        return ids

    def save(self, folder: Path) -> None:
        shutil.copytree(self._folder.name, folder / "lance")

    def load(self, folder: Path) -> None:
        self._saved = folder / "lance"

    def _opened(self, threads: int):
        """Return the table; a loaded one is opened by its first search, which knows the number of threads."""
        _set_lance_threads(threads)
        if self._table is None:
            import lancedb

            self._table = lancedb.connect(self._saved).open_table("rows")
        return self._table

    def description(self) -> str:
        return f"lancedb {version('lancedb')}, IVF_PQ, cosine, defaults, re-scored from float32 rows on the disk"


class LanceHnswSq(LanceIvfPq):
    """LanceDB's own advice for the best recall at low latency: IVF_HNSW_SQ, one graph for 1,048,576 rows, 8 bits."""

    def _config(self):
        from lancedb.index import HnswSq

        return HnswSq(distance_type="cosine")

    def settings(self) -> list[dict]:
        plain = [{"ef": ef, "refine_factor": None} for ef in (15, 32, 64, 128)]
        return plain + [{"ef": ef, "refine_factor": 5} for ef in (64, 128, 192, 256, 384, 512, 1024, 2048)]

    def description(self) -> str:
        return f"lancedb {version('lancedb')}, IVF_HNSW_SQ, cosine, defaults (M=20, ef_construction=300)"


class FaissFlat:
    """FAISS IndexFlatIP: an exact scan of float32 rows."""

    library = "faiss"

    def build(self, rows: np.ndarray, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._index = faiss.IndexFlatIP(rows.shape[1])
        self._index.add(rows)

    def settings(self) -> list[dict]:
        return [{}]

    def search(self, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
        import faiss

        faiss.omp_set_num_threads(threads)
        return self._index.search(queries, k)[1]

    def save(self, folder: Path) -> None:
        import faiss

        faiss.write_index(self._index, str(folder / "index.faiss"))

    def load(self, folder: Path) -> None:
        import faiss

        self._index = faiss.read_index(str(folder / "index.faiss"))

    def description(self) -> str:
        return f"faiss {version('faiss-gpu')}, IndexFlatIP, float32"


class Autofaiss(FaissFlat):
    """What autofaiss builds when told the metric and nothing else.

    From 10,000 rows on that is HNSW32 over float32 rows wherever it fits its default bound of 16 GB; under 1,000 rows
    FAISS Flat, between them HNSW15. Its own tuning of efSearch, to 10 ms a query, is part of the build; `settings`
    replaces what it chose.
    """

    def build(self, rows: np.ndarray, threads: int) -> None:
        import autofaiss

        self._index, _ = autofaiss.build_index(
            rows, save_on_disk=False, metric_type="ip", nb_cores=threads, verbose=logging.ERROR
        )
        if self._index is None:
            raise RuntimeError("autofaiss built nothing: its default memory bounds are too small for these rows")

    def settings(self) -> list[dict]:
        return [{"ef": ef} for ef in EFS]

    def search(self, queries: np.ndarray, k: int, threads: int, ef: int) -> np.ndarray:
        import faiss

        faiss.omp_set_num_threads(threads)
        params = faiss.SearchParametersHNSW(efSearch=max(ef, k))
        return self._index.search(queries, k, params=params)[1]

    def description(self) -> str:
        hnsw = self._index.hnsw
        links = f"HNSW{hnsw.nb_neighbors(1)}, efConstruction={hnsw.efConstruction}, float32"
        return f"autofaiss {version('autofaiss')}, defaults: {links}, faiss {version('faiss-gpu')}"


def _set_lance_threads(threads: int) -> None:
    """Set the sizes of its thread pools, which it reads when it first works. Raises RuntimeError if that is past."""
    os.environ.setdefault("LANCE_LOG", "error")
    for name in ("LANCE_CPU_THREADS", "TOKIO_WORKER_THREADS"):
        if os.environ.setdefault(name, str(threads)) != str(threads):
            raise RuntimeError(f"{name} is {os.environ[name]}, and one process cannot change it to {threads}")


def _place(ids: np.ndarray, numbers: np.ndarray, found: np.ndarray, distances: np.ndarray) -> None:
    """Fill row numbers[i] of ids with found[i], nearest first, for every i."""
    order = np.lexsort((distances, numbers))
    numbers = numbers[order]
    first = np.searchsorted(numbers, numbers)
    ids[numbers, np.arange(len(numbers)) - first] = found[order]


PEERS = {
    "hnswlib": Hnswlib,
    "usearch_f16": UsearchF16,
    "usearch_i8": UsearchI8,
    "voyager_f32": VoyagerFloat32,
    "voyager_f8": VoyagerFloat8,
    "voyager_e4m3": VoyagerE4M3,
    "lancedb_ivfpq": LanceIvfPq,
    "lancedb_hnswsq": LanceHnswSq,
    "faiss_flat": FaissFlat,
    "autofaiss": Autofaiss,
}
