"""Ranks and metrics of a test set the size of COCO 5k, against ranx: python benchmarks/evaluation.py

5,000 pictures with five captions each, vectors of 512 dimensions. ranx gets the first 100 of an exact search as its
run, so ranks beyond do not count; ours are cut there too for the comparison. `pip install ranx` first; without it only
our own time is told.
"""

import argparse
import time

import numpy as np
from harness import write_result

from clipsearch.query.eval.metrics import METRICS, Ranks, summarise
from clipsearch.query.eval.ranks import Pairs, rank_right

DEPTH = 100
THEIRS = {
    **{f"recall@{k}": f"recall@{k}" for k in (1, 5, 10)},
    **{f"hit_rate@{k}": f"hit_rate@{k}" for k in (1, 5, 10)},
    "mrr": f"mrr@{DEPTH}",
    "ndcg@10": "ndcg@10",
}


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rank(queries, rows, pairs):
    blocks = ((np.arange(i, min(i + 8192, len(rows))), rows[i : i + 8192]) for i in range(0, len(rows), 8192))
    return rank_right(queries, rows, pairs, np.arange(len(rows)), blocks)


def ours_at_depth(ranks: Ranks):
    """Our figures, with what stands beyond the depth that ranx sees counted as not found."""
    weights = np.ones((1, len(ranks.right)))
    found = {name: float(value[0]) for name, value in summarise(ranks, weights).items() if name in METRICS}
    found["mrr"] = float(np.where(ranks.first <= DEPTH, 1.0 / ranks.first, 0.0).mean())
    return found


def theirs(queries, rows, pairs):
    """ranx's figures, the seconds of the search and those of ranx itself, which had been compiled before."""
    from ranx import Qrels, Run, evaluate

    started = time.perf_counter()
    scores = queries @ rows.T
    nearest = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
    searched = time.perf_counter() - started
    run = {str(q): {str(r): float(scores[q, r]) for r in ids} for q, ids in enumerate(nearest.tolist())}
    right = {}
    for q, r in zip(pairs.query.tolist(), pairs.answer.tolist(), strict=True):
        right.setdefault(str(q), {})[str(r)] = 1
    evaluate(Qrels({"0": {"0": 1}}), Run({"0": {"0": 1.0}}), list(THEIRS.values()))
    started = time.perf_counter()
    found = evaluate(Qrels(right), Run(run), list(THEIRS.values()))
    return {ours: float(found[name]) for ours, name in THEIRS.items()}, searched, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    pictures = unit(rng.standard_normal((given.pictures, 512)))
    owner = np.repeat(np.arange(given.pictures), 5)
    texts = unit(pictures[owner] + 7 * unit(rng.standard_normal((len(owner), 512))))
    rows = []
    for name, queries, answers, pairs in (
        ("text to image", texts, pictures, Pairs(np.arange(len(owner)), owner)),
        ("image to text", pictures, texts, Pairs(owner, np.arange(len(owner)))),
    ):
        started = time.perf_counter()
        ranks = rank(queries, answers, pairs)
        ranked = time.perf_counter() - started
        started = time.perf_counter()
        found = ours_at_depth(ranks)
        measured = time.perf_counter() - started
        row = {"direction": name, "recall@10": round(found["recall@10"], 4), "ndcg@10": round(found["ndcg@10"], 4)}
        row |= {"ranks_seconds": round(ranked, 2), "metrics_ms": round(1000 * measured, 1)}
        try:
            other, searched, took = theirs(queries, answers, pairs)
        except ImportError:
            other, searched, took = {}, None, None
        apart = max((abs(found[key] - other[key]) for key in other), default=None)
        row |= {"search_for_ranx_seconds": searched and round(searched, 2), "ranx_seconds": took and round(took, 2)}
        rows.append(row | {"largest_difference": apart if apart is None else float(f"{apart:.1g}")})
        print(rows[-1], flush=True)
    write_result("evaluation", {"pictures": given.pictures, "rows": rows})


if __name__ == "__main__":
    main()
