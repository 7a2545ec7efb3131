"""The meta of documents as the metadata of a library, which has scalars and lists of strings by name.

Any other value is kept as JSON, under its name with a prefix. The fields within dicts are kept beside that, by their
dotted names, for filters to find.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from clipsearch import InvalidInputError
from clipsearch.integrations.metadata import REST, Plain, pack, unpack

EXTRAS = "_haystack"
"""The name of what a document has besides its text, picture and meta."""

_JSON = "_json."
"""What stands before the names of values that are kept as JSON."""


def to_metadata(meta: Mapping[str, Any]) -> dict[str, Plain]:
    """Return the metadata that keeps the meta of a document; times and paths become texts.

    Raises:
        InvalidInputError: A name is not a text, or JSON cannot hold a value.
    """
    found: dict[str, Plain] = {}
    nested: dict[str, Any] = {}
    for name, given in meta.items():
        if not isinstance(name, str):
            raise InvalidInputError(f"A field of meta has the name {name!r}. Use a text.")
        value = _written(given)
        packed = pack({name: value})
        if "." in name or name not in packed:  # a dot leads into a dict
            nested[name] = value
            found[f"{_JSON}{name}"] = json.dumps(value)
        else:
            found.update(packed)
    inner = dict(_fields_within(nested))
    return {**found, **{name: value for name, value in pack(inner).items() if name != REST}}


def from_metadata(metadata: Mapping[str, Plain]) -> dict[str, Any]:
    """Return the meta that `to_metadata` was given."""
    nested = _nested(metadata)
    inner = {name for name, _ in _fields_within(nested)}
    flat = {name: value for name, value in unpack(metadata).items() if name != EXTRAS and name not in inner}
    return {**{name: value for name, value in flat.items() if name.removeprefix(_JSON) not in nested}, **nested}


def extras_of(metadata: Mapping[str, Plain]) -> dict[str, Any]:
    """Return what a document had besides its text, picture and meta."""
    found = _parsed(metadata.get(EXTRAS))
    return found if isinstance(found, dict) else {}


def stale_names(metadata: Mapping[str, Plain], changed: Iterable[str]) -> frozenset[str]:
    """Return the names under which metadata has the fields that are changed."""
    nested = _nested(metadata)
    inner = _fields_within({name: nested[name] for name in changed if name in nested})
    names = {name for field in changed for name in (field, f"{_JSON}{field}")}
    return frozenset(metadata).intersection(names.union(name for name, _ in inner))


def _nested(metadata: Mapping[str, Plain]) -> dict[str, Any]:
    """Return the values that are kept as JSON, by their own names."""
    found = {name.removeprefix(_JSON): _parsed(value) for name, value in metadata.items() if name.startswith(_JSON)}
    return {name: value for name, value in found.items() if value is not None}


def _parsed(text: object) -> Any:
    """Return what JSON says; None for anything else, which this module did not write."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _fields_within(meta: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of dicts within `meta` by the dotted names that filters give them."""
    pending = [(name, value) for name, value in meta.items() if isinstance(value, dict)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            yield name, value


def _written(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return os.fspath(value) if isinstance(value, os.PathLike) else value
