"""What a search is given, checked before anything is done."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.metadata import stored_name
from clipsearch.query.options import MOST, check_filters
from clipsearch.types import Modality
from clipsearch.words import fold_tag, tidy_tag

Named = str | int | Iterable[str | int]
"""One item or several, each by its key or its id."""

MAX_TAG = 200
"""Characters of a tag that a user sets."""

_UNIT_ROUNDING = 1e-6
"""How far the length of a float32 unit row is from 1."""


def read_vectors(vectors: NDArray[np.floating] | None, dim: int) -> NDArray[np.float32]:
    """Return query vectors (n, dim) at unit length. Raises InvalidInputError for anything else."""
    rows = as_floats(vectors)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidInputError(f"Query vectors must have the shape (n, {dim}), not {rows.shape}.")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)) or np.any(norms == 0):
        raise InvalidInputError("A query vector is zero or holds NaN or infinity.")
    norms[np.abs(norms - 1) < _UNIT_ROUNDING] = 1  # an embedding stays what it is, to the bit
    unit: NDArray[np.float32] = (rows / norms).astype(np.float32)
    return unit


def as_floats(values: object) -> NDArray[np.float64]:
    """Return numbers as an array. Raises InvalidInputError for anything else."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Query vectors must be numbers, all of the same length: {error}.") from error


def read_single(text: object, image: object, vector: object) -> tuple[str, Any]:
    """Return what a search is given, as its name and itself. Raises InvalidInputError for nothing or more than one."""
    given = [each for each in (("text", text), ("image", image), ("vector", vector)) if each[1] is not None]
    if len(given) != 1:
        raise InvalidInputError(f"A search takes one of text, image and vector, but {len(given)} were given.")
    return given[0]


def check_kinds(*kinds: object) -> None:
    """Raise InvalidInputError unless exactly one sequence of queries is given."""
    given = [kind for kind in kinds if kind is not None]
    if len(given) != 1:
        raise InvalidInputError(f"A batch takes one of texts, images and vectors, but {len(given)} were given.")
    if isinstance(given[0], str | bytes | os.PathLike):
        raise InvalidInputError("A batch takes a list of queries. For a single query, use `search`.")


def read_keys(ids: str | Iterable[str]) -> list[str]:
    """Return one key or several as a list. Raises InvalidInputError for an empty one, or one that is not a str."""
    if not isinstance(ids, Iterable):
        raise InvalidInputError(f"An item is named by its key, a str, not by {ids!r}.")
    keys = [ids] if isinstance(ids, str) else list(ids)
    for key in keys:
        if not isinstance(key, str) or not key:
            raise InvalidInputError(f"An item is named by its key, a str that is not empty, not by {key!r}.")
    return keys


def read_items(ids: Named) -> list[str | int]:
    """Return keys and ids of items as a list, each once. Raises InvalidInputError for anything else."""
    if not isinstance(ids, Iterable):
        ids = [ids]
    named = [ids] if isinstance(ids, str) else list(ids)
    for each in named:
        is_id = isinstance(each, int) and not isinstance(each, bool) and 0 < each < 2**63
        if not is_id and (not isinstance(each, str) or not each):
            raise InvalidInputError(
                f"An item is named by its key, a str, or by its id, an int above 0, not by {each!r}."
            )
    return list(dict.fromkeys(named))


def read_tags(names: str | Iterable[str]) -> list[str]:
    """Return one tag or several as a list. Raises InvalidInputError for what can be no tag."""
    if not isinstance(names, Iterable):
        raise InvalidInputError(f"A tag is a str, not {names!r}.")
    found = [names] if isinstance(names, str) else list(names)
    for name in found:
        if not isinstance(name, str) or not fold_tag(name):
            raise InvalidInputError(f"A tag is one or more words, not {name!r:.80}.")
        if len(tidy_tag(name)) > MAX_TAG:
            raise InvalidInputError(f"The tag {name!r:.40} has more than {MAX_TAG} characters. Write a shorter one.")
    return found


def require_known(keys: Iterable[str], known: Container[str]) -> None:
    """Raise InvalidInputError for a key that is not known."""
    for key in keys:
        if key not in known:
            raise InvalidInputError(f"There is no item {key!r} in the library. To see keys: clipsearch find --json")


def read_filter(filters: Filter | None) -> Filter:
    """Return a filter, for None that of all items. Raises InvalidInputError for anything else."""
    check_filters(filters)
    return Filter() if filters is None else filters


def read_names(names: str | Iterable[str]) -> list[str]:
    """Return one name of metadata or several as a list. Raises InvalidInputError for one that cannot be a name."""
    if not isinstance(names, Iterable):
        raise InvalidInputError(f"A name of metadata is a str, not {names!r}.")
    found = [names] if isinstance(names, str) else list(names)
    for name in found:
        stored_name(name)
    return found


def read_count(name: str, count: object) -> int:
    """Return a whole number of at least 1. Raises InvalidInputError for anything else."""
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count < MOST:
        raise InvalidInputError(f"The {name} must be a whole number of at least 1, not {count!r}.")
    return count


def as_modality(name: Modality | str) -> Modality:
    """Return a modality by its name. Raises InvalidInputError for another name."""
    try:
        return Modality(name)
    except ValueError:
        raise InvalidInputError(f"There is no modality {name!r}. Use {' or '.join(Modality)}.") from None
