"""Saved searches as requests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from clipsearch.client import lookup
from clipsearch.client.answers import read_results
from clipsearch.client.calls import Call, Steps
from clipsearch.client.reading import Fields
from clipsearch.client.searching import form_of
from clipsearch.dates import WrittenMoment
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.options import SearchOptions, check_kind
from clipsearch.query.saved_options import within, without_image
from clipsearch.query.terms import Query, Term, as_query
from clipsearch.query.validation import as_floats, read_single
from clipsearch.saved_searches import SavedAnswer, SavedSearch
from clipsearch.types import Results
from clipsearch.words import tidy_name

if TYPE_CHECKING:
    from clipsearch.query.embedding import Picture
    from clipsearch.query.searching import Vector


def save(
    name: str,
    text: str | Term | Query | None,
    image: Picture | None,
    vector: Vector | None,
    shown: str | None,
    during: str | None,
    options: SearchOptions,
) -> Steps[SavedSearch]:
    """Save a search. A picture is embedded by the server first, which keeps its vector."""
    read_single(text, image, vector)
    options = within(options, during)
    check_kind(options, vector)
    asked: dict[str, Any]
    if image is not None:
        options = without_image(options, image)
        vector = (yield from lookup.embed(None, [image], "document"))[0]
        shown = shown or (os.fspath(image) if isinstance(image, str | os.PathLike) else "picture")
    if vector is not None:
        asked = {"vector": as_floats(vector).tolist(), "kind": options.kind, "shown": shown or "vector"}
    elif isinstance(text, Query | Term):
        asked = {"query": str(as_query(text))}
    else:
        asked = {"text": text, "hybrid": options.hybrid}
    form = {**asked, **form_of(options), "whole": False}
    if options.filters is not None:
        form["filters"] = _with_words(options.filters, form["filters"])
    found: SavedSearch = yield Call("PUT", _path(name), _read, form, is_repeatable=False)
    return found


def saved() -> Steps[list[SavedSearch]]:
    """List the saved searches."""

    def read(value: object) -> list[SavedSearch]:
        return [_read_one(each) for each in Fields({"list": value}).objects("list")]

    found: list[SavedSearch] = yield Call("GET", "/v1/searches", read)
    return found


def run(name: str, new: bool, k: int | None, offset: int | None) -> Steps[SavedAnswer]:
    """Run a saved search."""

    def read(value: object) -> SavedAnswer:
        found = Fields(value)
        results: Results = read_results(found.text("query"), found.whole("offset"))(value)
        return SavedAnswer(results, found.text_or_none("mark"), found.whole("k"))

    asked = {"new": new, "k": k, "offset": offset, "whole": True}
    answer: SavedAnswer = yield Call("POST", f"{_path(name)}/run", read, asked, missing=InvalidInputError)
    return answer


def remember(name: str, mark: str) -> Steps[None]:
    """Let matches count as seen."""
    yield Call("POST", f"{_path(name)}/seen", len, {"mark": mark}, is_json=False, missing=InvalidInputError)


def search_saved(name: str, new: bool, k: int | None, offset: int | None) -> Steps[Results]:
    """Run a saved search, and let what is new count as seen."""
    found = yield from run(name, new, k, offset)
    if found.mark is not None:
        yield from remember(name, found.mark)
    return found.results


def delete(name: str) -> Steps[None]:
    """Delete a saved search."""
    yield Call("DELETE", _path(name), len, is_json=False, is_repeatable=False, missing=InvalidInputError)


def _path(name: str) -> str:
    return f"/v1/searches/{quote(tidy_name(name, 'saved search'), safe='')}"


def _read(value: object) -> SavedSearch:
    return _read_one(Fields(value))


def _read_one(found: Fields) -> SavedSearch:
    return SavedSearch(found.text("name"), found.text("query"), found.mapping("options"), found.text("saved_at"))


def _with_words(wanted: Filter, form: dict[str, Any]) -> dict[str, Any]:
    """Put dates in words where a filter has them, so that the server reads them each time that the search runs."""
    words = _date_words(wanted)
    found = {name: value for name, value in form.items() if not (words and name in ("taken_from", "taken_until"))}
    for name in ("all_of", "any_of", "none_of"):
        if name in form:
            parts = getattr(wanted, name)
            found[name] = [*map(_with_words, parts, form[name]), *form[name][len(parts) :]]
    return found | words


def _date_words(wanted: Filter) -> dict[str, str]:
    """Return the dates of a filter in words; nothing where one of them was not given in words."""
    start, end = wanted.taken_from, wanted.taken_until
    given = [each for each in (start, end) if each is not None]
    if not given or not all(isinstance(each, WrittenMoment) and each.written for each in given):
        return {}
    written = {name: each for name, each in (("after", start), ("before", end)) if isinstance(each, WrittenMoment)}
    if len(written) == 2 and written["after"].written == written["before"].written and written["before"].is_end:
        return {"during": written["after"].written}
    return {} if any(each.is_end for each in written.values()) else {n: each.written for n, each in written.items()}
