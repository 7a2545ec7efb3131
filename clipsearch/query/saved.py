"""Saved searches as values: what is kept of a search, and what is asked when it runs.

Of a picture its vector is kept. A library may come from a stranger: a query that names a picture by its path or URL is
refused, and so is a folder on another machine, which would be asked for it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import ClipSearchError, InvalidInputError
from clipsearch.filtering import MAX_DEPTH, Filter
from clipsearch.locations import LOCAL_LIBRARY
from clipsearch.query.options import SearchOptions, check_kind
from clipsearch.query.parser import parse
from clipsearch.query.saved_options import (
    check_counts,
    names_folder,
    option_values,
    read_options,
    refuse_other_machines,
)
from clipsearch.query.terms import Filtered, Picture, Query, Term, as_query
from clipsearch.query.validation import as_floats, read_single, read_vectors
from clipsearch.relevance import LIKELY
from clipsearch.saved_searches import SavedAnswer, SavedSearch
from clipsearch.store import searches
from clipsearch.store.library import Library
from clipsearch.store.searches import Arrived, Mark, StoredSearch
from clipsearch.types import EncoderPin, Results
from clipsearch.words import tidy_name

if TYPE_CHECKING:
    pass

MAX_NEW = 1_000_000
"""Items that are looked at as new at a time; of more, the first."""

_MAX_MARK = 1 << 18
_MAX_SHOWN = 200
_MAX_DEPTH = 2 * MAX_DEPTH + 8
"""How deep options are nested: a filter is in a list of the filter that is combined of it."""


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A saved search that is about to run.

    text, vector: the query. options: of the search. shown: the query as it is shown, of a vector. stored: the search.
    found: what is new, where only that is wanted.
    """

    text: str | Query | None
    vector: NDArray[np.float32] | None
    options: SearchOptions
    shown: str
    stored: StoredSearch
    found: Arrived | None

    def finish(self, results: Results) -> SavedAnswer:
        """Make the answer of what was found."""
        if self.vector is not None:
            results = replace(results, query=self.shown)
        if self.found is None:
            return SavedAnswer(results, k=self.options.k)
        before, reached = self.stored.mark, self.found.reached
        shown = (*before.shown, *(item.id for hit in results for item in (hit.item, *(hit.also or ()))))
        is_full = len(results) >= self.options.k and len(shown) <= searches.MAX_SHOWN
        if is_full or not self.found.is_all:
            reached = replace(before if is_full else reached, shown=shown, revision=reached.revision)
            more = "There may be more new matches. They come when the search runs again."
            results = replace(results, warnings=(*results.warnings, more))
        elif not len(results) and not results.left_out:  # else the answer says why it is empty
            results = replace(results, warnings=(*results.warnings, "Nothing new matches."))
        values = {"saved_at": self.stored.saved_at, "mark": reached.to_values()}
        return SavedAnswer(results, json.dumps(values, separators=(",", ":")), self.options.k)


def keep(
    library: Library,
    name: str,
    text: str | Term | Query | None,
    vector: object | None,
    shown: str | None,
    options: SearchOptions,
) -> StoredSearch:
    """Return a search as it is kept. vector: of numbers, shape (dim,). shown: a vector as it is shown."""
    known = tidy_name(name, "saved search")
    read_single(text, None, vector)
    check_kind(options, vector)
    asked: dict[str, Any] = {}
    if vector is not None:
        pin = _pin(library)
        unit = read_vectors(as_floats(vector)[None], pin.dim)[0]
        kept = base64.b64encode(unit.astype("<f4").tobytes()).decode()
        asked = {"vector": kept, "encoder": pin.fingerprint, "shown": (shown or "vector")[:_MAX_SHOWN]}
    elif isinstance(text, str):
        if not text.strip():
            raise InvalidInputError(f"The text to search for, {text!r}, has no words. Write at least one.")
        asked = {"text": text}
    else:
        query = as_query(text)  # type: ignore[arg-type]
        _refuse_pictures(query)
        asked = {"query": str(query)}
    asked["options"] = option_values(options, _base(library))
    made = datetime.now(UTC).isoformat()
    read_options(asked["options"], _base(library))
    return StoredSearch(known, asked, made, Mark())


def describe(stored: StoredSearch) -> SavedSearch:
    """Return what is said of a search that is kept. Raises InvalidInputError for one that is damaged."""
    asked = stored.asked
    query = next((asked[name] for name in ("text", "query", "shown") if isinstance(asked.get(name), str)), None)
    options = asked.get("options")
    if query is None or not isinstance(options, dict):
        raise _damaged(stored.name, "It has no query.")
    if _is_deep(options):
        raise _damaged(stored.name, f"Its options are nested more than {_MAX_DEPTH} deep.")
    return SavedSearch(stored.name, query, options, stored.saved_at)


def _is_deep(value: object) -> bool:
    """Tell whether JSON values are nested deeper than what is shown can be."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [part for each in inner for part in each]
    return any(isinstance(each, dict | list) for each in level)


def list_saved(library: Library) -> list[SavedSearch]:
    """List the saved searches of a library, in order of their names; a damaged one is left out."""
    with library.query() as connection:
        found = searches.list_all(connection)
    return [describe(each) for each in found if _is_whole(each)]


def prepare(library: Library, name: str, *, new: bool, k: int | None, offset: int | None) -> SavedRun:
    """Read a saved search, to run it now. new, k, offset: see `EngineSaved.search_saved`."""
    with library.query() as connection:
        stored = searches.get(connection, tidy_name(name, "saved search"))
        found = searches.arrived(connection, stored.mark, MAX_NEW) if new else None
    described = describe(stored)
    try:
        options = read_options(described.options, _base(library))
        text, vector = _read_query(stored.asked, library)
    except ClipSearchError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(stored.name, f"Its query or its options cannot be read ({str(error)[:80]}).") from error
    options = replace(options, k=options.k if k is None else k, offset=options.offset if offset is None else offset)
    if found is not None:
        if offset:
            raise InvalidInputError("New matches are shown from the first one. Leave out the offset.")
        options = _only_new(options, found)
    check_counts(options)
    return SavedRun(text, vector, options, described.query, stored, found)


def read_mark(written: object) -> tuple[str, Mark]:
    """Read the mark of an answer: when its search was saved, and up to where it was seen. Raises InvalidInputError."""
    try:
        if not isinstance(written, str) or len(written) > _MAX_MARK:
            raise ValueError
        values = json.loads(written)
        saved_at, mark = values["saved_at"], Mark.from_values(values["mark"])
        if not isinstance(saved_at, str):
            raise ValueError
    except (TypeError, ValueError, KeyError, RecursionError, InvalidInputError) as error:
        raise InvalidInputError(
            f"{str(written)[:40]!r} is no mark. Take it from an answer with new matches."
        ) from error
    return saved_at, mark


def _only_new(options: SearchOptions, found: Arrived) -> SearchOptions:
    """Return options that allow what is new alone, and hits that are likely right, unless the search says how sure."""
    new = Filter(ids=found.ids)
    filters = new if options.filters is None else options.filters & new
    least = LIKELY if options.min_confidence is None and options.min_score is None else options.min_confidence
    return replace(options, offset=0, filters=filters, min_confidence=least)


def _read_query(asked: Mapping[str, Any], library: Library) -> tuple[str | Query | None, NDArray[np.float32] | None]:
    if isinstance(asked.get("text"), str):
        return asked["text"], None
    if isinstance(asked.get("query"), str):
        query = parse(asked["query"])
        _refuse_pictures(query)
        _refuse_folders(query, asked["query"])
        return query, None
    pin = _pin(library)
    if asked["encoder"] != pin.fingerprint:
        raise InvalidInputError(
            "The saved search looks like a picture to another encoder than the library has now. Save it again."
        )
    try:
        data = base64.b64decode(asked["vector"], validate=True)
    except binascii.Error as error:
        raise ValueError("its vector is not base64") from error
    if len(data) != 4 * pin.dim:
        raise ValueError("its vector has another length")
    return None, np.frombuffer(data, "<f4")


def _refuse_pictures(query: object) -> None:
    if any(isinstance(each, Picture) for each in _parts(query)):
        raise InvalidInputError(
            "A saved search of several terms names no picture by its path or URL: whoever runs it would open that. Add "
            "the picture to the library and name it by its id, as id:17, or save a search by the picture alone."
        )


def _refuse_folders(query: Query, written: str) -> None:
    """Raise InvalidInputError for a folder on another machine, or one that depends on the current folder."""
    for leaf in query.leaves():
        if isinstance(leaf, Filtered):
            refuse_other_machines(leaf.filters)
            if names_folder(leaf.filters) and str(leaf) not in written:  # folders are written as absolute ones
                raise InvalidInputError("A folder in the query of a saved search is relative. Save the search again.")


def _parts(value: object) -> Iterator[object]:
    """Yield a query and all that it is made of, of whatever kind."""
    yield value
    if isinstance(value, tuple | list):
        for each in value:
            yield from _parts(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _parts(getattr(value, each.name))


def _base(library: Library) -> str:
    """Return the folder that a library moves with; empty for one that stays."""
    return library.base if library.folder.name == LOCAL_LIBRARY else ""


def _pin(library: Library) -> EncoderPin:
    pin = library.encoder
    if pin is None:
        raise InvalidInputError("The library is empty, so there is nothing to compare a vector with. Index first.")
    return pin


def _is_whole(stored: StoredSearch) -> bool:
    try:
        describe(stored)
    except InvalidInputError:
        return False
    return True


def _damaged(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"The saved search {name!r} is damaged. {why} Save it again.")
