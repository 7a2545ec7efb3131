"""What helps text queries, each measured by itself: how lists are made and ranked, and how rows are coded.

    python benchmarks/ann/remedies.py [--rows 200000] [--dim 512]

Lists: rows that must be looked at so that 95 % of the true first ten are among them. Codes: the share of the true first
ten among the best 50 by code, over all rows. Fewer rows and a larger share are better.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import faiss
import numpy as np
from harness import write_result
from vectors import Maker, Profile

from clipsearch.ann.flat import ArrayRows, exact_search
from clipsearch.ann.rotation import balancing_rotation

K, QUERIES, LEARN, BEST = 10, 500, 4000, 50


class Remedies:
    """The vectors, queries and truth that all remedies are measured on."""

    def __init__(self, rows: int, dim: int) -> None:
        maker = Maker(Profile.read("builtin-base").stretched(dim), rows)
        self.rows = np.concatenate(list(maker.pictures()))
        self.queries = {"text": maker.texts(QUERIES), "picture": maker.unseen_pictures(QUERIES)}
        self.learn = maker.texts(LEARN, seed=1)
        source = ArrayRows(self.rows.astype(np.float16))
        self.true = {kind: exact_search(source, asked, K).ids for kind, asked in self.queries.items()}
        self.learn_true = exact_search(source, self.learn, K).ids
        self.mean = self.rows.mean(0)
        self.nlist = int(4 * rows**0.5)

    def cluster(self, mixed: float = 0.0, centred: bool = True) -> np.ndarray:
        """Return centroids; mixed: the share of texts in what they are learnt from."""
        sample = self.rows[:: max(1, len(self.rows) // (40 * self.nlist))] - (self.mean if centred else 0)
        if mixed:
            count = int(mixed * len(sample))
            texts = self.learn[np.random.default_rng(0).integers(0, LEARN, count)] - self.mean
            sample = np.concatenate([sample[count:], texts])
        kmeans = faiss.Kmeans(self.rows.shape[1], self.nlist, niter=8, seed=1, min_points_per_centroid=1)
        kmeans.train(np.ascontiguousarray(sample, np.float32))
        return kmeans.centroids

    def assign(self, centroids: np.ndarray, how: str = "one", centred: bool = True) -> np.ndarray:
        """Return the lists of each row: one, the two nearest, or one and its SOAR complement."""
        out = np.empty((len(self.rows), 1 if how == "one" else 2), np.int64)
        norms = (centroids**2).sum(1)
        for start in range(0, len(self.rows), 20_000):
            x = self.rows[start : start + 20_000] - (self.mean if centred else 0)
            products = x @ centroids.T
            far = norms - 2 * products
            first = far.argmin(1)
            out[start : start + len(x), 0] = first
            if how == "one":
                continue
            if how == "soar":  # Sun et al. 2023: the second residual should not lie along the first
                along = x - centroids[first]
                along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
                far = far + ((x * along).sum(1, keepdims=True) - along @ centroids.T) ** 2
            far[np.arange(len(x)), first] = np.inf
            out[start : start + len(x), 1] = far.argmin(1)
        return out

    def looked_at(self, lists: np.ndarray, merit) -> dict[str, int]:
        """Return how many rows must be looked at for 95 % of the true first ten, by kind of query."""
        count = lists.max() + 1
        sizes = np.bincount(lists.ravel(), minlength=count)
        found = {}
        for kind, asked in self.queries.items():
            order = np.argsort(-merit(asked), axis=1)
            rank = np.empty_like(order)
            np.put_along_axis(rank, order, np.arange(order.shape[1])[None], 1)
            best = np.min([np.take_along_axis(rank, lists[self.true[kind], j], 1) for j in range(lists.shape[1])], 0)
            nprobe = int(np.quantile(best, 0.95)) + 1
            found[kind] = int(np.cumsum(sizes[order], 1)[:, nprobe - 1].mean())
        return found

    def among_best(self, decoded) -> dict[str, float]:
        """Return the share of the true first ten among the BEST by approximate rows; decoded: block -> rows."""
        shares = {}
        for kind, asked in self.queries.items():
            ids, scores = np.empty((len(asked), 0), np.int64), np.empty((len(asked), 0), np.float32)
            for start in range(0, len(self.rows), 20_000):
                block = asked @ decoded(slice(start, start + 20_000)).T
                top = np.argpartition(-block, BEST, 1)[:, :BEST]
                ids = np.hstack([ids, top + start])
                scores = np.hstack([scores, np.take_along_axis(block, top, 1)])
            best = np.take_along_axis(ids, np.argpartition(-scores, BEST, 1)[:, :BEST], 1)
            shares[kind] = round(float((best[:, :, None] == self.true[kind][:, None]).any(1).mean()), 3)
        return shares


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    bench = Remedies(options.rows, options.dim)
    rows: list[dict] = []

    def keep(remedy: str, found: dict, seconds: float | None = None) -> None:
        rows.append({"remedy": remedy, **found, "seconds_to_learn": None if seconds is None else round(seconds, 1)})
        print(rows[-1], flush=True)

    centroids, lists = measure_lists(bench, keep)
    measure_codes(bench, centroids, lists[:, 0], keep)
    write_result("remedies", {"vectors": options.rows, "dim": options.dim, "rows": rows})


def measure_lists(bench: Remedies, keep) -> tuple[np.ndarray, np.ndarray]:
    """Measure how lists are made and ranked."""
    plain = bench.cluster(centred=False)
    keep(
        "lists: not centred, by inner product",
        bench.looked_at(bench.assign(plain, centred=False), lambda q: q @ plain.T),
    )
    centroids = bench.cluster()
    lists, norms = bench.assign(centroids), (centroids**2).sum(1)
    for radius in (0.0, 0.1, 0.25, 0.5):
        keep(
            f"lists: centred, radius {radius}", bench.looked_at(lists, lambda q, r=radius: q @ centroids.T - r * norms)
        )
    for mixed in (0.1, 0.5):
        other = bench.cluster(mixed)
        far = (other**2).sum(1)
        keep(
            f"lists: {mixed:.0%} texts in the sample, radius 0.25",
            bench.looked_at(bench.assign(other), lambda q, o=other, f=far: q @ o.T - 0.25 * f),
        )
    for how in ("two nearest", "soar"):
        double = bench.assign(centroids, "soar" if how == "soar" else "two")
        keep(f"lists: spilled, {how}, radius 0.25", bench.looked_at(double, lambda q: q @ centroids.T - 0.25 * norms))
    router = learn_router(bench, lists[:, 0])
    for weight in (0.5, 1.0):
        keep(
            f"lists: learned router, weight {weight}, radius 0.25",
            bench.looked_at(lists, lambda q, w=weight: q @ centroids.T - 0.25 * norms + w * (q @ router)),
        )
    return centroids, lists


def learn_router(bench: Remedies, lists: np.ndarray) -> np.ndarray:
    """Return by ridge regression how far a text's own neighbours lie in each list: (dim, nlist)."""
    hits = np.zeros((LEARN, bench.nlist), np.float32)
    np.add.at(hits, (np.arange(LEARN)[:, None], lists[bench.learn_true]), 0.1)
    gram = bench.learn.T @ bench.learn
    return np.linalg.solve(gram + 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram)), bench.learn.T @ hits)


def measure_codes(bench: Remedies, centroids: np.ndarray, lists: np.ndarray, keep) -> None:
    """Measure how residuals are coded, in 64 bytes a row but where told."""
    dim, sample = bench.rows.shape[1], slice(None, None, max(1, len(bench.rows) // 60_000))
    residuals = bench.rows[sample] - bench.mean - centroids[lists[sample]]

    def coded(turn: np.ndarray, back: np.ndarray, m: int):
        codes = faiss.ProductQuantizer(dim, m, 4)
        codes.train(np.ascontiguousarray(residuals @ turn, np.float32))

        def decoded(part: slice) -> np.ndarray:
            near = centroids[lists[part]]
            turned = np.ascontiguousarray((bench.rows[part] - bench.mean - near) @ turn, np.float32)
            return codes.decode(codes.compute_codes(turned)) @ back + near

        return decoded

    eye = np.eye(dim, dtype=np.float32)
    for m in (dim // 4, dim // 8):
        keep(f"codes: {m // 2} bytes, as they come", bench.among_best(coded(eye, eye, m)))
        started = time.perf_counter()
        turn = balancing_rotation(residuals, m)
        taken = time.perf_counter() - started
        keep(f"codes: {m // 2} bytes, balanced rotation", bench.among_best(coded(turn, turn.T, m)), taken)
    m = dim // 4
    opq = faiss.OPQMatrix(dim, m)
    opq.pq, opq.niter = faiss.ProductQuantizer(dim, m, 4), 10
    started = time.perf_counter()
    opq.train(np.ascontiguousarray(residuals[:20_000]))
    taken = time.perf_counter() - started
    turn = faiss.vector_to_array(opq.A).reshape(dim, dim).T
    keep(f"codes: {m // 2} bytes, OPQ by FAISS, 10 rounds", bench.among_best(coded(turn, turn.T, m)), taken)
    weight = query_weights(bench.learn)
    turn = weight @ balancing_rotation(residuals @ weight, m)
    keep(f"codes: {m // 2} bytes, balanced, weighted by queries", bench.among_best(coded(turn, np.linalg.inv(turn), m)))
    keep("codes: 64 bytes, RaBitQ", bench.among_best(rabitq(bench, centroids, lists)))


def query_weights(queries: np.ndarray) -> np.ndarray:
    """Return the square root of the queries' second moment, a little evened out."""
    moment = queries.T @ queries / len(queries)
    values, axes = np.linalg.eigh(moment + 0.1 * np.trace(moment) / len(moment) * np.eye(len(moment)))
    return (axes * values**0.5) @ axes.T


def rabitq(bench: Remedies, centroids: np.ndarray, lists: np.ndarray):
    """Code a randomly rotated residual by signs, with its unbiased estimator (Gao, Long 2024)."""
    dim = bench.rows.shape[1]
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0].astype(np.float32)

    def decoded(part: slice) -> np.ndarray:
        near = centroids[lists[part]]
        turned = (bench.rows[part] - bench.mean - near) @ turn
        length = np.linalg.norm(turned, axis=1, keepdims=True) + 1e-12
        signs = np.sign(turned) / dim**0.5
        return (signs * length**2 / ((turned * signs).sum(1, keepdims=True) + 1e-12)) @ turn.T + near

    return decoded


if __name__ == "__main__":
    main()
