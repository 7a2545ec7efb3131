"""Answers of a server as the types of the engine. Each function raises ValueError for what is not as it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clipsearch.client.explanations import read_explanation
from clipsearch.client.reading import Fields
from clipsearch.errors import ClipSearchError
from clipsearch.query.understanding.understood import Understood
from clipsearch.types import (
    Cluster,
    Collection,
    Facets,
    Hit,
    Item,
    Listing,
    Media,
    MediaInfo,
    MetadataValue,
    Modality,
    Page,
    PartPosition,
    Passage,
    PictureInfo,
    Places,
    Results,
    Suggestion,
    TextLine,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server says of its library and of itself.

    Attributes:
        library: Its folder, on the server.
        items: How many items there are.
        pictures: How many of them are pictures.
        texts: How many are texts.
        encoder: The name of the encoder; None for a library without one.
        dimensions: The length of the vectors.
        writable: Whether requests may change the library.
        version: Of clipsearch, on the server.
    """

    library: str
    items: int
    pictures: int
    texts: int
    encoder: str | None
    dimensions: int | None
    writable: bool
    version: str


def read_results(query: str, offset: int) -> Callable[[Any], Results]:
    """Return what reads an answer. query: as it is shown. offset: that was asked for."""

    def read(value: object) -> Results:
        found = Fields(value)
        return Results(
            query,
            found.text("encoder"),
            found.text("library"),
            tuple(_hit(each) for each in found.objects("hits")),
            found.flag("confident"),
            found.texts("warnings"),
            found.whole("left_out"),
            offset,
            _suggestions(found),
            read_understood(found.mapping("understood")).to_values() if "understood" in found else None,
        )

    return read


def _suggestions(found: Fields) -> tuple[Suggestion, ...]:
    if not found.has("suggestions"):
        return ()
    return tuple(Suggestion(each.text("kind"), each.text("text")) for each in found.objects("suggestions"))


def read_understood(value: object) -> Understood:
    """Read what was understood of words."""
    try:
        return Understood.from_values(Fields({"understood": value}).mapping("understood"))
    except (ClipSearchError, KeyError, TypeError) as error:
        raise ValueError(f"what was understood cannot be read ({error})") from error


def read_listing(value: object) -> Listing:
    """Read items, newest first."""
    found = Fields(value)
    items = tuple(read_item(each) for each in found.objects("items"))
    tags = {item.id: item.tags for item in items if item.tags}
    return Listing(found.text("library"), items, found.whole("total"), tags, found.texts("warnings"))


def read_page(value: object) -> Page:
    """Read a page of items."""
    found = Fields(value)
    items = tuple(read_item(each) for each in found.objects("items"))
    return Page(items, found.text_or_none("cursor"), found.texts("warnings"))


def read_looked(count: int) -> Callable[[Any], list[Item | None]]:
    """Return what reads so many items that were looked up."""

    def read(value: object) -> list[Item | None]:
        found = [None if each is None else read_item(each) for each in Fields(value).objects_or_none("items")]
        if len(found) != count:
            raise ValueError(f"the answer has {len(found)} items, not {count}")
        return found

    return read


def read_facets(value: object) -> Facets:
    """Read counts."""
    found = Fields(value)

    def counted(name: str) -> tuple[tuple[str, int], ...]:
        return tuple((each.text("value"), each.whole("count")) for each in found.objects(name))

    names = ("months", "cameras", "folders", "tags", "modalities")
    return Facets(found.whole("total"), **{name: counted(name) for name in names})


def read_places(value: object) -> Places:
    """Read places on a map."""
    found = Fields(value)
    clusters = tuple(
        Cluster(each.number("latitude"), each.number("longitude"), each.whole("count"), each.whole("id"))
        for each in found.objects("clusters")
    )
    if found.is_null("bounds"):
        return Places(found.whole("total"), clusters)
    south, west, north, east = found.numbers("bounds")
    return Places(found.whole("total"), clusters, (south, west, north, east))


def read_collection(value: object) -> Collection:
    """Read what is said of a collection."""
    return _collection(Fields(value))


def read_collections(value: object) -> list[Collection]:
    """Read the list of all collections."""
    return [_collection(each) for each in Fields({"list": value}).objects("list")]


def read_stats(value: object) -> ServerStats:
    """Read what a server says of itself."""
    found = Fields(value)
    return ServerStats(
        library=found.text("library"),
        items=found.whole("items"),
        pictures=found.whole("pictures"),
        texts=found.whole("texts"),
        encoder=found.text_or_none("encoder"),
        dimensions=found.whole_or_none("dimensions"),
        writable=found.flag("writable"),
        version=found.text("version"),
    )


def read_count(name: str) -> Callable[[Any], int]:
    """Return what reads one whole number of an answer."""
    return lambda value: Fields(value).whole(name)


def read_vectors(count: int) -> Callable[[Any], NDArray[np.float32]]:
    """Return what reads so many stored vectors: float32 (count, dim)."""

    def read(value: object) -> NDArray[np.float32]:
        from clipsearch.linalg import from_base64

        found = Fields(value)
        rows = from_base64(found.text("data"))
        return _matrix(rows, count, found.whole("dimensions"))

    return read


def read_embeddings(count: int) -> Callable[[Any], NDArray[np.float32]]:
    """Return what reads so many vectors that were made for the request: float32 (count, dim)."""

    def read(value: object) -> NDArray[np.float32]:
        import numpy as np

        from clipsearch.linalg import from_base64

        rows = [from_base64(each.text("embedding")) for each in Fields(value).objects("data")]
        if len(rows) != count or len({len(row) for row in rows}) != 1:
            raise ValueError(f"the answer has no {count} vectors of one length")
        return _matrix(np.concatenate(rows), count, len(rows[0]))

    return read


def read_item(found: Fields, kind: str = "modality") -> Item:
    """Read an item; kind: the member that says whether it is a picture or a text."""
    path = found.text("path")
    path.encode("utf-8", "surrogateescape")  # UnicodeEncodeError, a ValueError: no file is called so
    return Item(
        found.whole("id"),
        path,
        Modality(found.text(kind)),
        found.whole("size"),
        found.whole("mtime_ns"),
        found.text("content_hash"),
        _picture(found),
        found.text_or_none("caption"),
        found.text("key"),
        found.text_or_none("text"),
        {name: _metadata_value(name, value) for name, value in found.mapping("metadata").items()},
        found.texts("tags"),
        _media(found),
    )


def _collection(found: Fields) -> Collection:
    return Collection(found.text("name"), found.whole("count"), found.whole_or_none("cover"))


def _hit(found: Fields) -> Hit:
    return Hit(
        found.whole("rank"),
        read_item(found, "item_modality"),
        found.number("score"),
        found.number_or_none("confidence"),
        Modality(found.text("modality")),
        part=found.whole("part_index"),
        passage=None if found.is_null("part") else read_passage(found.object("part")),
        also=tuple(read_item(each) for each in found.objects("also")) if "also" in found else None,
        log_evalue=math.inf if found.is_null("log_evalue") else found.number("log_evalue"),
        recognised=tuple(read_text_line(each) for each in found.objects("recognised")) if "recognised" in found else (),
        position=read_position(found.object("position")) if found.has("position") else None,
        explanation=read_explanation(found.object("explanation")) if found.has("explanation") else None,
    )


def read_passage(found: Fields) -> Passage:
    """Read a passage."""
    position = read_position(found.object("position")) if found.has("position") else None
    return Passage(found.text("text"), found.whole("line"), found.whole("end_line"), position)


def read_position(found: Fields) -> PartPosition:
    """Read where a part of a film or a document lies."""
    page = found.whole("page") if found.has("page") else None
    return PartPosition(found.number("time") if found.has("time") else None, page)


def _media(found: Fields) -> MediaInfo | None:
    """Read what an item of several parts is; a server of before has none."""
    if not found.has("media"):
        return None
    duration = found.number("duration") if found.has("duration") else None
    return MediaInfo(Media(found.text("media")), duration, found.whole("pages") if found.has("pages") else None)


def read_text_line(found: Fields) -> TextLine:
    """Read a line of text in a picture."""
    corners = [Fields({"corner": each}).numbers("corner") for each in found.lists("box")]
    if any(len(corner) != 2 for corner in corners):
        raise ValueError("a corner of a box has not two numbers")
    return TextLine(found.text("text"), tuple((across, down) for across, down in corners), found.number("confidence"))


def _picture(found: Fields) -> PictureInfo | None:
    width, height = found.whole_or_none("width"), found.whole_or_none("height")
    if width is None or height is None:
        return None
    taken = found.text_or_none("taken_at")
    return PictureInfo(
        width,
        height,
        None if taken is None else datetime.fromisoformat(taken),
        found.text_or_none("camera"),
        found.number_or_none("latitude"),
        found.number_or_none("longitude"),
    )


def _metadata_value(name: str, value: object) -> MetadataValue:
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise ValueError(f"the metadata {name!r:.80} is neither a scalar nor a list of texts")


def _matrix(numbers: NDArray[np.float32], count: int, dim: int) -> NDArray[np.float32]:
    import numpy as np

    if dim < 1 or len(numbers) != count * dim or not np.isfinite(numbers).all():
        raise ValueError(f"the answer has no {count} vectors of {dim} numbers")
    return numbers.reshape(count, dim)
