"""And, or and not, on photographs with captions: python benchmarks/boolean.py --data FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. A photograph *has* a thing where at
least two of its captions name it; what a query asks for follows from that. Every kind of query is asked for all sets of
things with enough photographs. Compared are the plain sentence, the sum of the terms (`+`), the query as clipsearch
answers it, and for `and` the minimum of fuzzy logic. Figures: mean average precision over queries, and the 95 %
interval, by a paired bootstrap, of what the query gains on the sentence and on the sum. The builtin encoder was fitted
on such photographs and their captions, sentences among them: compare the columns of a row, not the figures with others.
"""

import itertools
from collections import defaultdict

import numpy as np
from fusion import ENOUGH, THINGS, Gallery, gain
from harness import data_parser, write_result

from clipsearch.encoders import registry
from clipsearch.query.fusion import decide, standardize
from clipsearch.query.grouped import judge
from clipsearch.query.parser import parse
from clipsearch.query.resolving import Sum, resolve
from clipsearch.ranking import null_model

WAYS = ("sentence", "sum", "query", "minimum")
MOST = 400
"""Queries of a kind, taken evenly where there are more."""

KINDS = {
    "a or b": (2, "{} or {}", '"{}" or "{}"', lambda a, b: a | b),
    "a or b or c": (3, "{}, {} or {}", '"{}" or "{}" or "{}"', lambda a, b, c: a | b | c),
    "a and b": (2, "{} and {}", '"{}" and "{}"', lambda a, b: a & b),
    "(a or b) and c": (3, "{} or {} and {}", '("{}" or "{}") and "{}"', lambda a, b, c: (a | b) & c),
    "(a or b) and not c": (3, "{} or {} without {}", '("{}" or "{}") and not "{}"', lambda a, b, c: (a | b) & ~c),
    "a and not (b and c)": (3, "{} without {} and {}", '"{}" and not ("{}" and "{}")', lambda a, b, c: a & ~(b & c)),
}  # fmt: skip
"""Of each kind: how many things, the sentence, the query, and what is right."""


def is_telling(kind: str, has: list[np.ndarray]) -> bool:
    """Tell whether enough photographs are right, by each thing that is wanted, and wrong by what is not."""
    if kind == "(a or b) and c":
        return min((has[0] & has[2]).sum(), (has[1] & has[2]).sum()) >= ENOUGH
    if kind == "(a or b) and not c":
        return min(((has[0] | has[1]) & has[2]).sum(), has[0].sum(), has[1].sum()) >= 2 * ENOUGH
    if kind == "a and not (b and c)":
        return np.all(has, axis=0).sum() >= ENOUGH
    return min(each.sum() for each in has) >= ENOUGH


def average_precision(merit: np.ndarray, wanted: np.ndarray) -> float:
    """Return the average precision of an order."""
    right = wanted[np.argsort(-merit, kind="stable")]
    return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


class Asker:
    """Asks a gallery in every way."""

    def __init__(self, gallery: Gallery, model: str) -> None:
        self.gallery = gallery
        self.encoder = registry.load(model, threads=2, offline=True)

    def precisions(self, things: tuple[str, ...], sentence: str, written: str, wanted: np.ndarray) -> dict[str, float]:
        """Return the average precision of a query in every way."""
        rows = self.gallery.rows
        resolved = resolve(parse(written.format(*things)))
        scores = np.stack([self.gallery.texts[each.term.text] for each in resolved.leaves]) @ rows.T
        seen = [null_model(row, len(rows)) for row in scores]
        texts = [False] * len(scores)
        z, weights = standardize(scores, seen, texts), np.array([each.weight for each in resolved.leaves])
        tree = resolved.tree
        merits = {
            "sentence": rows @ self.encoder.encode_queries([sentence.format(*things)])[0],
            "sum": decide(scores, weights, seen, texts),
            "query": judge(tree, z).merit if isinstance(tree, Sum) else decide(scores, weights, seen, texts),
        }
        if tree is None and (weights > 0).all():
            merits["minimum"] = z.min(axis=0)
        return {way: average_precision(merit, wanted) for way, merit in merits.items()}


def main() -> None:
    given = data_parser(__doc__).parse_args()
    gallery = Gallery(given.data, given.model)
    asker = Asker(gallery, given.model)
    rows = []
    for kind, (count, sentence, written, right) in KINDS.items():
        cases = []
        for things in itertools.permutations(THINGS, count):
            has = [gallery.has[thing] for thing in things]
            is_first = kind.startswith("(") and things[0] > things[1]  # of two that are the same
            is_same = not kind.startswith("(") and "not" not in kind and [*things] != sorted(things)
            if not is_first and not is_same and is_telling(kind, has) and right(*has).sum() >= ENOUGH:
                cases.append((things, right(*has)))
        cases = cases[:: max(1, -(-len(cases) // MOST))]
        found = defaultdict(list)
        for things, wanted in cases:
            for way, value in asker.precisions(things, sentence, written, wanted).items():
                found[way].append(value)
        values = {way: np.array(found[way]) for way in WAYS if way in found}
        row = {"query": kind, "queries": len(cases)}
        row |= {way: round(float(values[way].mean()), 3) if way in values else None for way in WAYS}
        row |= {f"query_gains_on_{way}": gain(values["query"], values[way]) for way in WAYS[:2]}
        rows.append(row)
        print(row, flush=True)
    write_result("boolean", {"model": given.model, "photographs": len(gallery.rows), "rows": rows})


if __name__ == "__main__":
    main()
