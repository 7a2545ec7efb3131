"""Where an answer had best end: python benchmarks/cut.py FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. The builtin encoder is fitted again
on some and asked for the others, 300 of them, as in confidence.py; MiniLM alone reads all texts. What is asked:

    captions  each caption; its own photograph alone is right, so what is much like it counts as wrong
    pairs     "dog and snow"; right are photographs of which two captions name both (fusion.py), 5 in the mean
    things    "dog"; right are those of which two captions name it, 28 in the mean

Of the first k hits a rule keeps some, and always the first. `right kept` and `wrong kept` are shares of what fixed k
shows; F1 is of what is kept against the right ones among the first k, mean over queries that have one there; `mean f1`
is the mean of the three. `absent shown`: of the first 10 for objects that no caption names. Rules:

    first k             the first hits, however they score
    confidence          hits of at least this confidence
    expected wrong      as many as let the expected number of unrelated hits be this share (Benjamini, Hochberg 1995)
    largest drop        up to the largest difference in standard deviations between one hit and the next
    deviations less     hits that lie at most so many standard deviations below the first
    rarity              hits with at least this share of the rarity of the first, -ln of the chance that one unrelated
                        row scores as high; what clipsearch does

The share was chosen on four splits; the table is of four others, and `chosen on` has the mean F1 of the former.
"""

import argparse
from pathlib import Path

import builtin_quality as quality
import numpy as np
from confidence import VARIANT, absent
from fusion import THINGS, WHERE, WHO
from harness import write_result
from held_out import Photographs, embed_queries, projection
from labels import photographs

from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.ranking import SCORE_GAP_SHARE, NullModel, log_evalue, lower_spread, null_model, score_gap_cutoff
from indexer.calibration import generic_queries

SETS = ("captions", "pairs", "things")
DEPTH = 50


class Answer:
    """The first hits of a query: how far above the library each lies, how surprising it is, and whether it is right."""

    def __init__(self, scores, right, spread):
        seen: NullModel = null_model(scores, len(scores), spread=spread)
        order = np.argsort(-scores, kind="stable")[:DEPTH]
        self.deviations = (scores[order] - seen.centre) / seen.spread
        self.log_evalues = np.array([log_evalue(score, seen) for score in scores[order]])
        self.right = right[order]
        self.rows = len(scores)


def first(count):
    return lambda answer, k: np.arange(k) < count


def confident(least):
    return lambda answer, k: np.exp(-np.exp(-answer.log_evalues[:k])) >= least


def expected_wrong(share):
    def rule(answer, k):
        fits = np.exp(-answer.log_evalues[:k]) <= share * np.arange(1, k + 1)
        return np.arange(k) <= np.flatnonzero(fits).max(initial=0)

    return rule


def largest_drop(answer, k):
    drops = answer.deviations[: k - 1] - answer.deviations[1:k]
    return np.arange(k) <= drops.argmax()


def deviations_less(most):
    return lambda answer, k: answer.deviations[:k] >= answer.deviations[0] - most


def rarity(share):
    def rule(answer, k):
        log_evalues = answer.log_evalues[:k].tolist()
        return np.array(score_gap_cutoff(log_evalues, [answer.rows] * len(log_evalues), share=share))

    return rule


RULES = {
    **{f"first {count}": first(count) for count in (1, 3, 10)},
    **{f"confidence {least}": confident(least) for least in (0.5, 0.75, 0.9, 0.95, 0.99)},
    **{f"expected wrong {share}": expected_wrong(share) for share in (0.05, 0.1, 0.2)},
    "largest drop": largest_drop,
    **{f"deviations less {most}": deviations_less(most) for most in (0.5, 0.75, 1.0)},
    **{f"rarity {share}": rarity(share) for share in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85)},
}


def answers(folder):
    """Yield (split, set, answers)."""
    tower = TextTower(2)
    known = Photographs(folder, VARIANT, tower)
    has = photographs(folder)[1]
    names, pairs = list(THINGS), [(who, where) for who in WHO for where in WHERE]
    asked = {"things": names, "pairs": [f"{who} and {where}" for who, where in pairs], "absent": absent(known.captions)}
    asked = {name: embed_queries(tower, texts) for name, texts in asked.items()}
    generic = embed_queries(tower, generic_queries()[::20])
    for split, (train, test) in enumerate(quality.partitions(len(known.paths), 4)):
        fitted, held, own = projection(known.fit(train)), known.photos.take(test), has[test]
        pictures = fitted.pictures(held.features, held.logits)
        spread = float(np.median([lower_spread(row) for row in fitted.texts(generic) @ pictures.T]))
        both = np.array([own[:, names.index(who)] & own[:, names.index(where)] for who, where in pairs])
        owner = np.repeat(np.arange(len(test)), held.captions.shape[1])
        right = {"captions": owner[:, None] == np.arange(len(test)), "things": own.T, "pairs": both}
        right["absent"] = np.zeros((len(asked["absent"]), len(test)), bool)
        queries = asked | {"captions": held.queries.reshape(-1, held.queries.shape[-1])}
        for name, rows in queries.items():
            scores = fitted.texts(rows) @ pictures.T
            yield split, name, [Answer(*each, spread) for each in zip(scores, right[name], strict=True)]


def kept_by(rule, answer, k):
    kept = rule(answer, k)
    kept[0] = True
    return kept


def measure(rule, found, k):
    """Right kept, wrong kept, and the mean F1, over the answers that have something right among the first k."""
    totals, scores = np.zeros(4), []
    for answer in found:
        right = answer.right[:k]
        if right.any():
            kept = kept_by(rule, answer, k)
            good = (kept & right).sum()
            totals += good, right.sum(), (kept & ~right).sum(), (~right).sum()
            scores.append(2 * good / (kept.sum() + right.sum()))
    return totals[0] / totals[1], totals[2] / totals[3], float(np.mean(scores))


def mean_f1(rule, found, k):
    return round(float(np.mean([measure(rule, found[name], k)[2] for name in SETS])), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    chosen, told = ({name: [] for name in (*SETS, "absent")} for _ in range(2))
    for split, name, found in answers(given.folder):
        (chosen if split < 4 else told)[name].extend(found)
    rows = []
    for label, rule in RULES.items():
        row = {"rule": label + (", clipsearch" if label == f"rarity {SCORE_GAP_SHARE}" else "")}
        for name in SETS:
            right, wrong, score = measure(rule, told[name], 10)
            row |= {f"{name}:_right_kept": f"{right:.0%}", f"{name}:_wrong_kept": f"{wrong:.0%}"}
            row |= {f"{name}:_f1": round(score, 3)}
        row["mean_f1"], row["chosen_on"] = mean_f1(rule, told, 10), mean_f1(rule, chosen, 10)
        row["mean_f1_of_50"], row["chosen_on_of_50"] = mean_f1(rule, told, DEPTH), mean_f1(rule, chosen, DEPTH)
        row["absent_shown"] = round(float(np.mean([kept_by(rule, each, 10).sum() for each in told["absent"]])), 1)
        rows.append(row)
        print(row, flush=True)
    write_result("cut", {"share": SCORE_GAP_SHARE, "rows": rows})


if __name__ == "__main__":
    main()
