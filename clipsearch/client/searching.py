"""Searches as requests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch.client.answers import read_results
from clipsearch.client.calls import Call, Steps
from clipsearch.client.filters import to_form
from clipsearch.client.pictures import read_picture_file, shown
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.paths import real_path
from clipsearch.query.options import SearchOptions, check_crop, check_kind
from clipsearch.query.terms import Picture as PictureTerm
from clipsearch.query.terms import Query, Term, as_query
from clipsearch.query.validation import as_floats, check_kinds, read_single
from clipsearch.types import Results

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clipsearch.query.embedding import Picture
    from clipsearch.query.searching import Vector, Vectors

T = TypeVar("T")

TOGETHER = 64
"""Queries of a batch whose requests are made together: as many pictures are in memory."""

UPLOAD = "upload"
"""What stands for the picture of a request in its query."""


def search(
    text: str | Term | Query | None, image: Picture | None, vector: Vector | Vectors | None, options: SearchOptions
) -> Steps[Results | list[Results]]:
    """Search by one query, or by several vectors."""
    rows = None if vector is None else as_floats(vector)
    if rows is not None and rows.ndim != 1 and text is None and image is None:
        return (yield from search_batch(None, None, rows, options))
    return (yield from answer(text, image, rows, options))


def answer(
    text: str | Term | Query | None, image: Picture | None, vector: Vector | None, options: SearchOptions
) -> Steps[Results]:
    """Search by one query."""
    read_single(text, image, vector)
    check_kind(options, vector)
    check_crop(options, image)
    if isinstance(text, Query | Term):
        call = _by_terms(as_query(text), options)
    elif text is not None:
        call = _by_text(text, options)
    elif image is not None:
        call = _by_picture(image, options)
    else:
        call = _by_vector(as_floats(vector), options)
    found: Results = yield call
    return found


def search_batch(
    texts: Sequence[str] | None,
    images: Sequence[Picture] | None,
    vectors: NDArray[np.floating] | None,
    options: SearchOptions,
) -> Steps[list[Results]]:
    """Search by several queries of one kind: a request for each, sent together."""
    check_kinds(texts, images, vectors)
    check_kind(options, vectors)
    check_crop(options, images)
    calls: Iterator[Call[Results]]
    if texts is not None:
        calls = (_by_text(text, options) for text in texts)
    elif images is not None:
        calls = (_by_picture(image, options) for image in images)
    else:
        rows = as_floats(vectors)
        if rows.ndim != 2:
            raise InvalidInputError(f"Query vectors must have the shape (n, dim), not {rows.shape}.")
        calls = (_by_vector(row, options) for row in rows)
    found: list[Results] = []
    for part in parts_of(calls, TOGETHER):
        found += yield part
    return found


def parts_of(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut any number of values into lists of at most `size`."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


def _by_text(text: object, options: SearchOptions) -> Call[Results]:
    if not isinstance(text, str):
        raise InvalidInputError(f"A text to search for is a string, not {type(text).__name__}.")
    asked = {"text": text, "hybrid": options.hybrid, **form_of(options)}
    if options.understand:
        asked["understand"] = True
    return Call("POST", "/v1/search", read_results(text, options.offset), asked)


def _by_vector(vector: NDArray[np.float64], options: SearchOptions) -> Call[Results]:
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise InvalidInputError("A query vector has NaN or infinity, or is no row of numbers.")
    asked = {"vector": vector.tolist(), "kind": options.kind, **form_of(options)}
    return Call("POST", "/v1/search", read_results("vector", options.offset), asked)


def _by_picture(image: Picture, options: SearchOptions) -> Call[Results]:
    if options.exclude_self and isinstance(image, str | os.PathLike) and os.fspath(image):
        other = ~Filter(keys=(real_path(image),))
        options = replace(options, filters=other if options.filters is None else options.filters & other)
    return _with_picture(read_picture_file(image), shown(image), {}, options)


def _by_terms(query: Query, options: SearchOptions) -> Call[Results]:
    sources = {term.source for term in query.leaves() if isinstance(term, PictureTerm)}
    if len(sources) > 1:
        raise InvalidInputError(
            f"A query has {len(sources)} pictures, but a server takes one with a query. Add the others to the library, "
            "and name them by id."
        )
    if not sources:
        asked = {"query": str(query), **form_of(options)}
        return Call("POST", "/v1/search", read_results(str(query), options.offset), asked)
    sent = query.replace_leaves(lambda term: PictureTerm(UPLOAD) if isinstance(term, PictureTerm) else term)
    return _with_picture(read_picture_file(sources.pop()), str(query), {"query": str(sent)}, options)


def _with_picture(data: bytes, name: str, form: dict[str, str], options: SearchOptions) -> Call[Results]:
    part = {} if options.crop is None else {"crop": options.crop}
    given = {**form, "options": json.dumps({**form_of(options), **part})}
    return Call("POST", "/v1/search/image", read_results(name, options.offset), picture=data, form=given)


def form_of(options: SearchOptions) -> dict[str, Any]:
    """Return the options of a search as a request has them."""
    others: dict[str, Any] = {} if options.sort == "relevance" else {"sort": options.sort}
    # servers of before know none of these
    others |= {name: True for name in ("diverse", "explain") if getattr(options, name)}
    return {
        **others,
        "k": options.k,
        "offset": options.offset,
        "modality": "any" if options.modality is None else str(options.modality),
        "filters": to_form(options.filters),
        "collapse": options.collapse,
        "cut": options.cut,
        "min_confidence": options.min_confidence,
        "min_score": options.min_score,
        "fusion": options.fusion,
        "whole": True,
        **({"suggest": True} if options.suggest else {}),
    }
