"""Tags and collections as requests: what is done to many items at once."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from clipsearch.client import answers, lookup
from clipsearch.client.calls import Call, Steps
from clipsearch.errors import InvalidInputError
from clipsearch.query.validation import Named, read_items, read_tags, require_known
from clipsearch.types import Collection
from clipsearch.words import tidy_name


def tag(ids: Named, add: str | Iterable[str], remove: str | Iterable[str]) -> Steps[int]:
    """Give items tags, and take tags from them."""
    named, added, removed = read_items(ids), read_tags(add), read_tags(remove)
    asked = {"ids": (yield from _ids(named)), "add": added, "remove": removed}
    if not named:
        return 0
    count: int = yield Call("POST", "/v1/tags", answers.read_count("items"), asked, is_repeatable=False)
    return count


def collections() -> Steps[list[Collection]]:
    """List the collections."""
    found: list[Collection] = yield Call("GET", "/v1/collections", answers.read_collections)
    return found


def collect(name: str, add: Named, remove: Named, create: bool) -> Steps[Collection]:
    """Add items to a collection, and take others out of it."""
    path, added, removed = _path(name), read_items(add), read_items(remove)
    new, gone = (yield from _ids(added)), (yield from _ids(removed))
    found: Collection
    if create:
        ids = [] if gone else new  # what is taken out goes before what is added
        found = yield Call("PUT", path, answers.read_collection, {"ids": ids}, is_repeatable=False)
        if not gone:
            return found
    asked = {"add": new, "remove": gone}
    found = yield Call("POST", path, answers.read_collection, asked, is_repeatable=False, missing=InvalidInputError)
    return found


def rename(name: str, new: str) -> Steps[Collection]:
    """Give a collection another name."""
    path, asked = _path(name), {"name": tidy_name(new)}
    found: Collection = yield Call(
        "PATCH", path, answers.read_collection, asked, is_repeatable=False, missing=InvalidInputError
    )
    return found


def delete(name: str) -> Steps[None]:
    """Delete a collection."""
    yield Call("DELETE", _path(name), len, is_json=False, is_repeatable=False, missing=InvalidInputError)


def _path(name: str) -> str:
    return f"/v1/collections/{quote(tidy_name(name), safe='')}"


def _ids(named: list[str | int]) -> Steps[list[int]]:
    """Return the ids of items that are named by keys or ids. Raises InvalidInputError for an unknown key."""
    keys = [each for each in named if isinstance(each, str)]
    found = (yield from lookup.get(keys)) if keys else []
    assert isinstance(found, list)
    known = {key: item.id for key, item in zip(keys, found, strict=True) if item is not None}
    require_known(keys, known)
    return [known[each] if isinstance(each, str) else each for each in named]
