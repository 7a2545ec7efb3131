"""Folders of a filter that only some of several libraries have: nothing lies below them in the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, change_parts
from clipsearch.store.snapshot import Snapshot


def known_folders(states: Sequence[Snapshot], wanted: Filter) -> list[Filter]:
    """Return a filter as each library takes it: without the folders that are not of it, which hold no item of it.

    Raises InvalidInputError for a folder that is of none.
    """
    named = {*_folders(wanted)}
    if not named or len(states) == 1:
        return [wanted] * len(states)
    known = [{folder for folder in named if _is_known(state, folder)} for state in states]
    for folder in named - set().union(*known):
        states[0].matching_ids(Filter(folders=(folder,)))  # which says so
    return [_only(wanted, own) for own in known]


def _folders(wanted: Filter) -> Iterator[str]:
    yield from wanted.folders
    for part in (*wanted.all_of, *wanted.any_of, *wanted.none_of):
        yield from _folders(part)


def _is_known(state: Snapshot, folder: str) -> bool:
    try:
        state.matching_ids(Filter(folders=(folder,)))
    except InvalidInputError:
        return False
    return True


def _only(wanted: Filter, known: set[str]) -> Filter:
    folders = tuple(folder for folder in wanted.folders if folder in known)
    ids = frozenset[int]() if wanted.folders and not folders else wanted.ids
    return replace(change_parts(wanted, lambda each: _only(each, known)), folders=folders, ids=ids)
