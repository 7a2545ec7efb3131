"""The arguments of `SearchEngine.index`: read, checked, and made into what the pipeline takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict

from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from indexer.pipeline import IndexOptions

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class IndexKeywords(TypedDict, total=False):
    """The arguments of `SearchEngine.index` about what is taken, and how; that method explains them."""

    exclude: Iterable[str] | None
    include_hidden: bool | None
    retry_failed: bool
    rehash: bool
    ocr: bool | None
    columns: Mapping[str, str] | None
    pictures: str | os.PathLike[str] | None
    fetch_urls: bool | None
    within: Iterable[str | os.PathLike[str]] | None


def read_paths(paths: Paths) -> list[str]:
    """Return the paths as str. Raises InvalidInputError for anything that is not a path."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise InvalidInputError(f"What is indexed must be a path, not {path!r:.80}.")
    return [os.fsdecode(path) for path in given]


def read_options(keywords: IndexKeywords, timeout: float) -> IndexOptions:
    """Return the options of a run; timeout: seconds to wait for another writer.

    Raises InvalidInputError for what cannot be used, TypeError for an argument that is not known.
    """
    from clipsearch.store.roots import RulesChange
    from indexer.data_sets import make_options
    from indexer.pipeline import IndexOptions

    unknown = sorted(keywords.keys() - IndexKeywords.__annotations__.keys())
    if unknown:
        raise TypeError(f"index() got an unexpected keyword argument {unknown[0]!r}")
    exclude, within, columns = keywords.get("exclude"), keywords.get("within"), keywords.get("columns")
    patterns = None if exclude is None else tuple(exclude)
    if patterns is not None and (isinstance(exclude, str) or not all(isinstance(each, str) for each in patterns)):
        raise InvalidInputError(f"exclude must be a list of patterns, not {exclude!r:.80}.")
    change = RulesChange(patterns, keywords.get("include_hidden"))
    named = () if columns is None else [f"{role}={name}" for role, name in columns.items()]
    pictures = keywords.get("pictures")
    return IndexOptions(
        None if change == RulesChange() else change,
        retry_failed=keywords.get("retry_failed", False),
        rehash=keywords.get("rehash", False),
        ocr=keywords.get("ocr"),
        source=make_options(named, None if pictures is None else os.fsdecode(pictures), keywords.get("fetch_urls")),
        timeout=timeout,
        within=None if within is None else tuple(os.path.realpath(os.fsdecode(folder)) for folder in within),
    )
