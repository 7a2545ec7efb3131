"""The search for the originals of a picture as a request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clipsearch.client.answers import read_item, read_position
from clipsearch.client.calls import Call, Steps
from clipsearch.client.filters import to_form
from clipsearch.client.pictures import read_picture_file, shown
from clipsearch.client.reading import Fields
from clipsearch.crop import Crop
from clipsearch.matches import Match, Matches, Unread
from clipsearch.query.validation import read_count

if TYPE_CHECKING:
    from clipsearch.crop import Written
    from clipsearch.filtering import Filter
    from clipsearch.query.embedding import Picture


def match(image: Picture, k: int, crop: Written | None, filters: Filter | None) -> Steps[Matches]:
    """Find what a picture was made from."""
    part = None if crop is None else str(Crop.read(crop))
    asked = {"k": read_count("k", k), "crop": part, "filters": to_form(filters), "whole": True}
    form = {"options": json.dumps(asked)}
    found: Matches = yield Call("POST", "/v1/match", _reader(shown(image)), picture=read_picture_file(image), form=form)
    return found


def _reader(query: str) -> Callable[[Any], Matches]:
    """Return what reads an answer; it raises ValueError for what is not as it must be. query: as it is shown."""

    def read(value: object) -> Matches:
        found = Fields(value)
        return Matches(
            query,
            found.text("encoder"),
            found.text("library"),
            tuple(_match(each) for each in found.objects("matches")),
            found.whole("compared"),
            tuple(_unread(each) for each in found.objects("unread")),
            found.texts("warnings"),
        )

    return read


def _match(found: Fields) -> Match:
    left, top, width, height = found.numbers("box")
    return Match(
        found.whole("rank"),
        read_item(found),
        found.number("score"),
        found.whole("points"),
        (left, top, width, height),
        found.flag("mirrored"),
        found.whole("part_index"),
        read_position(found.object("position")) if found.has("position") else None,
    )


def _unread(found: Fields) -> Unread:
    return Unread(read_item(found.object("item")), found.number("score"), found.text("reason"))
