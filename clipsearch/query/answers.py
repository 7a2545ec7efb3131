"""Rankings made into answers: what the cutoff leaves, complete items, and what the user should know."""

from __future__ import annotations

from collections.abc import Sequence

from clipsearch.filtering import Filter
from clipsearch.query.cutoff import Cutoff
from clipsearch.query.enriching import enrich_hits
from clipsearch.query.options import SearchOptions
from clipsearch.query.recognised import show_lines
from clipsearch.query.retrieval import Ranking
from clipsearch.ranking import counted_rows
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import EncoderPin, Hit, Modality, Results


def make_answers(
    names: Sequence[str],
    pin: EncoderPin,
    snapshot: Snapshot,
    found: Sequence[Ranking],
    options: SearchOptions,
    library: str,
) -> list[Results]:
    """Make answers of the rankings of several queries.

    names: the queries as they are shown. library: the folder of the library, as it is shown.
    """
    rows = {modality: counted_rows(snapshot.live_count(modality)) for modality in Modality}
    cutoff = Cutoff() if options.is_arranged else options.cutoff  # which has been applied then
    kept = [cutoff.apply(each.hits, rows, options.end) for each in found]
    if options.offset:  # the pages before left damaged ones out
        snapshot.enrich([hit.item for hits in kept for hit in hits[: options.offset]])
    shown = [hits[options.offset :] for hits in kept]
    shown = enrich_hits(snapshot, show_lines(snapshot, shown, names, [each.keyword_ids for each in found]))
    answers = []
    for name, ranking, stay, hits in zip(names, found, kept, shown, strict=True):
        examined = ranking.hits[: options.end]
        left_out = ranking.left_out + len(examined) - len(stay)
        why = (cutoff.explain(examined),) if examined and not stay else ()
        nothing = not (ranking.hits or ranking.left_out)
        hints = hints_for_none(snapshot, options.filters, ranking.trace.filters) if nothing else ()
        warnings = (*ranking.warnings, *snapshot.warnings, *why, *hints)
        confident = is_confident(ranking.hits if options.is_arranged else stay)
        answers.append(Results(name, pin.name, library, tuple(hits), confident, warnings, left_out, options.offset))
    return answers


def hints_for_none(snapshot: Snapshot, *wanted: Filter | None) -> tuple[str, ...]:
    """Say why filters allow nothing, where the library lacks what they name."""
    given = [each for each in wanted if each is not None]
    if not given:
        return ()
    from clipsearch.query.place_hints import place_hints  # which few answers need

    return place_hints(snapshot, given)


def is_confident(hits: Sequence[Hit]) -> bool:
    """Tell whether something stands out; a library too small to tell gets the benefit of the doubt."""
    known = [hit.stands_out for hit in hits if hit.stands_out is not None]
    return bool(hits) and (not known or any(known))
