"""Searches of which the words are understood: with the filter that they say, and what was understood in the answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.answers import hints_for_none
from clipsearch.query.options import SearchOptions
from clipsearch.query.understanding.gate import may_mean_more
from clipsearch.query.understanding.understood import Understood
from clipsearch.sorting import RELEVANCE, TAKEN
from clipsearch.store.library import Library
from clipsearch.types import EncoderPin, Hit, Results

NOTHING_LEFT = "Nothing in the library is {}."
NOTHING_OF_THESE = "Of what the other filters allow, nothing is {}."


def understand_in(library: Library, text: str) -> Understood:
    """Return what the words of a query mean in a library. Raises InvalidInputError for anything but a str."""
    if not isinstance(text, str):
        raise InvalidInputError(f"Words to understand are a str, not {type(text).__name__}.")
    if not may_mean_more(text):
        return Understood(text)
    from clipsearch.query.understanding.library_names import LibraryNames
    from clipsearch.query.understanding.understand import understand_words

    with library.read() as snapshot:
        return understand_words(text, LibraryNames(snapshot), datetime.now())


def combine(options: SearchOptions, found: Understood) -> SearchOptions:
    """Return options whose filter allows what their own and the one that was understood both allow."""
    if found.filters is None:
        return options
    return replace(options, filters=found.filters if options.filters is None else options.filters & found.filters)


def list_newest(library: Library, pin: EncoderPin, options: SearchOptions) -> Results:
    """Answer a query of which no words are left: all that its filter allows, in order, without a score."""
    wanted = options.filters or Filter()
    if len(options.modalities) == 1:
        wanted = wanted & Filter(types=(str(options.modalities[0]),))
    with library.read() as snapshot:
        sort = TAKEN if options.sort == RELEVANCE else options.sort
        items, total = snapshot.list_items(wanted, options.k, options.offset, sort)
        items = snapshot.enrich(items)
        hits = tuple(Hit(rank, item, 0.0, None, item.modality) for rank, item in enumerate(items, options.offset + 1))
        warnings = snapshot.warnings if total else (*snapshot.warnings, *hints_for_none(snapshot, options.filters))
        return Results("", pin.name, str(library.folder), hits, total > 0, warnings, offset=options.offset)


def with_understood(results: Results, text: str, found: Understood, *, is_filtered: bool) -> Results:
    """Return an answer to the words as they were written, which says what was understood of them.

    is_filtered: whether there are other filters.
    """
    warnings = results.warnings
    if found.parts and not results.hits and not results.left_out and not results.offset:
        warnings = (*warnings, (NOTHING_OF_THESE if is_filtered else NOTHING_LEFT).format(", ".join(found.parts)))
    return replace(results, query=text, understood=found.to_values(), warnings=warnings)
