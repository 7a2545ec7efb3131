"""Measure how queries at large score over a library: how wide, and how high over texts that they do not ask for.

What an encoder gives to unrelated rows is spread about alike for all queries, and a single query cannot tell: one of
words that mean nothing scores low and narrow, so its best row seems to stand out. benchmarks/confidence.py shows
what that does to confidences. Scores of words over texts have a longer tail than a normal distribution: set against
one, the best of some unrelated texts would stand above the right picture. benchmarks/mixed.py shows that. The queries
at large ask for pictures, so what they get from texts is what an unrelated text gets.
"""

from __future__ import annotations

import logging
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders import listing
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, EncoderMismatchError
from clipsearch.ranking import MIN_SAMPLE, MIN_WIDTH, PRIOR_SPREAD, TAIL_SHARE, lower_spread, typical_spread, upper_tail
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.spreads import SPREADS_KEY, Spreads, get_spreads
from clipsearch.store.writer import SettingsWriter
from clipsearch.types import Modality
from indexer.calibration import LoadEncoder, generic_queries
from indexer.queries import GivenQueries

logger = logging.getLogger("clipsearch")

GROWTH = 2
"""Spreads are measured again once a modality has so many times the rows."""

_QUERIES = 32

_MIN_SHARE = 0.1
"""Scores spread less than this share of what unrelated texts do only where the library repeats itself."""

_SAME = 0.999
"""Cosine: a text that scores as high is the query itself, which is no unrelated text."""

Q = TypeVar("Q", list[str], NDArray[np.float32])

_encoded: dict[tuple[str, str], NDArray[np.float32]] = {}
"""Generic queries, by the fingerprint of the encoder and as what they were encoded. A process may fill many libraries,
or one in many steps; all of them are measured with the same vectors."""


def refresh_spreads(
    library: Library, writer: SettingsWriter, load_encoder: LoadEncoder, *, again: bool = False
) -> None:
    """Measure the spreads if they were not measured yet or the library has grown; again: in any case.

    Where the encoder is unavailable, queries that the library was given or its texts stand for queries by words, until
    a run has the encoder; without any, only those by picture are measured, and the next run tries again. What an
    encoder measured stays until it is available.
    """
    with library.query() as connection:
        known = get_spreads(connection)
    given = GivenQueries.of(library)
    with library.read() as snapshot:
        is_due = again or _is_due(snapshot, known)
        if not (is_due or known.stand_ins):
            return
        encoder = _encoder(library, load_encoder)
        is_best = _knows_enough(known) and not known.stand_ins and not again
        if encoder is None and (is_best or not is_due):
            return
        measured = _measure_all(snapshot, encoder, None if given is None else given.vectors)
    if measured != known:
        writer.set_setting(SPREADS_KEY, measured.dump())


def _is_due(snapshot: Snapshot, known: Spreads) -> bool:
    """Tell whether something was not measured, or there are many more rows than then."""
    counts = {str(m): len(snapshot.rows(m)) for m in Modality if len(snapshot.sample(m))}
    has_tails = bool(known.tails) or str(Modality.TEXT) not in known.rows
    is_of_today = bool(known.values) and has_tails and _knows_words(known)
    grown = (_has_grown(known.rows.get(modality, 0), count) for modality, count in counts.items())
    return bool(counts) and (not is_of_today or any(grown))


def _has_grown(before: int, count: int) -> bool:
    return count >= GROWTH * before or before < MIN_SAMPLE <= count


def _knows_words(known: Spreads) -> bool:
    return any(name.startswith("text ") for name in known.values)


def _knows_enough(known: Spreads) -> bool:
    """Tell whether words were measured, and not only over a few pictures."""
    few = f"text {Modality.IMAGE}"
    return any(name.startswith("text ") and not (name == few and name in known.centres) for name in known.values)


def _encoder(library: Library, load_encoder: LoadEncoder) -> Encoder | None:
    """Return the encoder; None if it is unavailable, or if vectors came with its name and it was never used here."""
    pin = library.encoder
    if pin is None or (pin.is_imported and listing.identify(pin.name)[0] is None):
        return None
    try:
        return load_encoder()
    except (EncoderError, EncoderMismatchError) as error:
        logger.debug("%s", error)
        return None


def _measure_all(snapshot: Snapshot, encoder: Encoder | None, given: NDArray[np.float32] | None) -> Spreads:
    asked = _queries(snapshot, encoder, given)
    measured = Spreads({}, {}, {}, {}, stand_ins=encoder is None and "text" in asked)
    least = _MIN_SHARE * typical_spread(asked["text"], asked["text"]) if "text" in asked else 0.0
    if "text" in asked:
        _measure_few_pictures(snapshot, asked["text"], measured)
    for modality in Modality:
        sample = _sample(snapshot, modality, encoder)
        if sample is None:
            continue
        measured.rows[modality.value] = len(snapshot.rows(modality))
        for kind, queries in asked.items():
            name, scores = f"{kind} {modality}", _unrelated(queries @ sample.T, modality)
            spread = max(float(np.median([*map(lower_spread, scores)])), least) if scores else 0.0
            if spread < MIN_WIDTH:  # all rows are alike, which says nothing of chance
                continue
            measured.values[name] = round(spread, 5)
            if modality is Modality.TEXT:
                together = np.concatenate(scores)
                centre, own = float(np.median(together)), np.repeat([*map(np.median, scores)], [*map(len, scores)])
                tails = [upper_tail(together - each, spread / PRIOR_SPREAD) for each in (centre, own)]
                measured.centres[name] = round(centre, 5)
                measured.tails[name] = [round(value, 5) for tail in tails for value in (tail.start, tail.scale)]
    return measured


def _measure_few_pictures(snapshot: Snapshot, words: NDArray[np.float32], measured: Spreads) -> None:
    """Measure what queries by words at large, float32 (q, dim), score over pictures too few to tell by one query."""
    pictures = snapshot.sample(Modality.IMAGE)
    if not 0 < len(pictures) < MIN_SAMPLE:
        return
    scores = pictures @ words.T
    spread = float(np.median([*map(lower_spread, scores)]))
    if spread >= MIN_WIDTH:
        name = f"text {Modality.IMAGE}"
        measured.rows[Modality.IMAGE.value] = len(snapshot.rows(Modality.IMAGE))
        measured.values[name], measured.centres[name] = round(spread, 5), round(float(np.median(scores)), 5)


def _unrelated(scores: NDArray[np.float32], modality: Modality) -> list[NDArray[np.float32]]:
    """Return the scores (q, n) of each query over a modality, over texts without those of the query itself.

    Where texts of the library stand for queries, each would else find itself, and these matches would be the tail.
    Queries with too few others are left out.
    """
    if modality is not Modality.TEXT:
        return [*scores]
    others = [each[each < _SAME] for each in scores]
    return [each for each in others if len(each) >= 1 / TAIL_SHARE]


def _sample(snapshot: Snapshot, modality: Modality, encoder: Encoder | None) -> NDArray[np.float32] | None:
    """Return rows of a modality, float32 (n, dim); generic texts beside few texts; None if there are too few rows."""
    own = snapshot.sample(modality)
    if len(own) >= MIN_SAMPLE:
        return own
    if encoder is None or modality is not Modality.TEXT or not len(own):
        return None
    return np.vstack([own, _encode_generic(encoder, "texts")])


def _queries(
    snapshot: Snapshot, encoder: Encoder | None, given: NDArray[np.float32] | None
) -> dict[str, NDArray[np.float32]]:
    """Return queries by kind, float32 (at most _QUERIES, dim): words, and pictures of the library.

    Words are generic ones if there is an encoder; else queries that were given; else texts of the library.
    """
    texts, pictures = snapshot.sample(Modality.TEXT), snapshot.sample(Modality.IMAGE)
    found = {"image": _spread_out(pictures)} if len(pictures) else {}
    if encoder is not None:
        found["text"] = _encode_generic(encoder, "queries")
    elif given is not None or len(texts) >= MIN_SAMPLE:
        found["text"] = _spread_out(texts if given is None else given)
    return found


def _encode_generic(encoder: Encoder, kind: Literal["queries", "texts"]) -> NDArray[np.float32]:
    """Return generic queries, float32 (n, dim): at most _QUERIES as queries, or more of them as texts."""
    key = (encoder.fingerprint, kind)
    if key not in _encoded:
        if kind == "queries":
            _encoded[key] = encoder.encode_queries(_spread_out(generic_queries()))
        else:
            _encoded[key] = encoder.encode_texts(generic_queries()[:: _QUERIES // 2])
    return _encoded[key]


def _spread_out(queries: Q) -> Q:
    """Return at most _QUERIES, evenly spread."""
    return queries[:: -(-len(queries) // _QUERIES)]
