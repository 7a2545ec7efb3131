"""The fit of the classifier that tells English from other languages in Latin letters."""

from __future__ import annotations

import re

import numpy as np
from multilingual_texts import LATIN

from clipsearch.encoders.builtin.english import BUCKETS, count_features

FUNCTION_WORDS = {
    "de": "der die das ein eine einen einem einer am an auf aus bei beim dem den des durch für gegen hinter im "
    "in ist mit nach neben ohne über um und unter vom von vor zum zur zwischen zwei drei nicht wie sein "
    "ihr sich",
    "es": "el la los las un una unos unas al del de con sin en entre por para sobre bajo y o que se su sus es "
    "son está dos tres no como junto hacia desde",
    "fr": "le la les un une des du de au aux avec sans dans sur sous entre devant derrière par pour et ou qui "
    "se son sa ses est sont deux trois ne pas comme chez vers",
    "it": "il lo la i gli le un uno una di del della dei delle al alla con senza in nel nella su sul sulla "
    "sotto tra fra per e o che si suo sua è sono due tre non come da dal dalla",
    "nl": "de het een van met zonder in op onder tussen voor achter naast bij aan door en of die dat zijn haar "
    "is twee drie niet als uit over naar tegen",
    "pl": "z ze w we na nad pod przy przed za bez do od i oraz lub który która się jego jej jest są dwa trzy "
    "nie jak po dla przez między obok",
    "pt": "o a os as um uma uns umas ao à do da dos das de com sem em no na nos nas sobre sob entre por para e "
    "ou que se seu sua é são dois duas três não como perto",
    "tr": "bir ve ile için üzerinde altında içinde yanında önünde arkasında arasında bu şu o da de gibi olan "
    "iki üç değil var yok çok kadar doğru",
}
"""Words that hold sentences together, written by hand: names of things have none."""

_REPEATS = 20
"""How often each of them counts, against names and keywords once each."""


def fit_english(texts, captions):
    """Fit a logistic regression on English texts and words, and on the names, keywords and words of LATIN.

    Returns arrays weights, int8 (BUCKETS,), bias and scale, as clipsearch.encoders.builtin.english reads them.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    english, other = _english(texts, captions), _other(texts)
    rows = [count_features(text) for text in [*english, *other]]
    lengths = [len(counts) for counts in rows]
    values = np.concatenate([np.fromiter(each.values(), float) / np.sqrt(each.total()) for each in rows if each])
    columns = np.concatenate([np.fromiter(each, int) for each in rows if each])
    matrix = csr_matrix((values, columns, np.concatenate([[0], np.cumsum(lengths)])), shape=(len(rows), BUCKETS))
    labels = np.repeat([1, 0], [len(english), len(other)])
    fitted = LogisticRegression(C=10, class_weight="balanced", solver="liblinear", random_state=0).fit(matrix, labels)
    weights = fitted.coef_[0]
    scale = np.abs(weights).max() / 127
    return {
        "weights": np.round(weights / scale).astype(np.int8),
        "bias": np.array(fitted.intercept_[0]),
        "scale": np.array(scale),
    }


def _english(texts, captions):
    sources = texts.english
    sentences = [*sources["examples"][::3], *sources["definitions"][::3], *captions[::2]]
    words = sorted(_words([*sources["examples"], *sources["definitions"], *captions]))
    return [*texts.keywords["en"], *sources["names"], *sources["generic"], *sentences, *words]


def _other(texts):
    known = {word.lower() for word in texts.keywords["en"]}
    found = []
    for language in LATIN:
        phrases = [text for text in texts.keywords[language] if text.lower() not in known]
        rng = np.random.default_rng(0)
        little = FUNCTION_WORDS[language].split()
        # A phrase with words between: closer to a sentence than a list of names.
        mixed = [f"{phrase} {little[rng.integers(len(little))]} {other}" for phrase, other in _pairs(phrases, rng)]
        found += [*phrases, *mixed, *(little * _REPEATS), *sorted(_words(phrases))]
    return found


def _pairs(phrases, rng):
    order = rng.permutation(len(phrases))
    return [(phrases[first], phrases[second]) for first, second in zip(order[::2], order[1::2], strict=False)]


def _words(texts):
    return {word for text in texts for word in re.findall(r"[^\W\d_]{3,}", text.lower())}
